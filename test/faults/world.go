package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// sharedS3 is the S3 server of all trials; each has a bucket of its own.
type sharedS3 struct {
	*testenv.S3
	mu      sync.Mutex
	buckets int
}

func (s *sharedS3) bucket(t *trial) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets++
	name := "trial-" + strconv.Itoa(s.buckets)
	s.CreateBucket(t, name)
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Join(s.Root, name)) })
	return name
}

// world is what one trial happens to: a redis-server behind a proxy that knows
// the truth, a store behind a proxy that misbehaves, and the program's settings.
type world struct {
	*trial

	redis   *testenv.Redis
	truth   *truth
	replica *testenv.Redis     // of redis, if one was attached
	other   *truth             // of a second server that is backed up, too
	store   *testenv.HTTPProxy // nil: a directory
	env     []string           // settings of the program

	storeDir string // of a store that is a directory

	direct []string        // the same, past the proxy of the store
	listed map[string]bool // snapshots that were checked
	whole  string          // digest of the server's data, with the marker "none"
}

// options say what world to make.
type options struct {
	redis []string // arguments of redis-server
	keys  int      // of valueSize random bytes; 0 is 190: three parts of 5 MiB
	dir   string   // store in this directory; "" is S3
	data  string   // the server's data directory; "" is a new one
}

const valueSize = 64 << 10

// instance is the one that all trials back up.
const instance = "faults"

func newWorld(t *trial, o options) *world {
	w := &world{trial: t, listed: map[string]bool{}}
	if o.keys == 0 {
		o.keys = 190
	}
	if o.data == "" {
		o.data = t.TempDir()
	}
	w.redis = testenv.StartRedisIn(t, o.data, o.redis...)
	w.fill(o.keys, valueSize)
	w.redis.Do(t, "SET", markerKey, "none")
	w.whole = w.redis.Digest(t)
	w.truth = startTruth(t, w.redis.Addr)
	common := []string{
		"REDIS_SIDECAR_BACKUP_INSTANCE=" + instance, "POD_NAME=redis-0", "REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=0",
		"REDIS_ADDR=" + w.truth.addr, "REDIS_SIDECAR_BACKUP_ROLE=any", "REDIS_SIDECAR_BACKUP_SOURCE=bgsave",
		"REDIS_SIDECAR_BACKUP_RDB_COMPRESSION=off", // every save goes the way on which there is more to break
	}
	var through, past string
	if o.dir != "" {
		w.storeDir = o.dir
		through, past = "file://"+o.dir, "file://"+o.dir
	} else {
		bucket := t.s3.bucket(t)
		w.store = testenv.StartHTTPProxy(t, t.s3.Addr())
		common = append(common, t.s3.Environ()...)
		through = testenv.StoreURL(w.store.URL(), t.s3.Region, bucket, "p") + "&part-size=5MiB"
		past = t.s3.URL(bucket, "p")
	}
	w.env = append([]string{"REDIS_SIDECAR_BACKUP_STORE=" + through}, common...)
	w.direct = append([]string{"REDIS_SIDECAR_BACKUP_STORE=" + past}, common...)
	return w
}

// fill writes keys that do not compress.
func (w *world) fill(keys, size int) {
	c := w.redis.Client(w)
	value := make([]byte, size)
	for i := range keys {
		for j := 0; j+8 <= len(value); j += 8 {
			r := w.random.Uint64()
			for k := range 8 {
				value[j+k] = byte(r >> (8 * k))
			}
		}
		if _, err := c.Do(w.ctx, "SET", "key:"+strconv.Itoa(i), string(value)); err != nil {
			w.Fatal(err)
		}
	}
}

// past returns the world as seen past the proxy before the store.
func (w *world) past() *world {
	p := *w
	p.env = w.direct
	return &p
}

// with returns the world with more settings.
func (w *world) with(env ...string) *world {
	p := *w
	p.env = append(append([]string{}, w.env...), env...)
	p.direct = append(append([]string{}, w.direct...), env...)
	return &p
}

