package rdb

import (
	"math/bits"
	"os"
	"testing"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// The powers are those of x modulo the polynomial, by long division.
func TestFoldPowers(t *testing.T) {
	// The polynomial as it is published, without its x^64, the highest bit first.
	const published = 0xad93d23594c935a9
	power := func(n int) uint64 {
		p := uint64(1)
		for range n {
			carry := p >> 63 // becomes x^64, which is equal to the rest of the polynomial
			p = p<<1 ^ carry*published
		}
		return bits.Reverse64(p)
	}
	want := powers{
		lanes: [2]uint64{power(1024 + 63), power(1024 - 1)},
		lane:  [2]uint64{power(128 + 63), power(128 - 1)},
	}
	if got := *foldPowers(); got != want {
		t.Errorf("%016x, want %016x", got, want)
	}
}

// A slice that ends, or begins, where memory does is read no further: the pages
// before and behind cannot be read.
func TestFoldStaysInside(t *testing.T) {
	if !cpu.X86.HasPCLMULQDQ {
		t.Fatal("this CPU has no PCLMULQDQ: fold is not tested here")
	}
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	for _, guard := range [][]byte{mem[:page], mem[2*page:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	data := mem[page : 2*page]
	filling, _ := random(page)
	copy(data, filling)
	for size := range page + 1 {
		for _, p := range [][]byte{data[:size], data[page-size:]} {
			if got, want := updateFolded(1, p), stdlib(1, p); got != want {
				t.Fatalf("%d bytes: %016x, want %016x", size, got, want)
			}
		}
	}
}
