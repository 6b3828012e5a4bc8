package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// step is a moment in a snapshot that can be seen from outside.
type step struct {
	name string
	// One of these: a command to the server, before or after its reply; a request
	// to the store; the temporary file of the save, open in the sidecar.
	command  string
	skip     int // so many of these pass before
	answered bool
	rule     *testenv.Rule
	open     bool

	redis  []string // arguments of redis-server
	keep   int      // backup.retention.keep-last
	before int      // snapshots taken before
	lease  bool     // with a lease of 3 s
	small  bool     // the object is one request, not parts
	quick  bool     // part of make test
}

// stuck tells whether the sidecar, at this step, waits for a server that was killed
// to come back.
func (s step) stuck() bool {
	return s.open || s.rule != nil && s.lease && s.redis != nil || s.rule != nil && (s.rule.Query == "uploads" || s.rule.Query == "partNumber=1&" || s.rule.Query == "partNumber=2&")
}

func at(m testenv.Moment, method, path, query string) *testenv.Rule {
	return &testenv.Rule{At: m, Method: method, Path: path, Query: query}
}

// leaseSteps are the writes of the lease in a quick snapshot, the last of which is a
// renewal where the machine is slow, and a renewal in a slow one.
func leaseSteps() []step {
	var steps []step
	for i, name := range []string{"lease: tried whether the store knows conditions", "lease: taken", "lease: given back, or renewed before"} {
		steps = append(steps, step{name: name, rule: at(testenv.AtAnswer, http.MethodPut, "/lease.json", ""), skip: i, lease: true, quick: i == 1})
	}
	return append(steps, step{name: "lease: renewed in the middle", rule: at(testenv.AtAnswer, http.MethodPut, "/lease.json", ""), skip: 3, lease: true,
		redis: []string{"--rdb-key-save-delay", "12000"}})
}

// snapshotSteps are the steps of a snapshot, in their order.
func snapshotSteps() []step {
	const (
		dump     = "/dump.rdb"
		manifest = "/manifest.json"
	)
	slow := []string{"--rdb-key-save-delay", "400"}
	return []step{
		{name: "first command to the server", command: "INFO"},
		{name: "first request to the store", rule: at(testenv.AtRequest, "", "", "")},
		{name: "before BGSAVE", command: "BGSAVE"},
		{name: "child started, the reply is on its way", command: "BGSAVE", answered: true, redis: slow, quick: true},
		{name: "temporary file open", open: true, redis: slow},
		{name: "multipart upload to be begun", rule: at(testenv.AtRequest, http.MethodPost, dump, "uploads")},
		{name: "multipart upload begun", rule: at(testenv.AtAnswer, http.MethodPost, dump, "uploads"), redis: slow},
		{name: "first part half sent, the child writes", rule: at(testenv.InUpload, http.MethodPut, dump, "partNumber=1&"), redis: slow, quick: true},
		{name: "first part stored", rule: at(testenv.AtAnswer, http.MethodPut, dump, "partNumber=1&"), redis: slow},
		{name: "middle part half sent", rule: at(testenv.InUpload, http.MethodPut, dump, "partNumber=2&")},
		{name: "middle part stored", rule: at(testenv.AtAnswer, http.MethodPut, dump, "partNumber=2&")},
		{name: "last part half sent", rule: at(testenv.InUpload, http.MethodPut, dump, "partNumber=3&")},
		{name: "last part stored", rule: at(testenv.AtAnswer, http.MethodPut, dump, "partNumber=3&")},
		{name: "before the upload is completed", rule: at(testenv.AtRequest, http.MethodPost, dump, "uploadId=")},
		{name: "after the upload is completed", rule: at(testenv.AtAnswer, http.MethodPost, dump, "uploadId="), quick: true},
		{name: "small object half sent", rule: at(testenv.InUpload, http.MethodPut, dump, ""), small: true},
		{name: "small object stored", rule: at(testenv.AtAnswer, http.MethodPut, dump, ""), small: true},
		{name: "read-back to begin", rule: at(testenv.AtRequest, http.MethodGet, dump, "")},
		{name: "in the middle of the read-back", rule: at(testenv.InDownload, http.MethodGet, dump, "")},
		{name: "before the manifest", rule: at(testenv.AtRequest, http.MethodPut, manifest, ""), quick: true},
		{name: "manifest half sent", rule: at(testenv.InUpload, http.MethodPut, manifest, "")},
		{name: "manifest stored", rule: at(testenv.AtAnswer, http.MethodPut, manifest, ""), quick: true},
		{name: "manifest read back", rule: at(testenv.AtAnswer, http.MethodGet, manifest, "")},
		{name: "prune: before a manifest is deleted", rule: at(testenv.AtRequest, http.MethodDelete, manifest, ""), keep: 1, before: 1},
		{name: "prune: a manifest is deleted, its data is not", rule: at(testenv.AtAnswer, http.MethodDelete, manifest, ""), keep: 1, before: 1, quick: true},
		{name: "prune: data deleted", rule: at(testenv.AtAnswer, http.MethodDelete, dump, ""), keep: 1, before: 1},
	}
}

