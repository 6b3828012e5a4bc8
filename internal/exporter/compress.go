package exporter

import (
	"bufio"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// compressed answers with gzip where the client accepts it. promhttp can do
// that too, but with a compressor that keeps more than a megabyte between
// scrapes, for an answer that is a tenth of that. This one keeps nothing: it
// compresses block by block, each of the size of the buffer before it.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !acceptsGzip(r.Header.Get("Accept-Encoding")) {
			next.ServeHTTP(w, r)
			return
		}
		z, err := gzip.NewWriterLevel(w, gzip.StatelessCompression)
		if err != nil { // only for an unknown level
			next.ServeHTTP(w, r)
			return
		}
		const block = 32 << 10
		b := bufio.NewWriterSize(z, block)
		w.Header().Set("Content-Encoding", "gzip")
		next.ServeHTTP(&compressedWriter{w, b}, r)
		// An error here is a client that went away.
		_ = b.Flush()
		_ = z.Close()
	})
}

type compressedWriter struct {
	http.ResponseWriter
	body *bufio.Writer
}

func (w *compressedWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// acceptsGzip reads an Accept-Encoding header: gzip is named, and not with the
// weight 0.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			weight = strings.TrimPrefix(strings.TrimSpace(weight), "q=")
			return strings.Trim(weight, "0.") != "" || weight == ""
		}
	}
	return false
}
