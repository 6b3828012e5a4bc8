//go:build !linux

package scratch

import "os/exec"

// dieWithParent needs Linux.
func dieWithParent(*exec.Cmd) {}

// yield needs Linux.
func yield(int) {}

// availableMemory needs Linux.
func availableMemory() (int64, bool) { return 0, false }
