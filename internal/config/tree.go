package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// The bounds of a tree. A ConfigMap holds 1 MiB at most.
const (
	maxTreeBytes = 4 << 20
	maxTreeFiles = 256
	maxDepth     = 16
)

// Directive is one line of a redis.conf that is not blank and not a comment.
type Directive struct {
	Name string   // in lower case, as redis-server compares it
	Args []string // without quotes and escapes
	File string
	Line int // from 1

	comment int // index in Args of a word that was meant as a comment, or -1
}

// String returns the directive as a line that parses to the same directive. It
// shows secrets.
func (d Directive) String() string {
	var b strings.Builder
	b.WriteString(quoteWord(d.Name))
	for _, a := range d.Args {
		b.WriteByte(' ')
		b.WriteString(quoteWord(a))
	}
	return b.String()
}

// Tree is a redis.conf with everything that it includes.
type Tree struct {
	Path       string
	Directives []Directive // in the order in which redis-server applies them
	Files      []string    // every file that was read, the first one first
	// Hash is of the content of all files, and of which of them are missing: equal
	// hashes mean that a reload would change nothing. It is set for a tree with
	// problems, too.
	Hash string

	paths []string    // files that were read or are missing
	globs []Directive // includes with wildcards
}

// Parse splits the text of one file into directives. It does not follow include
// and does not know which directives exist. name is for the problems.
func Parse(name string, text []byte) ([]Directive, Problems) {
	var (
		out      []Directive
		problems Problems
		rest     = string(text)
	)
	for n := 1; rest != ""; n++ {
		line, after, _ := strings.Cut(rest, "\n")
		rest = after
		d, p := parseLine(name, n, line)
		if p != nil {
			problems = append(problems, *p)
		} else if d != nil {
			out = append(out, *d)
		}
	}
	return out, problems
}

const byteOrderMark = "\xef\xbb\xbf"

// parseLine returns nil, nil for a blank line and a comment.
func parseLine(file string, n int, line string) (*Directive, *Problem) {
	problem := func(directive, what, hint string) (*Directive, *Problem) {
		return nil, &Problem{File: file, Line: n, Directive: directive, What: what, Hint: hint}
	}
	if strings.HasPrefix(line, byteOrderMark) {
		return problem("", "begins with a byte order mark, which redis-server takes for a part of the first word",
			"save the file as UTF-8 without BOM")
	}
	if strings.IndexByte(line, 0) >= 0 {
		return problem("", "contains a zero byte", "save the file as plain text, UTF-8 (not UTF-16)")
	}
	line = strings.Trim(line, " \t\r\n")
	if line == "" || line[0] == '#' {
		return nil, nil
	}
	words, comment, ok := splitWords(line)
	if !ok {
		return problem(safeName(line), "unbalanced quotes",
			`close the quote, and put a blank behind it; within "..." a quote is written \"`)
	}
	if len(words) == 0 {
		return nil, nil
	}
	if comment > 0 {
		comment--
	}
	return &Directive{Name: lower(words[0]), Args: words[1:], File: file, Line: n, comment: comment}, nil
}

// safeName is the part of a line that is shown for a directive which may be
// anything: of "requirepass=secret" only "requirepass".
func safeName(line string) string {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	line = lower(line)
	name := line[:len(line)-len(strings.TrimLeft(line, plain))]
	if name == "" {
		return "(unreadable)"
	}
	return name[:min(len(name), 64)]
}

// patterns are the wildcards of the includes.
func (t *Tree) patterns() []string {
	var out []string
	for _, d := range t.globs {
		out = append(out, d.Args[0])
	}
	return out
}

// Load reads a redis.conf and all files that it includes, in place. The tree is
// never nil; with problems it is incomplete and must not be applied. Files that
// are read several times count several times.
func Load(path string) (*Tree, Problems) {
	l := &loader{tree: &Tree{Path: path}, sum: sha256.New()}
	if text, ok := l.read(path, Problem{File: path}, "check config.path, and that the volume is mounted in this container"); ok {
		l.text(path, text)
	}
	l.tree.Hash = hex.EncodeToString(l.sum.Sum(nil))
	return l.tree, l.problems
}

type loader struct {
	tree     *Tree
	problems Problems
	sum      hash.Hash
	bytes    int64
	files    int
	stack    []string // files being read, to find an include of itself
}

