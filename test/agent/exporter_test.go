package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// As redis_exporter, with its flags and variables, the program serves metrics
// and lets the server be.
func TestStartedAsRedisExporter(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t, "--requirepass", "hush", "--replica-announce-ip", "10.9.9.9")
	dir := t.TempDir()
	name := filepath.Join(dir, "redis_exporter")
	if err := os.Symlink(binary, name); err != nil {
		t.Fatal(err)
	}
	cert, key := testenv.Certificate(t, dir, "web", time.Now().Add(time.Hour))
	addr := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	var log testenv.Log
	cmd := exec.Command(name, "-web.listen-address", addr, "--tls-server-cert-file="+cert, "--tls-server-key-file", key, "--tls-server-min-version=TLS1.3",
		"--basic-auth-username=prom", "--basic-auth-password=secret", "-debug", "--is-cluster", "--web.telemetry-path=/m")
	cmd.Env = append(os.Environ(), "REDIS_ADDR=redis://"+srv.Addr, "REDIS_PASSWORD=hush", "REDIS_EXPORTER_LOG_FORMAT=json", "REDIS_ALIAS=old")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(text)
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}
	client := http.Client{Timeout: 10 * time.Second, Transport: tr}
	get := func(path, user, password string) (int, string, error) {
		req, err := http.NewRequest(http.MethodGet, "https://"+addr+path, nil)
		if err != nil {
			return 0, "", err
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.TLS.Version != tls.VersionTLS13 {
			t.Errorf("TLS %x", resp.TLS.Version)
		}
		return resp.StatusCode, string(body), err
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		code, body, err := get("/readyz", "", "") // the probes ask nobody
		if err == nil && code != http.StatusOK {
			err = errors.New(body)
		}
		return err
	})
	for _, tt := range []struct {
		path, user, password string
		want                 int
	}{{"/m", "prom", "secret", 200}, {"/m", "prom", "wrong", 401}, {"/m", "", "", 401}, {"/metrics", "prom", "secret", 404}, {"/health", "", "", 200}} {
		code, body, err := get(tt.path, tt.user, tt.password)
		if err != nil || code != tt.want {
			t.Errorf("%s as %s %s: %d %v, want %d", tt.path, tt.user, tt.password, code, err, tt.want)
		}
		if tt.path == "/m" && code == http.StatusOK {
			for _, want := range []string{"\nredis_up 1\n", "\nredis_memory_used_bytes ", `redis_sidecar_job_state{name="announce",state="disabled"} 1`} {
				if !strings.Contains(body, want) {
					t.Errorf("no %q in the metrics", want)
				}
			}
		}
	}
	if _, body, err := get("/status", "prom", "secret"); err != nil || !strings.Contains(body, `"announce.mode is off"`) {
		t.Errorf("/status: %v %s", err, body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the end: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	logged := log.String()
	for _, want := range []string{`"level":"WARN"`, "variable REDIS_ALIAS: has no effect", "flag --is-cluster: has no effect"} {
		if !strings.Contains(logged, want) {
			t.Errorf("no %q in the log:\n%s", want, logged)
		}
	}
	if strings.Contains(logged, "hush") || strings.Contains(logged, "secret") {
		t.Errorf("a password is in the log:\n%s", logged)
	}
	admin := redis.New(redis.Options{Addr: srv.Addr, Credentials: func() (string, string, error) { return "", "hush", nil }})
	defer admin.Close()
	if got, err := admin.ConfigGet(t.Context(), "replica-announce-ip"); err != nil || got["replica-announce-ip"] != "10.9.9.9" {
		t.Errorf("replica-announce-ip: %v %v", got, err)
	}
}

// Without a server of its own it answers for those that it is told of.
func TestWithoutAServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "web.sock")
	other, third := testenv.StartRedis(t), testenv.StartRedis(t)
	a := start(t, []string{"REDIS_ADDR="}, "--web.listen-address=unix://"+socket, // beside the one of start
		"--exporter.targets=other=redis://"+other.Addr, "--exporter.scrape-allow="+third.Addr)
	for target, want := range map[string]int{"other": 200, other.Addr: 200, third.Addr: 200, "redis://" + third.Addr: 200, "127.0.0.1:1": 403, "": 400} {
		if body := a.mustGet(t, "/scrape?target="+url.QueryEscape(target), want); want == 200 && !strings.Contains(body, "\nredis_up 1\n") {
			t.Errorf("%s: no redis_up 1 in\n%s", target, body)
		}
	}
	if body := a.mustGet(t, "/scrape?target=other&check-keys=a,b%3Dc%3Dd", 400); !strings.Contains(body, `check-keys: item 2, "b=c=d": has more than one =: write = in a key as %3D`) {
		t.Errorf("a bad list of keys: %s", body)
	}
	if body := a.mustGet(t, "/metrics", 200); strings.Contains(body, "redis_up ") || !strings.Contains(body, `redis_sidecar_job_state{name="exporter",state="disabled"} 1`) {
		t.Errorf("/metrics says\n%s", body)
	}
	a.mustGet(t, "/livez", 404)
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
	a.signal(t, syscall.SIGTERM)
	if code := a.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// An exec probe reaches an agent that listens on a socket only.
func TestProbeByASocket(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	socket := "unix://" + filepath.Join(t.TempDir(), "web.sock")
	a := start(t, []string{"REDIS_ADDR=" + srv.Addr}, "--web.listen-address="+socket)
	a.eventually(t, 10*time.Second, func() error { return a.want("/readyz", 200) })
	// Without the agent, it would ask where no server is.
	out := mustRun(t, nil, "probe", "readiness", "--web.listen-address="+socket, "--redis.addr=127.0.0.1:1")
	if !strings.HasPrefix(out, "ok") {
		t.Errorf("says %q", out)
	}
}
