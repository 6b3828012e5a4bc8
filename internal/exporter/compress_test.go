package exporter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func TestChooseEncoding(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "identity": "", "gzip": "gzip", "gzip;q=0": "", "gzip; q=0.0": "", "gzip;q=0.5": "gzip", "gzip;q=1": "gzip",
		"zstd, gzip": "gzip", "gzip, zstd": "gzip", "deflate, gzip;q=1.0, *;q=0.5": "gzip", "x-gzip": "", "GZIP": "gzip",
		"zstd": "zstd", "gzip;q=0.5, zstd": "zstd", "zstd;q=0.9,gzip;q=0.8": "zstd", "zstd;q=0": "", "gzip;q=x": "", "gzip;q=0, zstd": "zstd",
	} {
		if got := chooseEncoding(header); got != want {
			t.Errorf("chooseEncoding(%q) = %q, want %q", header, got, want)
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
	for _, accept := range []string{"", "gzip", "zstd", "gzip", "zstd"} {
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
		switch accept {
		case "gzip":
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		case "zstd":
			z, err := zstd.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			body = z
		}
		if accept != "" && size > len(text)/10 {
			t.Errorf("%s: %d bytes became %d", accept, len(text), size)
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != text {
			t.Errorf("Accept-Encoding %q: %d bytes, %v; want %d", accept, len(got), err, len(text))
		}
	}
}
