package rig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Children are programs that were started, with their output in files of one
// directory.
type Children struct {
	Dir  string
	list []*Child
}

// Child is one of Children.
type Child struct {
	Process
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has
}

// Start starts a child that writes to a file of its name and does not outlive
// this program. The kernel ends it with the *thread* that started it: main must
// have locked its goroutine to its thread, and call this from there.
func (c *Children) Start(name string, environ []string, program string, args ...string) (*Child, error) {
	child := &Child{log: filepath.Join(c.Dir, name+".log"), ended: make(chan struct{})}
	out, err := os.Create(child.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	child.cmd, child.Pid = cmd, cmd.Process.Pid
	go func() {
		defer close(child.ended)
		_ = cmd.Wait() // nobody asks for the exit status; Stop makes it a signal
	}()
	c.list = append(c.list, child)
	return child, nil
}

// Stop kills all children and waits for them.
func (c *Children) Stop() {
	for _, child := range c.list {
		child.Kill()
	}
	c.list = nil
}

// Kill ends the child, and waits until it has ended. It may be called again.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // an error means that it has gone
	<-c.ended
}

// Ended tells whether the child has ended, by itself or not.
func (c *Child) Ended() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// Log returns the end of what the child printed, for messages.
func (c *Child) Log() string {
	const enough = 4 << 10
	f, err := os.Open(c.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(-enough, io.SeekEnd); err != nil && !errors.Is(err, syscall.EINVAL) { // shorter than that
		return err.Error()
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
