package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestPutIf(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s, other := b.open(t, "p"), b.open(t, "p")
			ctx := t.Context()
			const key = "a/lease.json"
			if _, _, err := s.GetVersioned(ctx, key); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("absent: got %v", err)
			}
			if _, err := s.PutIf(ctx, key, []byte("x"), "no-such-version"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("replace what is absent: got %v", err)
			}
			first, err := s.PutIf(ctx, key, []byte("first"), "")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the first, and then one that knows the server
				if _, err := other.PutIf(ctx, key, []byte("rival"), ""); !errors.Is(err, fs.ErrExist) {
					t.Errorf("create what is there: got %v", err)
				}
			}
			data, version, err := other.GetVersioned(ctx, key)
			if err != nil || string(data) != "first" || version != first {
				t.Errorf("got %q, %q, %v, want version %q", data, version, err, first)
			}
			second, err := other.PutIf(ctx, key, []byte("second"), version)
			if err != nil || second == first {
				t.Fatalf("got version %q after %q, %v", second, first, err)
			}
			_, err = s.PutIf(ctx, key, []byte("late"), first)
			if !errors.Is(err, fs.ErrExist) || errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("replace an old version: got %v", err)
			}
			if want := fmt.Sprintf("put %s in %s: there is another version of it", key, s); err == nil || err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
			if got := get(t, s, key); got != "second" {
				t.Errorf("got %q", got)
			}
			if err := s.Delete(ctx, key); err != nil {
				t.Error(err)
			}
			if _, err := s.PutIf(ctx, key, []byte("late"), second); !errors.Is(err, fs.ErrExist) {
				t.Errorf("replace what is gone: got %v", err)
			}
			if _, err := s.PutIf(ctx, key, nil, ""); err != nil {
				t.Errorf("create it again, empty: %v", err)
			}
			if got, want := list(t, b.open(t, ""), ""), map[string]int64{"p/" + key: 0}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := b.remains(t); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// Of many writers who count up one number, none loses a step.
func TestPutIfRace(t *testing.T) {
	const writers, steps = 4, 10
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			count := func(ctx context.Context, s Store) error {
				for {
					data, version, err := s.GetVersioned(ctx, "a/number")
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						return err
					}
					n, _ := strconv.Atoi(string(data))
					_, err = s.PutIf(ctx, "a/number", []byte(strconv.Itoa(n+1)), version)
					if !errors.Is(err, fs.ErrExist) {
						return err
					}
				}
			}
			g, ctx := errgroup.WithContext(t.Context())
			for range writers {
				s := b.open(t, "p")
				g.Go(func() error {
					for range steps {
						if err := count(ctx, s); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if got, want := get(t, b.open(t, "p"), "a/number"), strconv.Itoa(writers*steps); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if got, want := list(t, b.open(t, ""), ""), map[string]int64{"p/a/number": 2}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := b.remains(t); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestPutIfLimits(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			s := b.open(t, "p")
			big := bytes.Repeat([]byte("x"), maxRecord+1)
			if _, err := s.PutIf(t.Context(), "key", big[1:], ""); err != nil {
				t.Error(err)
			}
			if data, _, err := s.GetVersioned(t.Context(), "key"); err != nil || len(data) != maxRecord {
				t.Errorf("got %d bytes, %v", len(data), err)
			}
			const cause = "the object has 1048577 bytes, more than the 1048576 of a record"
			_, err := s.PutIf(t.Context(), "big", big, "")
			pin(t, err, "put big in "+s.String()+": "+cause, status.ReasonStore, "")
			put(t, s, "big", bytes.NewReader(big))
			_, _, err = s.GetVersioned(t.Context(), "big")
			pin(t, err, "get big in "+s.String()+": "+cause, status.ReasonStore, "")

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.PutIf(ctx, "canceled", nil, ""); status.ReasonOf(err) != status.ReasonCanceled {
				t.Errorf("canceled: got %v", err)
			}
			if _, _, err := s.GetVersioned(ctx, "key"); status.ReasonOf(err) != status.ReasonCanceled {
				t.Errorf("canceled: got %v", err)
			}
			for _, key := range []string{"", "../up", "a/" + tempPrefix + "x"} {
				if _, err := s.PutIf(t.Context(), key, nil, ""); err == nil {
					t.Errorf("put %q worked", key)
				}
				if _, _, err := s.GetVersioned(t.Context(), key); err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("get %q: got %v", key, err)
				}
			}
		})
	}
}

// without is a real S3 server that does not know some headers: a front takes them
// away, and signs the rest anew.
func without(t *testing.T, srv *testenv.S3, headers ...string) (endpoint string) {
	t.Helper()
	target, err := url.Parse(srv.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = target.Host
			for _, h := range append(headers, "Authorization", "X-Forwarded-For") {
				r.Out.Header.Del(h)
			}
			*r.Out = *signer.SignV4(*r.Out, srv.AccessKey, srv.SecretKey, "", srv.Region)
		},
	})
	t.Cleanup(front.Close)
	return front.URL
}

