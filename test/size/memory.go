package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is a process of this machine, seen through /proc.
type process struct{ pid int }

func (p process) file(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.pid), name)
}

// memory returns a field of /proc/PID/status in bytes: VmRSS is what is resident
// now, pages of the binary among it, VmHWM the most that was.
func (p process) memory(field string) (int64, error) {
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

// resetPeak makes VmHWM start again from what is resident now, see proc(5).
func (p process) resetPeak() error {
	return os.WriteFile(p.file("clear_refs"), []byte("5"), 0)
}