// ids returns the snapshots that are listed.
func (w *world) ids() []string {
	var entries []struct{ ID, Error string }
	if err := json.Unmarshal([]byte(w.past().must("backup", "list", "--json")), &entries); err != nil {
		w.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		if e.Error != "" {
			w.violated(falseSnapshot, "snapshot %s is listed with a damaged manifest: %s", e.ID, e.Error)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// checkNew restores every snapshot that was not there before by the program into
// an empty directory, starts a real server on it, and holds its data to the
// truth: it is that of a save asked for after the first so many. It returns how
// many there are.
func (w *world) checkNew(after int) int {
	n := 0
	for _, id := range w.ids() {
		if w.listed[id] {
			continue
		}
		w.listed[id] = true
		n++
		w.checkOne(id, after)
	}
	return n
}

func (w *world) checkOne(id string, after int) {
	dir := w.TempDir()
	defer os.RemoveAll(dir)
	s := w.past().start("restore", "--restore.dir="+dir, "--restore.from="+id)
	if code := s.wait(w, time.Minute); code != 0 {
		w.violated(falseSnapshot, "snapshot %s is listed and cannot be restored: exit code %d\n%s", id, code, s.stderr.String())
		return
	}
	marker, digest, err := load(w, dir, "--appendonly", "no")
	if err == nil {
		err = w.truth.check(marker, digest, after)
	}
	if err != nil && w.other != nil && marker != "" && w.other.check(marker, digest, 0) == nil {
		err = nil
	}
	if err != nil {
		w.violated(falseSnapshot, "snapshot %s: %v", id, err)
	}
}

// load starts a server in a directory, says what it holds, and ends it.
func load(w *world, dir string, args ...string) (marker, digest string, err error) {
	r := testenv.NewRedis(w, dir, args...)
	if log, err := r.TryStart(w); err != nil {
		return "", "", fmt.Errorf("the server does not start: %w\n%s", err, tail(log))
	}
	defer r.Kill(w)
	v, err := r.Client(w).Do(w.ctx, "GET", markerKey)
	if err != nil {
		return "", "", err
	}
	marker, _ = v.(string)
	return marker, r.Digest(w), nil
}

func tail(s string) string {
	const enough = 1500
	return s[max(0, len(s)-enough):]
}

// backupAgain takes a snapshot past all trouble, and prunes. It has to succeed and
// the snapshot to be right: nothing that a failure has left is in its way.
func (w *world) backupAgain() {
	w.settingsKept()
	before := w.truth.saves()
	s := w.past().start("backup", "now", "--prune")
	if code := s.wait(w, time.Minute); code != 0 {
		w.violated(otherFault, "the next backup fails: exit code %d\n%s", code, s.stderr.String())
		return
	}
	if n := w.checkNew(before); n != 1 {
		w.violated(otherFault, "the next backup made %d snapshots", n)
	}
}

// settingsKept makes sure that the server has the setting again that is changed for
// the moment of the fork.
func (w *world) settingsKept() {
	if got := w.redis.Do(w, "CONFIG", "GET", "rdbcompression").([]any)[1]; got != "yes" {
		w.violated(otherFault, "rdbcompression of the server is %v, it was yes", got)
	}
}

// intact makes sure that the server holds what it held, but for the marker.
func (w *world) intact() {
	w.redis.Do(w, "SET", markerKey, "none")
	if got := w.redis.Digest(w); got != w.whole {
		w.violated(unusableDir, "the server's data changed: %d keys, digest %s, was %s", w.redis.DBSize(w), got, w.whole)
	}
}

// cause takes the error from what a command that failed has printed.
func (s *sidecar) cause() string {
	m := regexp.MustCompile(`(?m)^redis-sidecar: (.*)$`).FindStringSubmatch(s.stderr.String())
	if m == nil {
		return ""
	}
	return m[1]
}

func itoa(n int) string { return strconv.Itoa(n) }

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
