package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/scratch"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The traps of restoring Redis. Each test first shows on a real server that the
// trap is there, so that it says so when a later Redis has none, and then that
// Restore does not fall into it.

const (
	trapBase     = "appendonlydir/appendonly.aof.1.base.rdb"
	trapManifest = "appendonlydir/appendonly.aof.manifest"
	trapLine     = "file appendonly.aof.1.base.rdb seq 1 type b\n"
)

// lay writes files by hand: name, content, name, content …
func (r *restorable) lay(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		write(t, pairs[i+1], dir, pairs[i])
	}
	return dir
}

// refusal starts a server that is expected to end at once, and returns its log.
func refusal(t *testing.T, dir string, args ...string) string {
	t.Helper()
	server := stopped(t, args...)
	server.Dir = dir
	log, err := server.TryStart(t)
	if err == nil {
		server.Kill(t)
		t.Fatal("the server started")
	}
	return log
}

func wantKeyCount(t *testing.T, server *testenv.Redis, want int64, what string) {
	t.Helper()
	if got := server.DBSize(t); got != want {
		t.Errorf("%s: %d keys, want %d", what, got, want)
	}
}

func sizeOf(t *testing.T, path ...string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A dump alone under appendonly yes: ignored, and overwritten by the next save.
func TestTrapDumpAloneUnderAppendonlyYes(t *testing.T) {
	r := newRestorable(t)
	dir := r.lay(t, "dump.rdb", string(r.rdb))
	server := startIn(t, dir, "--appendonly", "yes")
	wantKeyCount(t, server, 0, "the trap")
	server.Do(t, "SAVE")
	if size := sizeOf(t, dir, "dump.rdb"); size > 1000 {
		t.Errorf("the trap: the dump still has %d bytes", size)
	}

	dir = t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: dir})
	r.loads(t, dir, "--appendonly", "yes")
}

// The layout that works: a base and a manifest of one line. The server adds its
// own line, and a kill loses nothing.
func TestTrapBaseAndManifestSurviveAKill(t *testing.T) {
	r := newRestorable(t)
	dir := r.lay(t, trapBase, string(r.rdb), trapManifest, trapLine)
	ours := t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: ours})
	for _, dir := range []string{dir, ours} {
		server := startIn(t, dir, "--appendonly", "yes")
		server.Do(t, "SET", "one more", "1")
		want := server.Digest(t)
		server.Kill(t)
		text, err := os.ReadFile(filepath.Join(dir, trapManifest))
		if err != nil || !strings.Contains(string(text), "type i") {
			t.Errorf("manifest %q, %v", text, err)
		}
		server.Start(t)
		loaded(t, server)
		if got := server.Digest(t); got != want {
			t.Errorf("digest %s after the kill, want %s", got, want)
		}
	}
}

// A base without its manifest is overwritten by an empty one.
func TestTrapBaseWithoutManifest(t *testing.T) {
	r := newRestorable(t)
	dir := r.lay(t, trapBase, string(r.rdb))
	wantKeyCount(t, startIn(t, dir, "--appendonly", "yes"), 0, "the trap")
	if size := sizeOf(t, dir, trapBase); size > 1000 {
		t.Errorf("the trap: the base still has %d bytes", size)
	}

	// Wherever a restore ends, no base stands there without its manifest.
	for _, step := range r.steps(t, t.TempDir()) {
		dir := t.TempDir()
		r.crash(t, dir, step)
		if exists(filepath.Join(dir, trapBase)) && !exists(filepath.Join(dir, trapManifest)) {
			t.Errorf("killed after %q: a base without a manifest", step)
		}
		if exists(filepath.Join(dir, "appendonlydir")) != exists(filepath.Join(dir, trapBase)) {
			t.Errorf("killed after %q: an append-only directory without a base", step)
		}
	}
}

