package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// setting is the value that a file gives to one parameter in the end.
type setting struct {
	// key is the real name of the directive; for client-output-buffer-limit with
	// the class of clients behind a blank.
	key   string
	spec  *spec
	want  string // canonical
	shown string // as it is written in the file, secrets redacted
	file  string // of the last line that had a say; "" when no line asks for it any more
	line  int
}

// where returns file:line, or "".
func (s *setting) where() string {
	if s.file == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.file, s.line)
}

// wanted is what a file asks for in the end: later lines win over earlier ones,
// save lines add up, client-output-buffer-limit counts per class.
type wanted struct {
	settings map[string]*setting
	// fixed are the lines that are no parameters, by directive: user,
	// rename-command, loadmodule, and parameters of modules that the server does
	// not know. The value is a digest: they are compared, not shown.
	fixed map[string]string
}

const redacted = "(redacted)"

// interpretation is the state of reading a tree.
type interpretation struct {
	cat       *catalogue
	out       *wanted
	problems  Problems
	users     map[string]bool
	userLine  *Directive // the first one
	halfAPass bool       // the line before named a secret, but had no value
}

// interpret gives the lines of a tree their meaning and finds all that the server
// would refuse at its start. The result is to be used without problems only.
func (c *catalogue) interpret(t *Tree) (*wanted, Problems) {
	in := &interpretation{
		cat:   c,
		out:   &wanted{settings: map[string]*setting{}, fixed: map[string]string{}},
		users: map[string]bool{},
	}
	for i := range t.globs {
		if c.version < v70 {
			in.fail(&t.globs[i], "a path with wildcards", fmt.Sprintf("Redis %s does not expand them: name each file", c.version))
		}
	}
	for i := range t.Directives {
		in.line(&t.Directives[i])
	}
	in.together()
	return in.out, in.problems
}

func (in *interpretation) fail(d *Directive, what, hint string) {
	in.problems = append(in.problems, Problem{File: d.File, Line: d.Line, Directive: safeName(d.Name), What: what, Hint: hint})
}

func (in *interpretation) line(d *Directive) {
	half := in.halfAPass
	in.halfAPass = false
	switch d.Name {
	case "user":
		in.user(d)
	case "rename-command":
		if len(d.Args) != 2 {
			in.wrongCount(d, `it takes a command and its new name, "" for none`)
			return
		}
		in.fix(d)
	case "loadmodule":
		if len(d.Args) < 1 {
			in.wrongCount(d, "it takes the path of a module, and its arguments")
			return
		}
		in.fix(d)
	case "sentinel":
		in.fail(d, "a directive of Sentinel", "move it to the sentinel.conf: redis-server does not start with it")
	default:
		in.parameter(d, half)
	}
}

// wrongCount reports the wrong number of arguments, and the comment that is
// likely to be the cause.
func (in *interpretation) wrongCount(d *Directive, hint string) {
	switch {
	case d.comment >= 0:
		hint = hintComment
	case len(d.Args) > 1 && (d.Args[0] == "=" || d.Args[0] == ":"):
		hint = hintBlank
	}
	in.fail(d, "wrong number of arguments", hint)
}

func (in *interpretation) user(d *Directive) {
	if len(d.Args) < 1 {
		in.wrongCount(d, "it takes a name and its rules")
		return
	}
	if in.users[d.Args[0]] && in.cat.version >= v70 {
		in.fail(d, fmt.Sprintf("a second line for user %s", shown(d.Args[0])), "put all rules of a user on one line")
		return
	}
	in.users[d.Args[0]] = true
	if in.userLine == nil {
		in.userLine = d
	}
	in.fix(d)
}

// fix adds a line that cannot be compared with the server to the digests.
func (in *interpretation) fix(d *Directive) {
	sum := sha256.Sum256([]byte(in.out.fixed[d.Name] + "\n" + d.String()))
	in.out.fixed[d.Name] = hex.EncodeToString(sum[:])
}

