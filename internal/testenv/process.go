package testenv

import (
	"bytes"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// process is a child that cannot outlive the test: its Cleanup kills it, and so
// does the kernel when the test binary dies without running cleanups.
type process struct {
	cmd    *exec.Cmd
	output *outputBuffer
	exited chan struct{} // closed after Wait
}

// startProcess starts cmd with its output kept for failure messages.
func startProcess(tb testing.TB, cmd *exec.Cmd) *process {
	tb.Helper()
	p := &process{cmd: cmd, output: &outputBuffer{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the *thread* that forked dies, so that
		// thread is held until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the exit status of a killed server says nothing
		}
	}()
	if err := <-started; err != nil {
		tb.Fatalf("start %s: %v", cmd.Path, err)
	}
	tb.Cleanup(p.kill)
	return p
}

// kill ends the child with SIGKILL and waits for it. It may be called again.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it is gone
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	<-p.exited
}

// outputBuffer collects what a child prints, the last 64 KiB of it.
type outputBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const outputLimit = 64 << 10

func (o *outputBuffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	if over := o.buf.Len() - outputLimit; over > 0 {
		o.buf.Next(over)
	}
	return len(p), nil
}

func (o *outputBuffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
