package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
)

// trial is one run of a row. It is the testing.TB of all that the run starts, so
// that internal/testenv serves a program as it serves a test. What testing.TB
// has and trial does not define panics.
type trial struct {
	testing.TB

	name   string
	random *rand.Rand
	binary string
	s3     *sharedS3

	ctx    context.Context //nolint:containedctx // testing.TB has it
	cancel context.CancelFunc

	mu       sync.Mutex
	cleanups []func()
	failures []string // of the harness, or of what is checked on the way
	log      strings.Builder

	outcome string // what the run came to, in the words of the table
	broken  []violation
}

// violation is something that must never be.
type violation struct {
	kind violationKind
	text string
}

type violationKind string

// What is counted, and has to be 0.
const (
	falseSnapshot violationKind = "false snapshot"     // listed, and does not restore to the keys of the moment asked for
	unusableDir   violationKind = "unusable directory" // a server does not start in it, or data is gone
	silentFailure violationKind = "silent failure"     // nothing says that, and why, something failed
	otherFault    violationKind = "other"              // a run that did not go as the row wants it
)

// run runs one trial in a goroutine of its own, which Fatal ends.
func (t *trial) run(parent context.Context, do func(*trial)) {
	t.ctx, t.cancel = context.WithCancel(parent)
	defer t.cancel()
	guarded := func(f func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			f()
		}()
		<-done
	}
	guarded(func() { do(t) })
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			break
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		guarded(f)
	}
	for _, text := range t.failures {
		t.broken = append(t.broken, violation{otherFault, text})
	}
}

// violated notes what must never be.
func (t *trial) violated(kind violationKind, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := context.Cause(t.ctx); err != nil { // says nothing of the program
		kind, format = otherFault, "ended early: "+format
	}
	t.broken = append(t.broken, violation{kind, fmt.Sprintf(format, args...)})
}

// ends notes what the run came to.
func (t *trial) ends(format string, args ...any) { t.outcome = fmt.Sprintf(format, args...) }

// The rest is testing.TB.

func (t *trial) Helper()                  {}
func (t *trial) Name() string             { return t.name }
func (t *trial) Context() context.Context { return t.ctx }
func (t *trial) Output() io.Writer        { return writer{t} }

func (t *trial) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *trial) TempDir() string {
	dir, err := os.MkdirTemp("", "redis-sidecar-faults-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *trial) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

func (t *trial) Logf(format string, args ...any) { fmt.Fprintf(t.Output(), format+"\n", args...) }
func (t *trial) Log(args ...any)                 { fmt.Fprintln(t.Output(), args...) }
func (t *trial) Error(args ...any)               { t.Errorf("%s", fmt.Sprint(args...)) }
func (t *trial) Fatal(args ...any)               { t.Error(args...); t.FailNow() }
func (t *trial) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	t.FailNow()
}
func (t *trial) FailNow() { runtime.Goexit() }

func (t *trial) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures)+len(t.broken) > 0
}

type writer struct{ t *trial }

func (w writer) Write(p []byte) (int, error) {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	return w.t.log.Write(p)
}
