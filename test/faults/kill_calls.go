package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// killedAt says where among the calls of a traced program it is killed: at all
// of them, but of writes to the same file one after the other only at the first
// and in the middle.
func killedAt(calls []string) (at []callAt, names []string) {
	add := func(c callAt, call string) {
		at = append(at, c)
		name := fmt.Sprintf("%d. %s", c.group, figures(call))
		if c.position > 1 {
			name += fmt.Sprintf(", no. %d", c.position)
		}
		names = append(names, name)
	}
	var now callAt
	for i := 0; i < len(calls); {
		j := i + 1
		for j < len(calls) && figures(calls[j]) == figures(calls[i]) {
			j++
		}
		now.group++
		for now.position = 1; now.position <= j-i; now.position++ {
			if !strings.HasPrefix(calls[i], "write ") || now.position == 1 || now.position == (j-i)/2 {
				add(now, calls[i])
			}
		}
		i = j
	}
	return at, names
}

// killDirRows kill a snapshot at each system call that it makes on a store that
// is a directory.
func killDirRows() []row {
	return []row{{group: groupKillDir, step: "all", expand: func(all *trial) []row {
		w := dirWorld(all)
		calls, s := w.traced(w.storeDir, callAt{}, "backup", "now", "--prune")
		if s.cmd.ProcessState.ExitCode() != 0 {
			all.Fatalf("backup now under the tracer: %s", s.stderr.String())
		}
		var rows []row
		places, names := killedAt(calls)
		for i, at := range places {
			rows = append(rows, row{group: groupKillDir, step: names[i], runs: 1, quick: true, do: func(t *trial) { killDir(t, at) }})
		}
		return rows
	}}}
}

func dirWorld(t *trial) *world {
	t.random = seeded(1)
	w := newWorld(t, options{keys: 10, dir: t.TempDir()})
	// Two snapshots, of which the second run prunes one.
	w = w.with("REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=1")
	w.must("backup", "now")
	w.checkNew(0)
	return w
}

func killDir(t *trial, at callAt) {
	w := dirWorld(t)
	before := w.truth.saves()
	_, s := w.traced(w.storeDir, at, "backup", "now", "--prune")
	if code := s.cmd.ProcessState.ExitCode(); code != killedCode {
		w.Fatalf("not killed at call %v: exit code %d: %s", at, code, s.stderr.String())
	}
	w.outcomeOf(before, "no snapshot", "snapshot")
	w.backupAgain()
	w.intact()
}

// killRestoreRows kill a restore at each system call that it makes on the data
// directory.
func killRestoreRows() []row {
	var rows []row
	for _, names := range []string{"", "other names"} {
		rows = append(rows, row{group: groupKillRestore, step: "all", expand: func(all *trial) []row { return killRestoreAt(all, names) }})
	}
	return append(rows,
		row{group: groupKillLoad, step: "appendonly no, while it loads", runs: 6, quick: true, do: func(t *trial) { killLoading(t, true, "--appendonly", "no") }},
		row{group: groupKillLoad, step: "appendonly yes, while it loads", runs: 6, do: func(t *trial) { killLoading(t, true, "--appendonly", "yes") }},
		row{group: groupKillLoad, step: "appendonly no, just after", runs: 6, do: func(t *trial) { killLoading(t, false, "--appendonly", "no") }},
		row{group: groupKillLoad, step: "appendonly yes, just after, while it rewrites", runs: 6, quick: true, do: func(t *trial) {
			killLoading(t, false, "--appendonly", "yes", "--rdb-key-save-delay", "2000")
		}})
}

