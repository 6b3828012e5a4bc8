package exporter_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// BenchmarkCollect is a scrape of a recorded server, without network and
// without rendering.
func BenchmarkCollect(b *testing.B) {
	e, _ := newExporter(b, &still{server: loadReplay(b, small)}, exporter.Options{})
	b.ReportAllocs()
	for b.Loop() {
		e.Scrape(context.Background())
	}
}

// BenchmarkScrape is /metrics of a real server, from the request to the end of
// the body, in the states of test/bench.
func BenchmarkScrape(b *testing.B) {
	for _, c := range []struct {
		name     string
		commands [][]string
		encoding string
	}{
		{"small", testenv.Everyday(), ""},
		{"commands", testenv.Everything(), ""},
		{"gzip", testenv.Everyday(), "gzip"},
		{"zstd", testenv.Everyday(), "zstd"},
	} {
		b.Run(c.name, func(b *testing.B) {
			serve := scraping(b, used(b, c.commands), exporter.Options{}, c.encoding)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

// small is the recording of a small server.
const small = "testdata/replay/redis-7.0.15-standalone"

// used returns a client of a server that holds 1,000 keys and whose clients have
// used these commands.
func used(tb testing.TB, commands [][]string) *redis.Client {
	tb.Helper()
	srv := testenv.StartRedis(tb)
	srv.Fill(tb, "key", 1000, 100)
	c := srv.Client(tb)
	replies, err := c.Pipeline(context.Background(), commands...)
	if err != nil {
		tb.Fatal(err)
	}
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			tb.Fatalf("%s: %v", commands[i], err)
		}
	}
	return c
}

// scraping returns a function that makes one request to /metrics, whose answer
// goes nowhere. One was made already, so the server is known.
func scraping(tb testing.TB, server exporter.Server, opts exporter.Options, encoding string) func() {
	tb.Helper()
	e, _ := newExporter(tb, server, opts)
	return serving(tb, e, encoding)
}

// serving is scraping of an exporter that is there.
func serving(tb testing.TB, e *exporter.Exporter, encoding string) func() {
	tb.Helper()
	h := exporter.NewHandler(e, nil)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := &discard{header: make(http.Header)}
	serve := func() {
		clear(w.header)
		w.size = 0
		h.ServeHTTP(w, r)
	}
	serve()
	if w.status != 0 || w.size < 1000 {
		tb.Fatalf("the answer has status %d and %d bytes", w.status, w.size)
	}
	return serve
}

// discard is a ResponseWriter that keeps nothing but the sum.
type discard struct {
	header       http.Header
	status, size int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(s int)   { d.status = s }

func (d *discard) Write(p []byte) (int, error) {
	d.size += len(p)
	return len(p), nil
}

// still is a server that gives the same replies again to who asks the same again,
// and allocates nothing for that.
type still struct {
	server  exporter.Server
	asked   [][]string
	replies []any
}

func (s *still) Pipeline(ctx context.Context, commands ...[]string) ([]any, error) {
	if slices.EqualFunc(commands, s.asked, slices.Equal) {
		return s.replies, nil
	}
	replies, err := s.server.Pipeline(ctx, commands...)
	s.asked, s.replies = commands, replies
	return replies, err
}
