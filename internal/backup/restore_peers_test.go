package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// peersOf are options to ask these addresses, host:port, without a password.
func peersOf(tb testing.TB, addrs ...string) PeerOptions {
	tb.Helper()
	o := PeerOptions{
		Dial: func(p PeerAddress, ip string) PeerConn {
			return redis.New(redis.Options{Addr: net.JoinHostPort(ip, p.Port)}) // peerTimeout is shorter
		},
		Own:  func(netip.Addr, string) bool { return false },
		Wait: time.Second,
	}
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			tb.Fatal(err)
		}
		o.Addresses = append(o.Addresses, PeerAddress{Host: host, Port: port})
	}
	return o
}

// withSentinel adds a Sentinel to whom the master is known as "test".
func (o PeerOptions) withSentinel(tb testing.TB, sentinel *testenv.Redis) PeerOptions {
	tb.Helper()
	o.Master = "test"
	o.Addresses = append(o.Addresses, PeerAddress{Host: "127.0.0.1", Port: strconv.Itoa(sentinel.Port), Sentinel: true})
	return o
}

// replicaOf starts a replica and waits until it holds what its master does.
func replicaOf(tb testing.TB, master *testenv.Redis, args ...string) *testenv.Redis {
	tb.Helper()
	r := testenv.StartRedis(tb, append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port), "--repl-diskless-sync-delay", "0"}, args...)...)
	inSync(tb, master, r)
	return r
}

func inSync(tb testing.TB, master, replica *testenv.Redis) {
	tb.Helper()
	testenv.Eventually(tb, 20*time.Second, func() error {
		if text := replica.Do(tb, "INFO", "replication").(string); !strings.Contains(text, "master_link_status:up") {
			return errors.New("the link is not up")
		}
		if got, want := replica.Digest(tb), master.Digest(tb); got != want {
			return fmt.Errorf("the replica is at %s, its master at %s", got, want)
		}
		return nil
	})
}

// linkDown waits until a replica has noticed that its master is gone.
func linkDown(tb testing.TB, replica *testenv.Redis) {
	tb.Helper()
	testenv.Eventually(tb, 20*time.Second, func() error {
		if text := replica.Do(tb, "INFO", "replication").(string); !strings.Contains(text, "master_link_status:down") {
			return errors.New("the link is up")
		}
		return nil
	})
}

// closedPort is an address at which nobody listens.
func closedPort(tb testing.TB) string {
	tb.Helper()
	return "127.0.0.1:" + strconv.Itoa(testenv.FreePort(tb))
}

