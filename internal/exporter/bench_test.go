package exporter_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// BenchmarkCollect is a scrape of a recorded server, without network and
// without rendering.
func BenchmarkCollect(b *testing.B) {
	e, _ := newExporter(b, loadReplay(b, "testdata/replay/redis-7.0.15-standalone"), exporter.Options{})
	b.ReportAllocs()
	for b.Loop() {
		e.Scrape(context.Background())
	}
}

// BenchmarkScrape is /metrics of a real server with 27 commands in its
// statistics, from the request to the end of the body.
func BenchmarkScrape(b *testing.B) {
	srv := testenv.StartRedis(b)
	c := srv.Client(b)
	srv.Fill(b, "key", 1000, 100)
	for _, cmd := range [][]string{
		{"SET", "s", "1"}, {"GET", "s"}, {"INCR", "s"}, {"EXPIRE", "s", "100"}, {"TTL", "s"}, {"LPUSH", "l", "a"},
		{"LRANGE", "l", "0", "-1"}, {"RPOP", "l"}, {"SADD", "t", "a"}, {"SMEMBERS", "t"}, {"ZADD", "z", "1", "a"},
		{"ZRANGE", "z", "0", "-1"}, {"HSET", "h", "f", "v"}, {"HGETALL", "h"}, {"EXISTS", "h"}, {"DEL", "h"},
		{"MSET", "a", "1", "b", "2"}, {"MGET", "a", "b"}, {"SCAN", "0"}, {"DBSIZE"}, {"TYPE", "s"},
	} {
		if _, err := c.Do(context.Background(), cmd...); err != nil {
			b.Fatal(err)
		}
	}
	e, _ := newExporter(b, c, exporter.Options{})
	h := exporter.NewHandler(e, prometheus.NewRegistry())
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&discard{header: make(http.Header)}, r)
	}
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d *discard) WriteHeader(int)             {}
