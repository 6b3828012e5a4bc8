package main

import (
	"sync"
	"time"
)

func uploaderRows() []row {
	return []row{
		{group: groupUploaders, step: "two at one server", runs: 8, quick: true, do: func(t *trial) { twoUploaders(t, false) }},
		{group: groupUploaders, step: "one at the primary, one at its replica", runs: 8, do: func(t *trial) { twoUploaders(t, true) }},
		{group: groupUploaders, step: "kill -9 of one of two", runs: 4, do: killOneOfTwo},
	}
}

// beside returns the world of a second pod: the same store, and the server's
// replica if it is to be.
func (w *world) beside(replica bool) *world {
	o := w.with("POD_NAME=redis-1")
	if replica {
		attachReplica(w)
		linkUp(w, w.replica)
		o.redis = w.replica
		o.truth = startTruth(w.trial, w.replica.Addr)
		w.other = o.truth
		o = o.with("REDIS_ADDR=" + o.truth.addr)
	}
	return o
}

// twoUploaders take a snapshot at the same time. Each that says it has succeeded
// has; what is listed is right.
func twoUploaders(t *trial, replica bool) {
	w := newWorld(t, options{redis: []string{"--rdb-key-save-delay", "200", "--repl-diskless-sync-delay", "0"}})
	o := w.beside(replica)
	a := w.start("backup", "now")
	wait(t.ctx, time.Duration(w.random.IntN(400))*time.Millisecond)
	b := o.start("backup", "now")
	codes := []int{a.wait(w, 2*time.Minute), b.wait(w, 2*time.Minute)}
	said := 0
	for i, s := range []*sidecar{a, b} {
		if codes[i] == 0 {
			said++
		} else if s.cause() == "" {
			w.violated(silentFailure, "exit code %d, and standard error is %q", codes[i], s.stderr.String())
		} else {
			t.ends("one refused: %s", short(s.cause()))
		}
	}
	switch said {
	case 0:
		w.violated(otherFault, "neither took a snapshot:\n%s\n%s", a.stderr.String(), b.stderr.String())
	case 2:
		t.ends("both succeed")
	}
	if n := w.checkNew(0); n != said {
		w.violated(falseSnapshot, "%d say they have taken a snapshot, %d are listed", said, n)
	}
	w.backupAgain()
	w.intact()
}

// killOneOfTwo kills one of two at the moment that it is furthest ahead.
func killOneOfTwo(t *trial) {
	w := newWorld(t, options{})
	o := w.beside(false)
	started := make(chan *sidecar, 1)
	var once sync.Once
	first := w.arm(step{rule: at(0, "PUT", "/manifest.json", "")}, func(s *sidecar) {
		once.Do(func() {
			started <- o.past().start("backup", "now")
			wait(t.ctx, time.Duration(w.random.IntN(300))*time.Millisecond)
			s.kill()
		})
	})
	first.wait(w, time.Minute)
	w.disarm()
	second := <-started
	code := second.wait(w, 2*time.Minute)
	n := w.checkNew(0)
	w.judge(second, code, either)
	if code == 0 && n == 0 {
		w.violated(falseSnapshot, "exit code 0, and no snapshot is listed")
	}
	w.backupAgain()
}
