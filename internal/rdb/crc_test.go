package rdb

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

// The sum in lanes is that of the standard library.
func TestUpdateCRC(t *testing.T) {
	data := make([]byte, 300<<10)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(data)
	rnd := rand.New(src)
	table := crc64.MakeTable(jones)
	const check = 0xe9c6d914c4b8d9ca // of "123456789", as Redis has it in crc64.c
	if got := updateCRC(0, []byte("123456789")); got != check {
		t.Errorf("%016x, want %016x", got, uint64(check))
	}
	for range 300 {
		from := rnd.IntN(len(data))
		p := data[from : from+rnd.IntN(len(data)-from)]
		begin := rnd.Uint64()
		if got, want := updateCRC(begin, p), ^crc64.Update(^begin, table, p); got != want {
			t.Fatalf("%d bytes from %d: %016x, want %016x", len(p), from, got, want)
		}
	}
}

func BenchmarkUpdateCRC(b *testing.B) {
	data := make([]byte, 128<<10)
	table := crc64.MakeTable(jones)
	for name, update := range map[string]func(uint64, []byte) uint64{
		"Lanes":  updateCRC,
		"Stdlib": func(crc uint64, p []byte) uint64 { return ^crc64.Update(^crc, table, p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			crc := uint64(1)
			for b.Loop() {
				crc = update(crc, data)
			}
		})
	}
}
