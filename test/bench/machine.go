package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// machine says where this was measured.
func machine(binary, redis string) string {
	goVersion := "unknown"
	if b, err := buildinfo.ReadFile(binary); err == nil {
		goVersion = b.GoVersion
	}
	return fmt.Sprintf("%d cores (%s), Linux %s, Redis %s, %s", runtime.NumCPU(),
		cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH), cmp.Or(firstLine("/proc/sys/kernel/osrelease"), "unknown"), redis, goVersion)
}

// loadAverage returns the three numbers of the system.
func loadAverage() string {
	words := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(words[:min(3, len(words))], " ")
}

// firstLine returns the first line of a file of the kernel, "" when it has none.
func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// field returns the first value of a name in a file of the kernel.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
