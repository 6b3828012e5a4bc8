package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tracer runs a program under ptrace and kills it at the entry to its n-th
// system call that changes something below a directory: the call is not made. So
// every state that a crash can leave there is met, one after the other. It is
// this program again, in a process of its own: ptrace belongs to a thread, and
// waiting for whatever child comes next to nobody else.
const (
	traceDirEnv  = "FAULTS_TRACE_DIR"  // what is below it counts
	traceKillEnv = "FAULTS_TRACE_KILL" // kill at this call, see callAt; "0.0": never
	traceLogEnv  = "FAULTS_TRACE_LOG"  // file for the calls, one in each line
)

// asTracer is the whole program when it was started as the tracer.
func asTracer() (done bool, code int) {
	dir := os.Getenv(traceDirEnv)
	if dir == "" {
		return false, 0
	}
	var kill callAt
	_, err := fmt.Sscanf(os.Getenv(traceKillEnv), "%d.%d", &kill.group, &kill.position)
	if err == nil {
		code, err = trace(os.Args[1:], dir, kill, os.Getenv(traceLogEnv))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tracer:", err)
		return true, 126
	}
	return true, code
}

// callAt is a call by its place: the how-manieth group of calls that are the same
// but for random names, and which of them. How many writes a file takes differs
// from run to run; the groups do not.
type callAt struct{ group, position int }

// next returns the place of the call after the one at c.
func (c callAt) next(before, call string) callAt {
	if figures(before) == figures(call) {
		return callAt{c.group, c.position + 1}
	}
	return callAt{c.group + 1, 1}
}

// killedCode is the exit code of the tracer when it killed the program.
const killedCode = 137

// trace runs a program and returns its exit code.
func trace(argv []string, dir string, kill callAt, log string) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	calls, err := os.Create(log)
	if err != nil {
		return 0, err
	}
	defer calls.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "FAULTS_TRACE_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		return 0, err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return 0, err
	}
	var now callAt
	before := ""
	for tid, signal := pid, 0; ; {
		if err := unix.PtraceSyscall(tid, signal); err != nil && err != unix.ESRCH {
			return 0, err
		}
		if tid, err = unix.Wait4(-1, &ws, unix.WALL, nil); err != nil {
			return 0, err
		}
		signal = 0
		switch {
		case ws.Exited() && tid == pid:
			return ws.ExitStatus(), nil
		case ws.Signaled() && tid == pid: //nolint:misspell // its name
			return 128 + int(ws.Signal()), nil
		case !ws.Stopped():
		case ws.StopSignal() == syscall.SIGTRAP|0x80:
			call := change(tid, dir)
			if call == "" {
				break
			}
			now, before = now.next(before, call), call
			fmt.Fprintln(calls, call)
			if now == kill {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					return 0, err
				}
			}
		case ws.StopSignal() == syscall.SIGTRAP, ws.StopSignal() == syscall.SIGSTOP: // a new thread
		default:
			signal = int(ws.StopSignal())
		}
	}
}

// syscallInfo is the kernel's struct ptrace_syscall_info at an entry.
type syscallInfo struct {
	op     uint8 // 1 is an entry
	_      [3]byte
	arch   uint32
	ip, sp uint64
	nr     uint64
	args   [6]uint64
	_      [3]uint64
}

// change describes the system call that a thread enters, if it changes something
// below dir.
func change(tid int, dir string) string {
	const getSyscallInfo = 0x420e // PTRACE_GET_SYSCALL_INFO, Linux 5.3
	var in syscallInfo
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), unsafe.Sizeof(in), uintptr(unsafe.Pointer(&in)), 0, 0); errno != 0 || in.op != 1 {
		return ""
	}
	name, path := "", ""
	switch in.nr {
	case unix.SYS_OPENAT:
		if in.args[2]&unix.O_CREAT != 0 {
			name, path = "create", pathAt(tid, in.args[0], in.args[1])
		}
	case unix.SYS_MKDIRAT:
		name, path = "mkdir", pathAt(tid, in.args[0], in.args[1])
	case unix.SYS_UNLINKAT:
		name, path = "remove", pathAt(tid, in.args[0], in.args[1])
	case unix.SYS_FCHMODAT:
		name, path = "chmod", pathAt(tid, in.args[0], in.args[1])
	case unix.SYS_FCHOWNAT:
		name, path = "chown", pathAt(tid, in.args[0], in.args[1])
	case unix.SYS_LINKAT:
		name, path = "link", pathAt(tid, in.args[2], in.args[3])
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		name, path = "rename to", pathAt(tid, in.args[2], in.args[3])
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		name, path = "write", pathOf(tid, in.args[0])
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		name, path = "sync", pathOf(tid, in.args[0])
	case unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE:
		name, path = "resize", pathOf(tid, in.args[0])
	case unix.SYS_FCHMOD:
		name, path = "chmod", pathOf(tid, in.args[0])
	case unix.SYS_FCHOWN:
		name, path = "chown", pathOf(tid, in.args[0])
	}
	below, err := filepath.Rel(dir, path)
	if name == "" || path == "" || err != nil || strings.HasPrefix(below, "..") {
		return ""
	}
	return name + " " + below
}

func pathOf(tid int, fd uint64) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	if err != nil {
		return ""
	}
	return path
}

func pathAt(tid int, fd, addr uint64) string {
	b := make([]byte, unix.PathMax)
	n, _ := unix.PtracePeekData(tid, uintptr(addr), b) // what could be read
	path, _, ok := bytes.Cut(b[:n], []byte{0})
	switch {
	case !ok:
		return ""
	case filepath.IsAbs(string(path)):
		return string(path)
	case int32(fd) == unix.AT_FDCWD:
		wd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", tid))
		if err != nil {
			return ""
		}
		return filepath.Join(wd, string(path))
	}
	return filepath.Join(pathOf(tid, fd), string(path))
}

// traced runs the program with the world's settings under the tracer, which
// kills it at a call; the zero callAt is never. It returns the calls and the exit code.
func (w *world) traced(dir string, kill callAt, args ...string) (calls []string, s *sidecar) {
	log := filepath.Join(w.TempDir(), "calls")
	t := *w
	t.env = append([]string{traceDirEnv + "=" + dir, traceKillEnv + "=" + fmt.Sprintf("%d.%d", kill.group, kill.position), traceLogEnv + "=" + log}, w.env...)
	binary, err := filepath.Abs(w.binary)
	if err != nil {
		w.Fatal(err)
	}
	s = t.startProgram("/proc/self/exe", append([]string{binary}, args...)...)
	code := s.wait(w, 2*time.Minute)
	b, err := os.ReadFile(log)
	if err != nil {
		w.Fatalf("the tracer left no list of calls: exit code %d\n%s", code, s.stderr.String())
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n"), s
}
