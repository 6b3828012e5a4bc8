package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// forgetStart takes the pages of the program itself out of this process' memory:
// three quarters of what is resident, of which most was needed at the start only.
// They are read-only pages of a file, so nothing can be lost: what is needed again
// is mapped again, from the system's cache, at its next use (madvise(2),
// MADV_DONTNEED). It does nothing when anything is not as expected.
func forgetStart() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer func() { _ = maps.Close() }()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if from, to, ok := readOnlyPart(lines.Text(), program); ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
}

// readOnlyPart reads a line of /proc/self/maps (proc(5)),
//
//	00400000-00b67000 r-xp 00000000 08:01 12345   /redis-sidecar
//
// and returns the range if it is a part of the program that cannot be written to.
func readOnlyPart(line, program string) (from, to uintptr, ok bool) {
	words := strings.Fields(line)
	if len(words) != 6 || words[5] != program || words[1] != "r-xp" && words[1] != "r--p" {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(words[0], "-")
	a, err1 := strconv.ParseUint(first, 16, 64)
	b, err2 := strconv.ParseUint(last, 16, 64)
	return uintptr(a), uintptr(b), err1 == nil && err2 == nil && a < b
}
