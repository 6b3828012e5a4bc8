package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
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

// pod is a server with its agent.
type pod struct {
	*agent
	redis *testenv.Redis
	env   []string
}

// startPods starts a master, redis-0, and a replica, redis-1, in step, with agents
// that share a store. No minute begins between the starts of the agents: only one of
// them would have a run to do then.
func startPods(t *testing.T, store string, env []string, flags ...string) (master, replica *pod) {
	t.Helper()
	m := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--save", "", "--rdb-key-save-delay", "0")
	m.Fill(t, "key:", 1000, 100)
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--save", "", "--replicaof", "127.0.0.1 "+strconv.Itoa(m.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := r.DBSize(t); n != 1000 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		return nil
	})
	testenv.Eventually(t, time.Minute, func() error {
		if s := time.Now().Second(); s >= 45 {
			return fmt.Errorf("it is second %d of a minute", s)
		}
		return nil
	})
	start := func(name string, redis *testenv.Redis) *pod {
		env := append([]string{"REDIS_ADDR=redis://" + redis.Addr, "REDIS_SIDECAR_BACKUP_STORE=" + store, "POD_NAME=" + name}, env...)
		return &pod{agent: start(t, env, append([]string{"--pod.name=" + name, "--announce.mode=off"}, flags...)...), redis: redis, env: env}
	}
	return start("redis-0", m), start("redis-1", r)
}

// entry is a line of backup list --json, in short.
type entry struct {
	ID       string
	Manifest struct {
		Server struct{ Pod, Role string }
		RDB    struct{ Keys int }
	}
}

// list returns the snapshots, oldest first.
func (p *pod) list(t *testing.T) []entry {
	t.Helper()
	var out []entry
	unmarshal(t, mustRun(t, p.env, "backup", "list", "--json"), &out)
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// waitSnapshots waits until there are n, and returns the newest.
func (p *pod) waitSnapshots(t *testing.T, timeout time.Duration, n int) entry {
	t.Helper()
	var all []entry
	p.eventually(t, timeout, func() error {
		if all = p.list(t); len(all) < n {
			return fmt.Errorf("%d snapshots, want %d", len(all), n)
		}
		return nil
	})
	if len(all) > n {
		t.Fatalf("%d snapshots, want %d: %+v", len(all), n, all)
	}
	return all[n-1]
}

// A master and a replica with an agent each: every minute has one snapshot, of the
// replica; of the master when the replica is gone; and of the other when the one
// that takes it stands still, which then publishes nothing.
func TestOneOfManyTakesTheSnapshot(t *testing.T) {
	t.Parallel()
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, "backups")
	master, replica := startPods(t, s3.URL("backups", "p"), s3.Environ(), "--backup.schedule=* * * * *", "--backup.lease.ttl=4s",
		"--backup.retention.keep-last=0", "--backup.source=bgsave")

	of := func(e entry, pod, role string) {
		t.Helper()
		if e.Manifest.Server.Pod != pod || e.Manifest.Server.Role != role || e.Manifest.RDB.Keys != 1000 {
			t.Errorf("%s is of %s, %s, with %d keys; want %s, %s", e.ID, e.Manifest.Server.Pod, e.Manifest.Server.Role, e.Manifest.RDB.Keys, pod, role)
		}
	}
	of(replica.waitSnapshots(t, 75*time.Second, 1), "redis-1", "slave")
	// The master lets 30 s pass before it is sure, and then there is still one.
	master.eventually(t, 50*time.Second, func() error {
		r, err := master.job("backup")
		if err == nil && !strings.HasPrefix(r.Message, "standing by: redis-1 has taken ") {
			err = errors.New(r.Message)
		}
		return err
	})
	master.wantMetric(t, `redis_sidecar_backup_runs_total{trigger="schedule"}`, "0")
	replica.wantMetric(t, `redis_sidecar_backup_runs_total{trigger="schedule"}`, "1")
	replica.wantMetric(t, `redis_sidecar_backup_taken_total{source="bgsave"}`, "1")
	replica.wantMetric(t, `redis_sidecar_backup_lease_info{holder="",mode="conditional"}`, "1")
	of(master.waitSnapshots(t, time.Second, 1), "redis-1", "slave")

	replica.redis.Stop(t)
	of(master.waitSnapshots(t, 75*time.Second, 2), "redis-0", "master")

	// The replica is back and slow, and its agent is stopped in the middle.
	replica.redis.Start(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.redis.DBSize(t); n != 1000 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		return nil
	})
	replica.redis.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "20000") // 20 s for a save
	replica.eventually(t, 75*time.Second, func() error {
		v, err := replica.metric("redis_sidecar_backup_running")
		if err == nil && v != "1" {
			err = errors.New("no snapshot runs")
		}
		return err
	})
	replica.wantMetric(t, "redis_sidecar_backup_lease_held", "1")
	replica.signal(t, syscall.SIGSTOP)
	of(master.waitSnapshots(t, 70*time.Second, 3), "redis-0", "master")
	replica.signal(t, syscall.SIGCONT)
	replica.eventually(t, 50*time.Second, func() error {
		r, err := replica.job("backup")
		if err == nil && !strings.Contains(r.LastError, "the backup lease was lost") {
			err = fmt.Errorf("last error %q", r.LastError)
		}
		return err
	})
	// One of the moment at which it lost the lease would be before that of the master;
	// one of the next minute is behind it.
	if all := replica.list(t); len(all) < 3 {
		t.Errorf("%d snapshots, want 3: %+v", len(all), all)
	} else {
		of(all[2], "redis-0", "master")
	}
}

