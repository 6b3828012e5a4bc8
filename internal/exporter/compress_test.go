package exporter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "identity": false, "gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.5": true, "gzip;q=1": true,
		"zstd, gzip": true, "deflate, gzip;q=1.0, *;q=0.5": true, "x-gzip": false,
	} {
		if got := acceptsGzip(header); got != want {
			t.Errorf("acceptsGzip(%q) = %v", header, got)
		}
	}
}

func TestCompressed(t *testing.T) {
	text := strings.Repeat("redis_commands_total{cmd=\"get\"} 12345\n", 3000)
	h := compressed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for line := range strings.Lines(text) {
			_, _ = io.WriteString(w, line)
		}
	}))
	for _, accept := range []string{"", "gzip"} {
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		req.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if got := w.Header().Get("Content-Encoding"); got != accept {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q", accept, got)
		}
		if w.Header().Get("Vary") != "Accept-Encoding" {
			t.Error("no Vary")
		}
		var body io.Reader = w.Body
		size := w.Body.Len()
		if accept == "gzip" {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
			if size > len(text)/10 {
				t.Errorf("%d bytes became %d", len(text), size)
			}
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != text {
			t.Errorf("Accept-Encoding %q: %d bytes, %v; want %d", accept, len(got), err, len(text))
		}
	}
}