func (in *interpretation) parameter(d *Directive, half bool) {
	s := in.cat.lookup(d.Name)
	if s == nil {
		in.notAParameter(d, half)
		return
	}
	if s.secret && len(d.Args) == 0 {
		in.halfAPass = true
	}
	if s.kind == kindDead {
		if len(d.Args) != 1 {
			in.wrongCount(d, "it takes one, and redis-server ignores it: delete the line")
		}
		return
	}
	args := d.Args
	if d.comment >= 0 && (s.kind.multi() || s.kind == kindUnknown) {
		in.fail(d, "a comment behind the value", hintComment)
		return
	}
	if s.kind.multi() && len(args) == 1 && args[0] != "" && in.cat.version >= v70 {
		// One quoted argument counts as its words.
		var ok bool
		if args, _, ok = splitWords(args[0]); !ok {
			in.fail(d, "unbalanced quotes within the value", "")
			return
		}
	}
	switch s.kind {
	case kindSave:
		in.save(d, s, args)
	case kindBuffer:
		in.buffers(d, s, args)
	default:
		if len(args) != 1 && !s.kind.multi() && s.kind != kindUnknown {
			in.wrongCount(d, "it takes one; quote a value that has blanks")
			return
		}
		want, bad := s.canonical(args, in.cat.version)
		if bad != nil {
			in.bad(d, bad)
			return
		}
		in.set(d, s, s.name, want, strings.Join(args, " "))
	}
}

func (in *interpretation) bad(d *Directive, bad *badValue) {
	in.fail(d, bad.what, bad.hint)
}

func (in *interpretation) notAParameter(d *Directive, half bool) {
	if in.cat.moduleParameter(d.Name) {
		if len(d.Args) == 0 {
			in.wrongCount(d, "a parameter of a module needs a value")
			return
		}
		in.fix(&Directive{Name: d.Name, Args: d.Args})
		return
	}
	name := safeName(d.Name)
	p := Problem{File: d.File, Line: d.Line, Directive: name, What: "unknown directive", Hint: in.cat.unknownHint(name, d.Name)}
	if half {
		p.Directive, p.Hint = redacted, "the line before has no value: write both on one line"
	}
	in.problems = append(in.problems, p)
}

// save adds the points of a line to those of the lines before it. The first save
// line of a file replaces the built-in points, an empty one clears all.
func (in *interpretation) save(d *Directive, s *spec, args []string) {
	points, bad := savePoints(args)
	if bad == nil && in.cat.version < v70 && len(args) != 2 && points != "" {
		bad = &badValue{what: "more than one pair", hint: "before Redis 7.0 a save line takes one pair, and others are silently ignored: write a line for each"}
	}
	if bad != nil {
		in.bad(d, bad)
		return
	}
	cleared := len(args) == 1 // save ""
	if before := in.out.settings[s.name]; before != nil && !cleared {
		points = strings.TrimSpace(before.want + " " + points)
	}
	in.set(d, s, s.name, points, points)
}

// buffers reads classes of clients with their limits.
func (in *interpretation) buffers(d *Directive, s *spec, args []string) {
	if len(args)%4 != 0 || len(args) != 4 && in.cat.version < v70 {
		in.wrongCount(d, "it takes class, hard limit, soft limit and seconds: replica 256mb 64mb 60")
		return
	}
	for group := range slices.Chunk(args, 4) {
		class, bad := bufferClass(group[0])
		want := ""
		if bad == nil {
			want, bad = bufferLimit(group[1:])
		}
		if bad != nil {
			in.bad(d, bad)
			return
		}
		in.set(d, s, s.name+" "+class, want, strings.Join(group[1:], " "))
	}
}

func (in *interpretation) set(d *Directive, s *spec, key, want, shown string) {
	if s.secret {
		shown = redacted
	}
	in.out.settings[key] = &setting{key: key, spec: s, want: want, shown: shown, file: d.File, line: d.Line}
}

// together finds the lines that redis-server refuses beside each other.
func (in *interpretation) together() {
	if file := in.out.settings["aclfile"]; file != nil && file.want != "" && in.userLine != nil {
		in.fail(in.userLine, "user lines and aclfile exclude each other", "move the user to the ACL file of "+file.where())
	}
	cluster, replica := in.out.settings["cluster-enabled"], in.out.settings["replicaof"]
	if cluster != nil && cluster.want == "yes" && replica != nil && replica.want != "" {
		in.fail(&Directive{Name: "replicaof", File: replica.file, Line: replica.line},
			"not allowed with cluster-enabled yes", "in a cluster use CLUSTER REPLICATE")
	}
}
