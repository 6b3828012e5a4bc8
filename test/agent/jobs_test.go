package agent_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestAllJobsWithS3(t *testing.T) {
	t.Parallel()
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, "backups")
	allJobs(t, s3.URL("backups", "team/a"), s3.Environ(), filepath.Join(s3.Root, "backups", "team", "a"))
}

func TestAllJobsWithADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	allJobs(t, "file://"+dir, nil, dir)
}

const conf = `
maxmemory 100mb
maxmemory-policy noeviction
hz 10
`

// allJobs takes the program through everything it does, in phases: each changes
// something and waits for what must follow. Whoever takes a snapshot by hand waits
// for the agent, which takes one when a minute begins.
func allJobs(t *testing.T, store string, env []string, objects string) {
	files := newConfigMap(t, map[string]string{"redis.conf": conf})
	redis := testenv.StartRedisIn(t, t.TempDir(), files.path("redis.conf"), "--appendonly", "yes", "--replica-announce-ip", "10.9.9.9")
	env = append(env, "REDIS_ADDR=redis://"+redis.Addr, "REDIS_SIDECAR_BACKUP_STORE="+store, "POD_NAME=redis-0")
	a := start(t, env, "--config.path="+files.path("redis.conf"), "--backup.schedule=* * * * *", "--backup.retention.keep-last=0")
	began := time.Now()
	phase := func(name string) { t.Logf("%6.1f s  %s", time.Since(began).Seconds(), name) }

	phase("every job is well")
	for _, job := range []string{"announce", "config", "backup", "probe"} {
		a.waitJob(t, 30*time.Second, job, "ok", "")
	}
	for path, want := range map[string]string{"/startupz": "ok", "/livez": "ok", "/readyz": "ok: master", "/": "<html", "/health": "ok"} {
		if body := a.mustGet(t, path, 200); !strings.Contains(body, want) {
			t.Errorf("%s says %q, want %q", path, body, want)
		}
	}
	for _, probe := range []string{"startup", "liveness", "readiness"} {
		if out := mustRun(t, env, "probe", probe, "--url="+a.url); !strings.HasPrefix(out, "ok") {
			t.Errorf("probe %s says %q", probe, out)
		}
	}

	phase("announce: a stale address is corrected")
	if got := configGet(t, redis, "replica-announce-ip"); got != "127.0.0.1" {
		t.Errorf("replica-announce-ip is %q", got)
	}
	redis.Do(t, "CONFIG", "SET", "replica-announce-ip", "10.9.9.9")
	wantAnnounced(t, redis, "127.0.0.1")

	phase("exporter: the server's and the jobs' metrics")
	redis.Fill(t, "key:", 5000, 100)
	redis.Do(t, "SET", "expires", "v", "EX", "3600")
	a.wantMetric(t, "redis_up", "1")
	a.wantMetric(t, `redis_db_keys{db="db0"}`, "5001")
	a.wantMetric(t, `redis_db_keys_expiring{db="db0"}`, "1")
	a.wantMetric(t, "redis_config_maxmemory", "104857600")
	a.wantMetric(t, `redis_sidecar_job_state{name="config",state="ok"}`, "1")

	phase("config: what can be applied live is, the rest is said")
	files.write(t, map[string]string{"redis.conf": strings.ReplaceAll(conf, "100mb", "200mb") + "databases 32\n"})
	r := a.waitJob(t, 30*time.Second, "config", "warning", "restart")
	if !strings.Contains(r.Message, "databases") {
		t.Errorf("config says %q, which does not name databases", r.Message)
	}
	if got := configGet(t, redis, "maxmemory"); got != "209715200" {
		t.Errorf("maxmemory is %s", got)
	}
	phase("config: a bad file changes nothing and is said")
	files.write(t, map[string]string{"redis.conf": "maxmemory 300mb # more\nhz 20\n"})
	r = a.waitJob(t, 30*time.Second, "config", "failing", "syntax")
	if !strings.Contains(r.Message, "redis.conf:1") {
		t.Errorf("config says %q, which does not name the line", r.Message)
	}
	if got := configGet(t, redis, "maxmemory") + " " + configGet(t, redis, "hz"); got != "209715200 10" {
		t.Errorf("maxmemory and hz are %s", got)
	}
	files.write(t, map[string]string{"redis.conf": strings.ReplaceAll(conf, "100mb", "300mb")})
	a.waitJob(t, 30*time.Second, "config", "ok", "")
	if got := configGet(t, redis, "maxmemory"); got != "314572800" {
		t.Errorf("maxmemory is %s", got)
	}

	phase("backup: on demand")
	keys, digest := redis.DBSize(t), redis.Digest(t)
	out := mustRun(t, env, "backup", "now", "--wait")
	if !strings.Contains(out, "5001 keys") {
		t.Errorf("backup now says %q", out)
	}
	id, _, _ := strings.Cut(out, " ") // the latest is that of the agent, perhaps
	mustRun(t, env, "backup", "verify", id)
	var first struct {
		ID     string `json:"id"`
		Object struct{ Name string }
	}
	unmarshal(t, mustRun(t, env, "backup", "show", id), &first)
	for _, name := range []string{"manifest.json", first.Object.Name} {
		if _, err := os.Stat(filepath.Join(objects, "redis", "snapshots", first.ID, name)); err != nil {
			t.Error(err)
		}
	}
	phase("backup: by schedule")
	a.eventually(t, 90*time.Second, func() error {
		v, err := a.metric("redis_sidecar_backup_last_success_timestamp_seconds")
		if err != nil || v == "0" {
			return fmt.Errorf("last success %s, %w", v, err)
		}
		r, err := a.job("backup")
		if err != nil || !strings.HasPrefix(r.Message, "snapshot ") {
			return fmt.Errorf("%s: %w", r.Message, err)
		}
		return nil
	})
	var list []struct{ ID string }
	unmarshal(t, mustRun(t, env, "backup", "list", "--json"), &list)
	held := func(id string) bool {
		return slices.ContainsFunc(list, func(s struct{ ID string }) bool { return s.ID == id })
	}
	if len(list) < 2 || !held(first.ID) { // the minute decides whether there is one more by schedule
		t.Errorf("the catalogue holds %v after %s and a scheduled one", list, first.ID)
	}
	phase("backup: retention, deletion")
	for range 2 { // two that are newer than the first, whenever the scheduled one was
		mustRun(t, env, "backup", "now", "--wait", "--backup.retention.keep-last=1") // not the agent's rule, and not asked to prune
	}
	unmarshal(t, mustRun(t, env, "backup", "list", "--json"), &list)
	if len(list) < 4 || !held(first.ID) {
		t.Errorf("backup now without --prune left %v", list)
	}
	mustRun(t, env, "backup", "now", "--wait", "--prune", "--backup.retention.keep-last=2")
	unmarshal(t, mustRun(t, env, "backup", "list", "--json"), &list)
	if len(list) < 3 || len(list) > 4 || !held(first.ID) { // it is the last that was verified; one may have come by schedule
		t.Errorf("keep-last 2 left %v of what began with %s", list, first.ID)
	}
	mustRun(t, env, "backup", "delete", list[1].ID)
	if r := run(t, env, "backup", "show", list[1].ID); r.code != 3 {
		t.Errorf("show of a deleted snapshot: exit code %d, %s", r.code, r.stderr)
	}

	phase("probes: the server is gone, and back")
	redis.Kill(t)
	a.eventually(t, 30*time.Second, func() error {
		code, body, err := a.get("/readyz")
		if err == nil && code != 503 {
			err = fmt.Errorf("/readyz: %d %s", code, body)
		}
		return err
	})
	a.mustGet(t, "/livez", 200)
	a.wantMetric(t, "redis_up", "0")

	phase("restore: the data is lost")
	data := redis.Dir
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, env, "restore", "--restore.dir="+data, "--restore.redis-version=7.0.15"); !strings.Contains(out, "5001 keys") {
		t.Errorf("restore says %q", out)
	}
	redis.Start(t)
	if k, d := redis.DBSize(t), redis.Digest(t); k != keys || d != digest {
		t.Errorf("%d keys, digest %s; before %d, %s", k, d, keys, digest)
	}
	if out := mustRun(t, env, "restore", "--restore.dir="+data); !strings.Contains(out, "nothing restored") {
		t.Errorf("a second restore says %q", out)
	}
	if r := run(t, env, "restore", "--restore.dir="+data, "--restore.if-data=error"); r.code != 4 {
		t.Errorf("restore over data: exit code %d: %s", r.code, r.stderr)
	}

	phase("all is well again, by itself")
	for _, job := range []string{"announce", "config", "backup", "probe"} {
		a.waitJob(t, 3*time.Minute, job, "ok", "") // a run may have met the server that was away
	}
	wantAnnounced(t, redis, "127.0.0.1") // the restarted server began with the stale one

	phase("the end")
	a.signal(t, syscall.SIGTERM)
	if code := a.ended(t, 30*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(a.logged(t), "panic") {
		t.Error("the log has a panic")
	}
}

