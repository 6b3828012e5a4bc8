package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// TestMessages pins what a person reads. $ stands for the directory of the files.
func TestMessages(t *testing.T) {
	tests := []struct {
		name    string
		files   map[string]string // redis.conf and what it includes
		version string
		want    []string
	}{
		{"trailing comment", conf("maxmemory 1gb # enough", "save 900 1 # often", "include /x.conf # y", "user a on # b"), "7.0.15", []string{
			"$/redis.conf:1: maxmemory: wrong number of arguments; " + hintComment,
			"$/redis.conf:2: save: a comment behind the value; " + hintComment,
			"$/redis.conf:3: include: wrong number of arguments; " + hintComment,
		}},
		{"quotes", conf(`syslog-ident "a`, `requirepass 'x"y`, `logfile "a"b`, `shutdown-on-sigterm "'now"`), "7.0.15", []string{
			`$/redis.conf:1: syslog-ident: unbalanced quotes; close the quote, and put a blank behind it; within "..." a quote is written \"`,
			`$/redis.conf:2: requirepass: unbalanced quotes; close the quote, and put a blank behind it; within "..." a quote is written \"`,
			`$/redis.conf:3: logfile: unbalanced quotes; close the quote, and put a blank behind it; within "..." a quote is written \"`,
			`$/redis.conf:4: shutdown-on-sigterm: unbalanced quotes within the value`,
		}},
		{"unknown", conf("maxmemroy 1gb", "max_memory 1gb", "maxmemory-polcy x", "xyzzy 1", "--timeout 5", "timeout=5", "timeout: 5", "timeout = 5", "; x", "// x"), "7.0.15", []string{
			"$/redis.conf:1: maxmemroy: unknown directive; did you mean maxmemory?",
			"$/redis.conf:2: max_memory: unknown directive; did you mean maxmemory?",
			"$/redis.conf:3: maxmemory-polcy: unknown directive; did you mean maxmemory-policy?",
			"$/redis.conf:4: xyzzy: unknown directive",
			"$/redis.conf:5: --timeout: unknown directive; this is the form of the command line: leave out the dashes",
			"$/redis.conf:6: timeout: unknown directive; " + hintBlank,
			"$/redis.conf:7: timeout: unknown directive; " + hintBlank,
			"$/redis.conf:8: timeout: wrong number of arguments; " + hintBlank,
			"$/redis.conf:9: (unreadable): unknown directive; a comment begins with #",
			"$/redis.conf:10: (unreadable): unknown directive; a comment begins with #",
		}},
		{"invented", conf("dsn-role master", "evict-on-expire 1", "aof-enabled yes", "hash-max-zipmap-entries 5", "dsn-replica-auto-failover-retry 3"), "7.0.15", []string{
			"$/redis.conf:1: dsn-role: unknown directive; no version of Redis that this sidecar knows has it: a replica is made by replicaof <host> <port>; without it a server is a master",
			"$/redis.conf:2: evict-on-expire: unknown directive; no version of Redis that this sidecar knows has it: there is no such switch: expired keys always go; for how eagerly see active-expire-effort",
			"$/redis.conf:3: aof-enabled: unknown directive; no version of Redis that this sidecar knows has it: use appendonly",
			"$/redis.conf:4: hash-max-zipmap-entries: unknown directive; no version of Redis that this sidecar knows has it: use hash-max-listpack-entries and hash-max-listpack-value",
			"$/redis.conf:5: dsn-replica-auto-failover-retry: unknown directive; no version of Redis that this sidecar knows has it: failover is Sentinel's or Redis Cluster's: see sentinel failover-timeout, cluster-node-timeout",
		}},
		{"other versions", conf("appenddirname x", "lookahead 3", "search-timeout 5", "set-max-listpack-value 3"), "6.2.14", []string{
			"$/redis.conf:1: appenddirname: unknown directive; Redis 6.2 does not have it; it exists since 7.0",
			"$/redis.conf:2: lookahead: unknown directive; Redis 6.2 does not have it; it exists since 8.0",
			"$/redis.conf:3: search-timeout: unknown directive",
			"$/redis.conf:4: set-max-listpack-value: unknown directive; Redis 6.2 does not have it; it exists since 7.2",
		}},
		{"gone", conf("gopher-enabled no"), "7.0.15", []string{
			"$/redis.conf:1: gopher-enabled: unknown directive; Redis 7.0 does not have it; it exists until before 7.0",
		}},
		{"modules", conf("search-timeout 5", "bf.error-rate 0.1", "loadmodule /x.so a b"), "8.0.0", nil},
		{"any version", conf("gopher-enabled no", "lookahead 3", "hash-max-ziplist-entries 5", "appenddirname x", "maxmemory-policy allkeys-lrm"), "", nil},
		{"values", conf("maxmemory 1.5gb", "timeout 1s", "timeout 5mb", "databases 0", "tcp-backlog 99999999999", "appendonly true", "loglevel info", "maxmemory-clients 200%",
			"save 900", "client-output-buffer-limit slaves 1 2 3", "client-output-buffer-limit replica 1 2", "oom-score-adj-values 1 2", "notify-keyspace-events Q", "unixsocketperm 999"), "7.0.15", []string{
			`$/redis.conf:1: maxmemory: "1.5gb" is not a size; write a whole number with no unit or b, k, kb, m, mb, g or gb, without a blank: 512mb`,
			`$/redis.conf:2: timeout: "1s" is not a whole number; write a whole number`,
			`$/redis.conf:3: timeout: "5mb" is not a whole number; write a whole number, without a unit`,
			`$/redis.conf:4: databases: 0 is out of range; the least is 1`,
			`$/redis.conf:5: tcp-backlog: 99999999999 is out of range; the most is 2147483647`,
			`$/redis.conf:6: appendonly: "true" is neither yes nor no`,
			`$/redis.conf:7: loglevel: "info" is not a value of it; one of debug, verbose, notice, warning`,
			`$/redis.conf:8: maxmemory-clients: "200%" is not a percentage; from 0% to 100%`,
			`$/redis.conf:9: save: not pairs of seconds and changes; for example: save 3600 1, or save "" for never`,
			`$/redis.conf:10: client-output-buffer-limit: "slaves" is not a class of clients; one of normal, replica, pubsub`,
			`$/redis.conf:11: client-output-buffer-limit: wrong number of arguments; it takes class, hard limit, soft limit and seconds: replica 256mb 64mb 60`,
			`$/redis.conf:12: oom-score-adj-values: not three numbers from -2000 to 2000; for master, replica and background child: 0 200 800`,
			`$/redis.conf:13: notify-keyspace-events: "Q" has a letter that is no class of events; letters of KEAg$lshzxetdmn, or ""`,
			`$/redis.conf:14: unixsocketperm: "999" is not an octal number; from 0 to 777, for example 700`,
		}},
		{"together", conf("aclfile /a", "user a on", "cluster-enabled yes", "replicaof h 1", "sentinel monitor m h 1 2"), "7.0.15", []string{
			"$/redis.conf:2: user: user lines and aclfile exclude each other; move the user to the ACL file of $/redis.conf:1",
			"$/redis.conf:4: replicaof: not allowed with cluster-enabled yes; in a cluster use CLUSTER REPLICATE",
			"$/redis.conf:5: sentinel: a directive of Sentinel; move it to the sentinel.conf: redis-server does not start with it",
		}},
		{"save before 7.0", conf("save 900 1 300 10", `save ""`, "save 60 1"), "6.2.14", []string{
			"$/redis.conf:1: save: more than one pair; before Redis 7.0 a save line takes one pair, and others are silently ignored: write a line for each",
		}},
		{"wildcards before 7.0", conf("include /nowhere/*.conf"), "6.2.14", []string{
			"$/redis.conf:1: include: a path with wildcards; Redis 6.2 does not expand them: name each file",
		}},
		{"encoding", map[string]string{"redis.conf": "\xef\xbb\xbf# x\nti\x00meout 1\n"}, "7.0.15", []string{
			"$/redis.conf:1: begins with a byte order mark, which redis-server takes for a part of the first word; save the file as UTF-8 without BOM",
			"$/redis.conf:2: contains a zero byte; save the file as plain text, UTF-8 (not UTF-16)",
		}},
		{"includes", map[string]string{
			"redis.conf":    "include $/a.conf\ninclude $/none.conf\ninclude rel.conf\ninclude $/conf.d/*.conf\ninclude $/redis.conf\ninclude $/conf.d\ninclude $/none/*\ninclude\n",
			"a.conf":        "timeout x\ninclude $/a.conf\n",
			"conf.d/1.conf": "timeout 1", "conf.d/2.conf": "hz 1\n", "conf.d/.hidden.conf": "nonsense\n", "conf.d/3.conf": "tiemout 3",
		}, "7.0.15", []string{
			"$/redis.conf:2: include: open $/none.conf: no such file or directory; redis-server does not start without it; mount it at the same path in this container, too",
			`$/redis.conf:3: include: "rel.conf" is a relative path; write an absolute path: redis-server starts from its working directory, which the sidecar does not know`,
			"$/redis.conf:5: include: $/redis.conf includes itself",
			"$/redis.conf:6: include: $/conf.d: not a regular file; name a file",
			"$/redis.conf:8: include: wrong number of arguments; include takes one path; quote it when it has a blank",
			`$/a.conf:1: timeout: "x" is not a whole number; write a whole number`,
			"$/a.conf:2: include: $/a.conf includes itself",
			"$/conf.d/1.conf: has no line feed at its end; add one: redis-server joins its last line with the first one of $/conf.d/2.conf",
			"$/conf.d/3.conf:1: tiemout: unknown directive; did you mean timeout?",
		}},
		{"secrets", conf("requirepass=hunter2", "requirepass: hunter2", "requirepas hunter2", "masterauth", "hunter2 3", "requirepass hunter2 and hunter2", "user a >hunter2", "user a >hunter2",
			"tls-key-file-pass hunter2 x", `masterauth "hunter2`, "rename-command hunter2"), "7.0.15", []string{
			"$/redis.conf:1: requirepass: unknown directive; " + hintBlank,
			"$/redis.conf:2: requirepass: unknown directive; " + hintBlank,
			"$/redis.conf:3: requirepas: unknown directive; did you mean requirepass?",
			"$/redis.conf:4: masterauth: wrong number of arguments; it takes one; quote a value that has blanks",
			"$/redis.conf:5: (redacted): unknown directive; the line before has no value: write both on one line",
			"$/redis.conf:6: requirepass: wrong number of arguments; it takes one; quote a value that has blanks",
			`$/redis.conf:8: user: a second line for user "a"; put all rules of a user on one line`,
			"$/redis.conf:9: tls-key-file-pass: wrong number of arguments; it takes one; quote a value that has blanks",
			`$/redis.conf:10: masterauth: unbalanced quotes; close the quote, and put a blank behind it; within "..." a quote is written \"`,
			`$/redis.conf:11: rename-command: wrong number of arguments; it takes a command and its new name, "" for none`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, strings.ReplaceAll(text, "$/", dir+"/"))
			}
			got := []string{}
			for _, line := range Check(filepath.Join(dir, "redis.conf"), test.version).Strings() {
				got = append(got, strings.ReplaceAll(line, dir+"/", "$/"))
			}
			want := append([]string{}, test.want...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if all := strings.Join(got, "\n"); strings.Contains(all, "hunter2") {
				t.Errorf("a secret got out:\n%s", all)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.conf")
	problems := Check(path, "")
	want := path + ": open " + path + ": no such file or directory; check config.path, and that the volume is mounted in this container"
	if len(problems) != 1 || problems[0].String() != want {
		t.Errorf("got %q, want %q", problems.Strings(), want)
	}
	if reason := status.ReasonOf(problems.Err()); reason != status.ReasonFile {
		t.Errorf("reason %s", reason)
	}
}

func TestTreeIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "redis.conf")

	writeFile(t, path, strings.Repeat("# comment\n", maxTreeBytes/10+1))
	if ps := Check(path, ""); len(ps) != 1 || !strings.Contains(ps[0].What, "larger than 4 MiB") {
		t.Errorf("size: %q", ps.Strings())
	}
	for i := range maxDepth + 1 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.conf", i)), fmt.Sprintf("include %s/%d.conf\n", dir, i+1))
	}
	if ps := Check(filepath.Join(dir, "0.conf"), ""); len(ps) != 1 || !strings.Contains(ps[0].What, "files deep") {
		t.Errorf("depth: %q", ps.Strings())
	}
	many := filepath.Join(dir, "many.d")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range maxTreeFiles + 5 {
		writeFile(t, filepath.Join(many, fmt.Sprintf("%03d.conf", i)), "timeout 1\n")
	}
	writeFile(t, path, "include "+many+"/*.conf\n")
	if ps := Check(path, ""); len(ps) == 0 || !strings.Contains(ps[0].What, "more than 256 files") {
		t.Errorf("files: %q", ps.Strings())
	}
	// Two files that include each other twice: no more than the bound is read.
	writeFile(t, path, fmt.Sprintf("include %s/a.conf\ninclude %s/a.conf\n", dir, dir))
	for i := 'a'; i < 'z'; i++ {
		writeFile(t, filepath.Join(dir, string(i)+".conf"), fmt.Sprintf("include %s/%c.conf\ninclude %s/%c.conf\n", dir, i+1, dir, i+1))
	}
	if ps := Check(path, ""); len(ps) == 0 {
		t.Error("a tree that doubles with each level is accepted")
	}
}

