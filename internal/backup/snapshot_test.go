package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A snapshot holds what the server held, in both kinds of store.
func TestSnapshot(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 5000, 100)
	fillRandom(t, r, 200, 10_000)
	r.Do(t, "SET", "with a ttl", "x", "EX", "86400")
	r.Do(t, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	c := r.Client(t)
	if _, err := c.Pipeline(testContext(t), []string{"SELECT", "9"}, []string{"RPUSH", "list", "a", "b"}, []string{"SELECT", "0"}); err != nil {
		t.Fatal(err)
	}
	digest := r.Digest(t)

	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			sn := newTestSnapshotter(t, r, s)
			var phases []Phase
			var last Progress
			before := time.Now()
			m, err := sn.Snapshot(testContext(t), func(p Progress) {
				if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
					phases = append(phases, p.Phase)
				}
				last = p
			})
			if err != nil {
				t.Fatal(err)
			}
			if m.CreatedAt.Before(before) || m.CreatedAt.After(time.Now()) {
				t.Errorf("created at %s, not between %s and now", m.CreatedAt, before)
			}
			wantRDB := RDB{
				Version: 10, Magic: "REDIS", Checksummed: true, Walked: true, Keys: 5202, Expires: 1, Functions: 1,
				Databases: []Database{{Index: 0, Keys: 5201, Expires: 1}, {Index: 9, Keys: 1}},
				Size:      m.RDB.Size, SHA256: m.RDB.SHA256, CRC64: m.RDB.CRC64, Expiry: m.RDB.Expiry,
			}
			if diff := cmp.Diff(wantRDB, m.RDB); diff != "" {
				t.Errorf("rdb (-want +got):\n%s", diff)
			}
			if m.Server.Version != "7.0.15" || m.Server.Role != "master" || len(m.Server.RunID) != 40 || len(m.Server.ReplicationID) != 40 || m.Server.Pod != "redis-0" {
				t.Errorf("server %+v", m.Server)
			}
			if diff := cmp.Diff([]Phase{PhaseWait, PhaseSave, PhaseUpload, PhaseReadBack, PhasePublish}, phases); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			if last.Plain != m.RDB.Size || last.Stored != m.Object.Size || last.Keys != 5202 {
				t.Errorf("last progress %+v", last)
			}

			stored, err := sn.Catalogue().Get(testContext(t), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, stored, cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("returned and stored (-returned +stored):\n%s", diff)
			}
			wantKeys(t, s, sn.Catalogue().ObjectKey(m), sn.Catalogue().manifestKey(m.ID))
			if _, err := sn.Catalogue().Verify(testContext(t), m.ID, nil); err != nil {
				t.Errorf("Verify: %v", err)
			}
			if got := serverOf(t, sn.Catalogue(), m).Digest(t); got != digest {
				t.Errorf("digest %s after loading, %s before", got, digest)
			}
		})
	}
}

// What docs/object-format.md promises: zstd alone makes an RDB of the object.
func TestSnapshotByHand(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 1000, 100)
	s, root := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	m := mustSnapshot(t, sn)

	zstd := testenv.Program(t, "zstd", "apt-get install zstd")
	dir := t.TempDir()
	out, err := exec.Command(zstd, "-d", "-o", filepath.Join(dir, "dump.rdb"), filepath.Join(root, sn.Catalogue().ObjectKey(m))).CombinedOutput()
	if err != nil {
		t.Fatalf("zstd: %v\n%s", err, out)
	}
	check := testenv.Program(t, "redis-check-rdb", "apt-get install redis-tools")
	out, err = exec.Command(check, filepath.Join(dir, "dump.rdb")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "RDB looks OK") {
		t.Fatalf("redis-check-rdb: %v\n%s", err, out)
	}
	if got := testenv.StartRedisIn(t, dir).Digest(t); got != r.Digest(t) {
		t.Error("the digests differ")
	}
}

// A save of two keys is over before its file can be opened, or not: either way
// the snapshot is right.
func TestSnapshotTiny(t *testing.T) {
	r := testenv.StartRedis(t)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	r.Do(t, "SET", "a", "1")
	for i := range 50 {
		r.Do(t, "SET", "round", strconv.Itoa(i))
		m := mustSnapshot(t, sn)
		if m.RDB.Keys != 2 {
			t.Fatalf("round %d: %d keys", i, m.RDB.Keys)
		}
		if got := roundOf(t, sn.Catalogue(), m); got != strconv.Itoa(i) {
			t.Fatalf("round %d: the snapshot is of round %s", i, got)
		}
	}
	if ids, err := sn.Catalogue().IDs(testContext(t)); err != nil || len(ids) != 50 {
		t.Errorf("%d snapshots, %v", len(ids), err)
	}
}

