package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a process of this machine, seen through /proc.
type Process struct{ Pid int }

func (p Process) file(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.Pid), name)
}

// Memory returns a field of /proc/PID/status in bytes: VmRSS is what is resident
// now, pages of the binary among it, VmHWM the most that was.
func (p Process) Memory(field string) (int64, error) {
	text, err := os.ReadFile(p.file("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", p.file("status"), field)
}

// ResetPeak makes VmHWM start again from what is resident now, see proc(5).
func (p Process) ResetPeak() error {
	return os.WriteFile(p.file("clear_refs"), []byte("5"), 0)
}

// CPU returns the time that the process has been running on a core. It is the
// sum over its threads, to the nanosecond (/proc/PID/stat counts in 10 ms); the
// time of threads that ended is not in it.
func (p Process) CPU() (time.Duration, error) {
	files, err := filepath.Glob(p.file("task/*/schedstat"))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("%s: there is none; the process has ended, or the kernel was built without CONFIG_SCHED_INFO", p.file("task/*/schedstat"))
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// Pause keeps the process from running, until Continue.
func (p Process) Pause() error { return syscall.Kill(p.Pid, syscall.SIGSTOP) }

// Continue lets the process run again.
func (p Process) Continue() error { return syscall.Kill(p.Pid, syscall.SIGCONT) }
