package backup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// thisProcess returns nil when /proc does not tell.
func thisProcess() *process {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil
	}
	p := &process{Boot: strings.TrimSpace(string(boot)), Namespace: namespace, PID: os.Getpid()}
	if p.Start, _ = processStart(p.PID); p.Start == "" {
		return nil
	}
	return p
}

// processStart returns when a process was started; "" when that is not known.
// One that ended and that nobody waited for yet is gone.
func processStart(pid int) (start string, gone bool) {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return "", true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// pid (name) state ppid …: the name may hold anything.
	_, rest, ok := cutLast(string(stat), ") ")
	fields := strings.Fields(rest)
	if err != nil || !ok || len(fields) < 20 {
		return "", false
	}
	return fields[19], fields[0] == "Z" || fields[0] == "X"
}
