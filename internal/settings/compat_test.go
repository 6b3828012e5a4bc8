package settings_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// flagOf is a line of testdata/redis_exporter.tsv.
type flagOf struct{ flag, variable, def, value, setting string }

func redisExporterFlags(t *testing.T) []flagOf {
	t.Helper()
	text, err := os.ReadFile("testdata/redis_exporter.tsv")
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "file", "x")
	var out []flagOf
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i := range f {
			switch f[i] {
			case "FILE":
				f[i] = file
			case "-":
				f[i] = ""
			}
		}
		out = append(out, flagOf{f[0], f[1], f[2], f[3], f[4]})
	}
	if len(out) != 59 {
		t.Fatalf("%d flags, redis_exporter has 59", len(out))
	}
	return out
}

// lone are settings that are good only with others.
var lone = map[string][]string{
	"web.tls.key-file":             {"--tls-server-cert-file=FILE"},
	"web.tls.cert-file":            {"--tls-server-key-file=FILE"},
	"web.tls.client-ca-file":       {"--tls-server-cert-file=FILE", "--tls-server-key-file=FILE"},
	"redis.tls.key-file":           {"--tls-client-cert-file=FILE"},
	"redis.tls.cert-file":          {"--tls-client-key-file=FILE"},
	"web.basic-auth.username":      {"--basic-auth-password=x"},
	"web.basic-auth.password":      {"--basic-auth-username=x"},
	"web.basic-auth.hash-password": {"--basic-auth-username=x"},
}

// effective returns value and source of a setting.
func effective(t *testing.T, s *settings.Settings, name string) (string, string) {
	t.Helper()
	for _, e := range s.Effective() {
		if e.Name == name {
			return e.Value, e.Source
		}
	}
	t.Fatalf("there is no setting %s", name)
	return "", ""
}

// Every flag and variable of redis_exporter sets what it should, in every form.
func TestEveryFlagOfRedisExporter(t *testing.T) {
	unlike := map[string]string{ // defaults that are others here, each with its reason in the help
		"connection-timeout": "5s", "log-level": "info", "log-format": "text",
		"include-system-metrics": "true", "include-rdb-file-size-metric": "true",
	}
	file := write(t, "other", "x")
	for _, f := range redisExporterFlags(t) {
		if f.flag == "version" { // of the commands, which have no settings
			continue
		}
		def, _ := effective(t, load(t, settings.Input{}), f.setting)
		want := f.def
		if other, ok := unlike[f.flag]; ok {
			want = other
		}
		if def != want {
			t.Errorf("%s: the default is %q, want %q", f.flag, def, want)
		}
		if f.flag == "include-system-metrics" || f.flag == "include-rdb-file-size-metric" {
			f.value = "false"
		}
		shown := f.value
		if strings.Contains(f.flag, "password") && !strings.HasSuffix(f.flag, "-file") {
			shown = "**redacted**"
		}
		var others []string
		for _, o := range lone[f.setting] {
			others = append(others, strings.ReplaceAll(o, "FILE", file))
		}
		for form, in := range map[string]settings.Input{
			"flag --" + f.flag:       {Args: []string{"--" + f.flag + "=" + f.value}},
			"flag --" + f.flag + " ": {Args: []string{"-" + f.flag + "=" + f.value}},
			"variable " + f.variable: {Environ: []string{f.variable + "=" + f.value}},
		} {
			in.Args = append(in.Args, others...)
			got, source := effective(t, load(t, in), f.setting)
			if got != shown || source != strings.TrimSpace(form) {
				t.Errorf("%s: %q by %s, want %q", form, got, source, shown)
			}
		}
		if f.value != "true" && f.value != "false" { // package flag wants = for these
			s := load(t, settings.Input{Args: append([]string{"-" + f.flag, f.value}, others...)})
			if got, _ := effective(t, s, f.setting); got != shown {
				t.Errorf("-%s VALUE: %q, want %q", f.flag, got, shown)
			}
		}
	}
}