// restoreWorld has one snapshot to restore.
func restoreWorld(t *trial, names string) (w *world, args []string) {
	t.random = seeded(1)
	w = newWorld(t, options{keys: 12, dir: t.TempDir()})
	w.must("backup", "now")
	w.checkNew(0)
	w.redis.Kill(w)
	if names != "" {
		conf := filepath.Join(t.TempDir(), "redis.conf")
		if err := os.WriteFile(conf, []byte("dbfilename d.rdb\nappenddirname a\nappendfilename f.aof\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w = w.with("REDIS_SIDECAR_RESTORE_REDIS_CONF=" + conf)
		args = []string{"--dbfilename", "d.rdb", "--appenddirname", "a", "--appendfilename", "f.aof"}
	}
	return w, args
}

func killRestoreAt(all *trial, names string) []row {
	w, args := restoreWorld(all, names)
	dir := all.TempDir()
	calls, s := w.traced(dir, callAt{}, "restore", "--restore.dir="+dir)
	if s.cmd.ProcessState.ExitCode() != 0 {
		all.Fatalf("restore under the tracer: %s", s.stderr.String())
	}
	if names != "" {
		names = ", " + names
	}
	var rows []row
	places, steps := killedAt(calls)
	for i, at := range places {
		rows = append(rows, row{group: groupKillRestore, step: steps[i] + names, runs: 1, quick: names == "", do: func(t *trial) {
			here := *w
			here.trial = t
			killRestore(&here, at, args)
		}})
	}
	return rows
}

// killRestore kills a restore at a call. A server that starts on what is left
// finds all, or nothing, or refuses; the next restore makes it whole.
func killRestore(w *world, at callAt, args []string) {
	dir := w.TempDir()
	_, s := w.traced(dir, at, "restore", "--restore.dir="+dir)
	if code := s.cmd.ProcessState.ExitCode(); code != killedCode {
		w.Fatalf("not killed at call %v: exit code %d: %s", at, code, s.stderr.String())
	}
	no, yes := w.boot(dir, append(args, "--appendonly", "no")), w.boot(dir, append(args, "--appendonly", "yes"))
	w.ends("appendonly no: %s, yes: %s; then whole", no, yes)
	again := w.start("restore", "--restore.dir="+dir)
	if code := again.wait(w, time.Minute); code != 0 {
		w.violated(unusableDir, "the next restore fails: exit code %d\n%s", code, again.stderr.String())
		return
	}
	for _, appendonly := range []string{"no", "yes"} {
		if got := w.boot(dir, append(args, "--appendonly", appendonly)); got != loadsAll {
			w.violated(unusableDir, "after the next restore, with appendonly %s, the server %s", appendonly, got)
		}
	}
}

// What a server makes of a directory.
const (
	loadsAll   = "loads all"
	loadsNone  = "starts empty"
	refusesDir = "refuses to start"
)

// boot starts a server on a copy of a directory.
func (w *world) boot(dir string, args []string) string {
	copied := w.TempDir()
	defer os.RemoveAll(copied)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		w.Fatal(err)
	}
	r := testenv.NewRedis(w, copied, args...)
	log, err := r.TryStart(w)
	if err != nil {
		if !strings.Contains(log, "Wrong signature trying to load DB from file") {
			w.violated(unusableDir, "the server refuses for another reason than the placeholder:\n%s", tail(log))
		}
		return refusesDir
	}
	defer r.Kill(w)
	if r.DBSize(w) == 0 {
		return loadsNone
	}
	r.Do(w, "SET", markerKey, "none")
	if got := r.Digest(w); got != w.whole {
		w.violated(unusableDir, "the server loads something else: %d keys, digest %s", r.DBSize(w), got)
		return "loads something else"
	}
	return loadsAll
}

// killLoading kills a server while it loads what was restored, or soon after,
// again and again. It has all of it then as ever.
func killLoading(t *trial, loading bool, args ...string) {
	w, _ := restoreWorld(t, "")
	dir := t.TempDir()
	w.must("restore", "--restore.dir="+dir)
	const kills = 3
	for range kills {
		slow := args
		if loading {
			slow = append(slow, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
		}
		r := testenv.NewRedis(w, dir, slow...)
		r.Start(w)
		if !loading {
			loaded(w, r)
			c := r.Client(w)
			_, _ = c.Do(w.ctx, "BGREWRITEAOF")
			_, _ = c.Do(w.ctx, "BGSAVE")
		}
		select {
		case <-time.After(time.Duration(w.random.IntN(60)) * time.Millisecond):
		case <-w.ctx.Done():
		}
		r.Kill(w)
	}
	if got := w.boot(dir, args); got != loadsAll {
		w.violated(unusableDir, "after %d kills the server %s", kills, got)
	}
	w.ends("loads all")
}