// kill -9 of the agent that takes the snapshot: the other takes it when the lease
// has run out.
func TestKilledHolderIsWaitedOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	master, replica := startPods(t, "file://"+dir, nil, "--backup.schedule=@every 1m", "--backup.lease.ttl=5s", "--backup.source=bgsave", "--backup.role=any")
	for _, p := range []*pod{master, replica} {
		p.redis.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "10000") // 10 s for a save
	}
	var holder, other *pod
	testenv.Eventually(t, 75*time.Second, func() error {
		for _, pair := range [][2]*pod{{master, replica}, {replica, master}} {
			if v, err := pair[0].metric("redis_sidecar_backup_running"); err == nil && v == "1" {
				holder, other = pair[0], pair[1]
				return nil
			}
		}
		return errors.New("no snapshot runs")
	})
	if err := holder.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-holder.done
	var lease struct{ Holder, Pod string }
	file := filepath.Join(dir, "redis", "lease.json")
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &lease) != nil || !strings.HasPrefix(lease.Holder, lease.Pod+"/") {
		t.Errorf("lease %s, %v", data, err)
	}
	written, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	renewed := written.ModTime()
	other.eventually(t, 30*time.Second, func() error {
		v, err := other.metric("redis_sidecar_backup_running")
		if err == nil && v != "1" {
			err = errors.New("the other has not begun")
		}
		return err
	})
	if took := time.Since(renewed); took < 5*time.Second {
		t.Errorf("the other took over %s after the last renewal: the lease says 5 s", took)
	} else {
		t.Logf("the other took over %s after the last renewal", took.Round(time.Millisecond))
	}
	other.waitSnapshots(t, 30*time.Second, 1)
}

// Two backup now at the same time: one takes it, the other says who.
func TestTwoBackupNow(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t, "--save", "")
	redis.Fill(t, "key:", 1000, 100)
	slow := func() { redis.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "8000") } // 8 s for a save
	quick := func() { redis.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "0") }
	slow()
	env := []string{"REDIS_ADDR=" + redis.Addr, "POD_NAME=redis-0", "REDIS_SIDECAR_BACKUP_STORE=file://" + t.TempDir(), "REDIS_SIDECAR_BACKUP_SOURCE=bgsave"}
	first := exec.Command(binary, "backup", "now")
	first.Env = append(os.Environ(), env...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if in := fmt.Sprint(redis.Do(t, "INFO", "persistence")); !strings.Contains(in, "rdb_bgsave_in_progress:1") {
			return errors.New("no save runs")
		}
		return nil
	})
	second := run(t, env, "backup", "now", "--pod.name=redis-1")
	if second.code != 8 || !strings.Contains(second.stderr, "lease: redis-0/") || !strings.Contains(second.stderr, " has the backup lease since ") || !strings.Contains(second.stderr, "--wait") {
		t.Errorf("the second: exit code %d: %s", second.code, second.stderr)
	}
	quick()
	waiting := mustRun(t, env, "backup", "now", "--wait", "--pod.name=redis-1")
	if err := first.Wait(); err != nil {
		t.Errorf("the first: %v", err)
	}
	if !strings.Contains(waiting, "-redis-1-") || !strings.Contains(waiting, "1000 keys") {
		t.Errorf("the one that waited says %q", waiting)
	}
	var list []struct{ ID string }
	unmarshal(t, mustRun(t, env, "backup", "list", "--json"), &list)
	if len(list) != 2 {
		t.Errorf("%d snapshots, want 2", len(list))
	}

	// One that was killed is known to be gone in the same container, at once.
	slow()
	third := exec.Command(binary, "backup", "now")
	third.Env = append(os.Environ(), env...)
	if err := third.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if in := fmt.Sprint(redis.Do(t, "INFO", "persistence")); !strings.Contains(in, "rdb_bgsave_in_progress:1") {
			return errors.New("no save runs")
		}
		return nil
	})
	if err := third.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = third.Wait()
	if r := run(t, env, "backup", "now", "--pod.name=redis-1"); r.code != 8 {
		t.Errorf("another pod, at once: exit code %d", r.code)
	}
	quick()
	mustRun(t, env, "backup", "now", "--pod.name=redis-1", "--force")
	mustRun(t, env, "backup", "now")
}

