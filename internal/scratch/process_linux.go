package scratch

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent lets the kernel kill the child when this process dies, however
// that happens, and keeps a terminal's interrupt from it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// yield lets everything else go first: the processor, and memory when it is short.
func yield(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 10)
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("1000"), 0o644) // raising is allowed to everybody
}

// availableMemory returns how much more this process and its children may take:
// of the machine, or of the container's limit.
func availableMemory() (bytes int64, ok bool) {
	have := int64(math.MaxInt64)
	if kib, found := field("/proc/meminfo", "MemAvailable:"); found {
		have, ok = kib<<10, true
	}
	for _, g := range [...]struct{ limit, used, stat, cache string }{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"},
	} {
		limit, limited := number(g.limit)
		used, known := number(g.used)
		if !limited || !known {
			continue
		}
		cache, _ := field(g.stat, g.cache) // what the kernel gives back first
		have, ok = min(have, limit-used+cache), true
	}
	return max(have, 0), ok
}

// number reads a file that holds one. "max" is none.
func number(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// field reads the number after a name in a file of such lines.
func field(path, name string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) >= 2 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
