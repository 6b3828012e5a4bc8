package backup

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A backup cannot have a file of its own: the server refuses to change dir and
// dbfilename. It tells them, but dir is the path in its own container.
func TestTrapDirIsTheServersPath(t *testing.T) {
	r := testenv.StartRedis(t, "--dbfilename", "other.rdb")
	r.Fill(t, "key", 100, 10)
	for _, name := range []string{"dir", "dbfilename"} {
		if _, err := r.Client(t).Do(testContext(t), "CONFIG", "SET", name, "x"); err == nil || !strings.Contains(err.Error(), "protected config") {
			t.Errorf("CONFIG SET %s: %v", name, err)
		}
	}
	mounted := filepath.Join(t.TempDir(), "mounted")
	if err := os.Symlink(r.Dir, mounted); err != nil {
		t.Fatal(err)
	}
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.DataDir = mounted }))
	if m.RDB.Keys != 100 || m.Source != SourceBGSave {
		t.Errorf("%d keys, source %s", m.RDB.Keys, m.Source)
	}
	if !exists(filepath.Join(mounted, "other.rdb")) || exists(filepath.Join(mounted, "dump.rdb")) {
		t.Error("the server saved to another file than other.rdb")
	}
}

// A dump tells the place in the replication stream only once the server has a
// backlog. The manifest has it from INFO.
func TestTrapAuxFieldsComeWithReplication(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	aux := func(m Manifest) []string {
		t.Helper()
		f, err := os.Open(plainRDB(t, sn.Catalogue(), m))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		summary, err := rdb.Scan(f)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range summary.Aux {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	plain := []string{"aof-base", "ctime", "redis-bits", "redis-ver", "used-mem"}
	alone := mustSnapshot(t, sn)
	if diff := cmp.Diff(plain, aux(alone)); diff != "" {
		t.Errorf("without a replica (-want +got):\n%s", diff)
	}
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(r.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t); n != 100 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		return nil
	})
	r.Do(t, "SET", "a", "1")
	with := mustSnapshot(t, sn)
	if diff := cmp.Diff(append(plain[:4:4], "repl-id", "repl-offset", "repl-stream-db", "used-mem"), aux(with)); diff != "" {
		t.Errorf("with a replica (-want +got):\n%s", diff)
	}
	for _, m := range []Manifest{alone, with} {
		if len(m.Server.ReplicationID) != 40 {
			t.Errorf("replication id %q", m.Server.ReplicationID)
		}
	}
}

// trapAddrEnv is the address of the server that a child of another uid saves.
const trapAddrEnv = "REDIS_SIDECAR_TEST_TRAP_ADDR"

// The official image sets umask 0077: what the server writes only its own user can
// read. The sidecar of the same uid does; one of another is told what to do.
func TestTrapUmaskKeepsTheDumpFromOthers(t *testing.T) {
	if addr := os.Getenv(trapAddrEnv); addr != "" {
		c := redis.New(redis.Options{Addr: addr})
		defer c.Close()
		s, _ := dirStore(t)
		_, err := newSnapshotterFor(t, c, s).Snapshot(testContext(t), nil)
		wantError(t, err, status.ReasonFile, "permission denied")
		if got := status.HintOf(err); got != hintUser {
			t.Errorf("hint %q", got)
		}
		wantKeys(t, s)
		return
	}
	if !inChild(t, nil) { // the umask is the whole process's
		return
	}
	dir := t.TempDir()
	for _, open := range []string{filepath.Dir(dir), dir} { // the directory lets others in, the files do not
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old := syscall.Umask(0o077)
	r := testenv.StartRedisIn(t, dir, "--appendonly", "yes")
	syscall.Umask(old)
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	if m := mustSnapshot(t, newTestSnapshotter(t, r, s)); m.RDB.Keys != 100 || m.Source != SourceBGSave {
		t.Errorf("%d keys, source %s", m.RDB.Keys, m.Source)
	}
	for name, want := range map[string]fs.FileMode{"dump.rdb": 0o600, "appendonlydir": 0o700 | fs.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("the trap has gone: %s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Log("another uid takes root: not tried")
		return
	}
	other := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	other.Dir = os.TempDir()
	other.Env = append(os.Environ(), trapAddrEnv+"="+r.Addr)
	other.SysProcAttr = asNobody()
	if out, err := other.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as another uid: %v\n%s", err, out)
	}
}