// TestRestoreHeedsPeers is the table of docs/restore.md, with real servers.
func TestRestoreHeedsPeers(t *testing.T) {
	r := newRestorable(t)
	full := func(t *testing.T, args ...string) *testenv.Redis {
		t.Helper()
		server := testenv.StartRedis(t, args...)
		server.Fill(t, "newer", 100, 10)
		return server
	}
	closed := func(t *testing.T) *testenv.Redis {
		t.Helper()
		server := full(t)
		server.Do(t, "CONFIG", "SET", "requirepass", "secret")
		return server
	}
	for _, test := range []struct {
		name  string
		peers func(t *testing.T) PeerOptions
		opts  RestoreOptions
		skip  string // why nothing is restored
		fail  string // the error
		hint  string
		log   string
	}{
		{name: "nobody to ask", peers: func(t *testing.T) PeerOptions { return peersOf(t) }},
		{
			name: "all down", log: "taken_for=\"down: no other server answered that it holds data\"",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, closedPort(t), closedPort(t)) },
		},
		{
			name: "a name that is nobody's", log: `problem="the name has no address"`,
			peers: func(t *testing.T) PeerOptions { return peersOf(t, "nobody.invalid:6379") },
		},
		{
			name: "a master with data", skip: "PEER holds 100 keys as master, to be copied from there",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, full(t).Addr) },
		},
		{
			name: "a master with data, by a name", skip: "PEER (localhost) holds 100 keys as master, to be copied from there",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, "localhost:"+strconv.Itoa(full(t).Port)) },
		},
		{
			name: "a master with data, among those that are down", skip: "PEER holds 100 keys as master, to be copied from there",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, closedPort(t), full(t).Addr, closedPort(t)) },
		},
		{
			name: "a replica of a master that lives, and is not known", skip: "PEER holds 100 keys as a replica of a master that is there, to be copied from there",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, replicaOf(t, full(t)).Addr) },
		},
		{
			name: "a replica whose master is gone", fail: "another server of this Redis holds data: PEER holds 100 keys as a replica whose master is gone, newer than the snapshot",
			hint: "wait for a failover to make it the master",
			peers: func(t *testing.T) PeerOptions {
				master := full(t)
				replica := replicaOf(t, master)
				master.Kill(t)
				linkDown(t, replica)
				return peersOf(t, closedPort(t), replica.Addr)
			},
		},
		{
			name: "an empty replica without a master",
			peers: func(t *testing.T) PeerOptions {
				return peersOf(t, testenv.StartRedis(t, "--replicaof", "127.0.0.1 1").Addr)
			},
		},
		{
			name: "an empty master", skip: "PEER is the master and holds no keys: what is restored here it would replace by nothing.", log: "level=WARN msg=\"not restored\"",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, testenv.StartRedis(t).Addr) },
		},
		{
			name: "an empty server that is to follow this one", opts: RestoreOptions{Pod: "redis-0", OnlyPod: "redis-0"},
			peers: func(t *testing.T) PeerOptions { return peersOf(t, testenv.StartRedis(t).Addr) },
		},
		{
			name: "this is always the master, and a peer holds data", opts: RestoreOptions{Pod: "redis-0", OnlyPod: "redis-0"},
			fail: "PEER holds 100 keys as master, newer than the snapshot", hint: "this server will be the master, and its replicas will copy what it holds",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, full(t).Addr) },
		},
		{
			name: "back in time on purpose", log: "its data is given up for the snapshot",
			peers: func(t *testing.T) PeerOptions {
				o := peersOf(t, full(t).Addr)
				o.IfData = IfPeersRestore
				return o
			},
		},
		{
			name: "one that wants a password", fail: "PEER is there, but does not say whether it holds data: INFO: NOAUTH Authentication required.",
			hint:  "check redis.user and redis.password or redis.password-file; or set restore.if-peers-unclear to restore",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, closed(t).Addr) },
		},
		{
			name: "one that wants a password, on purpose", log: "problem=\"INFO: NOAUTH Authentication required.\"",
			peers: func(t *testing.T) PeerOptions {
				o := peersOf(t, closed(t).Addr)
				o.IfUnclear = IfPeersRestore
				return o
			},
		},
		{
			name: "one whose user may not ask", fail: "PEER is there, but does not say whether it holds data: INFO: NOPERM", hint: "+<command>; or set restore.if-peers-unclear to restore",
			peers: func(t *testing.T) PeerOptions {
				server := full(t)
				server.Do(t, "ACL", "SETUSER", "default", "-info")
				return peersOf(t, server.Addr)
			},
		},
		{
			name: "one that still loads", skip: "PEER is loading its data as master, to be copied from there",
			peers: func(t *testing.T) PeerOptions {
				server := full(t, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
				server.Fill(t, "more", 500, 1000)
				server.Do(t, "SAVE")
				server.Restart(t)
				return peersOf(t, server.Addr)
			},
		},
		{
			name: "one that hangs", fail: "PEER is there, but does not say whether it holds data: INFO: ", hint: "hung, stopped or overloaded; or set restore.if-peers-unclear",
			peers: func(t *testing.T) PeerOptions {
				return peersOf(t, testenv.Listen(t, func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
			},
		},
		{
			name: "something else", fail: "PEER is there, but does not say whether it holds data: INFO: ", hint: "does not speak the Redis protocol; or set restore.if-peers-unclear",
			peers: func(t *testing.T) PeerOptions {
				return peersOf(t, testenv.Listen(t, func(_ context.Context, c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-x\r\n")) }))
			},
		},
		{
			name: "data beside one that does not say", skip: "PEER holds 100 keys as master",
			peers: func(t *testing.T) PeerOptions {
				return peersOf(t, full(t).Addr, testenv.StartRedis(t, "--requirepass", "secret").Addr)
			},
		},
		{
			name: "the redis.conf says replica", opts: RestoreOptions{Follows: "replicaof redis-0 6379 in redis.conf"},
			skip:  "this server is a replica and copies its master: replicaof redis-0 6379 in redis.conf",
			peers: func(t *testing.T) PeerOptions { return peersOf(t) },
		},
		{
			name: "another pod is the master", opts: RestoreOptions{Pod: "redis-1", OnlyPod: "redis-0"},
			skip:  "only redis-0 restores, and this is redis-1, which copies it",
			peers: func(t *testing.T) PeerOptions { return peersOf(t) },
		},
		{
			name: "Sentinel: its master holds data", skip: "PEER holds 100 keys as master, to be copied from there",
			peers: func(t *testing.T) PeerOptions {
				master := full(t)
				return peersOf(t).withSentinel(t, sentinelOf(t, master))
			},
		},
		{
			name: "Sentinel: its master is gone, a replica holds data", fail: "PEER holds 100 keys as a replica whose master is gone", hint: "wait for a failover",
			peers: func(t *testing.T) PeerOptions {
				master := full(t)
				replica := replicaOf(t, master)
				sentinel := sentinelOf(t, master)
				testenv.Eventually(t, 20*time.Second, func() error {
					if n := len(sentinel.Do(t, "SENTINEL", "REPLICAS", "test").([]any)); n != 1 {
						return fmt.Errorf("the Sentinel knows %d replicas", n)
					}
					return nil
				})
				master.Kill(t)
				linkDown(t, replica)
				return peersOf(t).withSentinel(t, sentinel)
			},
		},
		{
			name: "Sentinel: this server is its master, a peer holds data", fail: "PEER holds 100 keys as master, newer than the snapshot", hint: "this server will be the master",
			peers: func(t *testing.T) PeerOptions {
				gone, other := full(t), full(t)
				o := peersOf(t, other.Addr).withSentinel(t, sentinelOf(t, gone))
				o.Own = func(_ netip.Addr, port string) bool { return port == strconv.Itoa(gone.Port) }
				return o
			},
		},
		{
			name: "Sentinel: its master holds nothing",
			skip: "PEER is the master and holds no keys",
			peers: func(t *testing.T) PeerOptions {
				return peersOf(t).withSentinel(t, sentinelOf(t, testenv.StartRedis(t)))
			},
		},
		{
			name: "Sentinel: all else is down", log: "taken_for=\"down",
			peers: func(t *testing.T) PeerOptions {
				master := full(t)
				sentinel := sentinelOf(t, master)
				master.Kill(t)
				return peersOf(t).withSentinel(t, sentinel)
			},
		},
		{
			name: "Sentinel: it does not know the name", log: `it knows no master of the name \"other\"`,
			peers: func(t *testing.T) PeerOptions {
				o := peersOf(t).withSentinel(t, sentinelOf(t, full(t)))
				o.Master = "other"
				return o
			},
		},
		{
			name: "Sentinel: given as a peer", fail: "PEER is there, but does not say whether it holds data: it is a Sentinel", hint: "name it in restore.sentinels",
			peers: func(t *testing.T) PeerOptions { return peersOf(t, sentinelOf(t, full(t)).Addr) },
		},
		{
			name: "Sentinel: is none", fail: "PEER is there, but does not say whether it holds data: it is no Sentinel", hint: "name it in restore.peers",
			peers: func(t *testing.T) PeerOptions { return peersOf(t).withSentinel(t, full(t)) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.opts.Dir, test.opts.Peers = dir, test.peers(t)
			result, log, err := r.restore(t, test.opts)
			masked := func(s string) string { return maskPeers(s) }
			switch {
			case test.fail != "":
				if err == nil || !strings.Contains(masked(err.Error()), test.fail) || !strings.Contains(status.HintOf(err), test.hint) {
					t.Errorf("error %v\nhint %q\nwant %s\nhint …%s…\n%s", err, status.HintOf(err), test.fail, test.hint, log)
				}
			case err != nil, !strings.HasPrefix(masked(result.Skipped), test.skip), (test.skip == "") != (result.Skipped == ""):
				t.Errorf("skipped %q, want %q; %v\n%s", result.Skipped, test.skip, err, log)
			case test.skip == "":
				r.complete(t, dir)
			}
			if !strings.Contains(log, test.log) {
				t.Errorf("log without %q:\n%s", test.log, log)
			}
			if left := tree(t, dir); (test.fail != "" || test.skip != "") && len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// maskPeers writes PEER for every address of loopback.
func maskPeers(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if strings.HasPrefix(w, "127.0.0.1:") {
			words[i] = "PEER"
		}
	}
	return strings.Join(words, " ")
}

// sentinelOf starts a Sentinel that knows the master as "test" and waits until it
// has seen it.
func sentinelOf(tb testing.TB, master *testenv.Redis) *testenv.Redis {
	tb.Helper()
	return testenv.StartSentinel(tb, "sentinel monitor test 127.0.0.1 "+strconv.Itoa(master.Port)+" 2",
		"sentinel down-after-milliseconds test 60000")
}

// A replica whose master is lost holds newer data than the snapshot, or, when
// nothing was written since, the same.
func TestRestoreOverAReplicaWithTheSameData(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-ping-replica-period", "3600") // pings count as written bytes
	master.Fill(t, "key", 1000, 50)
	replica := replicaOf(t, master)
	s, _ := dirStore(t)
	old := mustSnapshot(t, newTestSnapshotter(t, replica, s))
	for i := range 10 { // DEBUG POPULATE is not replicated
		master.Do(t, "SET", "newer:"+strconv.Itoa(i), "value")
	}
	inSync(t, master, replica)
	want := replica.Digest(t)
	last := mustSnapshot(t, newTestSnapshotter(t, replica, s))
	master.Kill(t)
	linkDown(t, replica)

	r := &restorable{t: t, cat: newTestCatalogue(t, s), m: last, digest: want}
	dir := t.TempDir()
	opts := RestoreOptions{Dir: dir, From: old.ID, Pod: "redis-0", OnlyPod: "redis-0", Peers: peersOf(t, replica.Addr)}
	_, _, err := r.restore(t, opts)
	checkError(t, err, status.ReasonRejected, "holds 1010 keys as a replica whose master is gone, newer than the snapshot", "take a snapshot there (redis-sidecar backup now); to restore all the same")
	if !errors.Is(err, ErrPeers) {
		t.Errorf("%v is not ErrPeers", err)
	}

	opts.From = "latest"
	if result := r.mustRestore(t, opts); result.ID != last.ID {
		t.Errorf("restored %s, want %s", result.ID, last.ID)
	}
	server := startIn(t, dir, "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
	if got := server.Digest(t); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	replica.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(server.Port))
	inSync(t, server, replica)
	if got := replica.Digest(t); got != want {
		t.Errorf("the replica's digest became %s, want %s", got, want)
	}
}

// The four steps of docs/restore.md for a master that has lost its volume while a
// replica has the data: nothing is lost.
func TestMasterLostItsVolumeAndAReplicaHasTheData(t *testing.T) {
	master := testenv.StartRedis(t, "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 1000, 50)
	s, _ := dirStore(t)
	mustSnapshot(t, newTestSnapshotter(t, master, s)) // last night's
	replica := replicaOf(t, master, "--appendonly", "yes")
	for i := range 10 {
		master.Do(t, "SET", "newer:"+strconv.Itoa(i), "value")
	}
	inSync(t, master, replica)
	want := replica.Digest(t)
	master.Kill(t)
	linkDown(t, replica)
	master.Dir = t.TempDir()
	r := &restorable{t: t, cat: newTestCatalogue(t, s), digest: want}
	opts := RestoreOptions{Dir: master.Dir, Pod: "redis-0", OnlyPod: "redis-0", Peers: peersOf(t, replica.Addr)}
	_, _, err := r.restore(t, opts)
	checkError(t, err, status.ReasonRejected, "holds 1010 keys as a replica whose master is gone", "make that one a master (REPLICAOF NO ONE)")

	replica.Do(t, "REPLICAOF", "NO", "ONE")
	saved := mustSnapshot(t, newTestSnapshotter(t, replica, s, func(o *SnapshotOptions) { o.Pod = "redis-1" }))
	_, _, err = r.restore(t, opts)
	checkError(t, err, status.ReasonRejected, "holds 1010 keys as master", "set restore.if-peers to restore")
	opts.Peers.IfData = IfPeersRestore
	if result := r.mustRestore(t, opts); result.ID != saved.ID {
		t.Errorf("restored %s, want %s", result.ID, saved.ID)
	}
	master.Start(t)
	loaded(t, master)
	if got := master.Digest(t); got != want {
		t.Errorf("the master: digest %s, want %s", got, want)
	}
	replica.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(master.Port))
	inSync(t, master, replica)
}

// A server that gets data while the restore downloads is noticed before anything
// is put in place.
func TestRestoreAsksThePeersAgainAtTheEnd(t *testing.T) {
	r := newRestorable(t)
	peer := testenv.StartRedis(t, "--replicaof", "127.0.0.1 1")
	dir := t.TempDir()
	result, log, err := r.restore(t, RestoreOptions{Dir: dir, Peers: peersOf(t, peer.Addr), step: func(step string) {
		if step == "downloaded" {
			peer.Do(t, "REPLICAOF", "NO", "ONE")
			peer.Do(t, "SET", "key", "value")
		}
	}})
	if err != nil || !strings.Contains(result.Skipped, "holds 1 keys as master") {
		t.Errorf("skipped %q, %v\n%s", result.Skipped, err, log)
	}
	wantNoFiles(t, dir)
}

// Two pods that find nobody restore the same snapshot: whichever becomes the
// master, the keys are the same. No lock is needed for that.
func TestTwoPodsThatRestoreAtOnceHoldTheSame(t *testing.T) {
	r := newRestorable(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	results := make(chan RestoreResult, len(dirs))
	for i := range dirs {
		go func() {
			o := RestoreOptions{Dir: dirs[i], Peers: peersOf(t, "127.0.0.1:1")}
			o.Peers.Wait = 0
			result, _, err := r.restore(t, o)
			if err != nil {
				t.Error(err)
			}
			results <- result
		}()
	}
	if a, b := <-results, <-results; a.ID != r.m.ID || b.ID != r.m.ID {
		t.Errorf("restored %q and %q, want %s", a.ID, b.ID, r.m.ID)
	}
	first := startIn(t, dirs[0], "--appendonly", "yes")
	second := startIn(t, dirs[1], "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
	r.holds(t, second)
	second.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(first.Port))
	inSync(t, first, second) // their digests are the same
	r.holds(t, first)
}

func TestSelectByPod(t *testing.T) {
	s, _ := dirStore(t)
	cat := newTestCatalogue(t, s)
	if _, err := cat.Select(t.Context(), Selection{Pod: "redis-0"}); !errors.Is(err, ErrNoSnapshots) {
		t.Errorf("in an empty catalogue: %v", err)
	}
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	ids := map[string]string{}
	for i, pod := range []string{"redis-0", "redis-1", "redis-10", "redis-0", "redis-1"} {
		m := testManifest(at.Add(time.Duration(i)*time.Hour), 1)
		m.ID, m.Server.Pod = NewID(m.CreatedAt, pod), pod
		putSnapshot(t, cat, m)
		ids[fmt.Sprintf("%s@%d", pod, i)] = m.ID
	}
	for _, test := range []struct {
		sel  Selection
		want string // a key of ids
		fail string
	}{
		{sel: Selection{}, want: "redis-1@4"},
		{sel: Selection{Pod: "redis-0"}, want: "redis-0@3"},
		{sel: Selection{Pod: "redis-1"}, want: "redis-1@4"},
		{sel: Selection{Pod: "redis-10"}, want: "redis-10@2"},
		{sel: Selection{Pod: "redis-0", From: "2026-11-23T08:59:59Z"}, want: "redis-0@0"},
		{sel: Selection{Pod: "redis-0", From: ids["redis-0@0"]}, want: "redis-0@0"},
		{sel: Selection{Pod: "redis-0", From: ids["redis-1@1"]}, fail: "no such snapshot of redis-0: it was made by redis-1"},
		{sel: Selection{Pod: "redis-2"}, fail: "no such snapshot of redis-2 (latest)"},
		{sel: Selection{Pod: "redis-10", From: "2026-11-23T06:00:00Z"}, fail: "no such snapshot of redis-10 (2026-11-23T06:00:00Z)"},
		{sel: Selection{Pod: "redis-0", From: "yesterday"}, fail: `"yesterday" is neither "latest" nor an id nor a time`},
	} {
		m, err := cat.Select(t.Context(), test.sel)
		switch {
		case test.fail != "":
			if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), test.fail) {
				t.Errorf("%+v: %v, want %s", test.sel, err, test.fail)
			}
		case err != nil || m.ID != ids[test.want]:
			t.Errorf("%+v: %s, %v; want %s", test.sel, m.ID, err, ids[test.want])
		}
	}
	_, err := cat.Select(t.Context(), Selection{Pod: "redis-2"})
	if want := "there are those of redis-0, redis-1, redis-10"; status.HintOf(err) != want {
		t.Errorf("hint %q, want %q", status.HintOf(err), want)
	}
}

func TestExport(t *testing.T) {
	r := newRestorable(t)
	export := func(to string, force bool) (RestoreResult, error) {
		return Export(t.Context(), ExportOptions{To: to, Force: force}, r.cat, nil)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "any name.rdb")
	result, err := export(file, false)
	if err != nil || result.ID != r.m.ID || result.Keys != r.m.RDB.Keys {
		t.Fatalf("%+v, %v", result, err)
	}
	same := func() {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil || hexSHA256(b) != r.m.RDB.SHA256 {
			t.Errorf("the file is not the RDB: %v", err)
		}
		if got := tree(t, dir); len(got) != 1 {
			t.Errorf("files: %v", got)
		}
	}
	same()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = export(file, false)
	checkError(t, err, status.ReasonFile, "the file exists", "--force replaces it")
	if !errors.Is(err, ErrHasData) {
		t.Errorf("%v is not ErrHasData", err)
	}
	write(t, "old", file)
	write(t, strings.Repeat("rest of a killed run", 1<<16), file+partialSuffix)
	if _, err := export(file, true); err != nil {
		t.Error(err)
	}
	same()

	for to, fail := range map[string]string{
		dir:                           "it is a directory",
		filepath.Join(dir, "no", "x"): "no such file or directory",
		"/dev/null":                   "it is no plain file",
	} {
		_, err := export(to, true)
		checkError(t, err, status.ReasonFile, "restore to "+to+": ", "")
		if !strings.Contains(err.Error(), fail) {
			t.Errorf("%s: %v, want %s", to, err, fail)
		}
	}
	same()

	var out strings.Builder
	if _, err := Export(t.Context(), ExportOptions{Out: &out}, r.cat, nil); err != nil || hexSHA256([]byte(out.String())) != r.m.RDB.SHA256 {
		t.Errorf("to a writer: %v", err)
	}

	// A damaged object leaves nothing, and an older file as it was.
	r.damage("dump.rdb.zst", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	for _, to := range []string{file, filepath.Join(dir, "other.rdb")} {
		_, err = export(to, true)
		checkError(t, err, status.ReasonCorrupt, "is damaged", "")
	}
	same()
	out.Reset()
	_, err = Export(t.Context(), ExportOptions{Out: &out}, r.cat, nil)
	checkError(t, err, status.ReasonCorrupt, "restore to standard output: snapshot "+r.m.ID+" is damaged", "")
}
