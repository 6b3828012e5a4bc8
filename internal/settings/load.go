package settings

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Input is where settings come from. A flag wins over a variable, a variable
// over the file, the file over the default.
type Input struct {
	Args    []string // after the command's name
	Environ []string // as os.Environ
	// Checks are further rules for the text of a setting, by name, which need
	// knowledge of other packages: an address, a schedule, a store. An error may
	// have a method Hint; without one the hint of the table stands.
	Checks map[string]func(text string) error
	// Together returns what is wrong with settings that are good one by one. May
	// be nil.
	Together func(*Settings) Problems
	// Extra adds the command's own flags, which are not settings.
	Extra func(*flag.FlagSet)
	// Defaults are other defaults than the table's, by name.
	Defaults map[string]string
}

// Effective is what one setting came to.
type Effective struct {
	Name   string
	Value  string // redacted
	Source string // "default", "flag --x", "variable X", "file:line"
}

// given is one value before it is parsed.
type given struct{ text, source string }

// Load reads the settings. rest are the arguments that are no flags. The error
// is flag.ErrHelp when help was asked for, or Problems: all there are, not only
// the first.
func Load(in Input) (s *Settings, rest []string, err error) {
	l := loader{in: in, entries: table(), given: map[string]given{}, s: &Settings{}}
	fromFlags, rest, err := l.flags()
	if err != nil {
		return nil, nil, err
	}
	fromEnv := l.environ()
	path := fromFlags[fileSetting]
	if path.text == "" {
		path = fromEnv[fileSetting]
	}
	if path.text != "" {
		l.file(path)
	}
	for _, m := range []map[string]given{fromEnv, fromFlags} {
		maps.Copy(l.given, m)
	}
	l.parse()
	l.together()
	l.notes()
	if len(l.problems) > 0 {
		return nil, nil, l.problems
	}
	return l.s, rest, nil
}

// fileSetting names the YAML file; it stands outside the table, as a file
// cannot name itself.
const fileSetting = "settings.file"

const fileHelp = "The sidecar's own settings as YAML: sections and names as on the command line (backup: {store: …})."

type loader struct {
	in       Input
	entries  []entry
	given    map[string]given
	s        *Settings
	problems Problems
}

func (l *loader) problem(p Problem) { l.problems = append(l.problems, p) }

// blamed tells whether a problem of that setting was found already.
func (l *loader) blamed(name string) bool {
	return slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Name == name })
}

func (l *loader) names() []string {
	out := make([]string, 0, len(l.entries)+1)
	for _, e := range l.entries {
		out = append(out, e.name)
	}
	return append(out, fileSetting)
}

// capture is a flag.Value that only keeps the text: all values, wherever they
// come from, are parsed in one place.
type capture struct {
	into   map[string]given
	name   string
	source string
	value  value
}

func (c capture) String() string { return "" }

func (c capture) Set(text string) error {
	if before, again := c.into[c.name]; again && c.value.repeats {
		text = before.text + "," + text
	}
	c.into[c.name] = given{text, c.source}
	return nil
}

// IsBoolFlag lets package flag accept --x for --x=true.
func (c capture) IsBoolFlag() bool { return c.value.kind == boolKind }

// flags reads the command line to its end: an unknown flag is a problem among
// others, and flags may follow other arguments.
func (l *loader) flags() (map[string]given, []string, error) {
	out := map[string]given{}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	names := []string{fileSetting}
	fs.Var(capture{out, fileSetting, "flag --" + fileSetting, value{}}, fileSetting, "")
	for _, e := range l.entries {
		for _, name := range append([]string{e.name}, e.flags...) {
			names = append(names, name)
			fs.Var(capture{out, e.name, "flag --" + name, e.value}, name, "")
		}
	}
	if l.in.Extra != nil {
		l.in.Extra(fs)
		fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	}
	var rest []string
	args := l.in.Args
	for len(args) > 0 {
		if !strings.HasPrefix(args[0], "-") || args[0] == "-" {
			rest, args = append(rest, args[0]), args[1:]
			continue
		}
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return nil, nil, err
		}
		at := len(args) - fs.NArg() - 1 // the last argument that was consumed
		consumed := args
		args = fs.Args()
		switch {
		case err == nil:
		case strings.HasPrefix(err.Error(), "bad flag syntax"): // that one is not consumed
			l.flagProblem(fs, args[0], err, names)
			args = args[1:]
		default:
			l.flagProblem(fs, consumed[at], err, names)
		}
	}
	return out, rest, nil
}

// flagProblem reports the flag at which Parse stopped. Package flag puts the
// value into some of its errors; ours never does, as it may be a secret.
func (l *loader) flagProblem(fs *flag.FlagSet, arg string, err error, names []string) {
	arg, _, _ = strings.Cut(arg, "=")
	name := strings.TrimLeft(arg, "-")
	p := Problem{Name: arg, Source: "command line", What: "unknown flag", Hint: didYouMean("--"+name, prefixed("--", names))}
	if fs.Lookup(name) != nil {
		p.What, p.Hint = "needs a value", "--"+name+"=VALUE"
		if !strings.HasPrefix(err.Error(), "flag needs an argument") {
			p.What, p.Hint = "the value is not valid", "--help says what it may be"
			if b, ok := fs.Lookup(name).Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				p.What, p.Hint = "takes no value but true or false", "--"+name+" alone is true"
			}
		}
	}
	l.problem(p)
}

