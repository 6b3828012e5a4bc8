package rdb_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// BenchmarkScan walks dumps that a real server wrote, from memory.
func BenchmarkScan(b *testing.B) {
	r := testenv.StartRedis(b, "--rdbcompression", "no")
	for _, bm := range []struct {
		name string
		fill func()
	}{
		{"SmallStrings", func() { r.Fill(b, "key", 300_000, 20) }},
		{"Strings430", func() { r.Fill(b, "key", 100_000, 430) }},
		{"LargeValues", func() { r.Fill(b, "key", 40, 1<<20) }},
		{"Hashes", func() {
			args := []string{"HSET", ""}
			for i := range 1000 {
				args = append(args, "field:"+strconv.Itoa(i), strings.Repeat("v", 20))
			}
			for i := range 400 {
				args[1] = "hash" + strconv.Itoa(i)
				r.Do(b, args...)
			}
		}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			r.Do(b, "FLUSHALL")
			bm.fill()
			dump := save(b, r)
			b.SetBytes(int64(len(dump)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := rdb.Scan(bytes.NewReader(dump))
				if err != nil || s.Keys() == 0 {
					b.Fatalf("%d keys, %v", s.Keys(), err)
				}
			}
		})
	}
}
