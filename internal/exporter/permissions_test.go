package exporter_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestPermissionsFollowTheVersionAndTheOptions(t *testing.T) {
	has := func(o exporter.Options, version, command string) bool {
		return strings.Contains(" "+strings.Join(exporter.Permissions(o, version, false), " ")+" ", " "+command+" ")
	}
	for _, tt := range []struct {
		o                exporter.Options
		version, command string
		want             bool
	}{
		{exporter.Options{}, "", "info", true},
		{exporter.Options{}, "", "latency|histogram", true},
		{exporter.Options{}, "6.2.14", "latency|histogram", false},
		{exporter.Options{}, "6.2.14", "config|get", true},
		{exporter.Options{}, "valkey 9.0.1", "latency|histogram", true},
		{exporter.Options{}, "", "cluster|info", true},
		{exporter.Options{ConfigCommand: "-"}, "", "config|get", false},
		{exporter.Options{Disabled: []string{"slowlog"}}, "", "slowlog|get", false},
		{exporter.Options{}, "redis 8.2.0", "slowlog|get", true},
	} {
		if got := has(tt.o, tt.version, tt.command); got != tt.want {
			t.Errorf("%s on %q: %v, want %v", tt.command, tt.version, got, tt.want)
		}
	}
}

func TestBackgroundPermissions(t *testing.T) {
	keys := func(text string) []settings.DBKey {
		k, err := settings.ParseKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, tt := range map[string]struct {
		s       settings.Exporter
		version string
		want    string
	}{
		"nothing":  {},
		"globs":    {s: settings.Exporter{Keys: settings.ExporterKeys{Check: keys("user:*,plain")}}, want: "%R~plain %R~user:* +getrange +hlen +info +llen +memory|usage +pfcount +readonly +scan +scard +strlen +type +xlen +zcard"},
		"literal":  {s: settings.Exporter{Keys: settings.ExporterKeys{Single: keys("db2=a*[b] c\\\\")}}, want: `%R~a\*\[b]?c\\\\ +getrange +hlen +info +llen +memory|usage +pfcount +readonly +scard +select +strlen +type +xlen +zcard`},
		"6.2":      {s: settings.Exporter{Keys: settings.ExporterKeys{Single: keys("a")}}, version: "6.2.0", want: "~a +getrange +hlen +info +llen +memory|usage +pfcount +readonly +scard +strlen +type +xlen +zcard"},
		"8.8":      {s: settings.Exporter{Keys: settings.ExporterKeys{Single: keys("a")}}, version: "8.8.0", want: "%R~a +arcount +getrange +hlen +info +llen +memory|usage +pfcount +readonly +scard +strlen +type +xlen +zcard"},
		"counting": {s: settings.Exporter{Keys: settings.ExporterKeys{Count: keys("*,one")}}, want: "%R~one +exists +info +readonly +scan"},
		"streams":  {s: settings.Exporter{Streams: settings.ExporterStreams{Single: keys("s"), NoConsumers: true}}, want: "%R~s +info +readonly +type +xinfo|groups +xinfo|stream"},
		"groups":   {s: settings.Exporter{Keys: settings.ExporterKeys{Groups: []string{"."}, Single: keys("a")}}, want: "%R~* +config|get +getrange +hlen +info +llen +memory|usage +pfcount +readonly +scan +scard +select +strlen +type +xlen +zcard"},
		"scripts":  {s: settings.Exporter{Scripts: settings.ExporterScripts{Files: []string{"f"}}}, want: "+eval +info"},
		"clients":  {s: settings.Exporter{Clients: settings.ExporterClients{List: true}}, want: "+client|list +info"},
		"search":   {s: settings.Exporter{Search: settings.ExporterSearch{On: true}}, version: "8.0.0", want: "+ft._list +ft.info +info"},
	} {
		got := strings.Join(exporter.BackgroundPermissions(tt.s, tt.version), " ")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A Sentinel accepts its rule and refuses nothing of 100 scrapes.
func TestSentinelPermissions(t *testing.T) {
	primary := testenv.StartRedis(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "sentinel monitor mymaster 127.0.0.1 %d 1\n", primary.Port), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := testenv.StartRedisIn(t, dir, conf, "--sentinel")
	rule := []string{"ACL", "SETUSER", "sidecar", "reset", "on", ">hush", "+client|setname"}
	for _, c := range exporter.Permissions(exporter.Options{}, "7.0.15", true) {
		rule = append(rule, "+"+c)
	}
	srv.Do(t, rule...)
	c := newClient(t, redis.Options{Addr: srv.Addr, Name: "x", Credentials: func() (string, string, error) { return "sidecar", "hush", nil }})
	e, _ := newExporter(t, c, exporter.Options{})
	for range 100 {
		if got := scrape(t, e); got["redis_up"] != "1" {
			t.Fatalf("redis_up is %q", got["redis_up"])
		}
	}
	if in := srv.Do(t, "INFO", "errorstats").(string); strings.Contains(in, "NOPERM") {
		t.Errorf("%s", in)
	}
	if log := srv.Do(t, "ACL", "LOG").([]any); len(log) > 0 {
		t.Errorf("ACL LOG: %v", log)
	}
	if _, err := c.Do(context.Background(), "SENTINEL", "FAILOVER", "mymaster"); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("SENTINEL FAILOVER: %v, want NOPERM", err)
	}
}
