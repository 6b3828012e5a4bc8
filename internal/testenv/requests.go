package testenv

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Requests counts the requests to an S3 server on their way.
type Requests struct {
	URL string // where they go to

	mu      sync.Mutex
	kinds   map[string]int
	running int
	atOnce  int
	down    int64
}

// CountRequests starts a front before a server. It is closed when the test ends.
func CountRequests(tb testing.TB, srv *S3) *Requests {
	tb.Helper()
	target, err := url.Parse(srv.Endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	c := &Requests{kinds: map[string]int{}}
	forward := &httputil.ReverseProxy{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // of requests that are given up
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.kinds[requestKind(r)]++
		c.running++
		c.atOnce = max(c.atOnce, c.running)
		c.mu.Unlock()
		counting := &countingWriter{ResponseWriter: w}
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.running--
			c.down += counting.n
		}()
		forward.ServeHTTP(counting, r)
	}))
	tb.Cleanup(front.Close)
	c.URL = front.URL
	return c
}

// requestKind names a request as the price lists and S3's own pages do, roughly.
func requestKind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && (q.Has("list-type") || q.Has("uploads") || q.Has("versions")):
		return "LIST"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "PART"
	}
	return r.Method
}

// Take returns what was counted since the last Take, such as "GET 2, LIST 1",
// sorted by name.
func (c *Requests) Take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for kind, n := range c.kinds {
		out = append(out, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(out)
	clear(c.kinds)
	c.atOnce, c.down = c.running, 0
	return strings.Join(out, ", ")
}

// AtOnce returns how many requests there were at the same time, at most, since
// the last Take. For the front a request ends a moment later than for its client.
func (c *Requests) AtOnce() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.atOnce
}

// Down returns the bytes of all answers that were complete, or given up, since
// the last Take.
func (c *Requests) Down() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
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
