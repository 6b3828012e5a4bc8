package human_test

import (
	"math"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", -1: "-1 B", -5000: "-5000 B",
		1 << 10: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1024.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", 5 << 40: "5.0 TiB", 1 << 50: "1.0 PiB",
		math.MaxInt64: "8.0 EiB",
	} {
		if got := human.Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
