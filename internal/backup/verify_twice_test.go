package backup

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// alteringStore is a real store behind something that alters a byte of the data in
// the first reads.
type alteringStore struct {
	store.Store
	left int    // reads that are altered
	read func() // after each of data; may be nil
}

func (s *alteringStore) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	r, size, err := s.Store.Get(ctx, key)
	if err != nil || !strings.Contains(key, "/dump.rdb") {
		return r, size, err
	}
	if s.left > 0 {
		s.left--
		r = &alteringReader{ReadCloser: r, at: size / 2}
	}
	if s.read != nil {
		s.read()
	}
	return r, size, nil
}

type alteringReader struct {
	io.ReadCloser
	at int64 // the byte that is altered, from here on
}

func (r *alteringReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.at >= 0 && r.at < int64(n) {
		p[r.at] ^= 1
	}
	r.at -= int64(n)
	return n, err
}

// One bad read is no damage; two are.
func TestVerifyReadsTwice(t *testing.T) {
	for name, test := range map[string]struct {
		bad    int
		ok     bool
		logged string
	}{
		"none": {0, true, ""},
		"one":  {1, true, "the second read of the snapshot was good"},
		"both": {2, false, "it is read a second time"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := dirStore(t)
			s := &alteringStore{Store: dir, left: test.bad}
			c := newTestCatalogue(t, s)
			m := putReal(t, c, time.Now().Add(-time.Hour))
			var log testenv.Log
			_, _, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Tool: "test", Log: slog.New(slog.NewTextHandler(&log, nil))})
			if test.ok && err != nil || !test.ok && status.ReasonOf(err) != status.ReasonCorrupt {
				t.Errorf("error %v", err)
			}
			v, err := c.Verification(testContext(t), m.ID)
			if err != nil || v == nil || v.OK() != test.ok {
				t.Errorf("record %+v, %v", v, err)
			}
			if text := log.String(); !strings.Contains(text, test.logged) || (test.logged == "") != (text == "") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

// A snapshot that is deleted while it is verified is gone, and not damaged.
func TestVerifyOfWhatIsDeletedMeanwhile(t *testing.T) {
	for name, bad := range map[string]int{"data read well": 0, "data read amiss": 2} {
		t.Run(name, func(t *testing.T) {
			dir, _ := dirStore(t)
			s := &alteringStore{Store: dir, left: bad}
			c := newTestCatalogue(t, s)
			m := putReal(t, c, time.Now().Add(-time.Hour))
			s.read = func() {
				if err := c.Delete(testContext(t), m.ID); err != nil {
					t.Error(err)
				}
			}
			_, v, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Tool: "test"})
			if !errors.Is(err, ErrNotFound) || v.Damage != "" {
				t.Errorf("%+v, %v", v, err)
			}
			wantKeys(t, s)
		})
	}
	// The data goes while it is read.
	t.Run("data gone", func(t *testing.T) {
		dir, _ := dirStore(t)
		s := &hookedStore{Store: dir}
		c := newTestCatalogue(t, s)
		m := putReal(t, c, time.Now().Add(-time.Hour))
		s.before = func(op, key string) error {
			if op == "get" && key == c.ObjectKey(m) {
				return c.Delete(testContext(t), m.ID)
			}
			return nil
		}
		if _, _, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Tool: "test"}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		wantKeys(t, s)
	})
}