// environ reads the variables that mean something here. An unknown variable
// with our prefix is a problem, unless Kubernetes made it for a Service that is
// named redis-sidecar. An empty variable counts as not set.
func (l *loader) environ() map[string]given {
	out := map[string]given{}
	vars := map[string]string{}
	for _, kv := range l.in.Environ {
		k, v, _ := strings.Cut(kv, "=")
		if v != "" {
			vars[k] = v
		}
	}
	known := map[string]bool{envName(fileSetting): true}
	if v, ok := vars[envName(fileSetting)]; ok {
		out[fileSetting] = given{v, "variable " + envName(fileSetting)}
	}
	for _, e := range l.entries {
		own := e.ownEnv()
		known[own] = true
		for _, name := range append([]string{own}, e.env...) {
			if v, ok := vars[name]; ok {
				out[e.name] = given{v, "variable " + name}
				break
			}
		}
		if _, ok := out[e.name]; !ok && e.emptyEnv != "" && slices.Contains(l.in.Environ, e.emptyEnv+"=") {
			out[e.name] = given{"", "variable " + e.emptyEnv}
		}
	}
	for _, kv := range l.in.Environ { // in the given order, so that problems are too
		k, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(k, envPrefix) || known[k] || vars[k] == "" || isServiceLink(k) {
			continue
		}
		candidates := make([]string, 0, len(known))
		for _, e := range l.entries {
			candidates = append(candidates, e.ownEnv())
		}
		l.problem(Problem{Name: k, Source: "variable", What: "unknown setting", Hint: didYouMean(k, candidates)})
	}
	return out
}

// isServiceLink tells whether Kubernetes made this variable for a Service.
func isServiceLink(name string) bool {
	rest := strings.TrimPrefix(strings.TrimPrefix(name, envPrefix), exporterPrefix)
	return strings.HasPrefix(rest, "SERVICE_") || rest == "PORT" || strings.HasPrefix(rest, "PORT_")
}

// notes adds warnings for what was given and has no effect here.
func (l *loader) notes() {
	known := map[string]bool{}
	for _, e := range l.entries {
		for _, name := range e.env {
			known[name] = true
		}
		if g, ok := l.given[e.name]; ok && e.note != nil {
			if what := e.note(l.s); what != "" {
				l.s.Warnings = append(l.s.Warnings, g.source+": "+what)
			}
		}
	}
	for _, kv := range l.in.Environ {
		name, text, _ := strings.Cut(kv, "=")
		switch {
		case text == "" || known[name]:
		case name == "REDIS_ALIAS":
			l.s.Warnings = append(l.s.Warnings, "variable REDIS_ALIAS: has no effect, in redis_exporter neither since its version 1.0; give the scrape a label instead")
		case strings.HasPrefix(name, exporterPrefix) && !isServiceLink(name):
			l.s.Warnings = append(l.s.Warnings, "variable "+name+": has no effect, redis_exporter has no such variable"+maybe(name, slices.Collect(maps.Keys(known))))
		}
	}
}