// A server that ignores conditions is found out, and nothing is written to it.
func TestS3ConditionsIgnored(t *testing.T) {
	srv := startS3(t)
	for _, header := range []string{"If-Match", "If-None-Match"} {
		t.Run(header, func(t *testing.T) {
			ctx := t.Context()
			s := open(t, testenv.StoreURL(without(t, srv, header), srv.Region, "bucket", header), Options{Getenv: srv.Getenv}).(*S3)
			put(t, s, "there", strings.NewReader("x"))
			_, version, err := s.GetVersioned(ctx, "there")
			if err != nil {
				t.Fatal(err)
			}
			key := "there"
			if header == "If-None-Match" {
				key, version = "new", ""
				if _, err := s.PutIf(ctx, "there", []byte("y"), ""); !errors.Is(err, fs.ErrExist) {
					t.Errorf("create what is there: got %v", err)
				}
			}
			for range 2 {
				_, err := s.PutIf(ctx, key, []byte("y"), version)
				if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrExist) {
					t.Errorf("got %v", err)
				}
				if want := "put " + key + " in " + s.String() + ": the server does not obey conditional writes: unsupported operation"; err == nil || err.Error() != want {
					t.Errorf("got %q, want %q", err, want)
				}
			}
			if got, want := list(t, s, ""), map[string]int64{"there": 1}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := get(t, s, "there"); got != "x" {
				t.Errorf("got %q", got)
			}
			// The probe is not hidden from the listing: it is gone.
			if got := s.objects(t); len(got) != 1 {
				t.Errorf("in the bucket: %q", got)
			}
		})
	}
}

// objects lists everything below the prefix, also what List does not show.
func (s *S3) objects(t *testing.T) (keys []string) {
	t.Helper()
	page, err := s.core.ListObjectsV2(s.url.Bucket, s.object(""), "", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range page.Contents {
		keys = append(keys, o.Key)
	}
	return keys
}

func TestS3ConditionsNotImplemented(t *testing.T) {
	s, proxy := throughProxy(t, startS3(t), Options{})
	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: http.StatusNotImplemented,
		Body: testenv.S3Error("NotImplemented", "A header you provided implies functionality that is not implemented")})
	for range 2 {
		if _, err := s.PutIf(t.Context(), "key", []byte("x"), "version"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
}

// MinIO without a KMS has the same code for that.
func TestS3EncryptionNotImplemented(t *testing.T) {
	s, proxy := throughProxy(t, startS3(t), Options{})
	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: http.StatusNotImplemented,
		Body: testenv.S3Error("NotImplemented", "Server side encryption specified but KMS is not configured")})
	_, err := s.PutIf(t.Context(), "key", []byte("x"), "version")
	if err == nil || errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "KMS is not configured") {
		t.Errorf("got %v", err)
	}
	proxy.Set(testenv.Fault{})
	if _, err := s.PutIf(t.Context(), "key", []byte("x"), ""); err != nil { // nothing was learnt from that
		t.Error(err)
	}
}

// The answer to a conditional write gets lost: the next attempt is refused
// because of it, which must not look like a race that was lost.
func TestS3ConditionalAnswerLost(t *testing.T) {
	for name, c := range map[string]struct {
		kind  testenv.FaultKind
		stall time.Duration
	}{
		"cut":    {testenv.Cut, 0},
		"silent": {testenv.Hang, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			srv := startS3(t)
			proxy := testenv.StartHTTPProxy(t, srv.Addr())
			s := open(t, testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "p"), Options{Getenv: srv.Getenv, Stall: c.stall}).(*S3)
			ctx := t.Context()
			// The server is known.
			version, err := s.PutIf(ctx, "key", []byte("one"), "")
			if err != nil {
				t.Fatal(err)
			}
			if version, err = s.PutIf(ctx, "key", []byte("two"), version); err != nil {
				t.Fatal(err)
			}
			strike := func() {
				t.Helper()
				s.transport.CloseIdleConnections()
				proxy.Set(testenv.Rule{Method: http.MethodPut, At: testenv.AtAnswer, Kind: c.kind, Times: 1})
			}
			struck := func() {
				t.Helper()
				if proxy.Struck() != 1 {
					t.Error("no answer got lost")
				}
			}
			strike()
			next, err := s.PutIf(ctx, "key", []byte("three"), version)
			if err != nil {
				t.Fatalf("replace: %v", err)
			}
			struck()
			if data, v, err := s.GetVersioned(ctx, "key"); err != nil || string(data) != "three" || v != next {
				t.Errorf("got %q, %q, %v, want version %q", data, v, err, next)
			}
			strike()
			if _, err := s.PutIf(ctx, "new", []byte("created"), ""); err != nil {
				t.Errorf("create: %v", err)
			}
			struck()
			// A rival's object is not taken for one's own.
			strike()
			if _, err := s.PutIf(ctx, "key", []byte("four"), version); !errors.Is(err, fs.ErrExist) {
				t.Errorf("rival: got %v", err)
			}
			struck()
		})
	}
}
