package exporter_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestPermissionsFollowTheVersionAndTheOptions(t *testing.T) {
	for _, tt := range []struct {
		o                exporter.Options
		version, command string
		want             bool
	}{
		{exporter.Options{}, "", "+info", true},
		{exporter.Options{}, "", "+latency|histogram", true},
		{exporter.Options{}, "6.2.14", "+latency|histogram", false},
		{exporter.Options{}, "6.2.14", "+config|get", true},
		{exporter.Options{}, "valkey 9.0.1", "+latency|histogram", true},
		{exporter.Options{}, "valkey 9.0.1", "+commandlog|len", true},
		{exporter.Options{}, "valkey 8.0.1", "+commandlog|len", false},
		{exporter.Options{}, "", "+commandlog|len", false},
		{exporter.Options{}, "", "+cluster|info", true},
		{exporter.Options{}, "", "+ping", false},
		{exporter.Options{Collect: exporter.CollectOptions{Ping: true}}, "", "+ping", true},
		{exporter.Options{ConfigCommand: "-"}, "", "+config|get", false},
		{exporter.Options{Disabled: []string{"slowlog"}}, "", "+slowlog|get", false},
		{exporter.Options{}, "redis 8.2.0", "+slowlog|get", true},
	} {
		if got := slices.Contains(exporter.Permissions(tt.o, tt.version, false), tt.command); got != tt.want {
			t.Errorf("%s on %q: %v, want %v", tt.command, tt.version, got, tt.want)
		}
	}
}

func TestPermissionsOfTheBackground(t *testing.T) {
	const value = " +getrange +hlen +llen +memory|usage +pfcount +readonly"
	type options = exporter.BackgroundOptions
	for name, tt := range map[string]struct {
		o       options
		version string
		want    string
	}{
		"nothing":  {},
		"globs":    {o: options{Keys: exporter.KeyOptions{Check: keysIn(0, "user:*", "plain")}}, want: "%R~plain %R~user:*" + value + " +scan +scard +strlen +type +xlen +zcard"},
		"literal":  {o: options{Keys: exporter.KeyOptions{Single: keysIn(2, `a*[b] c\\`)}}, want: `%R~a\*\[b]?c\\\\` + value + " +scard +select +strlen +type +xlen +zcard"},
		"6.2":      {o: options{Keys: exporter.KeyOptions{Single: keysIn(0, "a")}}, version: "6.2.0", want: "~a" + value + " +scard +strlen +type +xlen +zcard"},
		"8.8":      {o: options{Keys: exporter.KeyOptions{Single: keysIn(0, "a")}}, version: "8.8.0", want: "%R~a +arcount" + value + " +scard +strlen +type +xlen +zcard"},
		"counting": {o: options{Keys: exporter.KeyOptions{Count: keysIn(0, "*", "one")}}, want: "%R~one +exists +readonly +scan"},
		"streams":  {o: options{Streams: exporter.StreamOptions{Single: keysIn(0, "s"), NoConsumers: true}}, want: "%R~s +readonly +type +xinfo|groups +xinfo|stream"},
		"groups":   {o: options{Groups: exporter.GroupOptions{Patterns: []string{"."}}, Keys: exporter.KeyOptions{Count: keysIn(0, "a")}}, want: "%R~* +exists +memory|usage +readonly +scan +select"},
		"all":      {o: options{Streams: exporter.StreamOptions{Check: keysIn(0, "*", "a*")}}, want: "%R~* +readonly +scan +type +xinfo|consumers +xinfo|groups +xinfo|stream"},
		"scripts":  {o: options{Scripts: exporter.ScriptOptions{Files: []string{"f"}}}, want: "+eval"},
		"clients":  {o: options{Clients: exporter.ClientOptions{Enabled: true}}, want: "+client|list"},
		"search":   {o: options{Search: exporter.SearchOptions{Enabled: true}}, version: "8.0.0", want: "+ft._list +ft.info"},
	} {
		without := exporter.Permissions(exporter.Options{}, tt.version, false)
		more := slices.DeleteFunc(exporter.Permissions(exporter.Options{Background: tt.o}, tt.version, false), func(w string) bool { return slices.Contains(without, w) })
		if diff := cmp.Diff(tt.want, strings.Join(more, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := exporter.Permissions(exporter.Options{Background: tt.o}, tt.version, true); strings.Contains(strings.Join(got, " "), "~") {
			t.Errorf("%s: a Sentinel has no keys: %v", name, got)
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
	srv.Do(t, append(rule, exporter.Permissions(exporter.Options{Collect: exporter.CollectOptions{ConfigValues: true, SentinelPeers: true}}, "7.0.15", true)...)...)
	c := newClient(t, redis.Options{Addr: srv.Addr, Name: "x", Credentials: func() (string, string, error) { return "sidecar", "hush", nil }})
	e, _ := newExporter(t, c, exporter.Options{Collect: exporter.CollectOptions{ConfigValues: true, SentinelPeers: true}})
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
