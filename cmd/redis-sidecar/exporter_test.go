package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// Every setting of the exporter gets to it, under redis_exporter's names too.
func TestExporterOptions(t *testing.T) {
	script := filepath.Join(t.TempDir(), "s.lua")
	if err := os.WriteFile(script, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	base := exporter.Options{
		Namespace: "redis", Timeout: 5 * time.Second, MaxSeries: 2000, Files: exporter.FileOptions{Local: true},
		Version: buildVersion().version, Commit: buildVersion().revision, Date: buildVersion().date,
		Background: exporter.BackgroundOptions{
			Interval: time.Minute, Budget: 30 * time.Second, ScanRate: 50000, BatchSize: 1000,
			Groups: exporter.GroupOptions{MaxDistinct: 100}, Clients: exporter.ClientOptions{Max: 20000},
			Search: exporter.SearchOptions{Indexes: regexp.MustCompile(".*")},
		},
	}
	for _, tt := range []struct {
		args   []string
		change func(o *exporter.Options)
	}{
		{nil, func(*exporter.Options) {}},
		{[]string{"--namespace=valkey"}, func(o *exporter.Options) { o.Namespace = "valkey" }},
		{[]string{"--connection-timeout=3s"}, func(o *exporter.Options) { o.Timeout = 3 * time.Second }},
		{[]string{"--config-command=-"}, func(o *exporter.Options) { o.ConfigCommand = "-" }},
		{[]string{"--exporter.max-series=7"}, func(o *exporter.Options) { o.MaxSeries = 7 }},
		{[]string{"--append-instance-role-label"}, func(o *exporter.Options) { o.InstanceRoleLabel = true }},
		{[]string{"--exporter.include=a|b"}, func(o *exporter.Options) { o.Include = regexp.MustCompile("^(?:a|b)$") }},
		{[]string{"--exporter.exclude=a|b"}, func(o *exporter.Options) { o.Exclude = regexp.MustCompile("^(?:a|b)$") }},
		{[]string{"--exporter.exclude=a|b", "--include-system-metrics=false", "--namespace=x"}, func(o *exporter.Options) {
			o.Namespace, o.Exclude = "x", regexp.MustCompile("^(?:a|b|x_total_system_memory_bytes)$")
		}},
		{[]string{"--include-system-metrics=false"}, func(o *exporter.Options) { o.Exclude = regexp.MustCompile("^(?:redis_total_system_memory_bytes)$") }},
		{[]string{"--exporter.collectors-disabled=slowlog", "--exclude-latency-histogram-metrics"}, func(o *exporter.Options) {
			o.Disabled = []string{"slowlog", "latency", "histogram"}
		}},
		{[]string{"--include-config-metrics"}, func(o *exporter.Options) { o.Collect.ConfigValues = true }},
		{[]string{"--include-modules-metrics"}, func(o *exporter.Options) { o.Collect.Modules = true }},
		{[]string{"--is-tile38"}, func(o *exporter.Options) { o.Collect.Tile38 = true }},
		{[]string{"--include-sentinel-peer-info"}, func(o *exporter.Options) { o.Collect.SentinelPeers = true }},
		{[]string{"--include-metrics-for-empty-databases=false"}, func(o *exporter.Options) { o.Collect.SkipEmptyDatabases = true }},
		{[]string{"--ping-on-connect"}, func(o *exporter.Options) { o.Collect.Ping = true }},
		{[]string{"--exporter.log-slowlog"}, func(o *exporter.Options) { o.Collect.LogSlowlog = true }},
		{[]string{"--include-rdb-file-size-metric=false"}, func(o *exporter.Options) { o.Files = exporter.FileOptions{} }},
		{[]string{"--backup.data-dir=/data"}, func(o *exporter.Options) { o.Files.DataDir = "/data" }},
		{[]string{"--redis.addr=192.0.2.1"}, func(o *exporter.Options) { o.Files.Local = false }},
		{[]string{"--redis-only-metrics"}, func(o *exporter.Options) { o.Version, o.Commit, o.Date = "", "", "" }},
		{[]string{"--exporter.interval=2m", "--exporter.budget=1s", "--exporter.scan-rate=0", "--check-keys-batch-size=5", "--skip-checkkeys-for-role-master"}, func(o *exporter.Options) {
			b := &o.Background
			b.Interval, b.Budget, b.ScanRate, b.BatchSize, b.SkipOnMaster = 2*time.Minute, time.Second, 0, 5, true
		}},
		{[]string{"--exporter.replica-only"}, func(o *exporter.Options) { o.Background.ReplicaOnly = true }},
		{[]string{"--check-keys=db1=a*", "--check-single-keys=b", "--count-keys=c", "--disable-exporting-key-values"}, func(o *exporter.Options) {
			o.Background.Keys = exporter.KeyOptions{Check: []exporter.Key{{DB: 1, Key: "a*"}}, Single: []exporter.Key{{Key: "b"}}, Count: []exporter.Key{{Key: "c"}}, HideValues: true}
		}},
		{[]string{"--check-streams=a*", "--check-single-streams=b", "--streams-exclude-consumer-metrics"}, func(o *exporter.Options) {
			o.Background.Streams = exporter.StreamOptions{Check: []exporter.Key{{Key: "a*"}}, Single: []exporter.Key{{Key: "b"}}, NoConsumers: true}
		}},
		{[]string{"--check-key-groups=^(a)", "--max-distinct-key-groups=3"}, func(o *exporter.Options) {
			o.Background.Groups = exporter.GroupOptions{Patterns: []string{"^(a)"}, MaxDistinct: 3}
		}},
		{[]string{"--script=" + script, "--lua-script-read-only"}, func(o *exporter.Options) {
			o.Background.Scripts = exporter.ScriptOptions{Files: []string{script}, ReadOnly: true}
		}},
		{[]string{"--export-client-list", "--export-client-port", "--exporter.max-clients=9"}, func(o *exporter.Options) {
			o.Background.Clients = exporter.ClientOptions{Enabled: true, Port: true, Max: 9}
		}},
		{[]string{"--include-search-indexes-metrics", "--check-search-indexes=^i"}, func(o *exporter.Options) {
			o.Background.Search = exporter.SearchOptions{Enabled: true, Indexes: regexp.MustCompile("^i")}
		}},
	} {
		l, err := load(&env{stdout: io.Discard, stderr: io.Discard}, tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := base
		tt.change(&want)
		same := cmp.Comparer(func(a, b *regexp.Regexp) bool {
			return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
		})
		if diff := cmp.Diff(want, l.exporterOptions(), same, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(exporter.CollectOptions{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
}
