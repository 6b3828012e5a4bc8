// Package scratch loads an RDB into a redis-server that nobody else can reach, to
// see that it loads and what is in it. The server listens on a unix socket in a
// private directory only, reads no configuration of the host, saves nothing, and
// is killed in the end, by the kernel if this process is killed itself.
package scratch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const (
	socketName = "s"
	dumpName   = "dump.rdb"

	// maxSocketPath is what fits into a sockaddr_un of Linux.
	maxSocketPath = 107

	pollEvery   = 50 * time.Millisecond
	callTimeout = 10 * time.Second
)

// Client talks to the scratch server.
type Client interface {
	Do(ctx context.Context, args ...string) (any, error)
	Close() error
}

// Server is how to start one. The zero value is not ready: Program and Connect
// are needed.
type Server struct {
	// Program is a redis-server or valkey-server: a path, or a name in PATH. Empty
	// means redis-server, else valkey-server, in PATH.
	Program string
	// Environ is the environment. Only PATH and LD_LIBRARY_PATH are handed on.
	Environ []string
	// Connect returns a client for a unix socket.
	Connect func(socket string) Client
	// Stall is how long loading may make no progress: 2 minutes when 0.
	Stall time.Duration
}

// Database counts the keys of one non-empty database.
type Database struct {
	Index         int
	Keys, Expires uint64
}

// Result is what a server says that it has loaded.
type Result struct {
	Version   string // "redis 7.0.15"
	Databases []Database
}

// Load starts a server on dir/dump.rdb, waits until it has loaded it, and returns
// what it counted. Keys that have expired since count, too: the server is told to
// be a replica, of a master that cannot be, as only masters drop expired keys.
//
// databases is the number of databases that the file needs at least. progress is
// told the bytes loaded so far; it may be nil. The error carries
// status.ReasonCorrupt only when the server itself called the file damaged.
func (s Server) Load(ctx context.Context, dir string, databases int, progress func(bytes int64)) (Result, error) {
	program, err := s.program()
	if err != nil {
		return Result{}, err
	}
	socket := filepath.Join(dir, socketName)
	if len(socket) > maxSocketPath {
		return Result{}, status.WithHint(status.ReasonFile, "set TMPDIR to a shorter path", fmt.Errorf("the path of the socket, %s, is longer than %d bytes", socket, maxSocketPath))
	}
	kind, version, err := versionOf(ctx, program, s.Environ)
	if err != nil {
		return Result{}, err
	}
	if err := fits(filepath.Join(dir, dumpName), kind, version); err != nil {
		return Result{}, err
	}
	// An argument of its own for each word: none of them is a shell's.
	cmd := exec.CommandContext(ctx, program,
		"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
		"--dir", dir, "--dbfilename", dumpName, "--save", "", "--appendonly", "no",
		"--daemonize", "no", "--databases", strconv.Itoa(max(databases, 16)),
		// Port 0 cannot be connected to, whoever listens where.
		"--replicaof", "127.0.0.1", "0",
	)
	cmd.Dir = dir
	cmd.Env = environment(s.Environ)
	p, err := start(cmd)
	if err != nil {
		return Result{}, status.WithReason(status.ReasonFile, fmt.Errorf("start %s: %w", program, err))
	}
	defer p.kill()

	c := s.Connect(socket)
	defer func() { _ = c.Close() }()
	res, err := s.wait(ctx, p, c, progress)
	if err != nil {
		return Result{}, fmt.Errorf("load into a scratch server (%s %s): %w", kind, version, err)
	}
	res.Version = kind + " " + version
	return res, nil
}

// program finds the server.
func (s Server) program() (string, error) {
	names := []string{"redis-server", "valkey-server"}
	if s.Program != "" {
		names = []string{s.Program}
	}
	var err error
	for _, name := range names {
		var path string
		if path, err = exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", status.WithHint(status.ReasonFile, "name a redis-server or valkey-server that runs here", fmt.Errorf("no server to load into: %w", err))
}

// environment keeps what a program needs to start, and no secret.
func environment(environ []string) []string {
	env := []string{} // nil would be all of this process
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); name == "PATH" || name == "LD_LIBRARY_PATH" {
			env = append(env, kv)
		}
	}
	return env
}

var versionLine = regexp.MustCompile(`(?i)\b(redis|valkey) server v=([0-9][^ ]*)`)

// Version asks a server's program which version it is: "7.0.15", or "valkey 9.1.2".
// environ is as in Server.
func Version(ctx context.Context, program string, environ []string) (string, error) {
	kind, version, err := versionOf(ctx, program, environ)
	switch {
	case err != nil:
		return "", err
	case kind != "redis":
		return kind + " " + version, nil
	}
	return version, nil
}

// versionOf asks a program what it is: "redis", "7.0.15".
func versionOf(ctx context.Context, program string, environ []string) (kind, version string, err error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program, "--version")
	cmd.Env = environment(environ)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil && ctx.Err() != nil { // it was killed for that
		return "", "", status.WithReason(status.ReasonCanceled, fmt.Errorf("%s --version: %w", program, context.Cause(ctx)))
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(program); statErr == nil { // execve says the same of both
			err = errors.New("its loader or a library of it is not in this container")
		}
	}
	if err != nil {
		return "", "", status.WithHint(status.ReasonFile, "is it a redis-server, for this kind of machine, with its libraries?", fmt.Errorf("%s --version: %w", program, err))
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", "", status.WithReason(status.ReasonFile, fmt.Errorf("%s --version: %.80q is not what a redis-server says", program, bytes.TrimSpace(out)))
	}
	return strings.ToLower(string(m[1])), string(m[2]), nil
}

