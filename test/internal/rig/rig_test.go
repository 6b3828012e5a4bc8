package rig

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestProcess(t *testing.T) {
	p := Process{os.Getpid()}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; { // busy
		now, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		if now-before > 20*time.Millisecond {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%s of CPU after 20 s of work", now-before)
		}
	}
	if n, err := p.Memory("VmRSS"); err != nil || n < 1<<20 || n > 1<<30 {
		t.Errorf("VmRSS: got %d, %v", n, err)
	}
	if _, err := p.Memory("Nothing"); err == nil {
		t.Error("a field that is not there has a value")
	}
	gone := Process{1 << 30} // more than pid_max can be
	if _, err := gone.CPU(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("CPU of nobody: %v", err)
	}
}

func TestChildren(t *testing.T) {
	runtime.LockOSThread() // which must not end before the children, see Start
	defer runtime.UnlockOSThread()
	c := Children{Dir: t.TempDir()}
	defer c.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	talks, err := c.Start("talks", nil, "/bin/sh", "-c", "echo no luck; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	ports, err := FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := talks.Listens(ctx, "127.0.0.1:"+ports[0]); err == nil || !strings.Contains(err.Error(), "/bin/sh ended:\nno luck") {
		t.Errorf("a child that ends instead of listening: %v", err)
	}

	stays, err := c.Start("stays", nil, "/bin/sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := stays.Pause(); err != nil {
		t.Error(err)
	}
	if stays.Ended() {
		t.Error("ended without a reason")
	}
	c.Stop()
	if !stays.Ended() {
		t.Error("not ended")
	}
}
