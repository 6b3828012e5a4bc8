package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// sidecar is a run of the real program.
type sidecar struct {
	cmd            *exec.Cmd
	stdout, stderr testenv.Log
	done           chan struct{} // closed after its end
	once           sync.Once
}

// start starts the program. It does not outlive the trial.
func (w *world) start(args ...string) *sidecar { return w.startProgram(w.binary, args...) }

func (w *world) startProgram(program string, args ...string) *sidecar {
	s := &sidecar{cmd: exec.Command(program, args...), done: make(chan struct{})}
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, w.env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that forked dies.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.done)
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		w.Fatalf("start %s: %v", program, err)
	}
	w.Cleanup(s.kill)
	return s
}

// kill ends it by SIGKILL and waits until it is gone. It may be called again,
// and from anywhere.
func (s *sidecar) kill() {
	s.once.Do(func() { _ = s.cmd.Process.Kill() })
	<-s.done
}

// wait returns the exit code, -1 when it was killed.
func (s *sidecar) wait(w *world, timeout time.Duration) int {
	select {
	case <-s.done:
	case <-time.After(timeout):
		s.kill()
		w.Fatalf("redis-sidecar %s did not end within %s:\n%s", strings.Join(s.cmd.Args[1:], " "), timeout, s.stderr.String())
	}
	return s.cmd.ProcessState.ExitCode()
}

// must runs the program and wants success; it returns what was printed.
func (w *world) must(args ...string) string {
	s := w.start(args...)
	if code := s.wait(w, time.Minute); code != 0 {
		w.Fatalf("redis-sidecar %s: exit code %d\n%s", strings.Join(args, " "), code, s.stderr.String())
	}
	return s.stdout.String()
}

// holdsSave tells whether the program has the temporary file of a save open.
func (s *sidecar) holdsSave() bool {
	links, _ := filepath.Glob("/proc/" + itoa(s.cmd.Process.Pid) + "/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(filepath.Base(to), "temp-") {
			return true
		}
	}
	return false
}
