package main

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSplitLine(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                  {""},
		"redis-sidecar":                     {"redis-sidecar"},
		"redis-sidecar ":                    {"redis-sidecar", ""},
		"redis-sidecar  backup\tlist ":      {"redis-sidecar", "backup", "list", ""},
		`redis-sidecar "a b" c\ d 'e"f\`:    {"redis-sidecar", "a b", "c d", `e"f\`},
		`redis-sidecar --x='a b'"c" --y=\"`: {"redis-sidecar", "--x=a bc", `--y="`},
	} {
		if diff := cmp.Diff(want, splitLine(line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

// A store that takes connections and never answers holds nobody's shell.
func TestCompletionOfAStoreThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := &env{environ: []string{"POD_NAME=redis-0", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}}
	began := time.Now()
	got := candidates(t.Context(), e, []string{"backup", "show", "--backup.store=s3://bucket?endpoint=http://" + l.Addr().String(), ""})
	if diff := cmp.Diff([]string{"latest"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if took := time.Since(began); took < idsWithin-time.Second || took > idsWithin+20*time.Second {
		t.Errorf("it took %s, want about %s", took, idsWithin)
	}
}

// Every flag of every command can be completed, and only those there are.
func TestFlagsOf(t *testing.T) {
	for _, c := range commands() {
		seen := map[string]bool{}
		for _, f := range flagsOf(c) {
			if seen[f] {
				t.Errorf("%s: %s comes twice", c.name, f)
			}
			seen[f] = true
		}
	}
	got := flagsOf(backupVerifyCommand())[:6]
	if diff := cmp.Diff([]string{"--all", "--sample=", "--load", "--redis-server=", "--timeout=", "--instance="}, got); diff != "" {
		t.Errorf("backup verify (-want +got):\n%s", diff)
	}
}
