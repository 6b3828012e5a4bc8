package rdb

import (
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"slices"
	"testing"
)

// way is one to sum.
type way struct {
	name   string
	update func(crc uint64, p []byte) uint64
}

// ways are those of this package. Chosen is the fastest that this CPU can go.
var ways = []way{
	{"Chosen", updateCRC},
	{"Lanes", updateLanes},
}

var jonesTable = crc64.MakeTable(jones)

// stdlib is the sum by the standard library.
func stdlib(crc uint64, p []byte) uint64 { return ^crc64.Update(^crc, jonesTable, p) }

// random returns bytes that are the same in every run, and more random numbers.
func random(size int) ([]byte, *rand.Rand) {
	src := rand.NewChaCha8([32]byte{1})
	data := make([]byte, size)
	_, _ = src.Read(data)
	return data, rand.New(src)
}

// Every way to sum has the result of the standard library.
func TestUpdateCRC(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			same := func(begin uint64, data []byte, from, to int) {
				t.Helper()
				if got, want := w.update(begin, data[from:to]), stdlib(begin, data[from:to]); got != want {
					t.Fatalf("%d bytes from %d, begun with %016x: %016x, want %016x", to-from, from, begin, got, want)
				}
			}
			const check = 0xe9c6d914c4b8d9ca // of "123456789", as Redis has it in crc64.c
			if got := w.update(0, []byte("123456789")); got != check {
				t.Errorf("%016x, want %016x", got, uint64(check))
			}
			data, rnd := random(300 << 10)
			for size := range 2001 {
				from := rnd.IntN(64)
				same(0, data, from, from+size)
				same(rnd.Uint64(), data, from, from+size)
			}
			for range 300 {
				from := rnd.IntN(len(data))
				same(rnd.Uint64(), data, from, from+rnd.IntN(len(data)-from))
			}
		})
	}
}

// FuzzUpdateCRC holds the ways to sum against one another, in one go and in two.
func FuzzUpdateCRC(f *testing.F) {
	data, _ := random(2 * crcLanes * crcLane)
	for _, size := range []int{0, 1, 15, 16, 127, 128, 129, 255, 256, 400, crcLanes * crcLane, len(data)} {
		f.Add(uint64(0), data[:size], size/3)
		f.Add(^uint64(0), data[len(data)-size:], size/2)
	}
	f.Fuzz(func(t *testing.T, begin uint64, p []byte, cut int) {
		cut = int(uint(cut) % uint(len(p)+1))
		want := stdlib(begin, p)
		for _, w := range ways {
			if got := w.update(begin, p); got != want {
				t.Errorf("%s: %016x, want %016x", w.name, got, want)
			}
			if got := w.update(w.update(begin, p[:cut]), p[cut:]); got != want {
				t.Errorf("%s, cut after %d bytes: %016x, want %016x", w.name, cut, got, want)
			}
		}
	})
}

func BenchmarkUpdateCRC(b *testing.B) {
	data, _ := random(bufferSize)
	for _, w := range append(slices.Clip(ways), way{"Stdlib", stdlib}) {
		for _, size := range []int{64, 128, 256, 4 << 10, len(data)} {
			b.Run(fmt.Sprintf("%s/%d", w.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				crc := uint64(1)
				for b.Loop() {
					crc = w.update(crc, data[:size])
				}
			})
		}
	}
}
