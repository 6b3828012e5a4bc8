package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // part of the error; "" for none
	}{
		{nil, ""},
		{[]string{"-states", "delay,small", "-agent", "--a=1 --b", "-n", "1", "-other", "x {redis} {listen} {small:--y}"}, ""},
		{[]string{"-states", "big"}, `there is no state "big", only small, commands, clients, delay`},
		{[]string{"-reps", "0"}, "must be at least 1"},
		{[]string{"small"}, "there are only flags"},
		{[]string{"-other", " "}, "the command is empty"},
		{[]string{"-other", "x {listen}"}, "lacks {redis}"},
		{[]string{"-other", "x {redis} {port}"}, "{port}: there are {redis}, {listen} and {STATE:words}"},
		{[]string{"-other", "x {redis} {listen} {big:--y}"}, `{big:--y}: there is no state "big"`},
	} {
		f := flag.NewFlagSet("bench", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		_, err := parse(f, c.args)
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) && c.want != "" {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestOtherCommand(t *testing.T) {
	o, err := parseOther("/opt/bin/some_exporter --redis.addr=redis://{redis} --listen={listen} {clients:--list --list-port} --v")
	if err != nil {
		t.Fatal(err)
	}
	if o.name != "some_exporter" {
		t.Errorf("name: got %q", o.name)
	}
	for _, st := range states() {
		want := "/opt/bin/some_exporter --redis.addr=redis://h:1 --listen=h:2 --v"
		if st.name == "clients" {
			want = "/opt/bin/some_exporter --redis.addr=redis://h:1 --listen=h:2 --list --list-port --v"
		}
		if got := strings.Join(o.words(st, "h:1", "h:2"), " "); got != want {
			t.Errorf("%s: got %s, want %s", st.name, got, want)
		}
	}
}

func TestStatistics(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		what      string
		got, want time.Duration
	}{
		{"p50", quantile(hundred, 0.5), 51},
		{"p99", quantile(hundred, 0.99), 100},
		{"p99 of one", quantile(hundred[:1], 0.99), 1},
		{"median of three", median([]time.Duration{9, 1, 4}), 4},
		{"median of four", median([]time.Duration{9, 1, 4, 6}), 5},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d, want %d", c.what, c.got, c.want)
		}
	}
}

// A pipeline is delayed once, whatever it holds; the next one again.
func TestDelayer(t *testing.T) {
	addr := testenv.Listen(t, func(_ context.Context, c net.Conn) { _, _ = io.Copy(c, c) })
	const delay = 30 * time.Millisecond
	d, err := startDelayer(t.Context(), addr, delay)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := range 3 {
		start := time.Now()
		if _, err := fmt.Fprintf(c, "%d\n", i); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintln(i) {
			t.Fatalf("got %q, %v", line, err)
		}
		if took := time.Since(start); took < delay {
			t.Errorf("round trip %d took %s, want at least %s", i, took, delay)
		}
	}
}

func TestTable(t *testing.T) {
	rep := func(factor int) repetition {
		d := time.Duration(factor) * time.Millisecond
		return repetition{p50: d, p90: 2 * d, p99: 3 * d, spent: spent{d / 2, d / 4}, commands: 2, out: 2000, body: 1500}
	}
	results := []result{{
		state: states()[0],
		idle:  500 * time.Microsecond,
		subjects: []*subject{
			{name: "ours", repetitions: []repetition{rep(1), rep(3), rep(2)}, resident: 10 * mib, early: 9 * mib, rest: spent{5e6, 1e6}},
			{name: "theirs", repetitions: []repetition{rep(10)}, resident: 20 * mib, early: 18 * mib},
		},
	}}
	var out strings.Builder
	printTable(&out, results)
	if err := checkLimits(&out, results); err != nil {
		t.Errorf("limits: %v", err)
	}
	want := `| state | exporter | p50 ms | p90 ms | p99 ms | CPU ms | Redis CPU ms | CPU ms in 15s | Redis CPU ms in 15s | commands | connections | kB from Redis | kB of body | objects | resident MiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| small | ours | 2.00 | 4.00 | 6.00 | 1.00 | 0.50 | 6.0 | 1.5 | 2.0 | 0.0 | 2.0 | 1.5 | – | 10.0 |
| small | theirs | 10.00 | 20.00 | 30.00 | 5.00 | 2.50 | 5.0 | 2.5 | 2.0 | 0.0 | 2.0 | 1.5 | – | 20.0 |
| small | none |  |  |  |  |  |  | 0.5 |  |  |  |  |  |  |
| small | ours / theirs | 0.200 > 0.15 | 0.200 | 0.200 | 0.200 > 0.12 | 0.200 ≤ 0.7 | 1.200 |  | 1.000 | – | 1.000 | 1.000 | – | 0.500 |

| | measured | limit | |
|---|---|---|---|
| resident MiB after 1000 scrapes, ours | 9.0 | 20 | ok |
| … theirs, and ours / that | 18.0 | | 0.500 ≤ 1.2 |
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	results[0].subjects[0].early = 20*mib + 1<<18
	results[0].subjects[0].repetitions[1].objects = 3000
	results[0].subjects[0].repetitions[2].objects = 2001
	out.Reset()
	if err := checkLimits(&out, results); err == nil || !strings.Contains(err.Error(), "2 figures") || strings.Count(out.String(), "OVER") != 2 {
		t.Errorf("figures over their limit: %v\n%s", err, out.String())
	}
}