// A manifest that names a file that is not there: the server ends.
func TestTrapManifestNamesAMissingFile(t *testing.T) {
	r := newRestorable(t)
	dir := r.lay(t, trapManifest, trapLine)
	if log := refusal(t, dir, "--appendonly", "yes"); !strings.Contains(log, "appendonly.aof.1.base.rdb length. stat: No such file or directory") {
		t.Errorf("the trap: the server ended for another reason:\n%s", log)
	}
	for _, step := range r.steps(t, t.TempDir()) {
		dir := t.TempDir()
		r.crash(t, dir, step)
		if exists(filepath.Join(dir, trapManifest)) && !exists(filepath.Join(dir, trapBase)) {
			t.Errorf("killed after %q: a manifest without its base", step)
		}
	}
}

// An old append-only directory beside a new dump: the old data loads.
func TestTrapOldAppendOnlyDirectoryBesideANewDump(t *testing.T) {
	r := newRestorable(t)
	old := testenv.StartRedis(t, "--appendonly", "yes")
	old.Do(t, "SET", "old", "1")
	old.Stop(t)
	dir := copyOf(t, old.Dir)
	write(t, string(r.rdb), dir, "dump.rdb")
	server := startIn(t, dir, "--appendonly", "yes")
	wantKeyCount(t, server, 1, "the trap")
	server.Stop(t)

	// Restore never makes such a pair: a directory with old files is left alone.
	result, _, err := r.restore(t, RestoreOptions{Dir: old.Dir})
	if err != nil || !strings.HasPrefix(result.Skipped, "the directory holds data: appendonlydir") {
		t.Errorf("skipped %q, %v", result.Skipped, err)
	}
	if exists(filepath.Join(old.Dir, "dump.rdb")) {
		t.Error("a dump was put beside it")
	}
}

// The layout of before Redis 7 is taken up by 7: what is restored for 6.2 survives
// an upgrade.
func TestTrapOneFileOfBeforeRedis7(t *testing.T) {
	r := newRestorable(t)
	byHand := r.lay(t, "appendonly.aof", string(r.rdb))
	ours := t.TempDir()
	old := r.add(t, r.m.CreatedAt.Add(time.Second), CompressionZstd, func(m *Manifest) { m.Server.Version = "6.2.14" })
	r.mustRestore(t, RestoreOptions{Dir: ours, From: old.ID})
	for _, dir := range []string{byHand, ours} {
		server := startIn(t, dir, "--appendonly", "yes")
		r.holds(t, server)
		if !exists(filepath.Join(dir, "appendonlydir", "appendonly.aof")) {
			t.Error("it was not moved into appendonlydir")
		}
	}
}

// A seeded append-only directory alone, under appendonly no: an empty server.
func TestTrapSeededDirectoryUnderAppendonlyNo(t *testing.T) {
	r := newRestorable(t)
	dir := r.lay(t, trapBase, string(r.rdb), trapManifest, trapLine)
	wantKeyCount(t, startIn(t, dir, "--appendonly", "no"), 0, "the trap")
	dir = t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: dir})
	r.loads(t, dir, "--appendonly", "no")
}

// Both: the layout for whatever the setting is.
func TestTrapBothLayoutsLoadUnderEitherSetting(t *testing.T) {
	r := newRestorable(t)
	byHand := r.lay(t, "dump.rdb", string(r.rdb), trapBase, string(r.rdb), trapManifest, trapLine)
	ours := t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: ours})
	if diff := cmp.Diff(tree(t, byHand), tree(t, ours)); diff != "" {
		t.Errorf("files (-by hand +restored):\n%s", diff)
	}
	for _, dir := range []string{byHand, ours} {
		r.loads(t, dir, "--appendonly", "yes")
		r.loads(t, dir, "--appendonly", "no")
	}
}

// Other names than the configured ones: ignored.
func TestTrapOtherNames(t *testing.T) {
	r := newRestorable(t)
	names := DataNames{DBFilename: "d.rdb", AppendDirname: "aofs", AppendFilename: "a"}
	args := []string{"--dbfilename", "d.rdb", "--appenddirname", "aofs", "--appendfilename", "a"}
	wrong, right := t.TempDir(), t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: wrong})
	r.mustRestore(t, RestoreOptions{Dir: right, Names: names})
	for _, appendonly := range []string{"yes", "no"} {
		server := startIn(t, copyOf(t, wrong), append(args, "--appendonly", appendonly)...)
		wantKeyCount(t, server, 0, "the trap")
		r.loads(t, right, append(args, "--appendonly", appendonly)...)
	}
	// And it is noticed at the next start of the pod.
	_, _, err := r.restore(t, RestoreOptions{Dir: wrong, Names: names})
	checkError(t, err, status.ReasonFile, "the directory holds data under another name", "set its name as in redis.conf")
}

