package config

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWordsAgainstServer gives lines to redis-server and to splitWords, and
// compares the words of what the server accepts.
func TestWordsAgainstServer(t *testing.T) {
	lines := []string{
		`plain`, `"double"`, `'single'`, `foo"bar"`, `foo'bar'`, `"foo"bar`, `'foo'bar`, `"foo""bar"`, `"foo"'bar'`,
		`"open`, `'open`, `foo"open`, `"open\"`, `'open\'`, `foo"`, `foo'`, `"`, `'`, `""`, `''`, `\"`, `a\b`, `a\ b`,
		`"a b"`, `'a b'`, `"a\nb"`, `"a\rb"`, `"a\tb"`, `"a\bb"`, `"a\ab"`, `"a\qb"`, `"a\\b"`, `"a\"b"`, `"a'b"`, `'a"b'`,
		`'a\'b'`, `'a\nb'`, `'a\\b'`, `'a\\'`, `"\x41\x42"`, `"\x4"`, `"\x4g"`, `"\xZZ"`, `"\xfF"`, `'\x41'`, `\x41`, `"\x00"`,
		`#`, `#a`, `a#b`, `"#a"`, `a #b`, `a "b`, `"a" "b"`, "a\tb", "a\vb", "a\fb", "\va", "\fa", "\"a\"\v", "\"a\"\fb", "a\r",
		"\"a\tb\"", "ü", `"ü"`, `"a`, `a\`, `"a\`, `"\`, `!@$%^&*()=+[]{};:,.<>/?|~` + "`", "a\x01b", "\"a\x01b\"",
	}
	const name = "syslog-ident" // any string, shown as it was given
	for _, line := range lines {
		t.Run(line, func(t *testing.T) {
			server, refusal := startWith(t, name+" "+line+"\n")
			words, _, ok := splitWords(strings.Trim(name+" "+line, " \t\r\n"))
			accepted := ok && len(words) == 2
			if accepted != (server != nil) {
				t.Fatalf("words %q ok %v, but redis-server says %q", words, ok, refusal)
			}
			if !accepted {
				if unbalanced := strings.Contains(refusal, "Unbalanced quotes"); unbalanced == ok {
					t.Fatalf("ok %v, but redis-server says %q", ok, refusal)
				}
				return
			}
			want := server.values[name]
			if cut, _, zero := strings.Cut(words[1], "\x00"); zero {
				words[1] = cut // the server keeps a C string
			}
			if words[1] != want {
				t.Errorf("got %q, redis-server has %q", words[1], want)
			}
		})
	}
}