// maybe suggests what was meant.
func maybe(name string, candidates []string) string {
	slices.Sort(candidates)
	if n := Nearest(name, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

// parse turns every text into its field, defaults first.
func (l *loader) parse() {
	for _, e := range l.entries {
		g, ok := l.given[e.name]
		if !ok {
			g = given{e.def, "default"}
			if def, ok := l.in.Defaults[e.name]; ok {
				g = given{def, "default of this command"}
			}
		}
		shown := g.text
		if e.value.kind == secretKind || holdsIdentity(shown) {
			shown = Secret(g.text).String()
		} else if e.value.secretive || strings.Contains(shown, "://") {
			shown = RedactURL(shown)
		}
		var err error
		if g.text != "" || ok {
			err = e.value.set(l.s, g.text)
		}
		if check := l.in.Checks[e.name]; err == nil && check != nil && g.text != "" {
			err = check(g.text)
		}
		if err != nil {
			l.problem(Problem{Name: e.name, Source: g.source, Value: shown, What: err.Error(), Hint: hintOf(err, e.value.hint)})
		}
		l.s.effective = append(l.s.effective, Effective{e.name, shown, g.source})
	}
}

// hintOf is the error's own hint, or else the setting's.
func hintOf(err error, fallback string) string {
	if h, ok := err.(interface{ Hint() string }); ok {
		return h.Hint()
	}
	return fallback
}

// together checks what settings mean for each other.
func (l *loader) together() {
	s := l.s
	if s.Backup.Schedule != "" && s.Backup.Store == "" && !l.blamed("backup.store") {
		l.problem(Problem{Name: "backup.store", What: "is not set although backup.schedule is",
			Hint: "for example backup.store = s3://bucket/prefix or file:///backups"})
	}
	if (s.Redis.TLS.CertFile == "") != (s.Redis.TLS.KeyFile == "") && !l.blamed("redis.tls.cert-file") && !l.blamed("redis.tls.key-file") {
		l.problem(Problem{Name: "redis.tls.cert-file", What: "certificate and key belong together",
			Hint: "set both redis.tls.cert-file and redis.tls.key-file, or neither"})
	}
	if !strings.HasPrefix(s.Web.TelemetryPath, "/") {
		l.problem(Problem{Name: "web.telemetry-path", Value: s.Web.TelemetryPath, What: "is not a path", Hint: "it begins with /"})
	}
	l.togetherWeb()
	if s.Redis.Addr == "" && !l.blamed("redis.addr") {
		const hint = "name the server in redis.addr, or leave this out"
		for _, job := range [...]struct{ name, value string }{
			{"config.path", s.Config.Path}, {"backup.schedule", s.Backup.Schedule},
		} {
			if job.value != "" && !l.blamed(job.name) {
				l.problem(Problem{Name: job.name, Source: l.given[job.name].source, What: "needs a server, and redis.addr is empty", Hint: hint})
			}
		}
	}
	if s.Redis.Password != "" && s.Redis.PasswordFile != "" {
		s.Warnings = append(s.Warnings, "redis.password-file is not used, because redis.password is set")
	}
	if s.Log.Debug {
		s.Log.Level = "debug"
	}
	if l.in.Together != nil {
		before := slices.Clone(l.problems)
		for _, p := range l.in.Together(s) {
			if !slices.ContainsFunc(before, func(b Problem) bool { return b.Name == p.Name }) {
				p.Source = cmp.Or(p.Source, l.given[p.Name].source)
				l.problem(p)
			}
		}
	}
}

// togetherWeb checks the settings of the web side, of which redis_exporter
// ignores silently what is there by halves.
func (l *loader) togetherWeb() {
	tls, auth := l.s.Web.TLS, l.s.Web.BasicAuth
	problem := func(name, what, hint string) {
		if !l.blamed(name) {
			l.problem(Problem{Name: name, Source: l.given[name].source, What: what, Hint: hint})
		}
	}
	const pair = "set both web.tls.cert-file and web.tls.key-file, or neither"
	switch {
	case tls.CertFile == "" && tls.KeyFile != "":
		problem("web.tls.key-file", "has no certificate", pair)
	case tls.CertFile != "" && tls.KeyFile == "":
		problem("web.tls.cert-file", "has no key", pair)
	case tls.ClientCAFile != "" && tls.CertFile == "":
		problem("web.tls.client-ca-file", "is of no use without TLS", pair)
	}
	switch {
	case auth.Password != "" && auth.Hash != "":
		problem("web.basic-auth.password", "is set, and web.basic-auth.hash-password too", "set one of them")
	case auth.Username == "" && auth.Password != "":
		problem("web.basic-auth.password", "has no user, so nobody would be asked for it", "set web.basic-auth.username")
	case auth.Username == "" && auth.Hash != "":
		problem("web.basic-auth.hash-password", "has no user, so nobody would be asked for it", "set web.basic-auth.username")
	case auth.Username != "" && auth.Password == "" && auth.Hash == "":
		problem("web.basic-auth.username", "has no password, so nobody would be asked for one", "set web.basic-auth.hash-password or web.basic-auth.password")
	case strings.Contains(auth.Username, ":"):
		problem("web.basic-auth.username", "holds a colon, which ends a name in HTTP", "choose another name")
	}
	if l.s.Web.ConfigFile == "" {
		return
	}
	for _, name := range [...]string{"web.tls.cert-file", "web.tls.key-file", "web.tls.client-ca-file", "web.tls.min-version",
		"web.basic-auth.username", "web.basic-auth.password", "web.basic-auth.hash-password"} {
		if g, ok := l.given[name]; ok && g.text != "" {
			problem(name, "is set beside web.config-file, which says all that there is of TLS and users", "keep one of the two ways")
		}
	}
}

// Effective returns what every setting came to and where from, in the order of
// the reference page, without secrets.
func (s *Settings) Effective() []Effective { return s.effective }

// file reads the YAML file into l.given.
func (l *loader) file(path given) {
	data, err := os.ReadFile(path.text)
	if err != nil {
		l.problem(Problem{Name: fileSetting, Source: path.source, Value: path.text, What: cannotRead(err).Error(),
			Hint: "is it mounted, and readable for this user?"})
		return
	}
	values, problems := parseYAML(path.text, data, l.entries)
	maps.Copy(l.given, values)
	for _, p := range problems {
		if p.Hint == "" && p.What == unknownSetting {
			p.Hint = didYouMean(p.Name, l.names())
		}
		l.problem(p)
	}
}

const unknownSetting = "unknown setting"

// kinds that are looked at by name.
const (
	boolKind   = "true | false"
	secretKind = "secret"
)

func lineSource(path string, line int) string { return fmt.Sprintf("%s:%d", path, line) }
