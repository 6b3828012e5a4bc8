package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// versionTimeout bounds redis-server --version.
const versionTimeout = 10 * time.Second

// The first lines of redis-server and valkey-server --version, 2.4 to 9.1:
//
//	Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=…
//	Valkey server v=9.1.2 …
var versionLine = regexp.MustCompile(`^(?i:(redis|valkey)) server v=([0-9]+(?:\.[0-9]+){1,2})`)

// ServerVersion runs a server's binary with --version and returns its version in
// the form of RestoreOptions.RedisVersion: "7.0.15" or "valkey 9.1.2". No shell
// is involved, and the environment is empty.
func ServerVersion(ctx context.Context, path string) (string, error) {
	const hint = "set restore.redis-version to what redis-server --version says, or run restore where the binary and its libraries are"
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	out := &limited{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer within %s: %w", versionTimeout, context.Cause(ctx))
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(path); statErr == nil { // execve says the same of both
			err = errors.New("its loader or a library of it is not in this container")
		}
	}
	if err != nil {
		return "", status.WithHint(status.ReasonFile, hint, fmt.Errorf("%s --version: %w", path, err))
	}
	m := versionLine.FindSubmatch(out.b)
	if m == nil {
		first, _, _ := bytes.Cut(out.b, []byte("\n"))
		return "", status.WithHint(status.ReasonFile, hint, fmt.Errorf("%s --version says %.80q, which is no version of Redis or Valkey", path, first))
	}
	if name := strings.ToLower(string(m[1])); name != "redis" {
		return name + " " + string(m[2]), nil
	}
	return string(m[2]), nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	b   []byte
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), l.max-len(l.b))]...)
	return len(p), nil
}
