package rdb_test

import (
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
)

func TestMaxVersion(t *testing.T) {
	for _, tt := range []struct {
		version string
		max     int
		known   bool
	}{
		{"2.4.18", 0, false},
		{"2.6.0", 6, true},
		{"2.8.24", 6, true},
		{"3.0.7", 6, true},
		{"3.2.13", 7, true},
		{"4.0.14", 8, true},
		{"5.0.14", 9, true},
		{"6.0.20", 9, true},
		{"6.2.14", 9, true},
		{"7.0.15", 10, true},
		{"7.2.4", 11, true},
		{"7.4.0-rc1", 12, true},
		{"7.9.227", 12, true}, // a pre-release of 8.0
		{"v8.0", 12, true},
		{"8.2.1", 12, true},
		{"8.4.0", 12, true},
		{"8.6.2", 13, true},
		{"8.8.1", 14, true},
		{"8.10.0", 15, true},
		{"8.12.0", 15, false}, // newer than this program: at least that
		{"9.0.0", 15, false},
		{"255.255.255", 15, false},
		{"", 0, false},
		{"7", 0, false},
		{"seven.0", 0, false},
		{"7.x", 0, false},
		{"-7.0", 0, false},
		{"7.99999999999999999999", 0, false},
	} {
		if got, known := rdb.MaxVersion(tt.version); got != tt.max || known != tt.known {
			t.Errorf("MaxVersion(%q) = %d, %t, want %d, %t", tt.version, got, known, tt.max, tt.known)
		}
	}
}

func TestCanLoad(t *testing.T) {
	const redis, valkey = rdb.MagicRedis, rdb.MagicValkey
	for _, tt := range []struct {
		server, version string
		magic           string
		rdbVersion      int
		ok, known       bool
	}{
		{"redis", "7.0.15", redis, 10, true, true},
		{"redis", "7.0.15", redis, 3, true, true},
		{"redis", "7.0.15", redis, 11, false, true},
		{"redis", "7.2.0", redis, 11, true, true},
		{"redis", "8.10.0", redis, 16, false, true},
		{"redis", "9.0.0", redis, 15, true, true}, // every release loads what came before
		{"redis", "9.0.0", redis, 16, false, false},
		{"redis", "8.0.0", valkey, 80, false, true},
		{"redis", "99.0", valkey, 80, false, true},
		{"redis", "", redis, 6, false, false},

		{"valkey", "7.2.5", redis, 11, true, true},
		{"valkey", "8.1.3", redis, 10, true, true},
		{"valkey", "8.1.3", redis, 12, false, true},
		{"Valkey", "8.1.3", valkey, 80, false, true},
		{"valkey", "9.0.0", valkey, 80, true, true},
		{"valkey", "9.1.0", redis, 11, true, true},
		{"valkey", "9.1.0", redis, 12, false, true}, // Redis' numbers are refused
		{"valkey", "9.9.0", redis, 15, false, true},
		{"valkey", "9.1.0", valkey, 81, false, true},
		{"valkey", "9.2.0", valkey, 80, true, true},
		{"valkey", "9.2.0", valkey, 81, false, false},
		{"valkey", "", valkey, 80, false, false},
		{"valkey", "", redis, 12, false, false},

		{"keydb", "6.3.4", redis, 9, false, false},
		{"", "7.0.15", redis, 9, false, false},
	} {
		ok, known := rdb.CanLoad(tt.server, tt.version, rdb.Summary{Magic: tt.magic, Version: tt.rdbVersion})
		if ok != tt.ok || known != tt.known {
			t.Errorf("CanLoad(%q, %q, %s %d) = %t, %t, want %t, %t",
				tt.server, tt.version, tt.magic, tt.rdbVersion, ok, known, tt.ok, tt.known)
		}
	}
}
