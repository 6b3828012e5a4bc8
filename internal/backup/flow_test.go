package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// Whoever gets a flow's bytes, and however, gets all of them.
func TestFlow(t *testing.T) {
	data := make([]byte, 3*flowChunks*flowChunk+7)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	for name, r := range map[string]func() io.Reader{
		"whole chunks":  func() io.Reader { return bytes.NewReader(data) },
		"half of them":  func() io.Reader { return iotest.HalfReader(bytes.NewReader(data)) },
		"data with EOF": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(data)) },
	} {
		for how, drain := range map[string]func(f *flow, to io.Writer) error{
			"Next": func(f *flow, to io.Writer) error {
				return drainNext(f, to.Write)
			},
			"Read": func(f *flow, to io.Writer) error { _, err := io.Copy(to, struct{ io.Reader }{f}); return err },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				var read, first, second bytes.Buffer
				told := 0
				f := newFlow(newBuffered(r()), func() { told++ }, &first, &second)
				if err := errors.Join(drain(f, &read), f.wait()); err != nil {
					t.Fatal(err)
				}
				for _, got := range []*bytes.Buffer{&read, &first, &second} {
					if !bytes.Equal(got.Bytes(), data) {
						t.Errorf("%d bytes of %d, or others", got.Len(), len(data))
					}
				}
				if f.n.Load() != int64(len(data)) || told == 0 {
					t.Errorf("n is %d, told %d times", f.n.Load(), told)
				}
			})
		}
	}
}

// The end of a flow, by whatever, is that of all its goroutines.
func TestFlowEnds(t *testing.T) {
	broken := errors.New("broken")
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	for name, tt := range map[string]struct {
		r    io.Reader
		w    io.Writer
		want error
	}{
		"reader fails":          {io.MultiReader(bytes.NewReader(make([]byte, flowChunk)), iotest.ErrReader(broken)), io.Discard, broken},
		"reader has no more":    {readerFunc(func([]byte) (int, error) { return 0, nil }), io.Discard, io.ErrNoProgress},
		"writer fails":          {endless, failingWriter{broken}, broken},
		"whoever reads it does": {endless, io.Discard, io.ErrShortBuffer},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFlow(newBuffered(tt.r), nil, tt.w)
			left := int64(20 * flowChunk)
			err := drainNext(f, func(p []byte) (int, error) {
				if left -= int64(len(p)); left < 0 && tt.want == io.ErrShortBuffer { //nolint:errorlint // this very one
					return 0, tt.want
				}
				return len(p), nil
			})
			f.stop() // returns when all have ended
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// drainNext hands on what Next returns until io.EOF.
func drainNext(f *flow, write func([]byte) (int, error)) error {
	for {
		p, err := f.Next()
		if err == io.EOF { //nolint:errorlint // its own
			return nil
		}
		if err == nil {
			_, err = write(p)
		}
		if err != nil {
			return err
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