// appendonly turned on in a running server makes a right base, over the one that
// was restored.
func TestTrapAppendOnlyTurnedOnLive(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: dir})
	server := startIn(t, dir, "--appendonly", "no")
	server.Do(t, "SET", "later", "1")
	want := server.Digest(t)
	server.Do(t, "CONFIG", "SET", "appendonly", "yes")
	testenv.Eventually(t, 20*time.Second, func() error {
		text := server.Do(t, "INFO", "persistence").(string)
		if !strings.Contains(text, "aof_rewrite_in_progress:0") || !strings.Contains(text, "aof_rewrite_scheduled:0") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	server.Kill(t)
	again := startIn(t, dir, "--appendonly", "yes")
	if got := again.Digest(t); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// A rewrite right after the start: the base is replaced while the dump, of which
// it was a link, stays what it was.
func TestTrapRewriteRightAfterTheStart(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	r.mustRestore(t, RestoreOptions{Dir: dir})
	server := startIn(t, dir, "--appendonly", "yes", "--auto-aof-rewrite-min-size", "1", "--auto-aof-rewrite-percentage", "1")
	server.Do(t, "SET", "large", strings.Repeat("x", 100_000))
	want := server.Digest(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		if exists(filepath.Join(dir, trapBase)) {
			return fmt.Errorf("not rewritten yet: %s", server.Do(t, "INFO", "persistence"))
		}
		return nil
	})
	dump, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
	if err != nil || !bytes.Equal(dump, r.rdb) {
		t.Errorf("the rewrite changed the dump: %v", err)
	}
	server.Kill(t)
	server.Start(t)
	loaded(t, server)
	if got := server.Digest(t); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// noChecksum returns the RDB as a server with rdbchecksum no writes it, and with a
// byte of a value altered.
func (r *restorable) noChecksum(t *testing.T) (good, bad []byte) {
	t.Helper()
	server := testenv.StartRedis(t, "--rdbchecksum", "no", "--rdbcompression", "no")
	server.Do(t, "SET", "key", "the value that matters")
	server.Do(t, "SAVE")
	good, err := os.ReadFile(filepath.Join(server.Dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return good, bytes.Replace(good, []byte("that matters"), []byte("that mutters"), 1)
}

// Without a checksum an altered byte is loaded, and redis-check-rdb finds nothing.
// The manifest's SHA-256 does.
func TestTrapAlteredByteWithoutAChecksum(t *testing.T) {
	r := newRestorable(t)
	good, bad := r.noChecksum(t)
	if !bytes.Equal(good[len(good)-8:], make([]byte, 8)) || bytes.Equal(good, bad) {
		t.Fatal("the trap: there is a checksum, or nothing was altered")
	}
	dir := r.lay(t, "dump.rdb", string(bad))
	if got := startIn(t, dir).Do(t, "GET", "key"); got != "the value that mutters" {
		t.Errorf("the trap: GET key is %v", got)
	}
	if out, err := exec.Command(testenv.Program(t, "redis-check-rdb", ""), filepath.Join(dir, "dump.rdb")).CombinedOutput(); err != nil {
		t.Errorf("the trap: redis-check-rdb: %v\n%s", err, out)
	}

	r.rdb = good
	m := r.add(t, r.m.CreatedAt.Add(time.Second), CompressionNone, nil)
	if m.RDB.Checksummed {
		t.Error("the manifest says that there is a checksum")
	}
	path := filepath.Join(r.root, restorableInstance, "snapshots", m.ID, m.Object.Name)
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	_, _, err := r.restore(t, RestoreOptions{Dir: dir})
	checkError(t, err, status.ReasonCorrupt, "sha256", "")
	wantNoFiles(t, dir)
}

// withChecksum puts the right checksum under an RDB that was changed.
func withChecksum(t *testing.T, b []byte) []byte {
	t.Helper()
	b = slices.Clone(b)
	trailer := b[len(b)-8:]
	clear(trailer)
	s, err := rdb.Scan(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(trailer, s.CRC64)
	return b
}

// A truncated dump and one with a byte altered send the server into a crash loop;
// a restore refuses both before anything is in place.
func TestTrapDamagedDump(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct {
		name, log string
		spoil     func([]byte) []byte
	}{
		{"truncated", "Unexpected EOF", func(b []byte) []byte { return b[:len(b)/2] }},
		{"altered", "Wrong RDB checksum", func(b []byte) []byte {
			i := bytes.Index(b, []byte("value:1000"))
			b[i] ^= 1
			return b
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := test.spoil(slices.Clone(r.rdb))
			if log := refusal(t, r.lay(t, "dump.rdb", string(bad))); !strings.Contains(log, test.log) {
				t.Errorf("the trap: the server ended for another reason:\n%s", log)
			}
			// The manifest is of the whole one; then of the damaged one.
			m := r.add(t, r.m.CreatedAt.Add(time.Second), CompressionNone, nil)
			for _, honest := range []bool{true, false} {
				if !honest {
					m.RDB.Size, m.RDB.SHA256 = int64(len(bad)), hexSHA256(bad)
					m.Object.Size, m.Object.SHA256 = m.RDB.Size, m.RDB.SHA256
					if err := r.cat.publish(t.Context(), m); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := r.cat.store.Put(t.Context(), r.cat.ObjectKey(m), bytes.NewReader(bad)); err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				_, _, err := r.restore(t, RestoreOptions{Dir: dir})
				checkError(t, err, status.ReasonCorrupt, "is damaged", "")
				wantNoFiles(t, dir)
			}
		})
	}
}

// A dump of a newer server sends this one into a crash loop. With the binary at
// hand, or its version, it is refused before.
func TestTrapNewerFormat(t *testing.T) {
	r := newRestorable(t)
	binaryVersion, err := scratch.Version(t.Context(), testenv.Program(t, "redis-server", ""), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		magic, log string
		version    int
	}{
		{"REDIS", "Can't handle RDB format version 99", 99},
		{"REDIS", "Can't handle RDB format version 11", 11},
		{"VALKEY", "Wrong signature trying to load DB from file", 80},
	} {
		head := fmt.Sprintf("%s%04d", test.magic, test.version)
		if test.magic == "VALKEY" {
			head = fmt.Sprintf("VALKEY%03d", test.version)
		}
		dump := withChecksum(t, append([]byte(head), r.rdb[len("REDIS0010"):]...))
		if log := refusal(t, r.lay(t, "dump.rdb", string(dump))); !strings.Contains(log, test.log) {
			t.Errorf("the trap: the server ended for another reason:\n%s", log)
		}
		m := r.add(t, r.m.CreatedAt.Add(time.Duration(test.version)*time.Second), CompressionZstd, func(m *Manifest) {
			m.RDB.Version, m.RDB.Magic, m.Server.Version = test.version, test.magic, "99.0.0"
		})
		dir := t.TempDir()
		_, _, err := r.restore(t, RestoreOptions{Dir: dir, From: m.ID, RedisVersion: binaryVersion})
		checkError(t, err, status.ReasonRejected, fmt.Sprintf("redis 7.0.15 cannot read its format, %s %d", test.magic, test.version), "a server like the one that wrote it, or newer")
		wantNoFiles(t, dir)
	}
}

// Keys whose time is over by now: a master drops them when it loads the dump,
// keeps them in an append-only base until they expire, and a replica keeps them
// until its master says so. Restore says how many could be lost, before.
func TestTrapExpiredKeys(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0") // none may go before it was saved
	for i := range 25 {
		server.Do(t, "SET", "short:"+strconv.Itoa(i), "value", "PX", "1500")
	}
	server.Do(t, "SET", "long", "value")
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, server, s))
	server.Do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "1")
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := server.DBSize(t); n != 1 {
			return fmt.Errorf("%d keys", n)
		}
		return nil
	})
	r := &restorable{t: t, cat: newTestCatalogue(t, s), m: m}
	dir := t.TempDir()
	dry, log, err := r.restore(t, RestoreOptions{Dir: dir, DryRun: true})
	if err != nil || dry.Keys != 26 || dry.Expiring != 25 || !strings.Contains(log, "expiring_keys=25") {
		t.Errorf("%+v, %v\n%s", dry, err, log)
	}
	if dry.Expired.Known && (dry.Expired.Least > 25 || dry.Expired.Most != 25) {
		t.Errorf("expired by now: %+v, want 25", dry.Expired)
	}
	r.mustRestore(t, RestoreOptions{Dir: dir})

	no := startIn(t, copyOf(t, dir), "--appendonly", "no")
	wantKeyCount(t, no, 1, "appendonly no")
	if log := no.Log(); !strings.Contains(log, "keys loaded: 1, keys expired: 25") {
		t.Errorf("the server's log:\n%s", log)
	}
	yes := startIn(t, copyOf(t, dir), "--appendonly", "yes")
	if log := yes.Log(); !strings.Contains(log, "keys loaded: 26, keys expired: 0") {
		t.Errorf("appendonly yes: the server's log:\n%s", log)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := yes.DBSize(t); n != 1 {
			return fmt.Errorf("%d keys", n)
		}
		return nil
	})
	replica := startIn(t, copyOf(t, dir), "--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes")
	wantKeyCount(t, replica, 26, "a replica")
}

