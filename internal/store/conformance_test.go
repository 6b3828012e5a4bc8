package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// testPartSize is that of the S3 stores in tests: the least that S3 allows.
const testPartSize = minPartSize

// backend is one kind of store, and a look behind it.
type backend struct {
	open    func(t *testing.T, prefix string) Store // several prefixes of one place
	remains func(t *testing.T) []string             // what unfinished Puts left
	page    int                                     // objects that List reads at once
}

// kinds starts a backend of every kind of store.
func kinds() map[string]func(*testing.T) backend {
	return map[string]func(*testing.T) backend{
		"dir":       dirBackend,
		"versitygw": func(t *testing.T) backend { t.Helper(); return s3Backend(t, testenv.StartS3(t)) },
		"minio":     func(t *testing.T) backend { t.Helper(); return s3Backend(t, testenv.StartMinIO(t, testenv.MinIO{})) },
	}
}

func dirBackend(t *testing.T) backend {
	t.Helper()
	root := t.TempDir()
	return backend{
		page: 256,
		open: func(t *testing.T, prefix string) Store {
			t.Helper()
			dir := filepath.Join(root, prefix)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return open(t, "file://"+dir, Options{})
		},
		remains: func(t *testing.T) (names []string) {
			t.Helper()
			err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
				if strings.HasPrefix(filepath.Base(path), tempPrefix) {
					names = append(names, path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
	}
}

func s3Backend(t *testing.T, srv *testenv.S3) backend {
	t.Helper()
	srv.CreateBucket(t, "bucket")
	b := backend{page: 1000, open: func(t *testing.T, prefix string) Store {
		t.Helper()
		return open(t, srv.URL("bucket", prefix)+"&part-size=5MiB", Options{Getenv: srv.Getenv})
	}}
	b.remains = func(t *testing.T) []string {
		t.Helper()
		return uploads(t, b.open(t, "").(*S3))
	}
	return b
}

// uploads lists the unfinished uploads of the bucket.
func uploads(t *testing.T, s *S3) (keys []string) {
	t.Helper()
	page, err := s.core.ListMultipartUploads(t.Context(), s.url.Bucket, "", "", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, up := range page.Uploads {
		keys = append(keys, up.Key)
	}
	return keys
}

func open(t *testing.T, url string, opts Options) Store {
	t.Helper()
	s, err := Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// same is for errors that must come back as they are, not wrapped.
func same(a, b error) bool { return a == b } //nolint:errorlint // that is the point

// noise returns a reader of n bytes that do not repeat, the same for each seed.
func noise(seed byte, n int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), int64(n))
}

// sum returns the hash and the number of r's bytes.
func sum(t *testing.T, r io.Reader) (string, int) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil)), int(n)
}

