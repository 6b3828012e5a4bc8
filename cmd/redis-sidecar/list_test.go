package main

import (
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
)

// The ratio is the one of redis_sidecar_backup_last_compression_ratio.
func TestListRatio(t *testing.T) {
	var out strings.Builder
	m := backup.Manifest{RDB: backup.RDB{Size: 300}, Object: backup.Object{Size: 120}}
	if err := printEntries(&out, []backup.Entry{{ID: "x", Manifest: m}}, ""); err != nil || !strings.Contains(out.String(), "  300 B  120 B   2.50 ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
