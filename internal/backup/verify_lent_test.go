package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// few lends data in small pieces, of a few buffers that are something else as soon as
// they are given back.
type few struct {
	io.Reader // never used

	data []byte
	end  error           // after data
	ctx  context.Context //nolint:containedctx // as in a reader of the store
	free chan []byte

	mu  sync.Mutex
	out int // buffers that are lent
	bad bool
}

func newFew(ctx context.Context, data []byte, end error) *few {
	const buffers, size = 3, 700
	f := &few{data: data, end: end, ctx: ctx, free: make(chan []byte, buffers)}
	for range buffers {
		f.free <- make([]byte, size)
	}
	return f
}

func (f *few) Lend() (piece []byte, giveBack func(), err error) {
	if len(f.data) == 0 {
		return nil, nil, f.end
	}
	var buf []byte
	select {
	case buf = <-f.free:
	case <-f.ctx.Done():
		return nil, nil, f.ctx.Err()
	}
	n := copy(buf, f.data)
	f.data = f.data[n:]
	f.lent(1)
	return buf[:n], func() {
		for i := range buf {
			buf[i] ^= 0xff
		}
		f.lent(-1)
		f.free <- buf
	}, nil
}

func (f *few) lent(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out += n
	f.bad = f.bad || f.out < 0 || f.out > cap(f.free)
}

// Whatever is stored, and whatever ends the read, all that was lent is given back,
// once, and nobody uses it after that. TestMain looks for goroutines that stay.
func TestReadVerifiedLent(t *testing.T) {
	plain := stringsRDB(60, 1000)
	summary, err := rdb.Scan(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest(noon, 0)
	m.RDB = describeRDB(summary)
	m.RDB.Size, m.RDB.SHA256 = int64(len(plain)), hexSHA256(plain)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	const size = 1 << 10
	var frames []byte
	for piece := range slices.Chunk(plain, size) {
		frames = enc.EncodeAll(piece, frames)
	}
	broken := status.WithReason(status.ReasonStoreUnreachable, errors.New("broken"))
	for name, o := range map[string]struct {
		Object
		stored []byte
	}{
		"frames":          {Object{Compression: CompressionZstd, FrameSize: size}, frames},
		"one frame":       {Object{Compression: CompressionZstd}, enc.EncodeAll(plain, nil)},
		"neither of both": {Object{Compression: CompressionNone}, plain},
	} {
		for _, encryption := range []string{EncryptionNone, EncryptionAge} {
			stored := o.stored
			if encryption == EncryptionAge {
				var b bytes.Buffer
				w, err := age.Encrypt(&b, key.Recipient())
				if err != nil {
					t.Fatal(err)
				}
				_, err = w.Write(stored)
				if err = errors.Join(err, w.Close()); err != nil {
					t.Fatal(err)
				}
				stored = b.Bytes()
			}
			m.Object.Compression, m.Object.FrameSize, m.Object.Encryption = o.Compression, o.FrameSize, encryption
			m.Object.Size, m.Object.SHA256 = int64(len(stored)), hexSHA256(stored)
			for _, tt := range []struct {
				name   string
				stored []byte
				end    error
				w      io.Writer // nil: all of it is good
				want   status.Reason
			}{
				{"whole", stored, io.EOF, nil, ""},
				{"the store fails", stored[:len(stored)*2/3], broken, io.Discard, status.ReasonStoreUnreachable},
				{"cut", stored[:len(stored)*2/3], io.EOF, io.Discard, status.ReasonCorrupt},
				{"altered", altered(stored), io.EOF, io.Discard, status.ReasonCorrupt},
				{"more", append(bytes.Clone(stored), 1), io.EOF, io.Discard, status.ReasonCorrupt},
				{"the disk is full", stored, io.EOF, failingWriter{status.WithReason(status.ReasonDiskFull, errors.New("full"))}, status.ReasonDiskFull},
			} {
				t.Run(name+"/"+encryption+"/"+tt.name, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					body := newFew(ctx, tt.stored, tt.end)
					var got bytes.Buffer
					w := tt.w
					if w == nil {
						w = &got
					}
					err := readVerified(m, identities{keys: []age.Identity{key}}, body, cancel, w, nil)
					if status.ReasonOf(err) != tt.want && (err != nil || tt.want != "") {
						t.Errorf("got %v (%s), want %s", err, status.ReasonOf(err), tt.want)
					}
					if tt.w == nil && !bytes.Equal(got.Bytes(), plain) {
						t.Errorf("%d bytes of %d, or others", got.Len(), len(plain))
					}
					if body.out != 0 || body.bad {
						t.Errorf("%d buffers are lent for ever, or were given back twice: %t", body.out, body.bad)
					}
				})
			}
		}
	}
}

// stringsRDB is an RDB of so many strings of so many bytes, without a checksum.
func stringsRDB(keys, size int) []byte {
	b := []byte("REDIS0010\xfe\x00")
	for i := range keys {
		b = append(b, 0, 2, byte('a'+i/26), byte('a'+i%26), 0x40|byte(size>>8), byte(size))
		b = append(b, text(size)...)
	}
	return append(b, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
}

func altered(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	return b
}
