package testenv

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// process is a child that cannot outlive the test: its Cleanup kills it, and so
// does the kernel when the test binary dies without running cleanups.
type process struct {
	cmd    *exec.Cmd
	output *Log
	exited chan struct{} // closed after Wait
}

// startProcess starts cmd with its output kept for failure messages.
func startProcess(tb testing.TB, cmd *exec.Cmd) *process {
	tb.Helper()
	p := &process{cmd: cmd, output: &Log{}, exited: make(chan struct{})}
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
