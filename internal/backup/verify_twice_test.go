package backup

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// alteringStore is a real store behind something that alters a byte in the first reads
// of an object.
type alteringStore struct {
	store.Store
	of   string // its key, or a part of that; "" is data
	left int    // reads that are altered
	read func() // after each of them; may be nil
}

func (s *alteringStore) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	r, size, err := s.Store.Get(ctx, key)
	if err != nil || !strings.Contains(key, cmp.Or(s.of, "/dump.rdb")) {
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

// Nor is one bad read of a manifest: the last good snapshot would lose what protects it.
func TestRetentionReadsManifestsTwice(t *testing.T) {
	for bad, left := range []int{2, 2, 1} {
		t.Run(strconv.Itoa(bad), func(t *testing.T) {
			dir, _ := dirStore(t)
			c := newTestCatalogue(t, dir)
			good, newest := putReal(t, c, time.Now().Add(-2*time.Hour)), putReal(t, c, time.Now().Add(-time.Hour))
			recordScheduled(t, c, good, time.Now())

			s := &alteringStore{Store: dir, of: c.manifestKey(good.ID), left: bad}
			p, err := newTestCatalogue(t, s).Prune(testContext(t), Retention{Last: 1}, false)
			if err != nil || p.Kept() != left || p.Keeps[0].ID != newest.ID {
				t.Errorf("%+v, %v; want %d to stay", p, err, left)
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
