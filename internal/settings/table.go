package settings

import (
	"math"
	"slices"
	"strings"
	"time"
)

// entry is one row of the table: all that there is to know of a setting.
type entry struct {
	name  string // backup.store
	value value
	def   string // the default, as text; part of what set accepts unless empty
	help  string // one or two sentences for people

	// Other names, the ones of redis_exporter among them. They mean the same.
	env   []string
	flags []string

	// emptyEnv is one of env that counts also when it is set to nothing.
	emptyEnv string
	// note returns what to warn of when the setting was given and does not do all
	// that it does in redis_exporter. Nil or "": nothing.
	note func(*Settings) string
	// compat is set when the setting is one of redis_exporter.
	compat *compat
}

// compat is what a user of redis_exporter needs to know of a setting.
type compat struct {
	flag, env string
	def       string // there
	differs   string // what is not the same here; may be empty
}

// also makes the setting known under redis_exporter's names. The variable's name
// is given where it does not follow from the flag's.
func (e entry) also(c compat) entry {
	if c.env == "" {
		c.env = exporterPrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(c.flag))
	}
	e.compat = &c
	if c.flag != e.name {
		e.flags = append(e.flags, c.flag)
	}
	e.env = append(e.env, c.env)
	return e
}

// exporterPrefix begins most of redis_exporter's variables.
const exporterPrefix = "REDIS_EXPORTER_"

// Env returns the setting's own variable: REDIS_SIDECAR_BACKUP_STORE.
func (e entry) ownEnv() string { return envName(e.name) }

const envPrefix = "REDIS_SIDECAR_"

func envName(name string) string {
	return envPrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(name))
}

// section is the part of the name before the first dot.
func (e entry) section() string {
	s, _, _ := strings.Cut(e.name, ".")
	return s
}