func killSnapshotRows() []row {
	const runs = 4
	var rows []row
	for _, s := range append(snapshotSteps(), leaseSteps()...) {
		rows = append(rows,
			row{group: groupKillSidecar, step: s.name, runs: runs, quick: s.quick, do: func(t *trial) { killSidecar(t, s) }},
			row{group: groupKillRedis, step: s.name, runs: runs, quick: s.quick && !s.stuck(), waits: s.stuck(), do: func(t *trial) { killRedis(t, s) }})
	}
	return rows
}

// struckWorld makes a world for a step.
func struckWorld(t *trial, s step) *world {
	o := options{redis: append([]string{"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"}, s.redis...)}
	if s.small {
		o.keys = 3
	}
	w := newWorld(t, o)
	for range s.before {
		w.past().must("backup", "now")
	}
	w.checkNew(0)
	if s.lease {
		w = w.with("REDIS_SIDECAR_BACKUP_LEASE_TTL=3s")
	}
	if s.keep > 0 {
		w = w.with(fmt.Sprintf("REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=%d", s.keep))
	}
	return w
}

// arm has do called once, when a snapshot comes to a step. The returned function
// begins the snapshot and returns it.
func (w *world) arm(s step, do func(*sidecar)) *sidecar {
	var (
		once sync.Once
		seen atomic.Int64
		run  *sidecar
	)
	started := make(chan struct{})
	strike := func() {
		once.Do(func() { <-started; do(run) })
	}
	switch {
	case s.command != "":
		w.truth.at(func(command string, answered bool) {
			if command != s.command || answered != s.answered {
				return
			}
			if seen.Add(1) > int64(s.skip) {
				strike()
			}
		})
	case s.rule != nil:
		r := *s.rule
		r.Skip, r.Times, r.Do = s.skip, 1, strike
		w.store.Set(r)
	}
	command := []string{"backup", "now"}
	if s.keep > 0 {
		command = append(command, "--prune")
	}
	run = w.start(command...)
	close(started)
	if s.open {
		testenv.Eventually(w, 10*time.Second, func() error {
			if !run.holdsSave() {
				return fmt.Errorf("no temporary file is open; %s", run.stderr.String())
			}
			return nil
		})
		strike()
	}
	return run
}

func (w *world) disarm() {
	w.truth.at(nil)
	if w.store != nil {
		w.store.Set()
	}
}

// killSidecar kills the sidecar at a step of a snapshot. Whatever is listed then
// restores; the server did not notice; the next backup succeeds.
func killSidecar(t *trial, s step) {
	w := struckWorld(t, s)
	before := w.truth.saves()
	run := w.arm(s, func(run *sidecar) { run.kill() })
	if code := run.wait(w, time.Minute); code != -1 {
		w.Fatalf("the sidecar was not killed: exit code %d\n%s", code, run.stderr.String())
	}
	w.disarm()
	w.outcomeOf(before, "no snapshot", "snapshot")
	w.backupAgain()
	w.intact()
}

// killRedis kills the server at a step of a snapshot. The sidecar says so, or has
// all it needs; the server starts again and holds what it held.
func killRedis(t *trial, s step) {
	w := struckWorld(t, s)
	before := w.truth.saves()
	var killed atomic.Bool
	run := w.arm(s, func(*sidecar) { w.redis.Kill(w); killed.Store(true) })
	code := run.wait(w, 2*time.Minute)
	w.disarm()
	if !killed.Load() {
		w.Fatalf("the snapshot did not come to this step: exit code %d\n%s", code, run.stderr.String())
	}
	failed := "refused: " + short(run.cause())
	if code != 0 && run.cause() == "" {
		w.violated(silentFailure, "exit code %d, and standard error is %q", code, run.stderr.String())
	}
	w.redis.Start(w)
	loaded(w, w.redis)
	w.intact()
	w.outcomeOf(before, failed, "snapshot")
	if code == 0 && w.outcome != "snapshot" {
		w.violated(falseSnapshot, "backup now succeeded, and no snapshot is listed")
	}
	w.backupAgain()
}

// outcomeOf checks what is listed now, and names what came of the run.
func (w *world) outcomeOf(before int, none, one string) {
	switch n := w.checkNew(before); n {
	case 0:
		w.ends("%s", none)
	case 1:
		w.ends("%s", one)
	default:
		w.violated(otherFault, "%d snapshots came of one run", n)
	}
}

// short makes one message of errors that differ in names and figures only.
func short(cause string) string {
	cause = figures(cause)
	for _, noise := range []string{`^snapshot: `, `(list|put|get|stat|delete) \S+ in (STORE \(http://ADDRESS\)|file://DIR): `, `read tcp ADDRESS->ADDRESS: `} {
		cause = regexp.MustCompile(noise).ReplaceAllString(cause, "")
	}
	const enough = 110
	if i := strings.IndexAny(cause, ";("); i > 20 && len(cause) > enough {
		cause = cause[:i]
	}
	return cause[:min(len(cause), enough)]
}

// loaded waits until the server has loaded its data.
func loaded(w *world, r *testenv.Redis) {
	c := r.Client(w)
	testenv.Eventually(w, 20*time.Second, func() error {
		_, err := c.Do(w.ctx, "DBSIZE")
		return err
	})
}
