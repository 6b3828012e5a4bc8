package scratch

import (
	"bytes"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// process is a child that does not outlive this process.
type process struct {
	cmd    *exec.Cmd
	log    *tailLog
	exited chan struct{} // closed after Wait
}

// start starts cmd. The caller must kill it.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: &tailLog{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = 5 * time.Second
	dieWithParent(cmd)
	started := make(chan error)
	go func() {
		// The kernel kills the child when the *thread* that started it ends, so
		// that thread is held until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		if err == nil {
			yield(cmd.Process.Pid)
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state is in cmd
		}
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, err
	}
	return p, nil
}

// kill ends the child at once, and waits for that: it has nothing to save.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it is gone
	<-p.exited
}

// tailLog keeps the last 16 KiB of what is written to it.
type tailLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *tailLog) Write(p []byte) (int, error) {
	const limit = 16 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if over := l.buf.Len() - limit; over > 0 {
		l.buf.Next(over)
	}
	return len(p), nil
}

func (l *tailLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
