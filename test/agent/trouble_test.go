package agent_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A stopped server: metrics come in time and say so, liveness waits, readiness
// does not.
func TestHungServer(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	a := start(t, []string{"REDIS_ADDR=" + redis.Addr})
	a.eventually(t, 30*time.Second, func() error { return a.want("/readyz", 200) })
	redis.Signal(t, syscall.SIGSTOP)
	stopped := time.Now()

	// The time-out is 5 s, or a tenth less than Prometheus has. Each limit is as far
	// below the next as a busy machine may need.
	for header, limit := range map[string]time.Duration{"": 9 * time.Second, "2": 4800 * time.Millisecond, "10": 9 * time.Second} {
		var args []string
		if header != "" {
			args = []string{"X-Prometheus-Scrape-Timeout-Seconds", header}
		}
		began := time.Now()
		code, body, err := a.get("/metrics", args...)
		took := time.Since(began)
		if err != nil || code != 200 || !strings.Contains(body, "\nredis_up 0\n") {
			t.Errorf("scrape with timeout %q: %d %v", header, code, err)
		}
		if took > limit {
			t.Errorf("scrape with timeout %q took %s", header, took)
		}
		t.Logf("timeout header %q: answered in %.2f s", header, took.Seconds())
	}
	a.eventually(t, 30*time.Second, func() error { return a.want("/readyz", 503) })
	t.Logf("not ready at the latest %.1f s after the stop", time.Since(stopped).Seconds())
	for time.Since(stopped) < 15*time.Second {
		if err := a.want("/livez", 200); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
	}
	redis.Signal(t, syscall.SIGCONT)
	mended := time.Now()
	a.eventually(t, 30*time.Second, func() error { return a.want("/readyz", 200) })
	t.Logf("ready %.1f s after SIGCONT", time.Since(mended).Seconds())
	a.wantMetric(t, "redis_up", "1")
}

func (a *agent) want(path string, want int) error {
	code, body, err := a.get(path)
	if err == nil && code != want {
		err = fmt.Errorf("%s: %d %s, want %d", path, code, body, want)
	}
	return err
}

func TestServerComesLater(t *testing.T) {
	t.Parallel()
	port := strconv.Itoa(testenv.FreePort(t))
	a := start(t, []string{"REDIS_ADDR=127.0.0.1:" + port})
	r := a.waitJob(t, 10*time.Second, "announce", "failing", "unreachable")
	if !strings.Contains(r.Message, "connection refused") {
		t.Errorf("announce says %q", r.Message)
	}
	a.eventually(t, 10*time.Second, func() error { // the probe asks for itself
		if body := a.mustGet(t, "/startupz", 503); !strings.Contains(body, "refused") {
			return fmt.Errorf("/startupz says %q", body)
		}
		return nil
	})
	a.wantMetric(t, "redis_up", "0")
	testenv.StartRedis(t, "--port", port)
	a.waitJob(t, 30*time.Second, "announce", "ok", "")
	a.eventually(t, 10*time.Second, func() error { return a.want("/readyz", 200) })
	a.wantMetric(t, "redis_up", "1")
	if log := a.logged(t); !strings.Contains(log, "recovered") || strings.Count(log, "msg=failing job=announce") != 1 {
		t.Error("the log does not have one line for each change")
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	redis.Do(t, "CONFIG", "SET", "requirepass", "right")
	password := filepath.Join(t.TempDir(), "password")
	writeFile(t, password, "wrong-hush\n")
	a := start(t, []string{"REDIS_ADDR=" + redis.Addr, "REDIS_PASSWORD_FILE=" + password})
	a.waitJob(t, 10*time.Second, "announce", "failing", "auth")
	a.wantMetric(t, "redis_up", "0")
	a.mustGet(t, "/livez", 200)
	a.waitJob(t, 10*time.Second, "exporter", "failing", "auth")
	writeFile(t, password, "right\n")
	a.waitJob(t, 60*time.Second, "announce", "ok", "")
	a.wantMetric(t, "redis_up", "1")
	if strings.Contains(a.logged(t), "hush") {
		t.Error("the log shows the password")
	}
}

func TestMissingPermission(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t, "--user", "agent", "on", ">pw", "~*", "&*", "+@all", "-config")
	files := newConfigMap(t, map[string]string{"redis.conf": "hz 20\n"})
	a := start(t, []string{"REDIS_ADDR=" + redis.Addr, "REDIS_USER=agent", "REDIS_PASSWORD=pw"},
		"--config.path="+files.path("redis.conf"), "--config.interval=1s")
	for _, job := range []string{"announce", "config"} {
		if r := a.waitJob(t, 10*time.Second, job, "failing", "noperm"); !strings.Contains(strings.ToLower(r.Message), "config") {
			t.Errorf("%s says %q, which does not name the command", job, r.Message)
		}
	}
	a.wantMetric(t, "redis_up", "1") // what is allowed is exported
	redis.Do(t, "ACL", "SETUSER", "agent", "+config")
	a.waitJob(t, 90*time.Second, "config", "ok", "")
	a.waitJob(t, 90*time.Second, "announce", "ok", "")
	if got := configGet(t, redis, "hz"); got != "20" {
		t.Errorf("hz is %s", got)
	}
}