// POST /backup, to a running agent.
func TestBackupOnDemand(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t, "--save", "")
	redis.Fill(t, "key:", 1000, 100)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"REDIS_ADDR=" + redis.Addr, "REDIS_SIDECAR_BACKUP_STORE=file://" + t.TempDir()}
	a := start(t, env, "--backup.schedule=@yearly", "--backup.trigger-token-file="+token)
	post := func(path string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, a.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		client := http.Client{Timeout: time.Minute}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body struct {
			State    string
			Error    string
			Snapshot struct {
				ID   string
				Keys int
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, fmt.Sprintf("%s %d %s", body.State, body.Snapshot.Keys, body.Error)
	}
	if code, text := post("/backup?wait"); code != 200 || text != "done 1000 " {
		t.Errorf("from this host: %d %s", code, text)
	}
	if code, text := post("/backup?wait=1m", "Authorization", "Bearer 0123456789abcdef"); code != 200 || text != "done 1000 " {
		t.Errorf("with the token: %d %s", code, text)
	}
	if code, text := post("/backup", "Authorization", "Bearer 0123456789abcdeX"); code != 401 || text != "refused 0 this is not the token" {
		t.Errorf("with another token: %d %s", code, text)
	}
	if code, text := post("/backup", "X-Forwarded-For", "10.0.0.7"); code != 403 {
		t.Errorf("through a proxy: %d %s", code, text)
	}
	// An answer that takes longer than the server lets a request be read.
	redis.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "33000") // 33 s for a save
	began := time.Now()
	if code, text := post("/backup?wait=1m"); code != 200 || text != "done 1000 " || time.Since(began) < 30*time.Second {
		t.Errorf("after %s: %d %s", time.Since(began), code, text)
	}
	if body := a.mustGet(t, "/backup", 200); !strings.Contains(body, `"state": "idle"`) || !strings.Contains(body, `"trigger": "request"`) {
		t.Errorf("GET /backup: %s", body)
	}
	a.wantMetric(t, `redis_sidecar_backup_runs_total{trigger="request"}`, "3")

	off := start(t, env)
	if body := off.mustGet(t, "/backup", 503); !strings.Contains(body, `"state": "refused"`) || !strings.Contains(body, "backup.schedule is not set") {
		t.Errorf("without a schedule: %s", body)
	}
}

// SIGTERM with redis-server still there brings one more snapshot; without it, a
// clear line in the log.
func TestBackupBeforeTheEnd(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t, "--save", "")
	redis.Fill(t, "key:", 1000, 100)
	env := []string{"REDIS_ADDR=" + redis.Addr, "POD_NAME=redis-0", "REDIS_SIDECAR_BACKUP_STORE=file://" + t.TempDir()}
	flags := []string{"--backup.schedule=@yearly", "--backup.on-shutdown"}
	a := start(t, env, flags...)
	a.waitJob(t, 10*time.Second, "backup", "ok", "")
	mustRun(t, env, "backup", "now")
	redis.Do(t, "SET", "last", "write")
	a.signal(t, syscall.SIGTERM)
	if code := a.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var list []entry
	unmarshal(t, mustRun(t, env, "backup", "list", "--json"), &list)
	if len(list) != 2 || list[0].Manifest.RDB.Keys != 1001 {
		t.Errorf("the catalogue after SIGTERM: %+v", list)
	}

	a = start(t, env, flags...)
	a.waitJob(t, 10*time.Second, "backup", "ok", "")
	redis.Stop(t)
	a.signal(t, syscall.SIGTERM)
	a.ended(t, 30*time.Second)
	if log := a.logged(t); !strings.Contains(log, "redis-server ended before the sidecar was told to") {
		t.Errorf("log:\n%s", log)
	}
}
