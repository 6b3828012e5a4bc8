package status_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// clock is a time that the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func board(t *testing.T) (*status.Board, *clock, *bytes.Buffer) {
	t.Helper()
	c := &clock{time.Unix(1000, 0).UTC()}
	var log bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return status.NewBoard(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: drop})), c.now), c, &log
}

func TestOverall(t *testing.T) {
	jobs := func(exporter, config, backup status.State) []status.Report {
		return []status.Report{{Job: status.Exporter, State: exporter}, {Job: status.Config, State: config}, {Job: status.Backup, State: backup}}
	}
	const starting, ok, warning, failing, off = status.Starting, status.OK, status.Warning, status.Failing, status.Disabled
	for _, tt := range []struct {
		reports []status.Report
		want    status.State
	}{
		{nil, starting},
		{jobs(ok, ok, ok), ok},
		{jobs(ok, ok, off), ok},
		{jobs(off, off, off), off},
		{jobs(ok, starting, ok), starting},
		{jobs(warning, starting, ok), warning},
		{jobs(ok, warning, failing), failing},
		{jobs(failing, ok, off), failing},
		// Nobody has asked for metrics.
		{jobs(starting, ok, off), ok},
		{jobs(starting, starting, ok), starting},
		{jobs(starting, ok, failing), failing},
		{jobs(starting, off, off), starting},
		{append(jobs(ok, ok, ok), status.Report{Job: "exporter:sentinel", State: starting}), ok},
	} {
		if got := status.Overall(tt.reports); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.reports, got, tt.want)
		}
	}
}

// What is only counted changes nothing else.
func TestCount(t *testing.T) {
	b, _, log := board(t)
	r := b.Register(status.Backup)
	r.Failure(status.WithReason(status.ReasonSave, errors.New("the save failed")))
	before, said := r.Report(), log.String()
	r.Count(status.WithReason(status.ReasonCorrupt, errors.New("damaged")))
	if r.Report() != before || log.String() != said {
		t.Errorf("%+v, log:\n%s", r.Report(), log)
	}
	if n := testenv.Metrics(t, status.NewMetrics(b))[`redis_sidecar_job_failures_total{name="backup",reason="corrupt"}`]; n != 1 {
		t.Errorf("counted %v times", n)
	}
}

func TestLogsChangesOnly(t *testing.T) {
	b, c, log := board(t)
	r := b.Register(status.Backup, status.ReasonStoreDenied)
	denied := status.WithHint(status.ReasonStoreDenied, "check the keys", errors.New("put x: denied"))
	steps := []func(){
		func() { r.Success("first") },
		func() { r.Success("second") },
		func() { r.Failure(denied) },
		func() { r.Failure(fmt.Errorf("again: %w", denied)) },
		func() { r.Failure(errors.New("odd")) },
		func() { r.Success("third") },
		func() { r.Warn(status.ReasonRetention, "one was not deleted") },
		func() { r.Success("fourth") },
		func() { r.Failure(nil) },
		func() { r.Disable("no schedule") },
	}
	for _, step := range steps {
		c.t = c.t.Add(time.Second)
		step()
	}
	want := `level=INFO msg=ok job=backup message=first
level=ERROR msg=failing job=backup reason=store_denied error="put x: denied" hint="check the keys"
level=ERROR msg=failing job=backup reason=internal error=odd
level=INFO msg=recovered job=backup message=third after=1s was=internal
level=WARN msg="needs attention" job=backup reason=retention message="one was not deleted"
level=INFO msg=recovered job=backup message=fourth after=1s was=retention
level=INFO msg=disabled job=backup message="no schedule"
`
	if log.String() != want {
		t.Errorf("log:\n%s\nwant:\n%s", log, want)
	}
}

// onWrite calls a function at every line of the log.
type onWrite func(line string)

func (f onWrite) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

// What a state says in the log is there when the state can be seen.
func TestLogsBeforeItShows(t *testing.T) {
	var b *status.Board
	lines := 0
	b = status.NewBoard(slog.New(slog.NewTextHandler(onWrite(func(line string) {
		lines++
		if r, _ := b.Report(status.Backup); r.State != status.Starting {
			t.Errorf("the job is %s before the log has %s", r.State, line)
		}
	}), nil)), nil)
	b.Register(status.Backup).Success("first")
	if r, _ := b.Report(status.Backup); r.State != status.OK || lines != 1 {
		t.Errorf("the job is %s after %d lines", r.State, lines)
	}
}

