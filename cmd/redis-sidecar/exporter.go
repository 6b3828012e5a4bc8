package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// exporterOptions are the settings as the exporter takes them. Connections and
// sources are not among them. check makes the ACL rule of them.
func (l *loaded) exporterOptions() exporter.Options {
	s, b := l.Exporter, buildVersion()
	o := exporter.Options{
		Namespace: s.Namespace, Timeout: l.Redis.Timeout, MaxSeries: s.MaxSeries, InstanceRoleLabel: s.Show.RoleLabel,
		Include: wholeName(s.Include), Exclude: wholeName(s.Exclude), Disabled: s.CollectorsDisabled,
		Collect: exporter.CollectOptions{
			ConfigValues: s.Show.Config, RevealUsers: !s.Show.RedactConfig, Modules: s.Show.Modules, Tile38: s.IsTile38, SentinelPeers: s.Show.SentinelPeers,
			SkipEmptyDatabases: !s.Show.EmptyDatabases, Ping: s.PingOnConnect, LogSlowlog: s.LogSlowlog,
		},
		Background: exporter.BackgroundOptions{
			Interval: s.Interval, Budget: s.Budget, ScanRate: s.ScanRate, BatchSize: s.Keys.BatchSize,
			ReplicaOnly: s.ReplicaOnly, SkipOnMaster: s.Keys.SkipOnMaster,
			Keys: exporter.KeyOptions{
				Check: exporterKeys(s.Keys.Check), Single: exporterKeys(s.Keys.Single), Count: exporterKeys(s.Keys.Count), HideValues: s.Keys.HideValues,
			},
			Streams: exporter.StreamOptions{
				Check: exporterKeys(s.Streams.Check), Single: exporterKeys(s.Streams.Single), NoConsumers: s.Streams.NoConsumers,
			},
			Groups:  exporter.GroupOptions{Patterns: s.Keys.Groups, MaxDistinct: s.Keys.MaxGroups},
			Scripts: exporter.ScriptOptions{Files: s.Scripts.Files, ReadOnly: s.Scripts.ReadOnly},
			Clients: exporter.ClientOptions{Enabled: s.Clients.List, Port: s.Clients.Port, Max: s.MaxClients},
			Search:  exporter.SearchOptions{Enabled: s.Search.On, Indexes: regexp.MustCompile(s.Search.Indexes)},
		},
	}
	if l.Redis.ConfigCommand == "-" {
		o.ConfigCommand = "-"
	}
	if !s.Show.RedisOnly {
		o.Version, o.Commit, o.Date = b.version, b.revision, b.date
	}
	if s.Show.NoLatencyMetrics {
		o.Disabled = append(o.Disabled, "latency", "histogram")
	}
	if s.Show.RDBFileSize {
		// Who asks for it, as redis_exporter's users do, knows that the directory is here.
		o.Files = exporter.FileOptions{DataDir: l.Backup.DataDir, Local: l.beside(), Assume: l.given("exporter.include-rdb-file-size-metric")}
	}
	if !s.Show.System {
		o.Exclude = wholeName(strings.TrimPrefix(s.Exclude+"|"+regexp.QuoteMeta(s.Namespace)+"_total_system_memory_bytes", "|"))
	}
	return o
}

// given tells whether a setting was set, be it to its default.
func (l *loaded) given(name string) bool {
	return slices.ContainsFunc(l.Effective(), func(e settings.Effective) bool { return e.Name == name && e.Source != "default" })
}

// wholeName makes an expression for the whole of a name. It was checked.
func wholeName(expression string) *regexp.Regexp {
	if expression == "" {
		return nil
	}
	return regexp.MustCompile("^(?:" + expression + ")$")
}

func exporterKeys(list []settings.DBKey) []exporter.Key {
	out := make([]exporter.Key, len(list))
	for i, k := range list {
		out[i] = exporter.Key{DB: k.DB, Key: k.Key}
	}
	return out
}