// An open descriptor or a link keeps the old content when the server replaces its
// dump: so a link as the base is safe.
func TestTrapLinkKeepsTheOldContent(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Do(t, "SET", "a", "1")
	server.Do(t, "SAVE")
	dump, link := filepath.Join(server.Dir, "dump.rdb"), filepath.Join(t.TempDir(), "link")
	if err := os.Link(dump, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	server.Do(t, "SET", "b", "2")
	server.Do(t, "SAVE")
	after, err := os.ReadFile(link)
	if err != nil || !bytes.Equal(before, after) || sameFile(t, dump, link) {
		t.Errorf("the server wrote into its old dump: %v", err)
	}
}

// A dump that the server may not read ends it. What is restored has the access
// of the directory, as umask 0077 of the official image makes it.
func TestTrapDumpThatTheServerCannotRead(t *testing.T) {
	if !inChild(t, asNobody()) {
		return
	}
	r := newRestorable(t)
	dir := r.lay(t, "dump.rdb", string(r.rdb))
	if err := os.Chmod(filepath.Join(dir, "dump.rdb"), 0o200); err != nil {
		t.Fatal(err)
	}
	if log := refusal(t, dir); !strings.Contains(log, "Permission denied") {
		t.Errorf("the trap: the server ended for another reason:\n%s", log)
	}

	dir = t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.mustRestore(t, RestoreOptions{Dir: dir})
	for name, want := range map[string]fs.FileMode{"dump.rdb": 0o600, trapBase: 0o600, trapManifest: 0o600, "appendonlydir": 0o700 | fs.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	r.holds(t, startIn(t, dir, "--appendonly", "yes"))
}

// A master that comes back empty takes its replicas' keys away. Its restore finds
// them, and does not let it start.
func TestTrapMasterRestartsEmpty(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 1000, 20)
	replica := replicaOf(t, master, "--appendonly", "yes")
	second := replicaOf(t, master)
	master.Kill(t)
	linkDown(t, replica)
	linkDown(t, second)

	r := newRestorable(t)
	for _, o := range []RestoreOptions{
		{Pod: "redis-0", OnlyPod: "redis-0"}, // always the master
		{},                                   // any of them may be
	} {
		o.Dir, o.Peers = t.TempDir(), peersOf(t, replica.Addr, second.Addr)
		_, _, err := r.restore(t, o)
		checkError(t, err, status.ReasonRejected, "holds 1000 keys as a replica whose master is gone, newer than the snapshot", "restore.if-peers")
		wantNoFiles(t, o.Dir)
	}
	wantKeyCount(t, second, 1000, "a replica whose master did not start")

	master.Dir = t.TempDir()
	master.Start(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t) + second.DBSize(t); n != 0 {
			return fmt.Errorf("the trap: the replicas have %d keys", n)
		}
		return nil
	})
}