// Of several that report at the same time, too, each line is a change from the line
// before.
func TestLogsInOrder(t *testing.T) {
	var lines []string
	b := status.NewBoard(slog.New(slog.NewTextHandler(onWrite(func(line string) {
		lines = append(lines, regexp.MustCompile(`msg=(\w+)`).FindStringSubmatch(line)[1])
	}), nil)), nil)
	r := b.Register(status.Exporter)
	var reporting sync.WaitGroup
	for range 4 {
		reporting.Go(func() {
			for range 200 {
				r.Failure(errors.New("odd"))
				r.Success("well")
			}
		})
	}
	reporting.Wait()
	for i := range lines[1:] {
		if lines[i] == lines[i+1] {
			t.Fatalf("line %d of %d says %s, and so does the next", i, len(lines), lines[i])
		}
	}
}

func TestReport(t *testing.T) {
	b, c, _ := board(t)
	r := b.Register(status.Config)
	b.Register(status.Probe).Disable("off")
	r.Success("equal")
	c.t = c.t.Add(time.Minute)
	r.Failure(status.WithReason(status.ReasonSyntax, errors.New("line 3")))
	c.t = c.t.Add(time.Minute)
	r.Success("equal")
	r.NextRun(time.Unix(5000, 0).UTC())
	r.Detail(map[string]int{"drift": 0})
	got, err := json.Marshal(b.Reports())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"job":"config","state":"ok","message":"equal","since":"1970-01-01T00:18:40Z","last_success":"1970-01-01T00:18:40Z",` +
		`"last_error":"line 3","last_error_at":"1970-01-01T00:17:40Z","next_run":"1970-01-01T01:23:20Z","detail":{"drift":0}},` +
		`{"job":"probe","state":"disabled","message":"off","since":"1970-01-01T00:16:40Z"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.Failure(status.WithHint(status.ReasonSyntax, "close the quote", errors.New("line 4")))
	if got := b.Reports()[0].Hint; got != "close the quote" {
		t.Errorf("hint %q of a failure", got)
	}
	r.Warn(status.ReasonDrift, "differs")
	if got := b.Reports()[0].Hint; got != "" {
		t.Errorf("hint %q after it", got)
	}
	if _, ok := b.Report(status.Announce); ok {
		t.Error("a job that was not registered has a report")
	}
}

func TestMetricsExistFromTheStart(t *testing.T) {
	b, c, _ := board(t)
	r := b.Register(status.Backup, status.ReasonStore)
	compare := func(state status.State, failures, last float64) {
		t.Helper()
		want := map[string]float64{
			`redis_sidecar_job_failures_total{name="backup",reason="internal"}`: 0,
			`redis_sidecar_job_failures_total{name="backup",reason="store"}`:    failures,
			`redis_sidecar_job_last_success_timestamp_seconds{name="backup"}`:   last,
			`redis_sidecar_job_next_run_timestamp_seconds{name="backup"}`:       0,
			`redis_sidecar_job_last_duration_seconds{name="backup"}`:            0,
			`redis_sidecar_job_duration_seconds_count{name="backup"}`:           0,
			`redis_sidecar_job_duration_seconds_sum{name="backup"}`:             0,
		}
		for _, s := range status.States() {
			want[`redis_sidecar_job_state{name="backup",state="`+string(s)+`"}`] = map[bool]float64{true: 1}[s == state]
		}
		if diff := cmp.Diff(want, testenv.Metrics(t, status.NewMetrics(b))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	compare(status.Starting, 0, 0)
	c.t = c.t.Add(time.Second)
	r.Success("")
	compare(status.OK, 0, 1001)
	r.Failure(status.WithReason(status.ReasonStore, errors.New("x")))
	r.Failure(status.WithReason(status.ReasonStore, errors.New("x")))
	compare(status.Failing, 2, 1001)
	r.Ran(2 * time.Second)
	got := testenv.Metrics(t, status.NewMetrics(b))
	if got[`redis_sidecar_job_duration_seconds_sum{name="backup"}`] != 2 || got[`redis_sidecar_job_last_duration_seconds{name="backup"}`] != 2 {
		t.Errorf("after a run of 2 s: %v", got)
	}
}

func TestHints(t *testing.T) {
	inner := status.WithHint(status.ReasonAuth, "inner hint", errors.New("x"))
	for name, tc := range map[string]struct {
		err    error
		reason status.Reason
		hint   string
	}{
		"none":            {errors.New("x"), status.ReasonInternal, ""},
		"wrapped":         {fmt.Errorf("op: %w", inner), status.ReasonAuth, "inner hint"},
		"outer reason":    {status.WithReason(status.ReasonSave, inner), status.ReasonSave, "inner hint"},
		"outer hint wins": {status.WithHint(status.ReasonSave, "outer", inner), status.ReasonSave, "outer"},
	} {
		if r, h := status.ReasonOf(tc.err), status.HintOf(tc.err); r != tc.reason || h != tc.hint {
			t.Errorf("%s: %q %q", name, r, h)
		}
	}
	if status.WithReason(status.ReasonAuth, nil) != nil {
		t.Error("nil was wrapped")
	}
}