// The page for those who come from redis_exporter names every flag and variable.
func TestMigrationTable(t *testing.T) {
	var b bytes.Buffer
	settings.WriteMigration(&b)
	for _, f := range redisExporterFlags(t) {
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(f.flag) + "` \\| .*$").FindString(b.String())
		if row == "" || f.variable != "" && !strings.Contains(row, "`"+f.variable+"`") || f.setting != "" && !strings.Contains(row, "`"+f.setting+"`") {
			t.Errorf("%s, %s: the row is %q", f.flag, f.variable, row)
		}
	}
	if rows := strings.Count(b.String(), "\n| `"); rows != 59 {
		t.Errorf("%d rows", rows)
	}
}

func TestExporterValues(t *testing.T) {
	a, b := write(t, "a.lua", "x"), write(t, "b.lua", "x")
	s := load(t, settings.Input{Args: []string{
		"--check-keys= db0=user:*,db3=a%2Cb%3D%25c+d ,,plain,7=x", "--check-key-groups", ` ^(.*)_[^_]+$,,"^(a,b)%[",[]] `,
		"--script=" + a + "," + b, "--exporter.targets=sentinel=redis://127.0.0.1:26379", "--exporter.targets", "other=unix:///run/r.sock",
		"--exporter.target-password-files=sentinel=" + a, "--exporter.scrape-allow=h:1,rediss://i", "--web.listen-address=:1", "--web.listen-address=:2,unix:///run/w.sock",
		"--exporter.collectors-disabled=slowlog,latency", "--exporter.exclude=redis_config_.{1,3}", "--log-level=trace", "--log-format=txt",
	}})
	for what, pair := range map[string][2]any{
		"keys":    {s.Exporter.Keys.Check, []settings.DBKey{{DB: 0, Key: "user:*"}, {DB: 3, Key: "a,b=%c d"}, {DB: 0, Key: "plain"}, {DB: 7, Key: "x"}}},
		"groups":  {s.Exporter.Keys.Groups, []string{"^(.*)_[^_]+$", "^(a,b)%[", "[]]"}},
		"scripts": {s.Exporter.Scripts.Files, []string{a, b}},
		"targets": {s.Exporter.Targets, []settings.Target{{Name: "sentinel", Addr: "redis://127.0.0.1:26379", PasswordFile: a}, {Name: "other", Addr: "unix:///run/r.sock"}}},
		"allowed": {s.Exporter.ScrapeAllow, []string{"h:1", "rediss://i"}},
		"listen":  {s.Web.ListenAddress, []string{":1", ":2", "unix:///run/w.sock"}},
		"off":     {s.Exporter.CollectorsDisabled, []string{"slowlog", "latency"}},
		"exclude": {s.Exporter.Exclude, "redis_config_.{1,3}"},
		"log":     {s.Log, settings.Log{Level: "debug", Format: "text"}},
		"times":   {[]time.Duration{s.Exporter.Interval, s.Exporter.Budget}, []time.Duration{time.Minute, 30 * time.Second}},
		"bounds":  {[]int{s.Exporter.ScanRate, s.Exporter.MaxSeries, s.Exporter.MaxClients, s.Exporter.Keys.BatchSize, s.Exporter.Keys.MaxGroups}, []int{50000, 2000, 20000, 1000, 100}},
	} {
		if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	s = load(t, settings.Input{Args: []string{"--check-key-groups", `a,"b,""c""",,  %d `}})
	if diff := cmp.Diff([]string{"a", `b,"c"`, "%d"}, s.Exporter.Keys.Groups); diff != "" {
		t.Errorf("quotes (-want +got):\n%s", diff)
	}
	if s := load(t, settings.Input{Args: []string{"--check-key-groups=  "}}); s.Exporter.Keys.Groups != nil {
		t.Errorf("groups of spaces: %q", s.Exporter.Keys.Groups)
	}
	if s := load(t, settings.Input{Args: []string{"--debug", "--log-level=error"}}); s.Log.Level != "debug" {
		t.Errorf("--debug beside --log-level gives %q", s.Log.Level)
	}
}

// The forms of a list in YAML.
func TestExporterYAML(t *testing.T) {
	secretFile := write(t, "pw", "x")
	s := load(t, settings.Input{Args: []string{"--settings.file", write(t, "s.yaml", `
exporter:
  check-keys: [db0=a*, db1=b]
  check-key-groups: ['^(.*),x"', plain]
  targets:
    sentinel: redis://127.0.0.1:26379
    other: unix:///run/r.sock
  target-password-files: {other: `+secretFile+`}
  exclude: [redis_a, 'redis_b.{1,2}']
  scrape-allow: [h:1, h:2]
`)}})
	if diff := cmp.Diff([]any{
		[]settings.DBKey{{DB: 0, Key: "a*"}, {DB: 1, Key: "b"}}, []string{`^(.*),x"`, "plain"},
		[]settings.Target{{Name: "sentinel", Addr: "redis://127.0.0.1:26379"}, {Name: "other", Addr: "unix:///run/r.sock", PasswordFile: secretFile}},
		"(?:redis_a)|(?:redis_b.{1,2})", []string{"h:1", "h:2"},
	}, []any{s.Exporter.Keys.Check, s.Exporter.Keys.Groups, s.Exporter.Targets, s.Exporter.Exclude, s.Exporter.ScrapeAllow}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, _, err := settings.Load(settings.Input{Args: []string{"--settings.file", write(t, "bad.yaml", `
exporter:
  check-keys: ['a,b']
  targets: {s: {a: b}}
  scrape-allow: {a: b}
  include: [a, 'b)|(c']
  script: [[x]]
`)}})
	want := []string{
		"exporter.check-keys (FILE:3): item 1 holds a comma, which separates items\n    hint: write a comma in a key as %2C",
		"exporter.targets (FILE:4): is a mapping to something else than values",
		"exporter.scrape-allow (FILE:5): is a value, not a section",
		`exporter.include (FILE:6): item 2, "b)|(c": unexpected ): `,
		"exporter.script (FILE:7): is a list of something else than values",
	}
	got := regexp.MustCompile(`\(\S*bad.yaml`).ReplaceAllString(fmt.Sprint(err), "(FILE")
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("want %q in\n%s", w, got)
		}
	}
}

