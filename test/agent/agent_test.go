// Package agent_test drives the program as it is released: the built binary, in
// a process of its own, beside a real redis-server and a real store.
package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// binary is the path of the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(testenv.RunWithBinary(m, &binary)) }

// agent is a running redis-sidecar.
type agent struct {
	url  string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed after its end
}

// start runs the agent with settings as flags; env is added to its environment.
func start(t *testing.T, env []string, flags ...string) *agent {
	t.Helper()
	a := spawn(t, env, flags...)
	a.eventually(t, 30*time.Second, func() error {
		_, _, err := a.get("/health")
		return err
	})
	return a
}

// spawn starts the agent and does not wait for it.
func spawn(t *testing.T, env []string, flags ...string) *agent {
	t.Helper()
	port := testenv.FreePort(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a := &agent{url: "http://127.0.0.1:" + strconv.Itoa(port), log: log.Name(), done: make(chan struct{})}
	args := append([]string{"run", "--web.listen-address=127.0.0.1:" + strconv.Itoa(port), "--announce.address=127.0.0.1", "--pod.name=redis-0"}, flags...)
	a.cmd = exec.Command(binary, args...)
	a.cmd.Env = append(os.Environ(), env...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = a.cmd.Wait(); close(a.done) }()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
		if t.Failed() {
			t.Logf("the agent's log:\n%s", a.logged(t))
		}
	})
	return a
}

func (a *agent) logged(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventually polls check while the agent runs.
func (a *agent) eventually(t *testing.T, timeout time.Duration, check func() error) {
	t.Helper()
	testenv.Eventually(t, timeout, func() error {
		select {
		case <-a.done:
			t.Fatalf("the agent ended: %v", a.cmd.ProcessState)
		default:
		}
		return check()
	})
}

// get returns status code and body.
func (a *agent) get(path string, header ...string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, a.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// mustGet wants a status code and returns the body.
func (a *agent) mustGet(t *testing.T, path string, want int) string {
	t.Helper()
	code, body, err := a.get(path)
	if err != nil || code != want {
		t.Fatalf("GET %s: %d %v, want %d: %s", path, code, err, want, body)
	}
	return body
}

// report is a job's part of /status.
type report struct {
	Job         string         `json:"job"`
	State       string         `json:"state"`
	Reason      string         `json:"reason"`
	Message     string         `json:"message"`
	LastError   string         `json:"last_error"`
	LastSuccess time.Time      `json:"last_success"`
	NextRun     time.Time      `json:"next_run"`
	Detail      map[string]any `json:"detail"`
}

func (a *agent) job(name string) (report, error) {
	code, body, err := a.get("/status")
	if err != nil || code != http.StatusOK {
		return report{}, fmt.Errorf("/status: %d %w", code, err)
	}
	var page struct {
		Jobs []report `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		return report{}, err
	}
	for _, j := range page.Jobs {
		if j.Job == name {
			return j, nil
		}
	}
	return report{}, fmt.Errorf("/status has no job %s", name)
}

// waitJob waits until a job is in that state with that reason, and returns it.
func (a *agent) waitJob(t *testing.T, timeout time.Duration, name, state, reason string) report {
	t.Helper()
	var r report
	a.eventually(t, timeout, func() (err error) {
		if r, err = a.job(name); err != nil {
			return err
		}
		if r.State != state || r.Reason != reason {
			return fmt.Errorf("%s is %s %q (%s), want %s %q", name, r.State, r.Reason, r.Message, state, reason)
		}
		return nil
	})
	return r
}

// metric returns the value of a series, written as in the exposition.
func (a *agent) metric(series string) (string, error) {
	code, body, err := a.get("/metrics")
	if err != nil || code != http.StatusOK {
		return "", fmt.Errorf("/metrics: %d %w", code, err)
	}
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("no series %s", series)
}

func (a *agent) wantMetric(t *testing.T, series, want string) {
	t.Helper()
	if got, err := a.metric(series); err != nil || got != want {
		t.Errorf("%s is %q, want %q (%v)", series, got, want, err)
	}
}

// signal sends a signal.
func (a *agent) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end and returns the exit code.
func (a *agent) ended(t *testing.T, timeout time.Duration) int {
	t.Helper()
	select {
	case <-a.done:
		return a.cmd.ProcessState.ExitCode()
	case <-time.After(timeout):
		t.Fatalf("the agent did not end within %s", timeout)
		return -1
	}
}

// result is what a command of the program did.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return result{x.ExitCode(), out.String(), errs.String()}
	}
	if err != nil {
		t.Fatal(err)
	}
	return result{0, out.String(), errs.String()}
}

// mustRun wants exit code 0 and returns standard output.
func mustRun(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := run(t, env, args...)
	if r.code != 0 {
		t.Fatalf("redis-sidecar %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// configMap is a directory as the kubelet's atomic writer makes it: files are
// links into ..data, a link that is swapped.
type configMap struct {
	dir string
	gen int
}

func newConfigMap(t *testing.T, files map[string]string) *configMap {
	t.Helper()
	c := &configMap{dir: t.TempDir()}
	c.write(t, files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// write publishes a new version of the files.
func (c *configMap) write(t *testing.T, files map[string]string) {
	t.Helper()
	old, _ := os.Readlink(filepath.Join(c.dir, "..data"))
	c.gen++
	ts := fmt.Sprintf("..2026_11_23_%d", c.gen)
	if err := os.Mkdir(filepath.Join(c.dir, ts), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.dir, ts, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tmp := filepath.Join(c.dir, "..data_tmp")
	if err := os.Symlink(ts, tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(c.dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *configMap) path(name string) string { return filepath.Join(c.dir, name) }
