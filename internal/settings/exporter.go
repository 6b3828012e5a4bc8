package settings

import "time"

// Exporter steers the metrics of the server. What redis_exporter has too means
// the same here.
type Exporter struct {
	// Namespace is the prefix of the server's metrics.
	Namespace string
	// Targets are further servers of this pod, such as a Sentinel.
	Targets []Target
	// ScrapeAllow are the addresses that /scrape may ask besides the own ones.
	ScrapeAllow []string
	// ScrapeOff closes /scrape.
	ScrapeOff bool

	// Interval is how often the collectors in the background run.
	Interval time.Duration
	// Budget is how long one turn of one of them may take.
	Budget time.Duration
	// ScanRate is how many keys per second SCAN may visit; 0 is no limit.
	ScanRate int
	// ReplicaOnly keeps those that read keys from reading a master.
	ReplicaOnly bool

	// MaxSeries bounds the series of one metric.
	MaxSeries int
	// MaxClients bounds the clients that are listed one by one.
	MaxClients int
	// Include and Exclude are regular expressions for the whole name of a metric;
	// empty: everything, nothing.
	Include, Exclude string
	// CollectorsDisabled are names of collectors that do not run.
	CollectorsDisabled []string
	// LogSlowlog logs new entries of the slow log, without arguments.
	LogSlowlog bool

	Keys    ExporterKeys
	Streams ExporterStreams
	Scripts ExporterScripts
	Search  ExporterSearch
	Clients ExporterClients
	Show    ExporterShow

	SetClientName            bool // name the connection by CLIENT SETNAME
	PingOnConnect            bool // time a PING
	ClusterDiscoverHostnames bool // names instead of addresses in /discover-cluster-nodes
	IsCluster                bool // understood, changes nothing
	IsTile38                 bool // ask SERVER EXT
}

// DBKey is a key, or a glob for keys, in a database.
type DBKey struct {
	DB  int
	Key string
}

// Target is a further server.
type Target struct {
	Name         string
	Addr         string // as redis.addr; may hold a password
	PasswordFile string // empty: redis.password-file's entry for Addr, if there is one
}

// ExporterKeys say which keys are looked at in the background.
type ExporterKeys struct {
	Check     []DBKey // globs, found by SCAN, and single keys among them
	Single    []DBKey // taken literally
	Count     []DBKey // globs that are only counted
	BatchSize int     // COUNT of SCAN

	// Groups are Lua patterns. The captures of the first that fits a key are the
	// name of its group.
	Groups    []string
	MaxGroups int // per database; the rest is the group overflow

	SkipOnMaster bool // only while the server is a replica
	HideValues   bool // no series for the value of a string
}

// ExporterStreams say which streams are looked at.
type ExporterStreams struct {
	Check       []DBKey // globs, and single keys among them
	Single      []DBKey
	NoConsumers bool // no series per consumer
}

// ExporterScripts are Lua files whose results become metrics.
type ExporterScripts struct {
	Files    []string
	ReadOnly bool // EVAL_RO (Redis 7.0) instead of EVAL
}

// ExporterSearch says which indexes of RediSearch are looked at.
type ExporterSearch struct {
	On      bool
	Indexes string // regular expression, part of the name
}

// ExporterClients says whether clients are listed one by one.
type ExporterClients struct {
	List bool
	Port bool // with the port, so one series per connection
}

// ExporterShow switches whole groups of metrics.
type ExporterShow struct {
	Config           bool // every value of CONFIG
	RedactConfig     bool // understood; what is secret is never shown
	Modules          bool // INFO MODULES
	SentinelPeers    bool // one series per peer of a Sentinel
	System           bool // total_system_memory_bytes
	RDBFileSize      bool // rdb_current_size_bytes
	EmptyDatabases   bool // db_keys 0 for each database without keys
	GoRuntime        bool // go_*
	RedisOnly        bool // no process_*, no go_*, no exporter_build_info
	RoleLabel        bool // label instance_role on the server's metrics
	NoLatencyMetrics bool // no LATENCY LATEST, no LATENCY HISTOGRAM
}
