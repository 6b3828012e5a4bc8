package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountedAlone tells whether one of the files is a mount point of its own, as
// subPath makes it: such a file keeps its content for as long as the container
// runs, whatever becomes of the ConfigMap. It is found in the list of mounts of
// this process; where there is none (not Linux), the answer is no.
func mountedAlone(files []string) (path string, ok bool) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	points := mountPoints(string(mounts))
	for _, f := range files {
		target, err := filepath.EvalSymlinks(f)
		if err != nil {
			continue
		}
		if target, err = filepath.Abs(target); err == nil && points[target] {
			return f, true
		}
	}
	return "", false
}

// mountPoints reads the fifth field of each line of a mountinfo file, see
// proc_pid_mountinfo(5).
func mountPoints(mountinfo string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.SplitSeq(mountinfo, "\n") {
		if fields := strings.Fields(line); len(fields) > 4 {
			out[unescapeMount(fields[4])] = true
		}
	}
	return out
}

// unescapeMount replaces \040 and the like: blank, tab, line feed and backslash
// are written in octal.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