func put(t *testing.T, s Store, key string, r io.Reader) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, r); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s Store, key string) string {
	t.Helper()
	r, _, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// list returns keys and sizes.
func list(t *testing.T, s Store, prefix string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	err := s.List(t.Context(), prefix, func(key string, size int64, modified time.Time) error {
		if _, dup := out[key]; dup {
			t.Errorf("%s is listed twice", key)
		}
		if age := time.Since(modified); age < -time.Minute || age > 10*time.Minute { // another time zone would be more
			t.Errorf("%s: modified %s ago", key, age)
		}
		out[key] = size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "a/prefix")
			sizes := []int{0, 1, 64 << 10, 64<<10 + 1, testPartSize - 1, testPartSize, testPartSize + 1, 2 * testPartSize, 20<<20 + 3}
			for i, size := range sizes {
				key := fmt.Sprintf("x/%d/object", size)
				want, _ := sum(t, noise(byte(i), size))
				if n, err := s.Put(t.Context(), key, noise(byte(i), size)); err != nil || n != int64(size) {
					t.Fatalf("put %d bytes: got %d, %v", size, n, err)
				}
				if n, err := s.Stat(t.Context(), key); err != nil || n != int64(size) {
					t.Errorf("stat: got %d, %v, want %d", n, err, size)
				}
				r, n, err := s.Get(t.Context(), key)
				if err != nil || n != int64(size) {
					t.Fatalf("get: got %d, %v, want %d", n, err, size)
				}
				got, read := sum(t, r)
				if got != want || read != size {
					t.Errorf("got back %d other bytes, put %d", read, size)
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("read after the end: got %d, %v", n, err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := list(t, s, ""); len(got) != len(sizes) {
				t.Errorf("got %v", got)
			}
			if got := b.remains(t); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestPutReplaces(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "key", strings.NewReader("a longer first text"))
			put(t, s, "key", strings.NewReader("second"))
			if got := get(t, s, "key"); got != "second" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// failing yields n bytes and then err, or calls fail if err is nil.
type failing struct {
	r    io.Reader
	err  error
	fail func()
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		if f.fail != nil {
			f.fail()
			f.r, f.fail = noise(9, 64<<20), nil
			return f.Read(p)
		}
		return n, f.err
	}
	return n, err
}

func TestPutOfBrokenReader(t *testing.T) {
	broken := status.WithReason(status.ReasonCorrupt, errors.New("source broke"))
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "old/key", strings.NewReader("old"))
			for _, n := range []int{0, 1, 100_000, testPartSize, 12 << 20} {
				for _, key := range []string{"old/key", "new/key"} {
					_, err := s.Put(t.Context(), key, &failing{r: noise(1, n), err: broken})
					if !errors.Is(err, broken) || status.ReasonOf(err) != status.ReasonCorrupt {
						t.Errorf("after %d bytes: got %v (%s)", n, err, status.ReasonOf(err))
					}
				}
			}
			if got, want := list(t, s, ""), map[string]int64{"old/key": 3}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := get(t, s, "old/key"); got != "old" {
				t.Errorf("got %q", got)
			}
			if got := b.remains(t); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestPutCanceled(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			for _, n := range []int{0, 1000, 12 << 20} {
				ctx, cancel := context.WithCancel(t.Context())
				_, err := s.Put(ctx, "key", &failing{r: noise(1, n), fail: cancel})
				cancel()
				if !errors.Is(err, context.Canceled) || status.ReasonOf(err) != status.ReasonCanceled {
					t.Errorf("after %d bytes: got %v (%s)", n, err, status.ReasonOf(err))
				}
			}
			if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want not exist", err)
			}
			if got := b.remains(t); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestGetCanceled(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "key", noise(1, 20<<20))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, _, err := s.Get(ctx, "key")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			cancel()
			_, err = io.Copy(io.Discard, r)
			if !errors.Is(err, context.Canceled) || status.ReasonOf(err) != status.ReasonCanceled {
				t.Errorf("got %v (%s)", err, status.ReasonOf(err))
			}
		})
	}
}

func TestAbsent(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "dir/key", strings.NewReader("x"))
			for _, key := range []string{"absent", "dir", "dir/absent", "dir/key/below", "absent/absent"} {
				r, _, err := s.Get(t.Context(), key)
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("get %s: got %v, want not exist", key, err)
				}
				if err == nil {
					r.Close()
					continue
				}
				if want := fmt.Sprintf("get %s in %s: no such object", key, s); err.Error() != want {
					t.Errorf("got %q, want %q", err, want)
				}
				if _, err := s.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("stat %s: got %v, want not exist", key, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
			if got := list(t, s, "absent/"); len(got) > 0 {
				t.Errorf("got %v", got)
			}
			if got, want := list(t, s, ""), map[string]int64{"dir/key": 1}; !maps.Equal(got, want) {
				t.Errorf("after the deletes: got %v, want %v", got, want)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "a/b/c", strings.NewReader("x"))
			put(t, s, "a/d", strings.NewReader("x"))
			for range 2 {
				if err := s.Delete(t.Context(), "a/b/c"); err != nil {
					t.Error(err)
				}
			}
			if got, want := list(t, s, ""), map[string]int64{"a/d": 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			put(t, s, "a/b", strings.NewReader("b is an object now, not a directory"))
		})
	}
}

func TestOddKeys(t *testing.T) {
	keys := []string{
		"plain", "with space", "plus+plus", "percent%20sign%", "amp&ersand=x", "question?mark", "hash#tag", "semi;colon,comma",
		"quote'\"quote", "tilde~star*", "(paren)[bracket]{brace}", "umlaut-äöü", "漢字/かな", "emoji-🧨", "back\\slash", "colon:at@x", "tab\there", "dollar$pipe|",
		"<xml>&amp;", "...three/dots...", ".hidden/.file", strings.Repeat("long", 60),
	}
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			want := map[string]int64{}
			for _, key := range keys {
				put(t, s, key, strings.NewReader(key))
				want[key] = int64(len(key))
			}
			if diff := cmp.Diff(list(t, s, ""), want); diff != "" {
				t.Errorf("list (-got +want):\n%s", diff)
			}
			for _, key := range keys {
				if got := get(t, s, key); got != key {
					t.Errorf("%q: got %q", key, got)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
			if got := list(t, s, ""); len(got) > 0 {
				t.Errorf("after the deletes: %v", got)
			}
		})
	}
}

