package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// meddling is what somebody else does to the server while it saves.
type meddling struct {
	name   string
	redis  []string // arguments of the server
	before func(*world)
	during func(*world)
	want   want
	loses  bool // the server's own data is not what it was
	quick  bool
}

// do sends a command to the server, which may refuse it when it is not its time.
func do(args ...string) func(*world) {
	return func(w *world) { _, _ = w.redis.Client(w).Do(w.ctx, args...) }
}

func meddlings() []meddling {
	return []meddling{
		{name: "FLUSHALL", during: do("FLUSHALL"), want: fails, loses: true, quick: true},
		{name: "FLUSHALL, with save points", redis: []string{"--save", "3600 1"}, during: do("FLUSHALL"), want: fails, loses: true, quick: true},
		{name: "FLUSHALL ASYNC, with save points", redis: []string{"--save", "3600 1"}, during: do("FLUSHALL", "ASYNC"), want: fails, loses: true},
		{name: "FLUSHDB", during: do("FLUSHDB"), loses: true},
		{name: "SAVE", during: do("SAVE")},
		{name: "another BGSAVE before", before: do("BGSAVE"), quick: true},
		{name: "another BGSAVE during", during: do("BGSAVE")},
		{name: "another BGSAVE SCHEDULE during", during: do("BGSAVE", "SCHEDULE")},
		{name: "BGREWRITEAOF before", redis: []string{"--appendonly", "yes"}, before: do("BGREWRITEAOF")},
		{name: "BGREWRITEAOF during", redis: []string{"--appendonly", "yes"}, during: do("BGREWRITEAOF")},
		{name: "CONFIG SET appendonly yes during", during: do("CONFIG", "SET", "appendonly", "yes")},
		{name: "many writes", during: func(w *world) {
			for i := range 200 {
				do("SET", "key:"+strconv.Itoa(i%190), strings.Repeat("x", 1000))(w)
			}
		}, loses: true},
		{name: "SIGKILL of the child", during: killChild, want: fails, quick: true},
		{name: "SIGKILL of the child, with save points", redis: []string{"--save", "3600 1"}, during: killChild, want: fails},
		{name: "SIGSTOP of the server for a second", during: func(w *world) {
			w.redis.Signal(w, syscall.SIGSTOP)
			wait(w.ctx, time.Second)
			w.redis.Signal(w, syscall.SIGCONT)
		}},
		{name: "DEBUG SLEEP 2", during: do("DEBUG", "SLEEP", "2")},
		{name: "SHUTDOWN NOSAVE and start", redis: []string{"--appendonly", "yes"}, during: func(w *world) {
			w.redis.Stop(w)
			w.redis.Start(w)
		}, want: fails},
		{name: "a diskless sync before", redis: []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"}, before: attachReplica, quick: true},
		{name: "a sync by the disk before", redis: []string{"--repl-diskless-sync", "no"}, before: attachReplica},
		{name: "a diskless sync during", redis: []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"}, during: attachReplica},
		{name: "failover: another primary, full resync", during: func(w *world) {
			other := testenv.StartRedis(w, "--repl-diskless-sync-delay", "0")
			other.Do(w, "SET", "other", "data")
			w.redis.Do(w, "REPLICAOF", "127.0.0.1", strconv.Itoa(other.Port))
			linkUp(w, w.redis)
			w.redis.Do(w, "REPLICAOF", "NO", "ONE")
		}, want: fails, loses: true, quick: true},
		{name: "failover: its replica takes over", redis: []string{"--repl-diskless-sync-delay", "0"}, before: attachReplica, during: func(w *world) {
			replica := w.replica
			replica.Do(w, "REPLICAOF", "NO", "ONE")
			w.redis.Do(w, "REPLICAOF", "127.0.0.1", strconv.Itoa(replica.Port))
			replica.Do(w, "CONFIG", "SET", "rdb-key-save-delay", "0")
			linkUp(w, w.redis)
			w.redis.Do(w, "REPLICAOF", "NO", "ONE")
		}, want: either},
	}
}

func serverRows() []row {
	var rows []row
	for _, m := range meddlings() {
		rows = append(rows, row{group: groupServer, step: m.name, runs: 3, quick: m.quick, do: func(t *trial) { meddle(t, m) }})
	}
	return rows
}

// meddle takes a snapshot while somebody does something else to the server.
func meddle(t *trial, m meddling) {
	w := newWorld(t, options{redis: append([]string{"--rdb-key-save-delay", "3000"}, m.redis...)})
	if m.before != nil {
		m.before(w)
	}
	before := w.truth.saves()
	if m.want == fails {
		// However late what ends the save comes, the save is not over by then.
		w.redis.Do(w, "CONFIG", "SET", "rdb-key-save-delay", "50000")
	}
	var began atomic.Bool
	ended := make(chan struct{})
	run := w.arm(step{command: "BGSAVE", answered: true}, func(*sidecar) {
		if m.during != nil {
			began.Store(true)
			go func() {
				defer close(ended)
				defer func() {
					if p := recover(); p != nil {
						w.Errorf("%v", p)
					}
				}()
				// When the save's file is open: what comes before that is another story.
				testenv.Eventually(w, 20*time.Second, func() error {
					if found, err := filepath.Glob(filepath.Join(w.redis.Dir, "temp-*.rdb")); len(found) == 0 {
						return fmt.Errorf("the server has not begun to save: %w", err)
					}
					return nil
				})
				wait(w.ctx, time.Duration(w.random.IntN(150))*time.Millisecond)
				m.during(w)
				do("CONFIG", "SET", "rdb-key-save-delay", "0")(w) // for the saves that mend it
			}()
		}
	})
	code := run.wait(w, 2*time.Minute)
	if began.Load() {
		<-ended
	}
	w.disarm()
	w.judge(run, code, m.want)
	w.outcomeOf(before, w.outcome, w.outcome)
	if n := len(w.listed); code == 0 && n != 1 || code != 0 && n != 0 {
		w.violated(falseSnapshot, "exit code %d, and %d snapshots are listed", code, n)
	}
	w.backupAgain() // after a save that failed, it makes the server writable again
	if !m.loses {
		w.intact()
	}
}

// wait waits.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// killChild kills the server's child, as the kernel does when memory is short.
func killChild(w *world) {
	pids := children(w.redis.Pid)
	if len(pids) == 0 {
		w.Error("no child of the server runs")
	}
	for _, pid := range pids {
		kill(pid)
	}
}

// children returns the children that a single-threaded program has forked.
func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it has ended
	}
	var pids []int
	for text := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) } // an error means that it is gone

// attachReplica gives the server a replica, whose sync runs then.
func attachReplica(w *world) {
	w.replica = testenv.StartRedis(w, "--replicaof", "127.0.0.1 "+strconv.Itoa(w.redis.Port))
	wait(w.ctx, 50*time.Millisecond)
}

// linkUp waits until a replica has the data of its primary.
func linkUp(w *world, r *testenv.Redis) {
	c := r.Client(w)
	testenv.Eventually(w, 30*time.Second, func() error {
		v, err := c.Do(w.ctx, "INFO", "replication")
		if text, _ := v.(string); err == nil && !strings.Contains(text, "master_link_status:up") {
			err = fmt.Errorf("the link is not up:\n%s", text)
		}
		return err
	})
}
