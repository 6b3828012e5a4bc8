package testenv

import (
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

func TestWorkload(t *testing.T) {
	for _, c := range []struct {
		name     string
		commands [][]string
		distinct int
	}{
		{"everyday", Everyday(), 21},
		{"everything", Everything(), 110},
	} {
		srv := StartRedis(t)
		srv.Do(t, "CONFIG", "RESETSTAT")
		own := map[string]bool{"config|resetstat": true, "hello": true} // of Do
		for _, command := range c.commands {
			srv.Do(t, command...) // fails the test on an error reply
		}
		stats := info.Parse(srv.Do(t, "INFO", "commandstats").(string))
		var got []string
		for name := range stats.All() {
			if command, ok := strings.CutPrefix(name, "cmdstat_"); ok && !own[command] {
				got = append(got, command)
			}
		}
		if len(got) != c.distinct {
			t.Errorf("%s: %d distinct commands, want %d: %s", c.name, len(got), c.distinct, got)
		}
	}
}
