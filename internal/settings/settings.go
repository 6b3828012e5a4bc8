// Package settings reads the sidecar's own settings from a YAML file, the
// environment and the command line into one validated struct. Every setting
// stands once, in the table of this package, which also makes --help and the
// reference page. (redis.conf is another matter: see package config.)
package settings

import (
	"io/fs"
	"time"
)

// Settings are all of them, with defaults filled in. Empty strings mean "off"
// or "find out", as the table says for each.
type Settings struct {
	Log      Log
	Pod      Pod
	Redis    Redis
	Web      Web
	Exporter Exporter
	Announce Announce
	Config   Config
	Backup   Backup
	Probe    Probe
	Restore  Restore

	// Warnings are what was understood but is worth a line in the log.
	Warnings []string

	effective []Effective
}

// Log says how the log looks.
type Log struct {
	Level  string // debug, info, warn, error
	Debug  bool   // wins over Level, which is debug then
	Format string // text, json
}

// Pod says which pod this is.
type Pod struct {
	Name string // empty: the host name
	IP   string // from the downward API; empty: unknown
	// DrainTimeout is how long work in progress may go on after SIGTERM.
	DrainTimeout time.Duration
}

// Redis says how to reach redis-server.
type Redis struct {
	Addr          string // empty: there is no server of one's own, only /scrape
	User          string
	Password      Secret
	PasswordFile  string
	ConfigCommand string
	TLS           RedisTLS
	Timeout       time.Duration
}

// RedisTLS are the files and names for TLS towards redis-server.
type RedisTLS struct {
	CAFile             string
	CertFile           string
	KeyFile            string
	ServerName         string
	InsecureSkipVerify bool
}

// Web says where and how the HTTP endpoints listen.
type Web struct {
	ListenAddress []string // host:port, :port or unix:///path
	ConfigFile    string   // excludes TLS and BasicAuth
	TelemetryPath string
	TLS           WebTLS
	BasicAuth     BasicAuth
}

// WebTLS are the files for TLS of the web side.
type WebTLS struct {
	CertFile     string
	KeyFile      string
	ClientCAFile string // empty: clients need no certificate
	MinVersion   string // TLS1.0 … TLS1.3
}

// BasicAuth is the one user of the web side.
type BasicAuth struct {
	Username string
	Password Secret
	Hash     Secret // bcrypt; instead of Password
}

// Announce steers the announce job.
type Announce struct {
	Mode     string // auto, replication, cluster, off
	Address  string
	Interval time.Duration
}

// Config steers the job that follows redis.conf.
type Config struct {
	Path     string
	Interval time.Duration
}

// Backup steers the backup job and says where snapshots live.
type Backup struct {
	Schedule string
	Store    string
	Instance string
	Role     string // prefer-replica, master, replica, any
	MaxLag   time.Duration
	Source   string // auto, bgsave, stream
	// RDBCompression is auto, off or server.
	RDBCompression string
	Shard          string // auto, none, or a name
	DataDir        string
	// MemoryLimit is that of the server's container, in bytes; 0 is not known.
	MemoryLimit     int
	RemoveLeftovers bool
	Jitter          time.Duration

	RateLimit  int // of an upload, bytes a second; 0 is none
	CPUs       int // while a snapshot is taken; 0: the program decides
	Encryption BackupEncryption
	Retention  Retention
	Verify     Verify

	LeaseTTL         time.Duration
	OnStart          time.Duration
	OnShutdown       bool
	TriggerTokenFile string
}

// Verify says when snapshots are verified.
type Verify struct {
	Schedule string
	Sample   int    // besides the newest
	Load     string // a redis-server to load them into
}

// BackupEncryption says for whom snapshots are encrypted, and how they are read.
type BackupEncryption struct {
	Recipients     []string // public keys of age
	RecipientsFile string
	IdentityFile   string // only to read
}

// Retention says which snapshots stay. 0 is none by that rule; all of them 0 is
// every snapshot.
type Retention struct {
	KeepLast    int
	KeepHourly  int
	KeepDaily   int
	KeepWeekly  int
	KeepMonthly int
	KeepYearly  int
	MinAge      time.Duration
	MinCount    int
	ShrinkGuard time.Duration
}

// Probe has the limits of the verdicts.
type Probe struct {
	Interval         time.Duration
	LivenessTimeout  time.Duration
	LoadingTimeout   time.Duration
	MaxLag           time.Duration
	AllowStale       bool
	UnreadyOnMisconf bool
}

// Restore steers the restore command.
type Restore struct {
	From         string
	Dir          string
	IfData       string // skip, error
	IfNone       string // error, empty
	RedisVersion string
	RedisConf    string
	RedisServer  string // path of the binary

	Pod      string // whose snapshots; empty: any pod's
	Instance string // empty: Backup.Instance
	Store    string // empty: Backup.Store

	OnlyPod        string // empty: any pod
	Peers          []string
	Sentinels      []string
	SentinelMaster string
	PeersWait      time.Duration
	IfPeers        string // heed, restore
	IfPeersUnclear string // heed, restore

	Shard        string // empty: no cluster is restored; auto, or a name
	ClusterPeers string
	ClusterName  string // empty: from the peers
	ClusterWait  time.Duration

	UID, GID *int        // nil: as the data directory
	Mode     fs.FileMode // 0: as the data directory lets
}