// A store in trouble fails the job with its reason; nothing else cares; when it
// is mended, so is the job.
func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		reason string
		broken func(*testing.T, *testenv.S3) (env []string)
		mend   func(*testing.T, *testenv.S3)
	}{
		"unreachable": {"store_unreachable",
			func(t *testing.T, s *testenv.S3) []string {
				s.CreateBucket(t, "backups")
				s.Stop(t)
				return s.Environ()
			},
			func(t *testing.T, s *testenv.S3) { s.Start(t) }},
		"no bucket": {"store_missing",
			func(_ *testing.T, s *testenv.S3) []string { return s.Environ() },
			func(t *testing.T, s *testenv.S3) { s.CreateBucket(t, "backups") }},
		"wrong keys": {"store_denied",
			func(t *testing.T, s *testenv.S3) []string {
				s.CreateBucket(t, "backups")
				return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=wrong-hush"}
			}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testenv.StartRedis(t)
			redis.Fill(t, "k", 10, 10)
			s3 := testenv.StartS3(t)
			env := append(tc.broken(t, s3), "REDIS_ADDR="+redis.Addr, "REDIS_SIDECAR_BACKUP_STORE="+s3.URL("backups", ""), "POD_NAME=redis-0")
			a := start(t, env, "--backup.schedule=@hourly")
			r := a.waitJob(t, 60*time.Second, "backup", "failing", tc.reason)
			t.Logf("backup says: %s", r.Message)
			a.mustGet(t, "/livez", 200)
			a.eventually(t, 30*time.Second, func() error { return a.want("/readyz", 200) }) // the announced address comes first
			if v, err := a.metric(`redis_sidecar_job_failures_total{name="backup",reason="` + tc.reason + `"}`); err != nil || v == "0" {
				t.Errorf("failures %s %v", v, err)
			}
			now := run(t, env, "backup", "now")
			if now.code != 1 || !strings.Contains(now.stderr, "hint: ") {
				t.Errorf("backup now: exit code %d: %s", now.code, now.stderr)
			}
			if all := a.logged(t) + now.stderr + now.stdout; strings.Contains(all, "hush") {
				t.Error("a secret is shown")
			}
			if tc.mend == nil {
				return
			}
			tc.mend(t, s3)
			if out := mustRun(t, env, "backup", "now", "--wait"); !strings.Contains(out, "10 keys") {
				t.Errorf("backup now says %q", out)
			}
			a.waitJob(t, 4*time.Minute, "backup", "ok", "") // it looks again after 1 min, then 2
		})
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := run(t, nil, "run", "--web.listen-address="+l.Addr().String())
	want := "redis-sidecar: listen on " + l.Addr().String() + ": address already in use\n  hint: another process listens there (ss -ltnp shows which): end it, or choose another web.listen-address\n"
	if r.code != 1 || !strings.HasSuffix(r.stderr, want) {
		t.Errorf("exit code %d, stderr:\n%s\nwant at the end:\n%s", r.code, r.stderr, want)
	}
}

// The first signal lets a snapshot in progress finish, the second does not wait.
func TestSignals(t *testing.T) {
	t.Parallel()
	for name, hurry := range map[string]bool{"drain": false, "hurry": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := t.TempDir()
			delay := "3000" // 3 ms a key: 6 s in all
			if hurry {
				delay = "20000" // 40 s
			}
			redis := testenv.StartRedis(t, "--rdb-key-save-delay", delay)
			redis.Fill(t, "k", 2000, 10)
			env := []string{"REDIS_ADDR=" + redis.Addr, "REDIS_SIDECAR_BACKUP_STORE=file://" + store, "POD_NAME=redis-0"}
			a := start(t, env, "--backup.schedule=* * * * *")
			a.eventually(t, 70*time.Second, func() error {
				v, err := a.metric("redis_rdb_bgsave_in_progress")
				if err == nil && v != "1" {
					err = fmt.Errorf("no save in progress")
				}
				return err
			})
			a.signal(t, syscall.SIGTERM)
			wantSnapshots := 1
			if hurry {
				a.eventuallyLogged(t, "stopping")
				a.signal(t, syscall.SIGTERM)
				wantSnapshots = 0
			}
			began := time.Now()
			if code := a.ended(t, 30*time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if hurry && time.Since(began) > 10*time.Second {
				t.Errorf("a hurried end took %s", time.Since(began))
			}
			found, err := filepath.Glob(filepath.Join(store, "redis", "snapshots", "*", "manifest.json"))
			if err != nil || len(found) != wantSnapshots {
				t.Errorf("%d snapshots %v, want %d", len(found), err, wantSnapshots)
			}
		})
	}
}

func (a *agent) eventuallyLogged(t *testing.T, text string) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(a.logged(t), text) {
			return fmt.Errorf("the log does not have %q", text)
		}
		return nil
	})
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