// Keys restored into a replica of an empty master are gone in a moment, and so is
// its dump. Its restore finds the empty master, and says where to restore.
func TestTrapReplicaRestoredUnderAnEmptyMaster(t *testing.T) {
	r := newRestorable(t)
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	dir := r.lay(t, "dump.rdb", string(r.rdb))
	replica := startIn(t, dir, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t); n != 0 {
			return fmt.Errorf("the trap: the replica has %d keys", n)
		}
		return nil
	})
	if size := sizeOf(t, dir, "dump.rdb"); size == int64(len(r.rdb)) {
		t.Error("the trap: its dump is what was restored")
	}

	for _, o := range []RestoreOptions{
		{Peers: peersOf(t, master.Addr)},
		{Pod: "redis-1", OnlyPod: "redis-0"},
		{Follows: "replicaof redis-0 6379 in redis.conf"},
	} {
		o.Dir = t.TempDir()
		result, _, err := r.restore(t, o)
		if left := tree(t, o.Dir); err != nil || result.Skipped == "" || len(left) > 0 {
			t.Errorf("skipped %q, left %v, %v", result.Skipped, left, err)
		}
	}
}

// A master that is restored to an older dump of the same replication id: its
// replica cannot go on from where it was, and goes back with it, whole.
func TestTrapOlderDumpWithTheSameReplicationID(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 500, 20)
	replica := replicaOf(t, master)
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, master, s))
	want := master.Digest(t)
	for i := range 100 {
		master.Do(t, "SET", "later:"+strconv.Itoa(i), "value")
	}
	inSync(t, master, replica)
	master.Kill(t)
	linkDown(t, replica)

	r := &restorable{t: t, cat: newTestCatalogue(t, s), m: m, digest: want}
	master.Dir = t.TempDir()
	o := RestoreOptions{Dir: master.Dir, Pod: "redis-0", OnlyPod: "redis-0", Peers: peersOf(t, replica.Addr)}
	_, _, err := r.restore(t, o)
	checkError(t, err, status.ReasonRejected, "holds 600 keys as a replica whose master is gone", "set restore.if-peers to restore")
	o.Peers.IfData = IfPeersRestore // back in time on purpose
	r.mustRestore(t, o)
	master.Start(t)
	loaded(t, master)
	if got := master.Digest(t); got != want {
		t.Errorf("the master: digest %s, want %s", got, want)
	}
	inSync(t, master, replica)
	if got := replica.Digest(t); got != want {
		t.Errorf("the replica: digest %s, want %s", got, want)
	}
}

