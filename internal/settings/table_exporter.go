package settings

import "time"

// exporterTable returns the settings of the exporter: ours first, then those of
// redis_exporter in the order of its own help.
func exporterTable() []entry {
	return append([]entry{
		{
			name:  "exporter.targets",
			value: targets(func(s *Settings) *[]Target { return &s.Exporter.Targets }),
			help:  "Further servers of this pod by name, such as a Sentinel, whose metrics are at /scrape?target=NAME and at /metrics/NAME: sentinel=redis://127.0.0.1:26379. They get a password only from exporter.target-password-files, from the JSON map of redis.password-file, or from their address.",
		},
		{
			name:  "exporter.target-password-files",
			value: targetPasswords(func(s *Settings) *[]Target { return &s.Exporter.Targets }),
			help:  "Password files of exporter.targets by name, in the two formats of redis.password-file: sentinel=/etc/secret/sentinel-password.",
		},
		{
			name:  "exporter.scrape-allow",
			value: addresses(func(s *Settings) *[]string { return &s.Exporter.ScrapeAllow }),
			help:  "Addresses that /scrape?target= may ask besides redis.addr and exporter.targets. To any other it never connects. A password is sent only where the JSON map of redis.password-file has one for the address.",
		},
		{
			name: "exporter.interval", def: "1m",
			value: duration(func(s *Settings) *time.Duration { return &s.Exporter.Interval }, time.Second, 24*time.Hour),
			help:  "How often the collectors in the background run: keys, streams, scripts, clients, search indexes. A scrape shows what the last run found, and its age.",
		},
		{
			name: "exporter.budget", def: "30s",
			value: duration(func(s *Settings) *time.Duration { return &s.Exporter.Budget }, 100*time.Millisecond, time.Hour),
			help:  "How long one turn of a collector in the background may take. One that looks at many keys goes on in its next turn, after the others had theirs. Also how long one answer may take, from 1s on.",
		},
		{
			name: "exporter.scan-rate", def: "50000",
			value: integer(func(s *Settings) *int { return &s.Exporter.ScanRate }, 0, 100_000_000),
			help:  "How many keys per second SCAN may visit. 0 is no limit but the pauses, which keep the server at a tenth of its time.",
		},
		{
			name: "exporter.replica-only", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Exporter.ReplicaOnly }),
			help:  "On a master, keep all collectors in the background that read keys from doing so: keys, streams, key groups, scripts, search indexes.",
		},
		{
			name: "exporter.max-series", def: "2000",
			value: integer(func(s *Settings) *int { return &s.Exporter.MaxSeries }, 1, 1_000_000),
			help:  "How many series one metric may have. What is beyond is counted, not shown.",
		},
		{
			name: "exporter.max-clients", def: "20000",
			value: integer(func(s *Settings) *int { return &s.Exporter.MaxClients }, 1, 1_000_000),
			help:  "How many clients exporter.export-client-list looks at.",
		},
		{
			name:  "exporter.include",
			value: pattern(func(s *Settings) *string { return &s.Exporter.Include }),
			help:  "Show only those of the server's metrics whose whole name fits. Empty: all. The sidecar's own stay.",
		},
		{
			name:  "exporter.exclude",
			value: pattern(func(s *Settings) *string { return &s.Exporter.Exclude }),
			help:  "Leave out metrics whose whole name fits, the sidecar's own too. It wins over exporter.include.",
		},
		{
			name:  "exporter.collectors-disabled",
			value: words(func(s *Settings) *[]string { return &s.Exporter.CollectorsDisabled }),
			help:  "Collectors that do not run. Their commands are not sent.",
		},
		{
			name: "exporter.log-slowlog", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Exporter.LogSlowlog }),
			help:  "Log each new entry of the server's slow log: the command's name and how long it took, never its arguments.",
		},
	}, exporterCompat()...)
}