// A bad value is named with its place and what would be right; no password shows.
func TestExporterProblems(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	for arg, want := range map[string]string{
		"--check-keys=db0=a,db0=b=c":                           `item 2, "db0=b=c": has more than one =` + "\n    hint: write = in a key as %3D",
		"--check-keys=a,x0=b":                                  `item 2, "x0=b": the part before = is no database`,
		"--check-keys=db-1=b":                                  `the part before = is no database`,
		"--check-keys=db65536=b":                               "the part before = is no database\n    hint: db and its number, at most 65535",
		"--check-keys=db1=":                                    `item 1, "db1=": names no key`,
		"--count-keys=100%":                                    `item 1, "100%": has a % that is no escape`,
		"--check-key-groups=a,^(b":                             `item 2, "^(b": the ( at position 2 has no )`,
		"--check-key-groups=[a":                                `the [ at position 1 has no ]`,
		"--check-key-groups=[]":                                `the [ at position 1 has no ]`,
		"--check-key-groups=a)":                                `the ) at position 2 has no (`,
		"--check-key-groups=a%":                                `ends with %`,
		"--check-key-groups=%b(":                               `%b needs two characters`,
		"--check-key-groups=%fa":                               `%f needs a set`,
		"--check-key-groups=(a%1)":                             `%1: there is no such finished capture`,
		"--check-key-groups=\"a":                               `column 3: extraneous or missing " in quoted-field` + "\n    hint: a pattern with a comma",
		"--check-key-groups=a,\"b\" c\"":                       `extraneous or missing " in quoted-field`,
		"--check-key-groups=a\"b":                              `column 2: bare " in non-quoted`,
		"--check-key-groups=a\nb":                              `has more than one line`,
		"--check-keys-batch-size=0":                            `out of range`,
		"--script=" + absent:                                   `item 1, "` + absent + `": cannot be read: no such file`,
		"--namespace=":                                         `is empty`,
		"--namespace=a-b":                                      `'-' cannot be part of a metric's name there`,
		"--namespace=1a":                                       `'1' cannot be part`,
		"--check-search-indexes=(":                             `missing closing )`,
		"--exporter.exclude=*":                                 `missing argument to repetition operator`,
		"--exporter.targets=redis://u:hush@h":                  `item 1 is not NAME=VALUE`,
		"--exporter.targets=a=redis://:hush@h,a=b":             `item 2: the name "a" is there twice`,
		"--exporter.targets=ü=h":                               `is not a name`,
		"--exporter.targets=a=redis://:hu,sh@h":                `item 2 is not NAME=VALUE`,
		"--exporter.target-password-files=a=" + absent:         `item 1, "a": is no target of exporter.targets`,
		"--exporter.scrape-allow=u:hush@h:1,redis://h":         `item 1 names a user or a password`,
		"--exporter.scrape-allow=h,redis://:hush@h":            `item 2 names a user or a password`,
		"--web.listen-address=unix://run/x":                    `"run/x" is not an absolute path`,
		"--tls-server-min-version=SSL3":                        `not one of the choices` + "\n    hint: one of: TLS1.0, TLS1.1, TLS1.2, TLS1.3",
		"--log-level=loud":                                     `not one of the choices`,
		"--basic-auth-username=a":                              `has no password, so nobody would be asked`,
		"--basic-auth-password=hush":                           `has no user`,
		"--basic-auth-hash-password=hush":                      `has no user`,
		"--basic-auth-username=a:b --basic-auth-password=hush": `holds a colon`,
		"--basic-auth-username=a --basic-auth-password=hush --basic-auth-hash-password=hush": `is set, and web.basic-auth.hash-password too`,
		"--tls-server-key-file=FILE":                                                `has no certificate`,
		"--tls-server-cert-file=FILE":                                               `has no key`,
		"--tls-server-ca-cert-file=FILE":                                            `is of no use without TLS`,
		"--web.config.file=FILE --tls-server-min-version=TLS1.2":                    `is set beside web.config-file`,
		"--web.config.file=FILE --basic-auth-username=a --basic-auth-password=hush": `web.basic-auth.password (flag --basic-auth-password): is set beside web.config-file`,
		"--redis.addr= --config.path=FILE":                                          `config.path (flag --config.path): needs a server, and redis.addr is empty`,
	} {
		file := write(t, "file", "")
		args := strings.Split(strings.ReplaceAll(arg, "FILE", file), " --")
		for i := range args[1:] {
			args[i+1] = "--" + args[i+1]
		}
		_, _, err := settings.Load(settings.Input{Args: args})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the password is shown: %v", arg, err)
		}
	}
}

