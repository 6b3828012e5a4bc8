package agent_test

import (
	"crypto/rand"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

	whole := time.Hour // the least that a run has taken
	backup := func() {
		t.Helper()
		began := time.Now()
		mustRun(t, env, "backup", "now")
		whole = min(whole, time.Since(began))
	}
	backup()
	complete := 1
	killedBusy := 0
	late := 0 // manifests of the last round that the store may have been given and not yet shown
	for round := range rounds {
		after := chance(t, whole)
		killed, took := killAfter(t, env, after)
		if !killed {
			whole = min(whole, took)
		}
		manifests := snapshots(t, s3)
		t.Logf("round %d: killed after %.2f s of %.2f s (before its end: %v), %d manifests", round, after.Seconds(), whole.Seconds(), killed, len(manifests))
		if len(manifests) > complete+late+1 || len(manifests) < complete {
			t.Errorf("%d manifests after %d complete snapshots and one kill", len(manifests), complete)
		}
		late = 0
		if killed && len(manifests) == complete {
			killedBusy++
			late = 1
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
	backup() // the next run succeeds
	last := run(t, env, "backup", "show", "latest")
	var m struct{ ID string }
	unmarshal(t, last.stdout, &m)

	// One more kill after it: restore must not be misled by what it left.
	killAfter(t, env, whole/3)
	if newest := slices.Max(snapshots(t, s3)); newest < m.ID { // ids sort by time
		t.Errorf("%s is gone", m.ID)
	} else {
		m.ID = newest // another one when that run was faster than any before
	}
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

// killAfter starts a backup and kills it after a while, unless it ends before that.
func killAfter(t *testing.T, env []string, after time.Duration) (killed bool, took time.Duration) {
	t.Helper()
	cmd := exec.Command(binary, "backup", "now")
	cmd.Env = append(os.Environ(), env...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("backup now: %v", err)
		}
		return false, time.Since(began)
	case <-time.After(after):
	}
	_ = cmd.Process.Kill()
	return <-ended != nil, time.Since(began)
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