func TestBadKeys(t *testing.T) {
	keys := []string{"", ".", "..", "/abs", "../up", "a/../b", "a//b", "a/", "./a", "a/.", "zero\x00byte", "not\xffutf8", "a/" + tempPrefix + "x", strings.Repeat("x", maxKeyLength+1)}
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p/q")
			for _, key := range keys {
				if _, err := s.Put(t.Context(), key, strings.NewReader("x")); err == nil {
					t.Errorf("put %q worked", key)
				}
				if _, _, err := s.Get(t.Context(), key); err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("get %q: got %v", key, err)
				}
				if _, err := s.Stat(t.Context(), key); err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("stat %q: got %v", key, err)
				}
				if err := s.Delete(t.Context(), key); err == nil {
					t.Errorf("delete %q worked", key)
				}
			}
			for _, prefix := range []string{"/", "..", "../", "a//", "/a", "a/../"} {
				if err := s.List(t.Context(), prefix, func(string, int64, time.Time) error { return nil }); err == nil {
					t.Errorf("list %q worked", prefix)
				}
			}
			if got := list(t, b.open(t, ""), ""); len(got) > 0 {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			stores := map[string]Store{}
			for _, prefix := range []string{"a", "ab", "a/b"} {
				stores[prefix] = b.open(t, prefix)
				put(t, stores[prefix], "x/key", strings.NewReader(prefix))
			}
			for prefix, s := range stores {
				if got := get(t, s, "x/key"); got != prefix {
					t.Errorf("%s: got %q", prefix, got)
				}
			}
			if got, want := list(t, stores["ab"], ""), map[string]int64{"x/key": 2}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			s := stores["a"]
			put(t, s, "x/kelp", strings.NewReader(""))
			put(t, s, "xy", strings.NewReader(""))
			for prefix, want := range map[string][]string{
				"":       {"b/x/key", "x/kelp", "x/key", "xy"},
				"x":      {"x/kelp", "x/key", "xy"},
				"x/":     {"x/kelp", "x/key"},
				"x/ke":   {"x/kelp", "x/key"},
				"x/key":  {"x/key"},
				"x/key/": nil,
				"b/x":    {"b/x/key"},
				"b/x/":   {"b/x/key"},
				"c":      nil,
			} {
				if got := slices.Sorted(maps.Keys(list(t, s, prefix))); !slices.Equal(got, want) {
					t.Errorf("list %q: got %q, want %q", prefix, got, want)
				}
			}
		})
	}
}

func TestListMany(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			n := b.page + 50
			s := b.open(t, "p")
			g, ctx := errgroup.WithContext(t.Context())
			g.SetLimit(8)
			for i := range n {
				g.Go(func() error {
					_, err := s.Put(ctx, fmt.Sprintf("snapshots/%04d", i), bytes.NewReader(nil))
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if got := list(t, s, "snapshots/"); len(got) != n {
				t.Errorf("got %d objects, want %d", len(got), n)
			}

			// The error of fn ends the listing and comes back as it is.
			stop := errors.New("enough")
			calls := 0
			err := s.List(t.Context(), "", func(string, int64, time.Time) error {
				calls++
				if calls == b.page+1 {
					return stop
				}
				return nil
			})
			if !same(err, stop) || calls != b.page+1 {
				t.Errorf("got %v after %d calls", err, calls)
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err = s.List(ctx, "", func(string, int64, time.Time) error { cancel(); return nil })
			if status.ReasonOf(err) != status.ReasonCanceled {
				t.Errorf("canceled: got %v", err)
			}

			err = s.List(t.Context(), "", func(key string, _ int64, _ time.Time) error {
				return s.Delete(t.Context(), key)
			})
			if err != nil {
				t.Error(err)
			}
			if got := list(t, s, ""); len(got) > 0 {
				t.Errorf("%d objects were not listed while being deleted", len(got))
			}
		})
	}
}

func anyKey(string) bool { return true }

// Without a prefix the whole bucket is the store's, and others may use it, too.
func TestSweepLeavesOthersUploads(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s, ok := b.open(t, "").(*S3)
			if !ok {
				return // its temporary files have names that nobody else gives
			}
			for _, key := range []string{"mine/x", "theirs/x"} {
				if _, err := s.core.NewMultipartUpload(t.Context(), "bucket", key, putOptions()); err != nil {
					t.Fatal(err)
				}
			}
			n, err := s.Sweep(t.Context(), -time.Minute, func(key string) bool { return key == "mine/x" })
			if got := b.remains(t); n != 1 || err != nil || len(got) != 1 || !strings.Contains(got[0], "theirs/") {
				t.Errorf("removed %d, %v; left %q", n, err, got)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			put(t, s, "kept", strings.NewReader("x"))
			other := b.open(t, "other")
			switch s := s.(type) {
			case *S3:
				for _, st := range []*S3{s, other.(*S3)} {
					if _, err := st.core.NewMultipartUpload(t.Context(), "bucket", st.object("dead/x"), putOptions()); err != nil {
						t.Fatal(err)
					}
				}
			case *Dir:
				for _, st := range []*Dir{s, other.(*Dir)} {
					if err := os.Mkdir(filepath.Join(st.path, "dead"), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(st.path, "dead", tempPrefix+"X"), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n, err := s.Sweep(t.Context(), time.Hour, anyKey); n != 0 || err != nil {
				t.Errorf("young remains: got %d, %v", n, err)
			}
			if n, err := s.Sweep(t.Context(), -time.Minute, anyKey); n != 1 || err != nil {
				t.Errorf("got %d, %v, want 1", n, err)
			}
			if got := b.remains(t); len(got) != 1 || !strings.Contains(got[0], "other/") {
				t.Errorf("left: %q, want that of the other prefix", got)
			}
			if got, want := list(t, s, ""), map[string]int64{"kept": 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