// exporterCompat returns what redis_exporter has, too.
func exporterCompat() []entry {
	on := func(flag, def string, field func(*Exporter) *bool, help string) entry {
		return entry{name: "exporter." + flag, def: def, value: boolean(func(s *Settings) *bool { return field(&s.Exporter) }), help: help}
	}
	const dbKeys = "Items are dbN=KEY, separated by commas; without db0= they are in database 0. %2C is a comma, %3D is = in a key."
	return []entry{
		entry{
			name: "exporter.namespace", def: "redis",
			value: prefix(func(s *Settings) *string { return &s.Exporter.Namespace }),
			help:  "Prefix of the server's metrics. Those of this program keep redis_sidecar_.",
		}.also(compat{flag: "namespace", def: "redis", differs: "empty is an error"}),

		entry{
			name:  "exporter.check-keys",
			value: keys(func(s *Settings) *[]DBKey { return &s.Exporter.Keys.Check }),
			help:  "Keys to show size, memory and value of, as globs, found by SCAN in the background; an item without any of ?*[]^ is one key. " + dbKeys,
		}.also(compat{flag: "check-keys", differs: "outside the scrape, every exporter.interval; an item that is not understood is an error, not a line in the log"}),
		entry{
			name:  "exporter.check-single-keys",
			value: keys(func(s *Settings) *[]DBKey { return &s.Exporter.Keys.Single }),
			help:  "The same for single keys, taken literally, without SCAN.",
		}.also(compat{flag: "check-single-keys", differs: "outside the scrape"}),
		entry{
			name:  "exporter.check-streams",
			value: keys(func(s *Settings) *[]DBKey { return &s.Exporter.Streams.Check }),
			help:  "Streams to show length, groups and consumers of, as globs. " + dbKeys,
		}.also(compat{flag: "check-streams", differs: "outside the scrape; a lag that the server does not know is absent, not 0"}),
		entry{
			name:  "exporter.check-single-streams",
			value: keys(func(s *Settings) *[]DBKey { return &s.Exporter.Streams.Single }),
			help:  "The same for single streams, taken literally, without SCAN.",
		}.also(compat{flag: "check-single-streams", differs: "outside the scrape"}),
		on("streams-exclude-consumer-metrics", "false", func(e *Exporter) *bool { return &e.Streams.NoConsumers },
			"No series per consumer of a stream.").
			also(compat{flag: "streams-exclude-consumer-metrics", def: "false"}),
		entry{
			name:  "exporter.count-keys",
			value: keys(func(s *Settings) *[]DBKey { return &s.Exporter.Keys.Count }),
			help:  "Globs whose keys are counted by SCAN. " + dbKeys,
		}.also(compat{flag: "count-keys", differs: "outside the scrape"}),
		entry{
			name: "exporter.check-keys-batch-size", def: "1000",
			value: integer(func(s *Settings) *int { return &s.Exporter.Keys.BatchSize }, 1, 1_000_000),
			help:  "COUNT of each SCAN.",
		}.also(compat{flag: "check-keys-batch-size", def: "1000", differs: "exporter.scan-rate bounds the rate"}),
		entry{
			name:  "exporter.check-key-groups",
			value: groups(func(s *Settings) *[]string { return &s.Exporter.Keys.Groups }),
			help:  "Lua patterns by which all keys are put into groups, of which number and memory are shown. The captures of the first pattern that fits, joined, name the group.",
		}.also(compat{flag: "check-key-groups", differs: "outside the scrape; a pattern that is not one is an error at the start"}),
		entry{
			name: "exporter.max-distinct-key-groups", def: "100",
			value: integer(func(s *Settings) *int { return &s.Exporter.Keys.MaxGroups }, 1, 1_000_000),
			help:  "How many groups a database may have, the largest first. The rest is the group overflow.",
		}.also(compat{flag: "max-distinct-key-groups", def: "100", differs: "0 is an error"}),
		on("skip-checkkeys-for-role-master", "false", func(e *Exporter) *bool { return &e.Keys.SkipOnMaster },
			"Look at keys and streams only while the server is a replica.").
			also(compat{flag: "skip-checkkeys-for-role-master", def: "false"}),
		on("disable-exporting-key-values", "false", func(e *Exporter) *bool { return &e.Keys.HideValues },
			"No series with the value of a string.").
			also(compat{flag: "disable-exporting-key-values", def: "false"}),
		entry{
			name:  "exporter.script",
			value: files(func(s *Settings) *[]string { return &s.Exporter.Scripts.Files }),
			help:  "Lua files, separated by commas, whose results, name and number in turn, become metrics.",
		}.also(compat{flag: "script", differs: "outside the scrape; a script that fails costs only its own metrics, not redis_up"}),
		on("lua-script-read-only", "false", func(e *Exporter) *bool { return &e.Scripts.ReadOnly },
			"Run exporter.script by EVAL_RO (since Redis 7.0), which refuses to write.").
			also(compat{flag: "lua-script-read-only", def: "false"}),
		on("include-config-metrics", "false", func(e *Exporter) *bool { return &e.Show.Config },
			"Every setting of the server as a metric. Each scrape asks CONFIG GET * then, which costs the server more than all the rest.").
			also(compat{flag: "include-config-metrics", env: "REDIS_EXPORTER_INCL_CONFIG_METRICS", def: "false"}),
		noting(on("redact-config-metrics", "true", func(e *Exporter) *bool { return &e.Show.RedactConfig },
			"Understood, and always so: passwords of Redis and of Sentinel are never shown."), func(s *Settings) string {
			if s.Exporter.Show.RedactConfig {
				return ""
			}
			return "has no effect: passwords stay out of the metrics"
		}).also(compat{flag: "redact-config-metrics", def: "true", differs: "false has no effect, with a note at the start; SENTINEL CONFIG is redacted, too"}),
		on("include-modules-metrics", "false", func(e *Exporter) *bool { return &e.Show.Modules },
			"Metrics of INFO modules.").
			also(compat{flag: "include-modules-metrics", env: "REDIS_EXPORTER_INCL_MODULES_METRICS", def: "false"}),
		on("include-search-indexes-metrics", "false", func(e *Exporter) *bool { return &e.Search.On },
			"Metrics of the indexes of RediSearch, by FT._LIST and FT.INFO in the background.").
			also(compat{flag: "include-search-indexes-metrics", env: "REDIS_EXPORTER_INCL_SEARCH_INDEXES_METRICS", def: "false", differs: "outside the scrape"}),
		entry{
			name: "exporter.check-search-indexes", def: ".*",
			value: pattern(func(s *Settings) *string { return &s.Exporter.Search.Indexes }),
			help:  "Which indexes: a part of the name must fit.",
		}.also(compat{flag: "check-search-indexes", def: ".*"}),
		on("include-sentinel-peer-info", "false", func(e *Exporter) *bool { return &e.Show.SentinelPeers },
			"One series per other Sentinel that a Sentinel knows.").
			also(compat{flag: "include-sentinel-peer-info", env: "REDIS_EXPORTER_INCL_SENTINEL_PEER_INFO", def: "false"}),
		on("include-system-metrics", "true", func(e *Exporter) *bool { return &e.Show.System },
			"redis_total_system_memory_bytes. On, because alerts on memory need it; redis_exporter has it off.").
			also(compat{flag: "include-system-metrics", env: "REDIS_EXPORTER_INCL_SYSTEM_METRICS", def: "false", differs: "on unless it is set to false"}),
		on("include-rdb-file-size-metric", "true", func(e *Exporter) *bool { return &e.Show.RDBFileSize },
			"redis_rdb_current_size_bytes and the other sizes in the data directory, where that is mounted here (backup.data-dir). On, as it costs nothing; redis_exporter has it off.").
			also(compat{flag: "include-rdb-file-size-metric", env: "REDIS_EXPORTER_INCL_RDB_FILE_SIZE_METRIC", def: "false", differs: "on unless it is set to false; absent where the directory is not mounted"}),
		on("include-metrics-for-empty-databases", "true", func(e *Exporter) *bool { return &e.Show.EmptyDatabases },
			"redis_db_keys 0 for every database that is configured and empty.").
			also(compat{flag: "include-metrics-for-empty-databases", env: "REDIS_EXPORTER_INCL_METRICS_FOR_EMPTY_DATABASES", def: "true", differs: "a Sentinel has no databases"}),
		on("include-go-runtime-metrics", "false", func(e *Exporter) *bool { return &e.Show.GoRuntime },
			"The metrics go_…, about this program.").
			also(compat{flag: "include-go-runtime-metrics", def: "false"}),
		on("redis-only-metrics", "false", func(e *Exporter) *bool { return &e.Show.RedisOnly },
			"Leave out process_…, go_… and redis_exporter_build_info. The metrics of the sidecar's jobs, redis_sidecar_…, stay.").
			also(compat{flag: "redis-only-metrics", def: "false", differs: "redis_sidecar_… stays"}),
		on("append-instance-role-label", "false", func(e *Exporter) *bool { return &e.Show.RoleLabel },
			"The label instance_role on the server's metrics. Series then end with every failover; redis_instance_role says the same without that.").
			also(compat{flag: "append-instance-role-label", def: "false"}),
		on("exclude-latency-histogram-metrics", "false", func(e *Exporter) *bool { return &e.Show.NoLatencyMetrics },
			"Ask neither LATENCY LATEST nor LATENCY HISTOGRAM.").
			also(compat{flag: "exclude-latency-histogram-metrics", def: "false"}),
		on("export-client-list", "false", func(e *Exporter) *bool { return &e.Clients.List },
			"Series for each client, by CLIENT LIST in the background.").
			also(compat{flag: "export-client-list", def: "false", differs: "outside the scrape; up to exporter.max-clients"}),
		on("export-client-port", "false", func(e *Exporter) *bool { return &e.Clients.Port },
			"Tell clients of one host apart by their port: new series with every connection.").
			also(compat{flag: "export-client-port", def: "false"}),
		on("set-client-name", "true", func(e *Exporter) *bool { return &e.SetClientName },
			"Name the connections, so that CLIENT LIST tells who they are.").
			also(compat{flag: "set-client-name", def: "true", differs: "the name is redis-sidecar:exporter"}),
		on("ping-on-connect", "false", func(e *Exporter) *bool { return &e.PingOnConnect },
			"Time a PING with every scrape.").
			also(compat{flag: "ping-on-connect", def: "false"}),
		noting(on("is-cluster", "false", func(e *Exporter) *bool { return &e.IsCluster },
			"Understood, and not needed: a node of a cluster is recognised by itself. Keys are those of this node."), func(s *Settings) string {
			if !s.Exporter.IsCluster {
				return ""
			}
			return "has no effect: a node of a cluster is recognised by itself, and keys and streams are looked up on this node only"
		}).also(compat{flag: "is-cluster", def: "false", differs: "not needed. Keys and streams are those of this node: each node has its own sidecar"}),
		on("cluster-discover-hostnames", "false", func(e *Exporter) *bool { return &e.ClusterDiscoverHostnames },
			"Names instead of addresses in /discover-cluster-nodes, where the nodes announce one.").
			also(compat{flag: "cluster-discover-hostnames", def: "false"}),
		on("is-tile38", "false", func(e *Exporter) *bool { return &e.IsTile38 },
			"Ask SERVER EXT of Tile38, too.").
			also(compat{flag: "is-tile38", def: "false"}),
		on("disable-scrape-endpoint", "false", func(e *Exporter) *bool { return &e.ScrapeOff },
			"Close /scrape.").
			also(compat{flag: "disable-scrape-endpoint", def: "false", differs: "open, it asks only own servers and exporter.scrape-allow, and never sends a password to another"}),
	}
}

// noting adds what to warn of when the setting was given; see entry.note.
func noting(e entry, note func(*Settings) string) entry {
	e.note = note
	return e
}
