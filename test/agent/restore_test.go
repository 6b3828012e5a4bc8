package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// TestRestoreCommand holds the program to what docs/restore.md says of peers,
// plans and files, with a password on the servers and none on the Sentinel.
func TestRestoreCommand(t *testing.T) {
	t.Parallel()
	const password = "hush-hush"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := "file://" + t.TempDir()
	master := testenv.StartRedis(t)
	env := []string{"REDIS_ADDR=redis://" + master.Addr, "REDIS_PASSWORD_FILE=" + secret, "REDIS_SIDECAR_BACKUP_STORE=" + store, "POD_NAME=redis-0"}
	for i := range 300 {
		master.Do(t, "SET", "key:"+strconv.Itoa(i), "value", "EX", "86400")
	}
	master.Do(t, "CONFIG", "SET", "requirepass", password)
	mustRun(t, env, "backup", "now")
	// What is clear is known at once; a peer of a busy machine may need a second question.
	restore := func(args ...string) result {
		t.Helper()
		return run(t, env, append([]string{"restore", "--restore.dir=" + t.TempDir(), "--restore.peers-wait=1m"}, args...)...)
	}
	const once = "--restore.peers-wait=0s"
	says := func(r result, code int, stdout, stderr string) {
		t.Helper()
		if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
			t.Errorf("exit code %d, want %d\nstdout %q\nwant %q\nstderr %s\nwant %q", r.code, code, r.stdout, stdout, r.stderr, stderr)
		}
		if strings.Contains(r.stdout+r.stderr, password) {
			t.Error("the password is in the output")
		}
	}

	says(restore("--restore.peers="+master.Addr), 0, "nothing restored: "+master.Addr+" holds 300 keys as master, to be copied from there\n", "")
	says(restore("--restore.peers="+master.Addr, "--restore.only-pod=redis-0", once), 4, "", "another server of this Redis holds data: "+master.Addr+" holds 300 keys as master, newer than the snapshot (reason rejected)\n  hint: this server will be the master")
	says(restore("--restore.peers="+master.Addr, "--restore.if-peers=restore"), 0, "restored ", "its data is given up for the snapshot")
	says(restore("--restore.peers="+master.Addr, "--redis.password=wrong", once), 1, "", master.Addr+" is there, but does not say whether it holds data: INFO: ")
	says(restore("--restore.peers="+master.Addr, "--redis.password=wrong", "--restore.if-peers-unclear=restore", once), 0, "restored ", "")
	says(restore("--restore.peers=127.0.0.1:"+strconv.Itoa(testenv.FreePort(t)), once), 0, "restored ", "taken_for=")

	// There is no server of one's own to take an address from, only peers.
	says(restore("--redis.addr=", "--restore.peers="+master.Addr), 0, "nothing restored: "+master.Addr+" holds 300 keys as master", "")
	says(restore("--redis.addr=", "--redis.password="+password, "--restore.peers="+master.Addr), 0, "nothing restored: "+master.Addr+" holds 300 keys as master", "")

	// A peer that speaks TLS, asked by its address; and one that does not.
	cert, key := testenv.Certificate(t, t.TempDir(), "peer", time.Now().Add(time.Hour))
	tlsPort := strconv.Itoa(testenv.FreePort(t))
	tls := testenv.StartRedis(t, "--tls-port", tlsPort, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	tls.Do(t, "SET", "key", "value")
	says(restore("--restore.peers=rediss://127.0.0.1:"+tlsPort, "--redis.tls.ca-file="+cert), 0, "holds 1 keys as master", "")
	says(restore("--restore.peers=127.0.0.1:"+tlsPort, "--redis.addr=rediss://127.0.0.1:1", "--redis.tls.ca-file="+cert), 0, "holds 1 keys as master", "")
	says(restore("--restore.peers=rediss://127.0.0.1:"+tlsPort, once), 1, "", "is there, but does not say whether it holds data: INFO: TLS handshake")
	says(restore("--restore.peers=rediss://"+tls.Addr, once), 1, "", "use redis:// instead of rediss://; or set restore.if-peers-unclear")

	// A Sentinel without a password, which knows the master.
	sentinel := testenv.StartSentinel(t, "sentinel monitor test 127.0.0.1 "+strconv.Itoa(master.Port)+" 2", "sentinel auth-pass test "+password)
	says(restore("--restore.sentinels="+sentinel.Addr, "--restore.sentinel-master=test"), 0, "nothing restored: "+master.Addr+" holds 300 keys as master", "")

	// The plan, for people and for programs.
	server := testenv.Program(t, "redis-server", "")
	plan := restore("--dry-run", "--restore.redis-server="+server)
	says(plan, 0, "would restore ", "would restore")
	for _, want := range []string{"\n  keys       300 (300 with a time to live, over by now for 0", "\n  space      1.0 MiB needed, ", "\n  owner      uid ", "\n  layout     dump.rdb and appendonlydir"} {
		if !strings.Contains(plan.stdout, want) {
			t.Errorf("the plan is without %q:\n%s", want, plan.stdout)
		}
	}
	var out struct {
		Result, Snapshot, Instance, Owner, Layout string
		Keys, Expiring                            int
		Need                                      int64 `json:"needed_bytes"`
		Free                                      int64 `json:"free_bytes"`
		Least                                     *int  `json:"expired_keys_least"`
		Peers                                     []struct{ Address, Role string }
	}
	sentinelPlan := restore("--dry-run", "--json", "--restore.if-peers=restore", "--restore.sentinels="+sentinel.Addr, "--restore.sentinel-master=test")
	if err := json.Unmarshal([]byte(sentinelPlan.stdout), &out); err != nil {
		t.Fatalf("%v: %s", err, sentinelPlan.stdout)
	}
	if out.Result != "would restore" || out.Instance != "redis" || out.Keys != 300 || out.Need < 1<<20 || out.Free < out.Need || out.Least == nil || len(out.Peers) != 2 {
		t.Errorf("%+v", out)
	}

	// To a file, and to standard output.
	dir := t.TempDir()
	file := filepath.Join(dir, "copy.rdb")
	says(run(t, env, "restore", "--to", file), 0, "as "+file, "")
	says(run(t, env, "restore", "--to", file), 4, "", "the file exists (reason file)\n  hint: name another file; --force replaces it")
	says(run(t, env, "restore", "--to", file, "--force", "--json"), 0, `"result": "restored"`, "")
	plain := run(t, env, "restore", "--to", "-")
	b, err := os.ReadFile(file)
	if err != nil || plain.code != 0 || plain.stdout != string(b) || !strings.HasPrefix(plain.stdout, "REDIS00") {
		t.Errorf("--to -: %d bytes, exit code %d, %v", len(plain.stdout), plain.code, err)
	}

	// Of one shard of a cluster.
	node := testenv.StartCluster(t, 1)[0]
	node.Do(t, "SET", "key", "value")
	inCluster := append(env, "REDIS_ADDR=redis://"+node.Addr, "REDIS_SIDECAR_BACKUP_INSTANCE=clu")
	mustRun(t, inCluster, "backup", "now")
	of := filepath.Join(t.TempDir(), "shard.rdb")
	says(run(t, inCluster, "restore", "--to", of), 2, "", "instance clu is that of a cluster, whose shards have their own snapshots\n  hint: name one with --restore.shard: 00000")
	says(run(t, inCluster, "restore", "--to", of, "--restore.shard=00000"), 0, "1 keys", "")

	// A copy of another instance's snapshots, loaded by a server of its own.
	data := t.TempDir()
	says(run(t, env, "restore", "--restore.dir="+data, "--backup.instance=staging", "--restore.instance=redis", "--restore.mode=0644"), 0, "restored ", "this becomes a clone")
	if info, err := os.Stat(filepath.Join(data, "dump.rdb")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	clone := testenv.StartRedisIn(t, data, "--appendonly", "yes")
	testenv.Eventually(t, 20*time.Second, func() error { _, err := clone.Client(t).Do(t.Context(), "PING"); return err })
	if n := clone.DBSize(t); n != 300 {
		t.Errorf("the clone has %d keys", n)
	}
}
