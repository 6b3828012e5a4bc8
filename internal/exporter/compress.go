package exporter

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressed answers with gzip or zstd where the client accepts it. promhttp can
// do that too, but with compressors that keep more than a megabyte between
// scrapes, for an answer that is a tenth of that. gzip keeps nothing here: it
// compresses block by block, each of the size of the buffer before it. zstd is
// for those who ask for nothing else, or for it first; it needs 1 MiB for as long
// as somebody does.
func compressed(next http.Handler) http.Handler {
	var encoders sync.Pool // of *zstd.Encoder; the garbage collector empties it
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		encoding := chooseEncoding(r.Header.Get("Accept-Encoding"))
		var z io.WriteCloser
		switch encoding {
		case "gzip":
			z, _ = gzip.NewWriterLevel(w, gzip.StatelessCompression) // an error is of an unknown level
		case "zstd":
			e, _ := encoders.Get().(*zstd.Encoder)
			if e == nil {
				e = newZstd()
			}
			e.Reset(w)
			defer func() {
				e.Reset(nil)
				encoders.Put(e)
			}()
			z = e
		default:
			next.ServeHTTP(w, r)
			return
		}
		const block = 32 << 10
		b := bufio.NewWriterSize(z, block)
		w.Header().Set("Content-Encoding", encoding)
		next.ServeHTTP(&compressedWriter{w, b}, r)
		// An error here is a client that went away.
		_ = b.Flush()
		_ = z.Close()
	})
}

// newZstd returns an encoder that runs in the caller's goroutine and looks back
// no further than a metric's own lines.
func newZstd() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("exporter: zstd: " + err.Error()) // of an option that is not valid
	}
	return e
}

type compressedWriter struct {
	http.ResponseWriter
	body *bufio.Writer
}

func (w *compressedWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// chooseEncoding reads an Accept-Encoding header: gzip or zstd, whichever has the
// greater weight, gzip when they are equal, "" when neither is accepted.
func chooseEncoding(header string) string {
	best, weight := "", 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name != "gzip" && name != "zstd" {
			continue
		}
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				continue
			}
			q = v
		}
		if q > weight || q == weight && q > 0 && name == "gzip" {
			best, weight = name, q
		}
	}
	return best
}