// What has no effect is said, once, with its name; nothing else is.
func TestNotes(t *testing.T) {
	for arg, want := range map[string]string{
		"REDIS_ALIAS=x":                                  "variable REDIS_ALIAS: has no effect",
		"REDIS_EXPORTER_CHEK_KEYS=x":                     "variable REDIS_EXPORTER_CHEK_KEYS: has no effect, redis_exporter has no such variable; did you mean REDIS_EXPORTER_CHECK_KEYS?",
		"REDIS_EXPORTER_IS_CLUSTER=true":                 "variable REDIS_EXPORTER_IS_CLUSTER: has no effect: a node",
		"--redact-config-metrics=false":                  "flag --redact-config-metrics: has no effect",
		"--is-cluster=false":                             "",
		"REDIS_EXPORTER_PORT=tcp://10.0.0.1:9121":        "",
		"REDIS_EXPORTER_SERVICE_HOST=10.0.0.1":           "",
		"REDIS_EXPORTER_IS_CLUSTER=":                     "",
		"REDIS_EXPORTER_INCL_SYSTEM_METRICS=true":        "",
		"REDIS_PORT_6379_TCP=tcp://10.0.0.1:6379":        "",
		"REDIS_EXPORTER_WEB_LISTEN_ADDRESS=0.0.0.0:9121": "",
	} {
		in := settings.Input{Environ: []string{arg}}
		if strings.HasPrefix(arg, "-") {
			in = settings.Input{Args: []string{arg}}
		}
		got := load(t, in).Warnings
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)) {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
}

