package rdb_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
)

// FuzzScan throws bytes at Scan as they are, and again with a checksum that is
// right, so that the walk has to judge them by their structure.
func FuzzScan(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.read(f))
	}
	f.Add(file("REDIS0015", "\xf2\x00\x02\x06field1\x06field2", "\xfe\x00", "\x1e\x01a\x00", "\x20\x01b\x00\xc0\x01\xc0\x02"))
	f.Add(file("VALKEY080", "\xf3\x01j\x02\x00\x05\x0a\x40\xff", "\xfe\x00", "\x00\x01a\x01b"))
	f.Add(unsummed("REDIS0010", "\xfe\x00", "\x00\x01a\x81\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		if at := len(data) - 8; at > 0 {
			check(t, binary.LittleEndian.AppendUint64(bytes.Clone(data[:at]), checksum(string(data[:at]))))
		}
	})
}

// check scans data and holds the result against what is always true.
func check(t *testing.T, data []byte) {
	t.Helper()
	got, err := rdb.Scan(bytes.NewReader(data))
	again, err2 := rdb.Scan(&pieces{r: bytes.NewReader(data), buf: make([]byte, 7)})
	if fmt.Sprint(err) != fmt.Sprint(err2) || err == nil && !cmp.Equal(got, again) {
		t.Errorf("read otherwise: %+v, %v and %+v, %v", got, err, again, err2)
	}
	if err != nil {
		mustBeDamage(t, err, len(data))
		if got.Walked {
			t.Errorf("walked in spite of %v", err)
		}
		return
	}
	switch {
	case got.Bytes != int64(len(data)):
		t.Errorf("%d bytes, want %d", got.Bytes, len(data))
	case !got.Walked && (got.Checksum == 0 || got.Databases != nil):
		t.Errorf("neither walked nor verified: %+v", got)
	case got.Version < 5 && (got.Checksum != 0 || got.CRC64 != checksum(string(data))):
		t.Errorf("sums of a version without: %+v", got)
	case got.Version >= 5 && got.CRC64 != checksum(string(data[:len(data)-8])):
		t.Errorf("computed %016x: %+v", got.CRC64, got)
	case got.Checksum != 0 && got.Checksum != got.CRC64:
		t.Errorf("a wrong checksum passed: %+v", got)
	case len(got.Expiry) > 64 || len(got.Expiry) > 0 && inSpans(got) != expires(got):
		t.Errorf("keys by time: %+v", got)
	case got.Keys() > uint64(len(data)):
		t.Errorf("more keys than bytes: %+v", got)
	}
}
