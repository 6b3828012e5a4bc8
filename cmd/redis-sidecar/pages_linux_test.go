package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestReadOnlyPart(t *testing.T) {
	for line, want := range map[string][2]uintptr{
		"00400000-00b67000 r-xp 00000000 08:01 12345                              /redis-sidecar":           {0x400000, 0xb67000},
		"00b67000-013da000 r--p 00767000 08:01 12345                              /redis-sidecar":           {0xb67000, 0x13da000},
		"013da000-0144d000 rw-p 00fda000 08:01 12345                              /redis-sidecar":           {},
		"00400000-00b67000 r-xp 00000000 08:01 12345                              /lib/libc.so":             {},
		"00400000-00b67000 r-xp 00000000 08:01 12345                              /redis-sidecar (deleted)": {},
		"0144d000-03498000 rw-p 00000000 00:00 0":                                                           {},
		"x-y r-xp 00000000 08:01 12345 /redis-sidecar":                                                      {},
		"": {},
	} {
		from, to, ok := readOnlyPart(line, "/redis-sidecar")
		if ok != (want[1] != 0) || ok && [2]uintptr{from, to} != want {
			t.Errorf("%q: %x-%x, %t", line, from, to, ok)
		}
	}
}

// touchProgram makes all of the program resident, so that what was run before does
// not matter: what the kernel reads for /proc/self/mem it maps.
func touchProgram(t *testing.T) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		if from, to, ok := readOnlyPart(line, program); ok {
			if _, err := io.Copy(io.Discard, io.NewSectionReader(memory, int64(from), int64(to-from))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The program goes on, and less of it is resident.
func TestForgetStart(t *testing.T) {
	resident := func() int {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "RssFile:")
		words := strings.Fields(rest)
		if len(words) == 0 {
			t.Fatal("no RssFile in /proc/self/status")
		}
		kb, err := strconv.Atoi(words[0])
		if err != nil {
			t.Fatal(err)
		}
		return kb
	}
	touchProgram(t)
	before := resident()
	forgetStart()
	if after := resident(); after > before/2 {
		t.Errorf("%d kB of files were resident, %d kB are", before, after)
	}
}