func TestHashTellsContentsApart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "redis.conf")
	seen := map[string]string{}
	see := func(what string) {
		tree, _ := Load(path)
		if before, ok := seen[tree.Hash]; ok {
			t.Errorf("%s has the hash of %s", what, before)
		}
		seen[tree.Hash] = what
	}
	see("no file")
	writeFile(t, path, "include "+dir+"/a.conf\n")
	see("a missing include")
	writeFile(t, filepath.Join(dir, "a.conf"), "")
	see("an empty include")
	writeFile(t, filepath.Join(dir, "a.conf"), "timeout 1\n")
	see("an include")
	writeFile(t, filepath.Join(dir, "a.conf"), "timeout 2\n")
	see("another include")
	writeFile(t, path, "include "+dir+"/a.conf")
	see("without line feed")
}

func TestDidYouMean(t *testing.T) {
	known := newCatalogue("7.0.15").names
	for name, want := range map[string]string{
		"maxmemroy": "maxmemory", "max-memory": "maxmemory", "apendonly": "appendonly", "appendonyl": "appendonly", "replica-readonly": "replica-read-only",
		"tcpkeepalive": "tcp-keepalive", "maxclient": "maxclients", "inclde": "include", "rename-comand": "rename-command", "x": "", "foo-bar-baz": "", "hzz": "hz",
	} {
		if got := didYouMean(name, known); got != "" != (want != "") || want != "" && got != "did you mean "+want+"?" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