// table returns every setting, in the order of the reference page.
func table() []entry {
	all := []entry{
		entry{
			name: "redis.addr", def: "redis://localhost:6379",
			value: address(func(s *Settings) *string { return &s.Redis.Addr }).
				withHint("for example redis://127.0.0.1:6379, rediss://redis.example:6380 or unix:///run/redis.sock"),
			help:     "The redis-server beside this agent: redis://host:port, rediss://host:port (TLS), unix:///path, or host:port. Set to nothing (--redis.addr=, or REDIS_ADDR= in the environment), there is none: then only /scrape answers, for exporter.targets and exporter.scrape-allow, and the other jobs are off.",
			emptyEnv: "REDIS_ADDR",
		}.also(compat{flag: "redis.addr", env: "REDIS_ADDR", def: "redis://localhost:6379",
			differs: "empty is the same: no server of its own, only /scrape. The jobs beside the exporter are off then",
		}),
		entry{
			name:  "redis.user",
			value: str(func(s *Settings) *string { return &s.Redis.User }),
			help:  "ACL user. Empty is the default user.",
		}.also(compat{flag: "redis.user", env: "REDIS_USER"}),
		entry{
			name:  "redis.password",
			value: secret(func(s *Settings) *Secret { return &s.Redis.Password }),
			help:  "Password. Better in a file: see redis.password-file.",
		}.also(compat{flag: "redis.password", env: "REDIS_PASSWORD"}),
		entry{
			name:  "redis.password-file",
			value: file(func(s *Settings) *string { return &s.Redis.PasswordFile }),
			help:  "File with the password, as plain text, or as redis_exporter's JSON map from address to password. Read again at every new connection, so that it can rotate. Not used when redis.password is set.",
		}.also(compat{flag: "redis.password-file", env: "REDIS_PASSWORD_FILE",
			differs: "also a plain password; read again by itself when it changed",
		}),
		entry{
			name:  "redis.tls.ca-file",
			value: file(func(s *Settings) *string { return &s.Redis.TLS.CAFile }),
			help:  "PEM file with the certificate authority of redis-server. Empty is the system's own set. Read again at every new connection.",
		}.also(compat{flag: "tls-ca-cert-file"}),
		entry{
			name:  "redis.tls.cert-file",
			value: file(func(s *Settings) *string { return &s.Redis.TLS.CertFile }),
			help:  "PEM file with the client certificate shown to redis-server (tls-auth-clients yes).",
		}.also(compat{flag: "tls-client-cert-file"}),
		entry{
			name:  "redis.tls.key-file",
			value: file(func(s *Settings) *string { return &s.Redis.TLS.KeyFile }),
			help:  "PEM file with the key of redis.tls.cert-file.",
		}.also(compat{flag: "tls-client-key-file"}),
		entry{
			name:  "redis.tls.server-name",
			value: str(func(s *Settings) *string { return &s.Redis.TLS.ServerName }),
			help:  "Name that the server's certificate must carry. Empty is the host of redis.addr.",
		}.also(compat{flag: "tls-server-name"}),
		entry{
			name: "redis.tls.insecure-skip-verify", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Redis.TLS.InsecureSkipVerify }),
			help:  "Do not verify the server's certificate.",
		}.also(compat{flag: "skip-tls-verification", def: "false"}),
		entry{
			name: "redis.timeout", def: "5s",
			value: duration(func(s *Settings) *time.Duration { return &s.Redis.Timeout }, 100*time.Millisecond, 10*time.Minute),
			help:  "Longest wait for a connection or for a reply of redis-server, and for a scrape as a whole where the request does not say it. redis_exporter waits 15s for each step; a redis-server that takes 5 s is late for everybody.",
		}.also(compat{flag: "connection-timeout", def: "15s",
			differs: "bounds a whole scrape, not each step of it; the header of Prometheus shortens it",
		}),
		entry{
			name: "redis.config-command", def: "CONFIG",
			value: str(func(s *Settings) *string { return &s.Redis.ConfigCommand }),
			help:  "Name of the CONFIG command where rename-command changed it. - says that there is none: metrics then do without, and the other jobs say what they lack.",
		}.also(compat{flag: "config-command", def: "CONFIG",
			differs: "for every job; - only keeps the metrics from asking",
		}),

		entry{
			name: "web.listen-address", def: ":9121",
			value: listenAddresses(func(s *Settings) *[]string { return &s.Web.ListenAddress }),
			help:  "Addresses for metrics, probes and status.",
		}.also(compat{flag: "web.listen-address", def: ":9121",
			differs: "several are possible: by commas, or the flag several times; unix:///path, too",
		}),
		{
			name:  "web.config-file",
			value: file(func(s *Settings) *string { return &s.Web.ConfigFile }),
			help:  "TLS and basic authentication of the web side, in the format of the Prometheus exporter-toolkit.",
			flags: []string{"web.config.file"},
		},
		entry{
			name: "web.telemetry-path", def: "/metrics",
			value: str(func(s *Settings) *string { return &s.Web.TelemetryPath }),
			help:  "Path of the metrics.",
		}.also(compat{flag: "web.telemetry-path", def: "/metrics"}),

		entry{
			name:  "web.tls.cert-file",
			value: file(func(s *Settings) *string { return &s.Web.TLS.CertFile }),
			help:  "PEM file with the certificate of the web side. Not together with web.config-file. This file and the next two are read again when they changed.",
		}.also(compat{flag: "tls-server-cert-file", differs: "without a key it is an error, not plain HTTP"}),
		entry{
			name:  "web.tls.key-file",
			value: file(func(s *Settings) *string { return &s.Web.TLS.KeyFile }),
			help:  "PEM file with the key of web.tls.cert-file.",
		}.also(compat{flag: "tls-server-key-file", differs: "without a certificate it is an error, not plain HTTP"}),
		entry{
			name:  "web.tls.client-ca-file",
			value: file(func(s *Settings) *string { return &s.Web.TLS.ClientCAFile }),
			help:  "PEM file with the authority of clients' certificates. Every client needs one then, the kubelet too: use the exec form of the probes.",
		}.also(compat{flag: "tls-server-ca-cert-file", differs: "without a certificate it is an error; web.tls.min-version holds with it, too"}),
		entry{
			name: "web.tls.min-version", def: "TLS1.2",
			value: upper(oneOf(func(s *Settings) *string { return &s.Web.TLS.MinVersion }, "tls1.0", "tls1.1", "tls1.2", "tls1.3"),
				func(s *Settings) *string { return &s.Web.TLS.MinVersion }),
			help: "Oldest version of TLS that the web side speaks.",
		}.also(compat{flag: "tls-server-min-version", def: "TLS1.2", differs: "also with client certificates"}),
		entry{
			name:  "web.basic-auth.username",
			value: str(func(s *Settings) *string { return &s.Web.BasicAuth.Username }),
			help:  "User of basic authentication. Not together with web.config-file, which allows several. The probes and /health ask nobody: the kubelet has no password.",
		}.also(compat{flag: "basic-auth-username", differs: "the probes and /health stay open; a name without a password is an error, not an open door"}),
		entry{
			name:  "web.basic-auth.password",
			value: secret(func(s *Settings) *Secret { return &s.Web.BasicAuth.Password }),
			help:  "Password of web.basic-auth.username. Better as a hash: see web.basic-auth.hash-password.",
		}.also(compat{flag: "basic-auth-password"}),
		entry{
			name: "web.basic-auth.hash-password",
			value: secret(func(s *Settings) *Secret { return &s.Web.BasicAuth.Hash }).
				withHint("htpasswd -nBC 10 NAME makes one"),
			help: "bcrypt hash of the password of web.basic-auth.username.",
		}.also(compat{flag: "basic-auth-hash-password", differs: "a good password is remembered, so that not every scrape costs a hash"}),

		{
			name: "announce.mode", def: "auto",
			value: oneOf(func(s *Settings) *string { return &s.Announce.Mode }, "auto", "replication", "cluster", "off"),
			help:  "Which announced address is kept true: replica-announce-ip, cluster-announce-ip, or the one that fits the server (auto). With auto nothing is announced when redis.addr is another host and announce.address is not set: it would be told this one's address.",
		},
		{
			name: "announce.address",
			value: str(func(s *Settings) *string { return &s.Announce.Address }).
				withHint("an IP address such as 10.0.0.7 or, outside a cluster, a host name"),
			help: "Address to announce. Empty: pod.ip, else the address of the network interface.",
		},
		{
			name: "announce.interval", def: "5s",
			value: duration(func(s *Settings) *time.Duration { return &s.Announce.Interval }, 100*time.Millisecond, time.Hour),
			help:  "How often announced and own address are compared.",
		},

		{
			name:  "config.path",
			value: file(func(s *Settings) *string { return &s.Config.Path }),
			help:  "The redis.conf that redis-server was started with, as mounted here. Its changes are applied to the running server. Empty: off.",
		},
		{
			name: "config.interval", def: "1m",
			value: duration(func(s *Settings) *time.Duration { return &s.Config.Interval }, time.Second, 24*time.Hour),
			help:  "How often file and server are compared even though no change was noticed.",
		},

		{
			name:  "backup.store",
			value: str(func(s *Settings) *string { return &s.Backup.Store }),
			help:  "Where snapshots live: s3://bucket/prefix?endpoint=URL&region=NAME, or file:///directory. Keys come from the usual AWS variables and files.",
		},
		{
			name: "backup.schedule",
			value: str(func(s *Settings) *string { return &s.Backup.Schedule }).
				withHint("for example 0 */6 * * *, CRON_TZ=Europe/Berlin 30 3 * * *, @every 6h or @daily"),
			help: "When snapshots are taken: five cron fields in UTC, with CRON_TZ=Zone before them in that zone, or @every 6h, @hourly, @daily. Empty: off.",
		},
		{
			name:  "backup.instance",
			value: str(func(s *Settings) *string { return &s.Backup.Instance }),
			help:  "Name under which the snapshots of this Redis are kept. Empty: pod.name without its ordinal, so redis-0 and redis-1 are redis.",
		},
		{
			name: "backup.shard", def: "auto",
			value: str(func(s *Settings) *string { return &s.Backup.Shard }).
				withHint("auto, none, or a name such as 05461"),
			help: "Where a cluster's shard keeps its snapshots. auto: in a place of its own below backup.instance, found by its slots, whichever pod has them; none: in backup.instance itself, which must then be another for every shard; or in the place of this name. Outside of a cluster it means nothing.",
		},
		{
			name: "backup.role", def: "prefer-replica",
			value: oneOf(func(s *Settings) *string { return &s.Backup.Role }, "prefer-replica", "master", "replica", "any"),
			help:  "Of which server snapshots are taken. prefer-replica: of a replica that is in step, else of the master; one snapshot in all, however many pods there are.",
		},
		{
			name: "backup.max-lag", def: "30s",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.MaxLag }, time.Second, 24*time.Hour),
			help:  "No snapshot is taken of a replica that has heard nothing from its master for longer. More than repl-ping-replica-period, 10s.",
		},
		{
			name: "backup.lease.ttl", def: "1m",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.LeaseTTL }, 3*time.Second, time.Hour),
			help:  "How long a pod that was killed while it took a snapshot keeps the others from taking one.",
		},
		{
			name: "backup.on-start", def: "0s",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.OnStart }, 0, 366*24*time.Hour),
			help:  "At the start of the sidecar, take a snapshot if the newest is older than this, or if there is none. 0: only a scheduled time that was missed is made up for.",
		},
		{
			name: "backup.on-shutdown", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Backup.OnShutdown }),
			help:  "At SIGTERM, take a last snapshot, within pod.drain-timeout. redis-server must still run then.",
		},
		{
			name:  "backup.trigger-token-file",
			value: file(func(s *Settings) *string { return &s.Backup.TriggerTokenFile }),
			help:  "File with the bearer token, of at least 16 bytes, that lets POST /backup be called from other hosts. Read again at every request. Empty: only from this host.",
		},
		{
			name: "backup.source", def: "auto",
			value: oneOf(func(s *Settings) *string { return &s.Backup.Source }, "auto", "bgsave", "stream"),
			help:  "Where snapshots come from: bgsave, the file that the server saves to its data directory, or stream, what it sends to a replica. auto is bgsave if that directory is there, can be read and has room, else stream.",
		},
		{
			name: "backup.rdb-compression", def: "auto",
			value: oneOf(func(s *Settings) *string { return &s.Backup.RDBCompression }, "auto", "off", "server"),
			help:  "Whether the server compresses the strings of a save that is made for a snapshot, if its rdbcompression is yes. It takes a third of the time, and what is stored becomes larger for it. server: it does. off: it does not, if there is room for the larger file. auto: the same, if the data set in memory is no more than half as large again as the last dump. auto and off send CONFIG SET for the moment of the fork.",
		},
		{
			name: "backup.memory-limit", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.MemoryLimit }, 0, math.MaxInt),
			help:  "Memory limit of the server's container in bytes, as the downward API gives it (resourceFieldRef limits.memory). A save that would not fit is refused. 0: only the node's memory is known.",
		},
		{
			name: "backup.remove-leftovers", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Backup.RemoveLeftovers }),
			help:  "Delete the temporary files in the data directory that killed servers have left (temp-*.rdb, temp-rewriteaof-*.aof). They are reported in any case.",
		},
		{
			name:  "backup.data-dir",
			value: str(func(s *Settings) *string { return &s.Backup.DataDir }),
			help:  "The server's data directory as mounted here. Empty: the path that the server says (CONFIG GET dir).",
		},
		{
			name: "backup.jitter", def: "0s",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.Jitter }, 0, time.Hour),
			help:  "Random delay added to each scheduled time, up to this long.",
		},
		{
			name: "backup.retention.keep-last", def: "14",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepLast }, 0, 100000),
			help:  "How many of the newest snapshots are kept; what no rule keeps is deleted after a new one was verified. 0 keeps none by this rule, and all when every keep-… is 0.",
		},
		{
			name: "backup.retention.keep-hourly", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepHourly }, 0, 100000),
			help:  "For how many hours that have a snapshot the newest of the hour is kept. Hours, days, weeks, months and years are those of the zone of backup.schedule, else of UTC.",
		},
		{
			name: "backup.retention.keep-daily", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepDaily }, 0, 100000),
			help:  "For how many days that have a snapshot the newest of the day is kept.",
		},
		{
			name: "backup.retention.keep-weekly", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepWeekly }, 0, 100000),
			help:  "For how many ISO weeks (they begin on Monday) that have a snapshot the newest of the week is kept.",
		},
		{
			name: "backup.retention.keep-monthly", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepMonthly }, 0, 100000),
			help:  "For how many months that have a snapshot the newest of the month is kept.",
		},
		{
			name: "backup.retention.keep-yearly", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.KeepYearly }, 0, 100000),
			help:  "For how many years that have a snapshot the newest of the year is kept.",
		},
		{
			name: "backup.retention.min-age", def: "0s",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.Retention.MinAge }, 0, 10*365*24*time.Hour),
			help:  "No snapshot younger than this is deleted, whatever the rules say.",
		},
		{
			name: "backup.retention.min-count", def: "1",
			value: integer(func(s *Settings) *int { return &s.Backup.Retention.MinCount }, 1, 100000),
			help:  "As many snapshots that are not damaged are left, whatever the rules say.",
		},
		{
			name: "backup.retention.shrink-guard", def: "720h",
			value: duration(func(s *Settings) *time.Duration { return &s.Backup.Retention.ShrinkGuard }, 0, 10*365*24*time.Hour),
			help:  "How long a snapshot is kept because no newer one holds half as many keys: a server that was wiped and filled a little must not push the last good one out. 0 is off.",
		},
		{
			name: "backup.verify.schedule", def: "@every 24h",
			value: str(func(s *Settings) *string { return &s.Backup.Verify.Schedule }).
				withHint("for example 30 5 * * *, @every 24h or @weekly; empty is off"),
			help: "When the newest snapshot is downloaded and verified, as in backup.schedule; @every is counted from the last such verification of the instance. Only where backup.schedule is set. Empty: off.",
		},
		{
			name: "backup.verify.sample", def: "1",
			value: integer(func(s *Settings) *int { return &s.Backup.Verify.Sample }, 0, 1000),
			help:  "How many snapshots are verified besides the newest: those that were not for the longest time.",
		},
		{
			name:  "backup.verify.load",
			value: str(func(s *Settings) *string { return &s.Backup.Verify.Load }),
			help:  "A redis-server or valkey-server, such as /usr/bin/redis-server, that the newest snapshot is loaded into when it is verified. It takes the memory of the data, in the sidecar's container, and disk in TMPDIR. Empty: not loaded.",
		},
		{
			name: "backup.rate-limit", def: "0",
			value: size(func(s *Settings) *int { return &s.Backup.RateLimit }, 64<<10, 1<<40),
			help:  "Bytes a second that an upload sends at most, such as 50MiB, on average: a part (8 MiB) leaves at once. 0: as fast as it goes. While an upload is slower than the save, the file that it reads takes space on the server's volume.",
		},
		{
			name: "backup.cpus", def: "0",
			value: integer(func(s *Settings) *int { return &s.Backup.CPUs }, 0, 64),
			help:  "Cores that a snapshot uses at most. 0: two, or one where there are no two. Otherwise the agent uses one.",
		},
		{
			name: "backup.encryption.recipients",
			value: words(func(s *Settings) *[]string { return &s.Backup.Encryption.Recipients }).
				withHint("the public key that age-keygen prints: age1…"),
			help: "Public keys of age (age1…) that new snapshots are encrypted for; the secret half of any one opens them. Empty: not encrypted, unless backup.encryption.recipients-file says more.",
		},
		{
			name:  "backup.encryption.recipients-file",
			value: file(func(s *Settings) *string { return &s.Backup.Encryption.RecipientsFile }),
			help:  "File with such keys, one a line, # begins a comment; both together count. Read again for every snapshot.",
		},
		{
			name:  "backup.encryption.identity-file",
			value: str(func(s *Settings) *string { return &s.Backup.Encryption.IdentityFile }),
			help:  "File with secret keys (AGE-SECRET-KEY-1…, as age-keygen writes it), to restore encrypted snapshots and verify all of them. The agent does not need it to back up.",
		},

		{
			name: "probe.interval", def: "1s",
			value: duration(func(s *Settings) *time.Duration { return &s.Probe.Interval }, 100*time.Millisecond, time.Minute),
			help:  "How often the server's state is observed. The probe endpoints answer from the last observation.",
		},
		{
			name: "probe.liveness-timeout", def: "1m",
			value: duration(func(s *Settings) *time.Duration { return &s.Probe.LivenessTimeout }, time.Second, time.Hour),
			help:  "Without any answer for this long, /livez says dead. Longer than the longest command that you run.",
		},
		{
			name: "probe.loading-timeout", def: "5m",
			value: duration(func(s *Settings) *time.Duration { return &s.Probe.LoadingTimeout }, time.Second, 24*time.Hour),
			help:  "A server that loads its data and makes no progress for this long is dead.",
		},
		{
			name: "probe.max-lag", def: "10s",
			value: duration(func(s *Settings) *time.Duration { return &s.Probe.MaxLag }, time.Second, 24*time.Hour),
			help:  "A replica without its master for longer than this is not ready.",
		},
		{
			name: "probe.allow-stale", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Probe.AllowStale }),
			help:  "A replica without its master stays ready and serves what it has.",
		},
		{
			name: "probe.unready-on-misconf", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Probe.UnreadyOnMisconf }),
			help:  "A master that refuses writes because its last save failed (MISCONF) is not ready. Reads still work there.",
		},

		{
			name: "restore.from", def: "latest",
			value: str(func(s *Settings) *string { return &s.Restore.From }),
			help:  "Which snapshot: latest, an id, or a time such as 2026-11-23T06:00:00Z (the newest that is not after it).",
		},
		{
			name: "restore.dir", def: "/data",
			value: str(func(s *Settings) *string { return &s.Restore.Dir }),
			help:  "Data directory of the server that will start.",
		},
		{
			name: "restore.if-data", def: "skip",
			value: oneOf(func(s *Settings) *string { return &s.Restore.IfData }, "skip", "error"),
			help:  "What to do when the directory holds data: leave it and succeed, or fail. It is never overwritten.",
		},
		{
			name: "restore.if-none", def: "error",
			value: oneOf(func(s *Settings) *string { return &s.Restore.IfNone }, "error", "empty"),
			help:  "What to do when there is no snapshot: fail, or let the server start empty (a first installation).",
		},
		{
			name:  "restore.redis-version",
			value: str(func(s *Settings) *string { return &s.Restore.RedisVersion }),
			help:  "Version of the redis-server that will start, such as 7.0.15 or valkey 9.0.1: a snapshot that it cannot read is refused. Empty: see restore.redis-server.",
		},
		{
			name:  "restore.redis-conf",
			value: str(func(s *Settings) *string { return &s.Restore.RedisConf }),
			help:  "redis.conf of the server that will start, for dbfilename, appenddirname and appendfilename (empty: their defaults). Where it says replicaof, nothing is restored.",
		},

		{
			name:  "pod.name",
			value: str(func(s *Settings) *string { return &s.Pod.Name }),
			help:  "Name of this pod. Empty: the host name.",
			env:   []string{"POD_NAME"},
		},
		{
			name:  "pod.ip",
			value: str(func(s *Settings) *string { return &s.Pod.IP }),
			help:  "Address of this pod, from the downward API (status.podIP).",
			env:   []string{"POD_IP"},
		},
		{
			name: "pod.drain-timeout", def: "20s",
			value: duration(func(s *Settings) *time.Duration { return &s.Pod.DrainTimeout }, 0, time.Hour),
			help:  "How long a snapshot in progress, and the one of backup.on-shutdown, may go on after SIGTERM. Less than the pod's terminationGracePeriodSeconds.",
		},
		entry{
			name: "log.level", def: "info",
			value: choice(func(s *Settings) *string { return &s.Log.Level },
				map[string]string{"trace": "debug", "warning": "warn", "fatal": "error", "panic": "error"}, "debug", "info", "warn", "error"),
			help: "Least severe level that is logged, in upper or lower case. trace is debug, warning is warn, fatal and panic are error.",
		}.also(compat{flag: "log-level", def: "INFO",
			differs: "an unknown level is an error, not INFO",
		}),
		entry{
			name: "log.debug", def: "false",
			value: boolean(func(s *Settings) *bool { return &s.Log.Debug }),
			help:  "The same as log.level=debug, and wins over log.level.",
		}.also(compat{flag: "debug", def: "false", differs: "no secret is logged at any level"}),
		entry{
			name: "log.format", def: "text",
			value: choice(func(s *Settings) *string { return &s.Log.Format }, map[string]string{"txt": "text"}, "text", "json"),
			help:  "Form of the log on standard error. txt is another word for text.",
		}.also(compat{flag: "log-format", def: "txt",
			differs: "an unknown format is an error, not txt; the lines are those of Go's slog",
		}),
	}
	at := slices.IndexFunc(all, func(e entry) bool { return e.section() == "announce" })
	all = slices.Insert(all, at, exporterTable()...)
	at = slices.IndexFunc(all, func(e entry) bool { return e.section() == "pod" })
	return slices.Insert(all, at, slices.Concat(restoreTable(), clusterTable())...)
}