// fits refuses early what the server could not load, or what would not fit into
// the memory of this machine or container.
func fits(path, kind, version string) error {
	f, err := os.Open(path)
	if err != nil {
		return status.WithReason(status.ReasonFile, err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return status.WithReason(status.ReasonFile, err)
	}
	head := make([]byte, 4096)
	n, _ := f.Read(head)
	// Only the beginning: the summary of what was read before the end is there all the same.
	sum, _ := rdb.Scan(bytes.NewReader(head[:n]))
	if ok, known := rdb.CanLoad(kind, version, sum); known && !ok && sum.Magic != "" {
		return status.WithHint(status.ReasonRejected, "name a newer server, or one of the kind that made the snapshot",
			fmt.Errorf("%s %s cannot load RDB version %d (%s)", kind, version, sum.Version, sum.Magic))
	}
	need := 3 * st.Size() // RDBs are denser than memory
	if used, err := strconv.ParseInt(sum.Aux["used-mem"], 10, 64); err == nil && used > 0 {
		need = used
	}
	have, ok := availableMemory()
	if ok && need > have-have/10 {
		return status.WithHint(status.ReasonRejected, "give the container more memory, or load elsewhere",
			fmt.Errorf("the data needs %s of memory, %s are available", human.Bytes(need), human.Bytes(have)))
	}
	return nil
}

// wait polls the server until it has loaded the file, or has ended.
func (s Server) wait(ctx context.Context, p *process, c Client, progress func(int64)) (Result, error) {
	stall := s.Stall
	if stall <= 0 {
		stall = 2 * time.Minute
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		select {
		case <-ctx.Done():
			return Result{}, status.WithReason(status.ReasonCanceled, context.Cause(ctx))
		case <-p.exited:
			return Result{}, p.ended()
		case <-tick.C:
		}
		in, err := ask(ctx, c)
		if err == nil && in.Get("loading") == "0" {
			return Result{Databases: databasesOf(in)}, nil
		}
		if n, parseErr := strconv.ParseInt(in.Get("loading_loaded_bytes"), 10, 64); err == nil && parseErr == nil && n > last {
			last, moved = n, time.Now()
			if progress != nil {
				progress(n)
			}
		}
		if time.Since(moved) > stall {
			return Result{}, status.WithReason(status.ReasonTimeout, fmt.Errorf("no progress for %s; the server's last words: %s", stall, p.tail()))
		}
	}
}

func ask(ctx context.Context, c Client) (info.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := c.Do(ctx, "INFO")
	if err != nil {
		return info.Info{}, err
	}
	text, ok := v.(string)
	if !ok {
		return info.Info{}, errors.New("INFO: not text")
	}
	return info.Parse(text), nil
}

// damageWords are what servers say of a file that they cannot load because of
// what is in it (Redis 6.2 to 8, Valkey 7.2 to 9).
func damageWords() []string {
	return []string{"Wrong RDB checksum", "Internal error in RDB", "Short read or OOM loading DB", "Unexpected EOF", "Bad data format", "rdb file reading failure", "Wrong signature"}
}

// otherWords are reasons of the server's that say nothing against the file.
func otherWords() []string {
	return []string{"Can't handle RDB format version", "no matching module type", "Out Of Memory", "Permission denied"}
}

// ended says why the server did.
func (p *process) ended() error {
	log := p.log.String()
	err := fmt.Errorf("the server ended: %s", p.tail())
	has := func(word string) bool { return strings.Contains(log, word) }
	switch {
	case p.cmd.ProcessState.ExitCode() < 0: // by a signal
		return status.WithHint(status.ReasonRejected, "killed for its memory? give the container more", fmt.Errorf("%w (%s)", err, p.cmd.ProcessState))
	case slices.ContainsFunc(otherWords(), has):
		return status.WithHint(status.ReasonRejected, "it needs another server, or one with the modules of the snapshot", err)
	case slices.ContainsFunc(damageWords(), has):
		return status.WithReason(status.ReasonCorrupt, err)
	}
	return status.WithReason(status.ReasonRedis, err)
}

// tail is the last lines that the server wrote, in one.
func (p *process) tail() string {
	var lines []string
	sc := bufio.NewScanner(strings.NewReader(p.log.String()))
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}

// databasesOf reads "db0:keys=3,expires=1,…" of INFO.
func databasesOf(in info.Info) (out []Database) {
	for i := range 1 << 16 {
		text := in.Get("db" + strconv.Itoa(i))
		if text == "" {
			continue
		}
		d := Database{Index: i}
		for pair := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(pair, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			switch {
			case err != nil:
			case name == "keys":
				d.Keys = n
			case name == "expires":
				d.Expires = n
			}
		}
		out = append(out, d)
	}
	return out
}