// A restore that is killed again and again must not fill the volume with what it
// downloaded before.
func TestTrapRetriesFillTheVolume(t *testing.T) {
	r := newRestorable(t)
	for _, names := range []string{"default", "changed between the runs"} {
		dir := t.TempDir()
		largest := int64(0)
		steps := []string{"made", "begun", "downloading", "downloaded", "base", "staged", "placing", "placeholder"}
		for range 3 {
			for _, step := range steps {
				r.crash(t, dir, step)
				if used := usedBytes(t, dir); used > largest {
					largest = used
				}
			}
		}
		if limit := r.m.RDB.Size + 64<<10; largest > limit {
			t.Errorf("%s: up to %d bytes in use after a kill, want at most %d", names, largest, limit)
		}
		o := RestoreOptions{Dir: dir}
		if names != "default" {
			o.Names = DataNames{DBFilename: "d.rdb", AppendDirname: "aofs", AppendFilename: "a"}
		}
		r.mustRestore(t, o)
		if got := tree(t, dir); len(got) != 3 || exists(filepath.Join(dir, stagingName)) {
			t.Errorf("%s: files %v", names, got)
		}
	}
}

// usedBytes adds up the files below dir, those with several names once.
func usedBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	var seen []fs.FileInfo
	for _, name := range tree(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(seen, func(s fs.FileInfo) bool { return os.SameFile(s, info) }) {
			n += info.Size()
			seen = append(seen, info)
		}
	}
	return n
}
