package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// compressed is what a frameWriter makes of data, written in pieces of odd sizes.
func compressed(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := newFrameWriter(&out)
	if err != nil {
		tb.Fatal(err)
	}
	for piece := 1; len(data) > 0; piece = piece*7%300_007 + 1 {
		n, err := w.Write(data[:min(piece, len(data))])
		if err != nil {
			tb.Fatal(err)
		}
		data = data[n:]
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// unframe decompresses with a frameReader.
func unframe(tb testing.TB, r io.Reader, size int) ([]byte, error) {
	tb.Helper()
	f, err := newFrameReader(lenderOf(r), size)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.close()
	flow := newFlow(f, nil)
	defer flow.stop()
	return io.ReadAll(flow)
}

// text is data that compresses like an RDB, noise such that does not.
func text(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, 0, n+16)
	for len(out) < n {
		out = append(out, []string{"user:", "name", "@example.com", "\x00\xff", `{"id":`}[rnd.IntN(5)]...)
		out = append(out, byte(rnd.IntN(256)))
	}
	return out[:n]
}

func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(out)
	return out
}

// lentOut lends what it has in pieces that are something else once they are given back.
type lentOut struct {
	io.Reader // never used

	rest  []byte
	piece int
}

func (l *lentOut) Lend() (piece []byte, giveBack func(), err error) {
	if len(l.rest) == 0 {
		return nil, nil, io.EOF
	}
	piece = bytes.Clone(l.rest[:min(l.piece, len(l.rest))])
	if l.rest = l.rest[len(piece):]; len(l.rest) == 0 {
		err = io.EOF
	}
	return piece, func() {
		for i := range piece {
			piece[i] ^= 0xff
		}
	}, err
}

func TestFrames(t *testing.T) {
	for name, data := range map[string][]byte{
		"one byte":              {7},
		"a byte less":           text(frameSize - 1),
		"a frame":               text(frameSize),
		"a byte more":           text(frameSize + 1),
		"many":                  text(11*frameSize + 12345),
		"incompressible":        noise(3*frameSize + 5),
		"the same byte":         bytes.Repeat([]byte{0}, 2*frameSize+1),
		"compressible and not":  append(text(frameSize/2), append(noise(2*frameSize), text(frameSize)...)...),
		"blocks of every kind":  append(bytes.Repeat([]byte{1}, frameSize/2), append(text(frameSize), noise(frameSize)...)...),
		"less than one block":   text(100),
		"a block and a bit":     noise(128<<10 + 1),
		"nothing but the start": []byte("REDIS0010"),
	} {
		t.Run(name, func(t *testing.T) {
			stored := compressed(t, data)
			if n, want := bytes.Count(stored, []byte{0x28, 0xb5, 0x2f, 0xfd}), (len(data)+frameSize-1)/frameSize; n != want {
				t.Errorf("%d frames, want %d", n, want)
			}
			got, err := unframe(t, bytes.NewReader(stored), frameSize)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
			got, err = unframe(t, iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(stored))), frameSize)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("in pieces: %d bytes of %d, %v", len(got), len(data), err)
			}
			for _, piece := range []int{1 + len(stored)/5000, frameSize/3 + 1, 4 << 20} {
				got, err = unframe(t, &lentOut{rest: stored, piece: piece}, frameSize)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("lent %d bytes at a time: %d bytes of %d, %v", piece, len(got), len(data), err)
				}
			}
			// Whoever knows nothing of the frames reads the same.
			dec, err := zstd.NewReader(bytes.NewReader(stored))
			if err != nil {
				t.Fatal(err)
			}
			defer dec.Close()
			if got, err = io.ReadAll(dec); err != nil || !bytes.Equal(got, data) {
				t.Errorf("as a stream: %d bytes of %d, %v", len(got), len(data), err)
			}
		})
	}
}

