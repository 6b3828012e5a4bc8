package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// versions returns all versions and delete markers of the bucket.
func versions(t *testing.T, s *S3) (out []string) {
	t.Helper()
	for o := range s.core.ListObjectsIter(t.Context(), s.url.Bucket, minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		kind := "version"
		if o.IsDeleteMarker {
			kind = "marker"
		}
		out = append(out, fmt.Sprintf("%s of %s", kind, o.Key))
	}
	return out
}

// servers are both kinds of S3 server, without a bucket.
func servers(t *testing.T) map[string]*testenv.S3 {
	t.Helper()
	return map[string]*testenv.S3{"versitygw": testenv.StartS3(t), "minio": testenv.StartMinIO(t, testenv.MinIO{})}
}

func TestS3DeleteVersions(t *testing.T) {
	for kind, srv := range servers(t) {
		t.Run(kind, func(t *testing.T) {
			srv.CreateVersionedBucket(t, "bucket")
			s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB", Options{Getenv: srv.Getenv}).(*S3)
			put(t, s, "key", strings.NewReader("one"))
			put(t, s, "key", noise(1, 12<<20))
			put(t, s, "key.longer", strings.NewReader("kept"))
			version, err := s.PutIf(t.Context(), "record", []byte("one"), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.PutIf(t.Context(), "record", []byte("two"), version); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for _, key := range []string{"key", "record"} {
					if err := s.Delete(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			}
			if got := versions(t, s); len(got) != 1 || got[0] != "version of p/key.longer" {
				t.Errorf("left: %q", got)
			}
			if _, err := s.PutIf(t.Context(), "record", []byte("three"), ""); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestS3ObjectLock(t *testing.T) {
	for kind, srv := range servers(t) {
		for _, mode := range []string{"governance", "compliance"} {
			t.Run(kind+", "+mode, func(t *testing.T) {
				srv.CreateLockedBucket(t, mode)
				s := open(t, srv.URL(mode, "p")+"&part-size=5MiB&object-lock-days=2&object-lock="+mode, Options{Getenv: srv.Getenv}).(*S3)
				for key, size := range sizesOfPuts() {
					put(t, s, key, noise(1, size))
					err := s.Delete(t.Context(), key)
					locked, ok := errors.AsType[interface {
						error
						LockedUntil() time.Time
					}](err)
					if !ok {
						t.Fatalf("%s: got %v", key, err)
					}
					if d := time.Until(locked.LockedUntil()); d < 47*time.Hour || d > 49*time.Hour {
						t.Errorf("%s: locked for %s", key, d)
					}
					if want := "delete " + key + " in " + s.String() + ": the object is locked until " + locked.LockedUntil().Format(time.RFC3339); err.Error() != want {
						t.Errorf("got %q, want %q", err, want)
					}
					if n, err := s.Stat(t.Context(), key); err != nil || n != int64(size) {
						t.Errorf("%s: got %d, %v", key, n, err)
					}
				}
				if got := versions(t, s); len(got) != 3 || strings.Contains(strings.Join(got, " "), "marker") {
					t.Errorf("in the bucket: %q", got)
				}

				// A record is not locked, and leaves nothing.
				version, err := s.PutIf(t.Context(), "record", []byte("one"), "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.PutIf(t.Context(), "record", []byte("two"), version); err != nil {
					t.Error(err)
				}
				if err := s.Delete(t.Context(), "record"); err != nil {
					t.Error(err)
				}

				// A store without the option meets the same lock.
				plain := open(t, srv.URL(mode, "p"), Options{Getenv: srv.Getenv})
				if err := plain.Delete(t.Context(), "one"); err == nil || !strings.Contains(err.Error(), "is locked until") {
					t.Errorf("got %v", err)
				}
				if got := versions(t, s); len(got) != 3 {
					t.Errorf("in the bucket: %q", got)
				}
			})
		}
	}
}

// After the lock has ended, nothing is left of the object.
func TestS3ObjectLockEnds(t *testing.T) {
	for kind, srv := range servers(t) {
		t.Run(kind, func(t *testing.T) {
			srv.CreateLockedBucket(t, "bucket")
			s := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}).(*S3)
			opts := s.objectOptions()
			opts.Mode, opts.RetainUntilDate = minio.Compliance, time.Now().Add(6*time.Second)
			for range 2 { // an old version is locked, too
				if _, err := s.putWhole(t.Context(), "key", []byte("x"), opts); err != nil {
					t.Fatal(err)
				}
			}
			want := "x"
			if kind == "minio" { // versitygw 1.8.0 forgets the lock of a version that is replaced
				want = "the present version is free"
				put(t, s, "key", strings.NewReader(want))
			}
			err := s.Delete(t.Context(), "key")
			if err == nil || !strings.Contains(err.Error(), "is locked until") {
				t.Fatalf("got %v", err)
			}
			if got := get(t, s, "key"); got != want {
				t.Errorf("got %q", got)
			}
			testenv.Eventually(t, 30*time.Second, func() error { return s.Delete(t.Context(), "key") })
			if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
			if got := versions(t, s); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestS3ObjectLockWithoutBucketLock(t *testing.T) {
	for kind, srv := range bothS3(t) {
		s := open(t, srv.URL("bucket", "p")+"&object-lock=governance&object-lock-days=1", Options{Getenv: srv.Getenv})
		for _, size := range []int{1, 12 << 20} {
			_, err := s.Put(t.Context(), "key", noise(1, size))
			if err == nil || status.HintOf(err) != "the bucket needs object lock, which is chosen when it is made; or leave object-lock out of the store's URL" {
				t.Errorf("%s: got %v (hint %s)", kind, err, status.HintOf(err))
			}
		}
	}
}

func TestS3LegalHold(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{})
	srv.CreateLockedBucket(t, "bucket")
	s := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}).(*S3)
	opts := s.objectOptions()
	opts.LegalHold = minio.LegalHoldEnabled
	if _, err := s.putWhole(t.Context(), "key", []byte("x"), opts); err != nil {
		t.Fatal(err)
	}
	pin(t, s.Delete(t.Context(), "key"), "delete key in "+s.String()+": the object is under a legal hold", status.ReasonStore, "whoever set the hold must lift it")
	if got := versions(t, s); len(got) != 1 {
		t.Errorf("in the bucket: %q", got)
	}
}