func (l *loader) fail(p Problem, what, hint string) {
	p.What, p.Hint = what, hint
	l.problems = append(l.problems, p)
}

var errNotRegular = errors.New("not a regular file")

// read returns the content of a file within the bounds of the tree. at is where
// a problem with it is reported.
func (l *loader) read(path string, at Problem, hint string) (text []byte, ok bool) {
	at.reason = status.ReasonFile
	if !slices.Contains(l.tree.paths, path) {
		l.tree.paths = append(l.tree.paths, path)
	}
	if l.files++; l.files > maxTreeFiles {
		l.fail(at, fmt.Sprintf("more than %d files", maxTreeFiles), "")
		return nil, false
	}
	text, err := readFile(path, maxTreeBytes-l.bytes+1)
	if err != nil {
		fmt.Fprintf(l.sum, "%q missing\n", path)
		if errors.Is(err, errNotRegular) {
			err, hint = fmt.Errorf("%s: %w", path, err), "name a file"
		}
		l.fail(at, err.Error(), hint)
		return nil, false
	}
	fmt.Fprintf(l.sum, "%q %d\n", path, len(text))
	l.sum.Write(text)
	if l.bytes += int64(len(text)); l.bytes > maxTreeBytes {
		l.fail(at, fmt.Sprintf("larger than %d MiB in all", maxTreeBytes>>20), "")
		return nil, false
	}
	if !slices.Contains(l.tree.Files, path) {
		l.tree.Files = append(l.tree.Files, path)
	}
	return text, true
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// text parses one file, follows its includes and appends what it finds.
func (l *loader) text(path string, text []byte) {
	l.stack = append(l.stack, path)
	defer func() { l.stack = l.stack[:len(l.stack)-1] }()

	directives, problems := Parse(path, text)
	for _, d := range directives {
		for len(problems) > 0 && problems[0].Line < d.Line {
			l.problems = append(l.problems, problems[0])
			problems = problems[1:]
		}
		if d.Name == "include" {
			l.include(d)
			continue
		}
		l.tree.Directives = append(l.tree.Directives, d)
	}
	l.problems = append(l.problems, problems...)
}

func (l *loader) include(d Directive) {
	at := Problem{File: d.File, Line: d.Line, Directive: d.Name}
	switch {
	case len(d.Args) != 1 && d.comment >= 0:
		l.fail(at, "wrong number of arguments", hintComment)
		return
	case len(d.Args) != 1:
		l.fail(at, "wrong number of arguments", "include takes one path; quote it when it has a blank")
		return
	case !filepath.IsAbs(d.Args[0]):
		l.fail(at, fmt.Sprintf("%q is a relative path", d.Args[0]),
			"write an absolute path: redis-server starts from its working directory, which the sidecar does not know")
		return
	case len(l.stack) >= maxDepth:
		l.fail(at, fmt.Sprintf("more than %d files deep", maxDepth), "")
		return
	}
	path := d.Args[0]
	if !strings.ContainsAny(path, "*?[") {
		l.includeFile(path, at)
		return
	}
	l.tree.globs = append(l.tree.globs, d)
	l.includeAll(path, at)
}

func (l *loader) includeFile(path string, at Problem) {
	if slices.Contains(l.stack, path) {
		l.fail(at, path+" includes itself", "")
		return
	}
	const hint = "redis-server does not start without it; mount it at the same path in this container, too"
	if text, ok := l.read(path, at, hint); ok {
		l.text(path, text)
	}
}

// includeAll reads the files that match a pattern, in the order of their names.
// redis-server reads directories as empty, and joins the files without a line
// feed in between.
func (l *loader) includeAll(pattern string, at Problem) {
	var unfinished string // a file whose last line has no line feed
	for _, path := range glob(pattern) {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			continue
		}
		if slices.Contains(l.stack, path) {
			l.fail(at, path+" includes itself", "")
			continue
		}
		text, ok := l.read(path, at, "")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(string(text), "\n")
		if unfinished != "" && strings.Trim(first, " \t\r") != "" {
			l.fail(Problem{File: unfinished}, "has no line feed at its end",
				"add one: redis-server joins its last line with the first one of "+path)
		}
		unfinished = ""
		if last := string(text[strings.LastIndexByte(string(text), '\n')+1:]); strings.Trim(last, " \t\r") != "" {
			unfinished = path
		}
		l.text(path, text)
	}
}
