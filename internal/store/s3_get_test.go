package store

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// One body, and many ranges.
func downloadSizes() map[string]int {
	return map[string]int{"one body": 3 << 20, "ranges": 33 << 20}
}

func TestS3DownloadSurvives(t *testing.T) {
	srv := startS3(t)
	faults := map[string]func(size int64) testenv.Fault{
		"a cut": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Cut, AfterDownload: size / 3, Once: true}
		},
		"a cut in the first answer": func(int64) testenv.Fault { return testenv.Fault{Kind: testenv.Cut, AfterDownload: 100, Once: true} },
		"a cut near the end": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Cut, AfterDownload: size - 1000, Once: true}
		},
		"an error meanwhile": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Answer, AfterDownload: size / 3, Status: 500, Body: testenv.S3Error("InternalError", "oops"), Once: true}
		},
		"a plea for patience": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Answer, AfterDownload: size / 3, Status: 503, Body: testenv.S3Error("SlowDown", "Please reduce your request rate."), Once: true}
		},
		"a silent connection": func(size int64) testenv.Fault { return testenv.Fault{Kind: testenv.Hang, AfterDownload: size / 3} },
	}
	for sort, size := range downloadSizes() {
		want, _ := sum(t, noise(1, size))
		put(t, open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}), "key", noise(1, size))
		for name, fault := range faults {
			t.Run(sort+", "+name, func(t *testing.T) {
				s, proxy := throughProxy(t, srv, Options{Stall: 200 * time.Millisecond, Patience: 20 * time.Second})
				proxy.Set(fault(int64(size)))
				if fault(1).Kind == testenv.Hang {
					mend := time.AfterFunc(500*time.Millisecond, func() { proxy.Set(testenv.Fault{}) })
					defer mend.Stop()
				}
				r, _, err := s.Get(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, n := sum(t, r); got != want {
					t.Errorf("got other %d bytes", n)
				}
				if _, down := proxy.Passed(); fault(1).Kind != testenv.Hang && down <= fault(int64(size)).AfterDownload {
					t.Errorf("the fault did not strike: %d bytes", down)
				}
			})
		}
	}
}

func TestS3DownloadGivesUp(t *testing.T) {
	srv := startS3(t)
	for sort, size := range downloadSizes() {
		put(t, open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}), "key", noise(1, size))
		for name, kind := range map[string]testenv.FaultKind{"cut": testenv.Cut, "hang": testenv.Hang} {
			t.Run(sort+", "+name, func(t *testing.T) {
				s, proxy := throughProxy(t, srv, Options{Stall: 200 * time.Millisecond, Patience: time.Second})
				proxy.Set(testenv.Fault{Kind: kind, AfterDownload: int64(size) / 3})
				r, _, err := s.Get(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				n, err := io.Copy(io.Discard, r)
				if status.ReasonOf(err) != status.ReasonStoreUnreachable || !strings.HasPrefix(err.Error(), "get key in s3://bucket/p ("+proxy.URL()+"): ") {
					t.Errorf("after %d bytes: got %v (%s)", n, err, status.ReasonOf(err))
				}
				if _, again := r.Read(make([]byte, 1)); !same(again, err) {
					t.Errorf("a second read gives %v", again)
				}
			})
		}
	}
}

// Another object under the same key is not taken for the rest of the first.
func TestS3DownloadOfReplaced(t *testing.T) {
	for kind, srv := range bothS3(t) {
		s := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}).(*S3)
		s.rangeSize, s.rangeBuffers = 1<<20, 2
		put(t, s, "key", noise(1, 9<<20))
		r, _, err := s.Get(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Fatal(err)
		}
		put(t, s, "key", noise(2, 9<<20))
		n, err := io.Copy(io.Discard, r)
		if !isCode(err, minio.PreconditionFailed) || status.HintOf(err) != "the object was replaced while it was read: try again" || n > 2<<20 {
			t.Errorf("%s: got %d bytes, %v (hint %s)", kind, n, err, status.HintOf(err))
		}
	}
}

// The memory of a download does not depend on the size, and each byte is asked
// for once.
func TestS3GetMemory(t *testing.T) {
	srv := startS3(t)
	s, requests := counted(t, srv)
	const size = 61<<20 + 7
	put(t, s, "key", noise(1, size))
	requests.reset()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); n != size || err != nil {
		t.Fatal(n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > rangeBuffers*rangeSize+5<<20 {
		t.Errorf("a download of 61 MiB allocates %d KiB", got>>10)
	}
	if rangeBuffers*rangeSize > 24<<20 {
		t.Error("the buffers have more than 24 MiB")
	}
	if got, want := requests.String(), "GET 16"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, down := requests.passed(); down > size+1<<20 {
		t.Errorf("%d bytes came for an object of %d", down, size)
	}
	// For the front a request ends a moment later than for the client.
	if got := requests.atOnce.Load(); got < 2 || got > rangeBuffers+2 {
		t.Errorf("%d requests at once", got)
	}
}

// A reader that is closed early leaves nothing behind, and asks for nothing more.
func TestS3GetClosedEarly(t *testing.T) {
	s, requests := counted(t, startS3(t))
	put(t, s, "key", noise(1, 61<<20))
	requests.reset()
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := requests.total(); got > rangeBuffers+1 {
		t.Errorf("%d requests for the first 5 MiB", got)
	}
}

// counter counts the requests that pass it.
type counter struct {
	atOnce atomic.Int64 // the most

	mu       sync.Mutex
	n        map[string]int
	running  int64
	up, down int64
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n, c.up, c.down = map[string]int{}, 0, 0
	c.atOnce.Store(0)
}

func (c *counter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.n {
		n += m
	}
	return n
}

func (c *counter) passed() (up, down int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up, c.down
}

func (c *counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if n := c.n[method]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", method, n))
		}
	}
	return strings.Join(out, ", ")
}

// counted returns a store whose requests are counted on their way to a real
// server.
func counted(t *testing.T, srv *testenv.S3) (*S3, *counter) {
	t.Helper()
	target, err := url.Parse(srv.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{n: map[string]int{}}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	forward.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // of requests that are given up
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.n[r.Method]++
		c.running++
		c.atOnce.Store(max(c.atOnce.Load(), c.running))
		c.up += r.ContentLength
		c.mu.Unlock()
		cw := &countingWriter{ResponseWriter: w}
		forward.ServeHTTP(cw, r)
		c.mu.Lock()
		c.running--
		c.down += cw.n
		c.mu.Unlock()
	}))
	t.Cleanup(front.Close)
	return open(t, testenv.StoreURL(front.URL, srv.Region, "bucket", "p"), Options{Getenv: srv.Getenv}).(*S3), c
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// bothS3 starts one server of each kind, with a bucket.
func bothS3(t *testing.T) map[string]*testenv.S3 {
	t.Helper()
	servers := map[string]*testenv.S3{"versitygw": testenv.StartS3(t), "minio": testenv.StartMinIO(t, testenv.MinIO{})}
	for _, srv := range servers {
		srv.CreateBucket(t, "bucket")
	}
	return servers
}