func wantAnnounced(t *testing.T, r *testenv.Redis, want string) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() error {
		if got := configGet(t, r, "replica-announce-ip"); got != want {
			return fmt.Errorf("replica-announce-ip is %q", got)
		}
		return nil
	})
}

func configGet(t *testing.T, r *testenv.Redis, name string) string {
	t.Helper()
	v, ok := r.Do(t, "CONFIG", "GET", name).([]any)
	if !ok || len(v) != 2 {
		t.Fatalf("CONFIG GET %s: %v", name, v)
	}
	s, _ := v[1].(string)
	return s
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// All is well where nobody scrapes: the page, which shows what /status says, asks for
// no metrics.
func TestStatusWithoutAScrape(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	a := start(t, []string{"REDIS_ADDR=" + srv.Addr})
	state := func() (string, error) {
		_, body, err := a.get("/status")
		if err != nil {
			return "", err
		}
		var page struct {
			State string `json:"state"`
		}
		return page.State, json.Unmarshal([]byte(body), &page)
	}
	a.eventually(t, 10*time.Second, func() error {
		if got, err := state(); err != nil || got != "ok" {
			return fmt.Errorf("the state is %q, %w", got, err)
		}
		return nil
	})
	if r, err := a.job("exporter"); err != nil || r.State != "starting" {
		t.Errorf("the exporter is %s, %v", r.State, err)
	}
	// What it finds when it is asked counts.
	srv.Kill(t)
	a.mustGet(t, "/metrics", 200)
	if got, err := state(); err != nil || got != "failing" {
		t.Errorf("the state is %q, %v", got, err)
	}
}
