// Package testenv runs the real servers that the tests talk to: redis-server,
// an S3 server, and what stands between. Everything it starts listens on
// loopback, lives in a temporary directory of the test and ends with it. A
// missing program fails the test: nothing is skipped.
package testenv

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// Eventually calls check every 10 ms until it returns nil. When it still fails
// after timeout, the test fails with the last error.
func Eventually(tb testing.TB, timeout time.Duration, check func() error) {
	tb.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %v", timeout, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Program returns the path of a program: in bin/ of this repository, or in PATH.
func Program(tb testing.TB, name, install string) string {
	tb.Helper()
	if p := filepath.Join(Root(tb), "bin", name); isFile(p) {
		return p
	}
	p, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s is not installed: %s", name, install)
	}
	return p
}

// Root returns the directory of go.mod.
func Root(tb testing.TB) string {
	tb.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		tb.Fatal("the test binary was built without file names")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on, and that no other
// test is given until this one ends: also while the server that it is for is stopped,
// and also not in another test binary that runs at the same time. What is claimed for
// that is the UDP port of the same number, which no server of the tests wants.
//
// It is below those that the kernel gives to outgoing connections (from 32768 on),
// of which one could take it before the caller does; and so is its cluster bus port,
// which is none of those that this function returns.
func FreePort(tb testing.TB) int {
	tb.Helper()
	const low, high, tries = 11000, 21000, 100 // with 10000 more, the port of the cluster bus
	var last error
	for range tries {
		port := low + rand.IntN(high-low)
		if last = claimPort(tb, port); last == nil {
			return port
		}
	}
	tb.Fatal(last)
	return 0
}

// claimPort keeps a port for a test, if nobody has it.
func claimPort(tb testing.TB, port int) error {
	tb.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(port)
	claim, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr) // it may be that of a program that claims nothing
	if err != nil {
		_ = claim.Close()
		return err
	}
	_ = l.Close()
	tb.Cleanup(func() { _ = claim.Close() })
	return nil
}