// roundOf finds the value of the key "round" (a short number) in a snapshot's
// data without a server.
func roundOf(tb testing.TB, c *Catalogue, m Manifest) string {
	tb.Helper()
	var data strings.Builder
	if err := c.readVerified(testContext(tb), m, &data, nil); err != nil {
		tb.Fatal(err)
	}
	_, after, ok := strings.Cut(data.String(), "\x05round")
	if !ok {
		return "none"
	}
	switch after[0] {
	case 0xc0: // an 8-bit integer
		return strconv.Itoa(int(int8(after[1])))
	case 0xc1: // 16 bits
		return strconv.Itoa(int(int16(uint16(after[1]) | uint16(after[2])<<8)))
	}
	tb.Fatalf("value of round: %q", after[:min(len(after), 8)])
	return ""
}

// A server without keys gives an honest snapshot of none.
func TestSnapshotEmpty(t *testing.T) {
	r := testenv.StartRedis(t)
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			sn := newTestSnapshotter(t, r, s)
			m := mustSnapshot(t, sn)
			if m.RDB.Keys != 0 || !m.RDB.Walked || len(m.RDB.Databases) != 0 {
				t.Errorf("rdb %+v", m.RDB)
			}
			if got := serverOf(t, sn.Catalogue(), m).DBSize(t); got != 0 {
				t.Errorf("%d keys after loading", got)
			}
		})
	}
}

// The store gets bytes while the child still writes. As soon as that is seen, there
// is no need to wait for the end.
func TestSnapshotOverlapsSave(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 400, 10_000)
	slowSave(t, r, 20_000)
	s, _ := dirStore(t)
	c := r.Client(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	overlap := false
	_, err := newTestSnapshotter(t, r, s).Snapshot(ctx, func(p Progress) {
		if p.Phase == PhaseSave && p.Stored > 0 && !overlap {
			in, err := askInfo(testContext(t), c, "persistence")
			if overlap = err == nil && busy(in) != ""; overlap {
				cancel()
			}
		}
	})
	if !overlap {
		t.Fatalf("nothing was stored while the save ran: %v", err)
	}
	wantError(t, err, status.ReasonCanceled, "context canceled")
	killSave(t, r)
}

// Settings of the server that change names, files or content.
func TestSnapshotServers(t *testing.T) {
	tests := []struct {
		name string
		args []string
	}{
		{"append-only file", []string{"--appendonly", "yes"}},
		{"own names", []string{"--dbfilename", "my.data", "--appenddirname", "aof"}},
		{"save points", []string{"--save", "1 1"}},
		{"without compression", []string{"--rdbcompression", "no"}},
		{"without checksums", []string{"--rdbchecksum", "no"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := testenv.StartRedis(t, tt.args...)
			r.Fill(t, "key", 20000, 50)
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s)
			m := mustSnapshot(t, sn)
			if m.RDB.Keys != 20000 {
				t.Errorf("%d keys", m.RDB.Keys)
			}
			if want := tt.name != "without checksums"; m.RDB.Checksummed != want {
				t.Errorf("checksummed: %v", m.RDB.Checksummed)
			}
			if got := serverOf(t, sn.Catalogue(), m).Digest(t); got != r.Digest(t) {
				t.Error("the digests differ")
			}
		})
	}
}

func TestSnapshotOfReplica(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 1000, 10)
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t); n != 1000 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		return nil
	})
	s, _ := dirStore(t)
	wantRole := func(role Role) func(*SnapshotOptions) { return func(o *SnapshotOptions) { o.Role = role } }

	m := mustSnapshot(t, newTestSnapshotter(t, replica, s, wantRole(RoleReplica)))
	if m.Server.Role != "slave" || m.RDB.Keys != 1000 {
		t.Errorf("role %s, %d keys", m.Server.Role, m.RDB.Keys)
	}
	mustSnapshot(t, newTestSnapshotter(t, replica, s))
	mustSnapshot(t, newTestSnapshotter(t, master, s, wantRole(RoleMaster)))
	_, err := newTestSnapshotter(t, master, s, wantRole(RoleReplica)).Snapshot(testContext(t), nil)
	if !errors.Is(err, ErrStandby) || err.Error() != "snapshot: no snapshot is taken of this server: it is a master, snapshots are taken of replicas" {
		t.Errorf("master with role replica: %v", err)
	}
	_, err = newTestSnapshotter(t, replica, s, wantRole(RoleMaster)).Snapshot(testContext(t), nil)
	if !errors.Is(err, ErrStandby) || err.Error() != "snapshot: no snapshot is taken of this server: it is a replica, snapshots are taken of the master" {
		t.Errorf("replica with role master: %v", err)
	}

	// A replica that lost its master may hold anything.
	master.Stop(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		in, err := askInfo(testContext(t), replica.Client(t), "replication")
		if err != nil || in.Get("master_link_status") != "down" {
			return fmt.Errorf("link %q, %w", in.Get("master_link_status"), err)
		}
		return nil
	})
	_, err = newTestSnapshotter(t, replica, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonMasterDown, "snapshot: this replica is not connected to its master: its data may be old or incomplete")
}