// What is not whole, or no frame, is an error, and what comes before it is right. Of
// bits that have flipped see TestVerifyDecompression.
func TestFramesDamaged(t *testing.T) {
	data := text(3*frameSize + 1000)
	stored := compressed(t, data)
	second := bytes.Index(stored[1:], stored[:4]) + 1
	wrong := func(t *testing.T, stored []byte, want string) {
		t.Helper()
		got, err := unframe(t, bytes.NewReader(stored), frameSize)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%d bytes that are not those that were stored", len(got))
		}
	}
	t.Run("cut", func(t *testing.T) {
		for _, n := range []int{1, 3, 4, 5, 6, 8, 9, 100, second - 5, second - 4, second - 1, second + 1, second + 6, len(stored) - 5, len(stored) - 1} {
			wrong(t, stored[:n], "unexpected EOF")
		}
	})
	t.Run("more", func(t *testing.T) {
		wrong(t, append(bytes.Clone(stored), 0), "unexpected EOF")
		wrong(t, append(bytes.Clone(stored), "something else"...), "magic number mismatch")
		wrong(t, append(bytes.Clone(stored), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9), "a frame that holds no data")
	})
	t.Run("block of a reserved kind", func(t *testing.T) {
		wrong(t, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x40, 7, 0, 0}, "reserved block type")
	})
	t.Run("larger than said", func(t *testing.T) {
		one, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		wrong(t, one.EncodeAll(noise(2*frameSize), nil), "a frame of more than 1065024 bytes")
		wrong(t, one.EncodeAll(bytes.Repeat(data[:1], 2*frameSize), nil), "size exceeds")
	})
	t.Run("the source fails", func(t *testing.T) {
		broken := errors.New("broken")
		for _, n := range []int{0, 2, second, second + 100} {
			_, err := unframe(t, io.MultiReader(bytes.NewReader(stored[:n]), iotest.ErrReader(broken)), frameSize)
			if !errors.Is(err, broken) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
	})
}

// It can be left at any time; TestMain looks for goroutines that stay.
func TestFramesLeft(t *testing.T) {
	stored := compressed(t, text(20*frameSize))
	for _, n := range []int64{0, 1, frameSize, 5*frameSize + 1, 20 * frameSize} {
		f, err := newFrameReader(newBuffered(bytes.NewReader(stored)), frameSize)
		if err != nil {
			t.Fatal(err)
		}
		flow := newFlow(f, nil)
		if _, err := io.CopyN(io.Discard, flow, n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		flow.stop()
		f.close()
	}
	t.Run("a writer fails", func(t *testing.T) {
		f, err := newFrameReader(newBuffered(bytes.NewReader(stored)), frameSize)
		if err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		flow := newFlow(f, nil, failingWriter{broken}, io.Discard)
		if _, err := io.Copy(io.Discard, flow); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		flow.stop()
		f.close()
	})
}

// What it holds does not grow with the cores of the node.
func TestFramesMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	stored := compressed(t, noise(20*frameSize))
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	f, err := newFrameReader(newBuffered(bytes.NewReader(stored)), frameSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	flow := newFlow(f, nil)
	defer flow.stop()
	if _, err := io.CopyN(io.Discard, flow, 10*frameSize+1); err != nil {
		t.Fatal(err)
	}
	const most = 10 << 20
	if n := heap() - before; n > most {
		t.Errorf("%d bytes, want %d at most", n, most)
	}
	runtime.KeepAlive(stored)
}

// FuzzFrames holds what is read from frames to what zstd reads from the whole.
func FuzzFrames(f *testing.F) {
	const size = 4 << 10
	for _, data := range [][]byte{text(10), text(3 * size), noise(2 * size), bytes.Repeat([]byte{9}, 5*size)} {
		enc, err := zstd.NewWriter(nil)
		if err != nil {
			f.Fatal(err)
		}
		var all []byte
		for len(data) > 0 {
			n := min(len(data), size)
			all = enc.EncodeAll(data[:n], all)
			data = data[n:]
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		got, err := unframe(t, bytes.NewReader(stored), size)
		if err != nil {
			return
		}
		dec, err := zstd.NewReader(bytes.NewReader(stored), zstd.IgnoreChecksum(true))
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		if want, err := io.ReadAll(dec); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, zstd reads %d, %v", len(got), len(want), err)
		}
	})
}

// Frames of another size than this program's, a later one's for example, are read, and
// the largest with no more memory.
func TestFramesOfAnySize(t *testing.T) {
	data := append(text(3*maxFrameSize), noise(maxFrameSize)...)
	for _, size := range []int{1 << 10, frameSize / 2, frameSize, maxFrameSize, maxFrameSize + 1, 2 * maxFrameSize, len(data)} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			var stored bytes.Buffer
			enc, err := zstd.NewWriter(&stored, zstd.WithWindowSize(maxWindow))
			if err != nil {
				t.Fatal(err)
			}
			for piece := range slices.Chunk(data, size) {
				enc.Reset(&stored)
				if _, err := enc.Write(piece); err != nil {
					t.Fatal(err)
				}
				if err := enc.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r, done, err := decode(Object{Compression: CompressionZstd, FrameSize: size, Encryption: EncryptionNone}, identities{}, &stored)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			flow := newFlow(r, nil)
			defer flow.stop()
			if got, err := io.ReadAll(flow); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
			o := testManifest(noon, 0).Object
			o.FrameSize = size
			if err := joined(o.problems()...); err != nil {
				t.Error(err)
			}
		})
	}
	if err := joined(Object{FrameSize: -1}.problems()...); err == nil || !strings.Contains(err.Error(), "object.frame_size is negative") {
		t.Error(err)
	}
}