func TestQuoteWord(t *testing.T) {
	for _, w := range []string{"", "a", "a b", `"`, `'`, `\`, "#", "a#", "\n\x00\xff", "ü", "\v"} {
		got, _, ok := splitWords("x " + quoteWord(w))
		if !ok || len(got) != 2 || got[1] != w {
			t.Errorf("%q is written as %s and read as %q", w, quoteWord(w), got)
		}
	}
}

// TestFilesAgainstServer starts redis-server with each file. What it refuses must
// have a problem, what it accepts must have none, and the values of the running
// server must then be those that the file is said to ask for.
func TestFilesAgainstServer(t *testing.T) {
	const all = version(0)
	tests := []struct {
		conf     string
		since    version // the servers that it is for
		stricter bool    // a problem here, though redis-server starts
	}{
		{"", all, false},
		{"# comment\n\n  # another\n\t\n", all, false},
		{"MaxMemory 100MB\n", all, false},
		{"\t maxmemory\t1gb  \r\n", all, false},
		{"maxmemory 1gb # one\n", all, false},
		{"maxmemory\n", all, false},
		{"maxmemory 1 2\n", all, false},
		{"maxmemory 1.5gb\n", all, false},
		{"maxmemory -1\n", v70, false},
		{"maxmemory 1tb\n", all, false},
		{"maxmemory 1 gb\n", all, false},
		{"maxmemory 100\nmaxmemory 200mb\nmaxmemory 300k\n", all, false},
		{"maxmemory 3B\nrepl-backlog-size 5K\nclient-query-buffer-limit 2M\n", all, false},
		{"maxmemory 1G\nrepl-backlog-size 2KB\nproto-max-bulk-len 2MB\n", all, false},
		{"maxmemory gb\n", v70, true},
		{"maxmemory \"\"\n", v70, true},
		{"maxmemory 99999999999999999999\n", v70, true},
		{"repl-backlog-size 0\n", all, false},
		{"appendfsync ALWAYS\nmaxmemory-policy AllKeys-LRU\n", all, false},
		{"appendfsync often\n", all, false},
		{"rdbcompression NO\nstop-writes-on-bgsave-error Yes\n", all, false},
		{"rdbcompression true\n", all, false},
		{"hz 1000\n", all, false},
		{"hz 0\n", all, false},
		{"hz -1\n", all, false},
		{"databases 0\n", all, false},
		{"databases 4\n", all, false},
		{"timeout 010\n", all, false},
		{"timeout +1\n", all, false},
		{"timeout 1s\n", all, false},
		{"timeout 99999999999\n", all, false},
		{"list-max-ziplist-size -5\nslave-priority 7\nmin-slaves-max-lag 3\n", all, false},
		{"hash-max-ziplist-entries 7\nlua-time-limit 99\n", all, false},
		{"hash-max-listpack-value 1k\nbusy-reply-threshold 9\n", v70, false},
		{"save 100 1\nsave 200 2\n", all, false},
		{"save \"\"\n", all, false},
		{"save 100 1\nsave \"\"\n", all, false},
		{"save \"\"\nsave 100 1\n", all, false},
		{"save\n", v70, false},
		{"save 100 1\nsave\n", v70, false},
		{"save 100 1 200 2\nsave 300 3\n", v70, false},
		{"save \"100 1 200 2\"\n", v70, false},
		{"save \"  100   1\"\n", v70, false},
		{"save 100\n", v70, false},
		{"save 0 1\n", all, false},
		{"save 1 -1\n", all, false},
		{"save 100 1 # often\n", v70, false},
		{"save +100 01\n", v70, false},
		{"client-output-buffer-limit replica 512mb 128mb 60\n", all, false},
		{"client-output-buffer-limit slave 1 2 3\nclient-output-buffer-limit PubSub 4 5 6\n", all, false},
		{"client-output-buffer-limit replica 1 2 3\nclient-output-buffer-limit slave 3 2 1\n", all, false},
		{"client-output-buffer-limit normal 1 2 3 pubsub 4kb 5mb 6\n", v70, false},
		{"client-output-buffer-limit \"normal 1 2 3 pubsub 4kb 5mb 6\"\n", v70, false},
		{"client-output-buffer-limit master 1 2 3\n", all, false},
		{"client-output-buffer-limit normal 1 2\n", all, false},
		{"client-output-buffer-limit normal 1x 2 3\n", v70, false},
		{"client-output-buffer-limit normal 1 2 -3\n", all, false},
		{"notify-keyspace-events KEA\n", all, false},
		{"notify-keyspace-events zKxg$lshedt\n", all, false},
		{"notify-keyspace-events \"\"\n", all, false},
		{"notify-keyspace-events Kgx\n", all, false},
		{"notify-keyspace-events AmKn\n", v70, false},
		{"notify-keyspace-events Q\n", all, false},
		{"notify-keyspace-events K E\n", all, false},
		{"oom-score-adj RELATIVE\noom-score-adj-values 10 20 30\n", all, false},
		{"oom-score-adj-values 10 20\n", all, false},
		{"oom-score-adj-values 1 2 2001\n", all, false},
		{"oom-score-adj-values \"1 2 3\"\n", v70, false},
		{"latency-tracking-info-percentiles 50 99.5 100.0\n", v70, false},
		{"latency-tracking-info-percentiles \"\"\n", v70, false},
		{"latency-tracking-info-percentiles 101\n", v70, false},
		{"latency-tracking-info-percentiles x\n", v70, false},
		{"shutdown-on-sigterm NOW nosave\n", v70, false},
		{"shutdown-on-sigterm \"save force\"\nshutdown-on-sigint default\n", v70, false},
		{"shutdown-on-sigterm save nosave\n", v70, false},
		{"shutdown-on-sigterm later\n", v70, false},
		{"maxmemory-clients 5%\n", v70, false},
		{"maxmemory-clients 10mb\n", v70, false},
		{"maxmemory-clients 101%\n", v70, false},
		{"maxmemory-clients 5 %\n", v70, false},
		{"unixsocketperm 0770\n", all, false},
		{"unixsocketperm 1000\n", all, false},
		{"unixsocketperm 9\n", v70, false},
		{"bind 127.0.0.1 -::1\n", all, false},
		{"bind \"127.0.0.1 -::1\"\n", v70, false},
		{"bind 127.0.0.1 # local\n", all, true},
		{"requirepass #secret\n", all, false},
		{"requirepass secret # mine\n", all, false},
		{"requirepass \"a b\"\nmasterauth 'c\"d'\nmasteruser replica\n", all, false},
		{"replicaof 127.0.0.1 1\n", all, false},
		{"replicaof no one\n", all, false},
		{"slaveof 127.0.0.1 70000\n", all, false},
		{"replicaof 127.0.0.1\n", all, false},
		{"replicaof 127.0.0.1 1\ncluster-enabled yes\n", all, false},
		{"user alice on >a ~* +@all\nuser bob on nopass ~* +get\n", all, false},
		{"user alice on\nuser alice off\n", all, false},
		{"user\n", all, false},
		{"user alice on\naclfile /tmp/x.acl\n", all, false},
		{"sentinel monitor m 127.0.0.1 1 1\n", all, false},
		{"rename-command DEBUG \"\"\nrename-command KEYS k\n", all, false},
		{"rename-command KEYS\n", all, false},
		{"loadmodule\n", all, false},
		{"list-max-ziplist-entries 5\nlist-max-ziplist-value 6\n", all, false},
		{"list-max-ziplist-entries\n", all, false},
		{"lua-replicate-commands yes\n", all, false},
		{"nosuch 1\n", all, false},
		{"dsn-role master\n", all, false},
		{"evict-on-expire 1\n", all, false},
		{"maxmemory=1gb\n", all, false},
		{"maxmemory: 1gb\n", all, false},
		{"maxmemory = 1gb\n", all, false},
		{"; comment\n", all, false},
		{"// comment\n", all, false},
		{"\xef\xbb\xbfmaxmemory 1\n", all, false},
		{"\xef\xbb\xbf# comment\n", all, false},
		{"\"maxmemory\" \"1gb\"\n", all, false},
		{"max\"memory\" 1gb\n", all, false},
		{"proc-title-template \"{title} x\"\nlogfile \"\"\n", all, false},
		{"key-load-delay 1\n", all, false},
		{"port 0\ntcp-backlog 100\nsupervised no\nsyslog-facility LOCAL3\n", all, false},
		{"\v\nmaxmemory 1\n", all, false},
	}
	installed := parseVersion(installedVersion(t))
	for _, test := range tests {
		if installed < test.since {
			continue
		}
		t.Run(test.conf, func(t *testing.T) {
			server, refusal := startWith(t, test.conf)
			dir := t.TempDir()
			path := filepath.Join(dir, "redis.conf")
			writeFile(t, path, test.conf)
			problems := Check(path, installedVersion(t))
			if starts := server != nil; starts != (len(problems) == 0 || test.stricter) {
				t.Fatalf("problems %q, but redis-server says %q", problems.Strings(), refusal)
			}
			if test.stricter != (server != nil && len(problems) > 0) {
				t.Errorf("problems %q, though redis-server starts", problems.Strings())
			}
			if server != nil && len(problems) == 0 {
				noDifference(t, server, path)
			}
		})
	}
}

// noDifference fails when the file asks for anything that the server, which was
// started with it, does not have.
func noDifference(t *testing.T, server *realServer, path string) {
	t.Helper()
	tree, problems := Load(path)
	cat := newCatalogue(server.version).withServer(server.values)
	asked, more := cat.interpret(tree)
	if problems = append(problems, more...); len(problems) > 0 {
		t.Fatalf("with the names of the server: %q", problems.Strings())
	}
	live := maps.Clone(server.values)
	for _, s := range asked.settings {
		if s.spec.hidden {
			one, err := server.client.ConfigGet(context.Background(), s.spec.name)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(live, one)
		}
	}
	p := makePlan(cat, asked.settings, asked.settings, live)
	for _, c := range slices.Concat(p.apply, p.restart, p.refused, p.ignored) {
		t.Errorf("the server was started with the file and yet: %s", c)
	}
}

// realFiles are whole files to read: one of every parameter, and the redis.conf
// of the installed package where this user may read it.
func realFiles(tb testing.TB) []string {
	tb.Helper()
	files := []string{filepath.Join("testdata", "all-7.0.conf")}
	if f, err := os.Open("/etc/redis/redis.conf"); err == nil {
		_ = f.Close()
		files = append(files, f.Name())
	}
	return files
}

func TestRealFiles(t *testing.T) {
	for _, path := range realFiles(t) {
		if problems := Check(path, "7.0.15"); len(problems) > 0 {
			t.Errorf("%s: %q", path, problems.Strings())
		}
		if tree, _ := Load(path); len(tree.Directives) < 50 {
			t.Errorf("%s has %d directives only", path, len(tree.Directives))
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rendersBack(t, text)
	}
}

// TestEveryParameterAgainstServer starts a server with a line for every parameter.
func TestEveryParameterAgainstServer(t *testing.T) {
	if installed := parseVersion(installedVersion(t)); installed < v70 {
		t.Logf("the file is for Redis 7.0 and later, not for %s", installed)
		return
	}
	text, err := os.ReadFile(realFiles(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	server, refusal := startWith(t, string(text))
	if server == nil {
		t.Fatal(refusal)
	}
	noDifference(t, server, realFiles(t)[0])
}

// TestRewrittenFile reads what CONFIG REWRITE makes of a file.
func TestRewrittenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "redis.conf")
	writeFile(t, path, base(dir)+"save 100 1\nmaxmemory 1gb\nuser alice on >a ~* +@all\n")
	server, refusal := startFile(t, dir, path)
	if server == nil {
		t.Fatal(refusal)
	}
	ctx := t.Context()
	for name, value := range map[string]string{
		"maxmemory": "5mb", "save": "60 5 30 6", "client-output-buffer-limit": "pubsub 1mb 2mb 3", "notify-keyspace-events": "Kx",
		"proc-title-template": `a "quoted" {title}`, "oom-score-adj-values": "1 2 3", "masterauth": "a b\x01",
	} {
		if err := server.client.ConfigSet(ctx, name, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.client.Do(ctx, "CONFIG", "REWRITE"); err != nil {
		t.Fatal(err)
	}
	var err error
	if server.values, err = server.client.ConfigGet(ctx, "*"); err != nil {
		t.Fatal(err)
	}
	noDifference(t, server, path)
}

// rendersBack parses a text, writes the directives out and parses them again.
func rendersBack(t *testing.T, text []byte) {
	t.Helper()
	first, _ := Parse("f", text)
	var b strings.Builder
	for _, d := range first {
		b.WriteString(d.String() + "\n")
	}
	second, problems := Parse("f", []byte(b.String()))
	if len(problems) > 0 {
		t.Fatalf("%q was rendered as %q: %v", text, b.String(), problems)
	}
	strip := func(ds []Directive) [][]string {
		out := [][]string{}
		for _, d := range ds {
			out = append(out, append([]string{d.Name}, d.Args...))
		}
		return out
	}
	if diff := cmp.Diff(strip(first), strip(second)); diff != "" {
		t.Fatalf("rendered as %q (-first +second):\n%s", b.String(), diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range realFiles(f) {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		// In small pieces: the fuzzer spends its time on making a large one smaller.
		lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(line string) bool { return strings.HasPrefix(line, "# ") || line == "\n" || line == "#\n" })
		for piece := range slices.Chunk(lines, 8) {
			f.Add([]byte(strings.Join(piece, "")))
		}
	}
	for _, s := range []string{"maxmemory 1gb # x\r\n", "requirepass \"a\\x41\"\n", "save \"\"\nsave 1 2", "\xef\xbb\xbfport 1", "a\x00b", "user a on >b\nuser a",
		"client-output-buffer-limit normal 1 2 3 pubsub 4 5 6", "bind \"1 '2\"", "include /nowhere/*.conf\ninclude x"} {
		f.Add([]byte(s))
	}
	cat := newCatalogue("7.0.15")
	f.Fuzz(func(t *testing.T, text []byte) {
		rendersBack(t, text)
		directives, _ := Parse("f", text)
		directives = slices.DeleteFunc(directives, func(d Directive) bool { return d.Name == "include" })
		asked, problems := cat.interpret(&Tree{Path: "f", Directives: directives})
		for _, p := range problems {
			if strings.ContainsAny(p.String(), "\n\r\x00") {
				t.Errorf("a problem of more than one line: %q", p)
			}
		}
		for _, s := range asked.settings {
			if again, bad := canonicalAgain(s, cat.version); bad != nil || again != s.want {
				t.Errorf("%s: the canonical %q is read as %q (%v)", s.key, s.want, again, bad)
			}
		}
	})
}

// canonicalAgain reads a canonical value as CONFIG SET would get it.
func canonicalAgain(s *setting, v version) (string, *badValue) {
	if s.spec.kind == kindBuffer {
		return bufferLimit(strings.Fields(s.want))
	}
	args := []string{s.want}
	if s.spec.kind.multi() && s.spec.kind != kindReplicaOf && s.spec.kind != kindList && s.want != "" {
		args = strings.Fields(s.want)
	}
	if s.spec.kind == kindReplicaOf || s.spec.kind == kindList {
		return s.want, nil // not set by CONFIG SET
	}
	return s.spec.canonical(args, v)
}