func TestSnapshotInCluster(t *testing.T) {
	r := testenv.StartRedis(t, "--cluster-enabled", "yes")
	r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "100", "5000", "16383")
	r.Do(t, "CLUSTER", "ADDSLOTS", "200")
	testenv.Eventually(t, 20*time.Second, func() error {
		_, err := r.Client(t).Do(testContext(t), "CLUSTER", "SLOTS")
		return err
	})
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	if diff := cmp.Diff([]SlotRange{{0, 100}, {200, 200}, {5000, 16383}}, m.Slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if want := r.Do(t, "CLUSTER", "MYID"); m.Server.NodeID != want || m.Server.Mode != "cluster" {
		t.Errorf("server %+v, want node id %s", m.Server, want)
	}
}

// With backup.shard none, masters of several shards must not take one instance
// for theirs.
func TestSnapshotOfAnotherShard(t *testing.T) {
	r := testenv.StartRedis(t, "--cluster-enabled", "yes")
	r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "100", "300", "400")
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Shard = ShardNone })
	other := testManifest(noon, 1)
	other.Slots = []SlotRange{{101, 299}}
	putSnapshot(t, sn.Catalogue(), other)
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonRejected, "instance test holds snapshots of another shard: the newest, "+other.ID+", is of slots 101-299, this node has 0-100 300-400")

	before := testManifest(noon.Add(time.Hour), 1) // a resharding
	before.Slots = []SlotRange{{50, 350}}
	putSnapshot(t, sn.Catalogue(), before)
	mustSnapshot(t, sn)
}

// A user with exactly the documented rights will do; without one of them the
// error names it.
func TestSnapshotRights(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 10, 10)
	s, _ := dirStore(t)
	as := func(rules ...string) *redis.Client {
		r.Do(t, append([]string{"ACL", "SETUSER", "sidecar", "reset", "on", ">pw"}, rules...)...)
		c := redis.New(redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "sidecar", "pw", nil }})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	m := mustSnapshot(t, newSnapshotterFor(t, as("+info", "+bgsave", "+config|get"), s))
	if m.RDB.Keys != 10 {
		t.Errorf("%d keys", m.RDB.Keys)
	}

	saves := func() string {
		in, err := askInfo(testContext(t), r.Client(t), "persistence")
		if err != nil {
			t.Fatal(err)
		}
		return in.Get("rdb_saves")
	}
	before := saves()
	_, err := newSnapshotterFor(t, as("+info", "+bgsave"), s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonNoPerm, "snapshot: where does the server keep its data: CONFIG GET: NOPERM")
	if got, want := status.HintOf(err), "allow CONFIG GET to the sidecar's user, or set backup.data-dir to where the server's data directory is mounted"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
	_, err = newSnapshotterFor(t, as("+info", "+config|get"), s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonNoPerm, "snapshot: BGSAVE: NOPERM")
	_, err = newSnapshotterFor(t, as("+bgsave", "+config|get"), s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonNoPerm, "snapshot: INFO: NOPERM")
	if after := saves(); after != before {
		t.Errorf("rdb_saves went from %s to %s", before, after)
	}

	// With the directory given, CONFIG is not needed.
	mustSnapshot(t, newSnapshotterFor(t, as("+info", "+bgsave"), s, func(o *SnapshotOptions) { o.DataDir = r.Dir }))
}

func TestSnapshotWrongDirectory(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 10, 10)
	s, _ := dirStore(t)
	other := t.TempDir()
	dir := func(path string) func(*SnapshotOptions) { return func(o *SnapshotOptions) { o.DataDir = path } }

	_, err := newTestSnapshotter(t, r, s, dir(other)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSave, "snapshot: the save was over before its file was seen in "+other+", 3 times")
	if got, want := status.HintOf(err), "is "+other+" the data directory of this server? set backup.data-dir to where it is mounted in the sidecar"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
	const mount = "mount the volume with the server's data into the sidecar at the same path, or set backup.data-dir to where it is mounted"
	_, err = newTestSnapshotter(t, r, s, dir("/nonexistent")).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonFile, "snapshot: data directory of the server: stat /nonexistent: no such file or directory")
	if got := status.HintOf(err); got != mount {
		t.Errorf("hint %q, want %q", got, mount)
	}
	file := r.WriteFile(t, "file", "")
	_, err = newTestSnapshotter(t, r, s, dir(file)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonFile, "snapshot: data directory of the server: "+file+" is not a directory")
	wantKeys(t, s)
}

// Nothing listens, wrong password: the server's errors keep their reasons.
func TestSnapshotServerErrors(t *testing.T) {
	s, _ := dirStore(t)
	_, err := newSnapshotterFor(t, redis.New(redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t)))}), s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonUnreachable, "connection refused")

	r := testenv.StartRedis(t, "--requirepass", "secret")
	_, err = newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonAuth, "NOAUTH")
}

func TestNewSnapshotterBadOptions(t *testing.T) {
	for _, tt := range []struct {
		opts SnapshotOptions
		want string
	}{
		{SnapshotOptions{}, "instance is empty"},
		{SnapshotOptions{Instance: "a/../b"}, `instance "a/../b": segment ".." is not allowed`},
		{SnapshotOptions{Instance: "a", Role: "slave"}, `role "slave" is none of [prefer-replica master replica any]`},
	} {
		if _, err := NewSnapshotter(tt.opts, nil, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v, want %s", tt.opts, err, tt.want)
		}
	}
}
