package agent_test

import (
	"crypto/rand"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// kill -9 while a snapshot is on its way, at ten moments by chance: no manifest
// ever stands for an object that is not whole, the next run succeeds, and
// restore takes the last complete one.
func TestKilledDuringUpload(t *testing.T) {
	t.Parallel()
	const rounds = 10
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, "backups")
	redis := testenv.StartRedis(t, "--rdbcompression", "no")
	fillRandom(t, redis, 24<<20)
	env := append(s3.Environ(), "REDIS_ADDR="+redis.Addr, "POD_NAME=redis-0",
		"REDIS_SIDECAR_BACKUP_STORE="+s3.URL("backups", "p"), "REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=0")

	began := time.Now()
	mustRun(t, env, "backup", "now")
	whole := time.Since(began)
	complete := 1
	killedBusy := 0
	for round := range rounds {
		after := chance(t, whole)
		cmd := exec.Command(binary, "backup", "now")
		cmd.Env = append(os.Environ(), env...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(after)
		_ = cmd.Process.Kill()
		killed := cmd.Wait() != nil

		manifests := snapshots(t, s3)
		t.Logf("round %d: killed after %.2f s of %.2f s (before its end: %v), %d manifests", round, after.Seconds(), whole.Seconds(), killed, len(manifests))
		if len(manifests) > complete+1 || len(manifests) < complete {
			t.Errorf("%d manifests after %d complete snapshots and one kill", len(manifests), complete)
		}
		if killed && len(manifests) == complete {
			killedBusy++
		}
		for _, id := range manifests {
			mustRun(t, env, "backup", "verify", id)
		}
		complete = len(manifests)
	}
	if killedBusy == 0 {
		t.Error("no kill came before the manifest: the test shows nothing")
	}

	redis.Do(t, "SET", "marker", "last")
	digest := redis.Digest(t)
	mustRun(t, env, "backup", "now") // the next run succeeds
	last := run(t, env, "backup", "show", "latest")
	var m struct{ ID string }
	unmarshal(t, last.stdout, &m)

	// One more kill after it: restore must not be misled by what it left.
	cmd := exec.Command(binary, "backup", "now")
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(whole / 3)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	dir := t.TempDir()
	out := mustRun(t, env, "restore", "--restore.dir="+dir)
	if !strings.Contains(out, m.ID) {
		t.Errorf("restore took %q, the last complete snapshot is %s", out, m.ID)
	}
	restored := testenv.StartRedisIn(t, dir)
	if got := restored.Digest(t); got != digest {
		t.Errorf("digest %s, want %s", got, digest)
	}
}

// snapshots returns the ids that have a manifest, by looking into the bucket.
func snapshots(t *testing.T, s3 *testenv.S3) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s3.Root, "backups", "p", "redis", "snapshots", "*", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(found))
	for i, path := range found {
		ids[i] = filepath.Base(filepath.Dir(path))
		data, err := os.ReadFile(path)
		if err != nil || !json.Valid(data) {
			t.Errorf("%s: %v, %d bytes", path, err, len(data))
		}
	}
	return ids
}

// fillRandom writes about n bytes that do not compress.
func fillRandom(t *testing.T, r *testenv.Redis, n int) {
	t.Helper()
	c := r.Client(t)
	value := make([]byte, 64<<10)
	for i := 0; i < n/len(value); i++ {
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Do(t.Context(), "SET", "r"+big.NewInt(int64(i)).String(), string(value)); err != nil {
			t.Fatal(err)
		}
	}
}

func chance(t *testing.T, below time.Duration) time.Duration {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(int64(below)))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n.Int64())
}