// Without a server of one's own there is /scrape only, as in redis_exporter.
func TestNoOwnServer(t *testing.T) {
	for _, in := range []settings.Input{{Args: []string{"--redis.addr="}}, {Environ: []string{"REDIS_ADDR="}}} {
		if s := load(t, in); s.Redis.Addr != "" {
			t.Errorf("%v: %q", in, s.Redis.Addr)
		}
	}
	if s := load(t, settings.Input{Environ: []string{"REDIS_ADDR=", "REDIS_SIDECAR_REDIS_ADDR=h:1"}}); s.Redis.Addr != "h:1" {
		t.Errorf("our variable loses to an empty one: %q", s.Redis.Addr)
	}
	if s := load(t, settings.Input{Environ: []string{"REDIS_SIDECAR_REDIS_ADDR="}}); s.Redis.Addr == "" {
		t.Error("our empty variable counts")
	}
}

func TestOtherDefaults(t *testing.T) {
	in := settings.Input{Defaults: map[string]string{"announce.mode": "off"}}
	s := load(t, in)
	value, source := effective(t, s, "announce.mode")
	if s.Announce.Mode != "off" || value != "off" || source != "default of this command" {
		t.Errorf("%q: %q by %q", s.Announce.Mode, value, source)
	}
	in.Environ = []string{"REDIS_SIDECAR_ANNOUNCE_MODE=auto"}
	if s := load(t, in); s.Announce.Mode != "auto" {
		t.Errorf("a variable loses to it: %q", s.Announce.Mode)
	}
}

func TestListsAreRedacted(t *testing.T) {
	for raw, want := range map[string]string{
		"u:hush@h1,redis://h2":                    "**redacted**@h1,redis://h2",
		"a=redis://:hush@h1,b=redis://h2":         "a=redis://:**redacted**@h1,b=redis://h2",
		"a=redis://h1,b=redis://x:hush@h2":        "a=redis://h1%2Cb=redis:**redacted**@h2",
		"a=redis://:hush@h1,b=redis://:hush@h2,c": "a=redis://:**redacted**@h2,c",
	} {
		if got := settings.RedactURL(raw); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestParseKeys(t *testing.T) {
	type keys = []settings.DBKey
	for list, want := range map[string]keys{
		"":                            nil,
		" ,, ":                        nil,
		"foo":                         {{0, "foo"}},
		" foo , db3=bar*,,7=b ":       {{0, "foo"}, {3, "bar*"}, {7, "b"}},
		"db0=a%2Cb%3Dc%25+d%2Be":      {{0, "a,b=c% d+e"}},
		"db15=user:[0-9]:*,db2=x y":   {{15, "user:[0-9]:*"}, {2, "x y"}},
		"db0=%E2%82%AC":               {{0, "€"}},
		"db1=a,db1=b,db1=a":           {{1, "a"}, {1, "b"}, {1, "a"}},
		"db0=\tleading and trailing ": {{0, "leading and trailing"}},
		"db65535=last":                {{65535, "last"}},
	} {
		got, err := settings.ParseKeys(list)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got)\n%s", list, err, diff)
		}
	}
	for list, want := range map[string]string{
		"a,db0=b=c":               `item 2, "db0=b=c": has more than one =`,
		"dbx=a":                   `item 1, "dbx=a": the part before = is no database`,
		"db-1=a":                  `is no database`,
		"=a":                      `item 1, "=a": the part before = is no database`,
		"a,,db65536=a":            `item 3, "db65536=a": the part before = is no database`,
		"db9999999999999999999=a": `is no database`,
		"db0=":                    `item 1, "db0=": names no key`,
		"a%zz":                    `item 1, "a%zz": has a % that is no escape`,
	} {
		if _, err := settings.ParseKeys(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", list, err, want)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	for _, s := range []string{"db0=user:*,db3=a%2Cb", "a=b=c", "%", ",,", "db=", "d1b=+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := settings.ParseKeys(text)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Key == "" || k.DB < 0 || k.DB > 65535 {
				t.Errorf("%q gives %+v", text, k)
			}
		}
	})
}
