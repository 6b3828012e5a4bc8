package exporter

import "log/slog"

// CollectOptions say what more, or less, than the default is collected. The
// zero value is the default.
type CollectOptions struct {
	// ConfigValues adds every parameter of CONFIG GET and SENTINEL CONFIG GET:
	// config_key_value, config_value and their likes of Sentinel. Passwords and
	// other secrets are never among them.
	ConfigValues bool
	// RevealUsers shows in them the names of users too (masteruser and others).
	RevealUsers bool
	// Modules adds INFO MODULES: module_info and the fields of modules.
	Modules bool
	// Tile38 adds SERVER EXT, which only Tile38 knows.
	Tile38 bool
	// SentinelPeers adds sentinel_peer_info, one series for each other Sentinel.
	SentinelPeers bool
	// SkipEmptyDatabases leaves out the databases without keys.
	SkipEmptyDatabases bool
	// Ping times a PING before each collection: one more round trip.
	Ping bool
	// LogSlowlog logs every new entry of the slow log, without the arguments of
	// the command.
	LogSlowlog bool

	log *slog.Logger // where to; set by New
}

// FileOptions say where the server's files are. With the zero value nothing on
// disk is looked at.
type FileOptions struct {
	// DataDir is where this process sees the server's directory (CONFIG GET dir).
	DataDir string
	// Local means, without DataDir, that the server may run on this machine: its
	// directory is looked at when its RDB or append-only file is found there.
	Local bool
	// Assume means, without DataDir, that the server does run on this machine:
	// an RDB file that is not there has size 0, as redis_exporter says.
	Assume bool
}

// on tells whether anything on disk is looked at.
func (o FileOptions) on() bool { return o.DataDir != "" || o.Local || o.Assume }
