package exporter

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

// kind is what program a server is.
type kind string

// Kinds that are told apart. What is none of the others is Redis.
const (
	kindRedis     kind = "redis"
	kindValkey    kind = "valkey"
	kindKeyDB     kind = "keydb"
	kindDragonfly kind = "dragonfly"
	kindGarnet    kind = "garnet"
	kindKvrocks   kind = "kvrocks"
	kindTile38    kind = "tile38"
)

const (
	// mastersLimit is how many primaries of a Sentinel are asked about: each
	// takes three commands.
	mastersLimit = 100
	// linksLimit is from how many sockets of the cluster bus on CLUSTER LINKS,
	// whose reply has twelve elements for each, is not asked.
	linksLimit = 1000
)

// traits are what decides about what a server is asked.
type traits struct {
	runID string
	kind  kind
	// version is redis_version: for servers akin to Redis that of the Redis they
	// are compatible with. own is their own.
	version      string
	major, minor int
	own          string
	ownMajor     int
	ownMinor     int
	sentinel     bool
	cluster      bool
	manyLinks    bool   // too many cluster links to list
	masters      string // names of a Sentinel's primaries, ordered, one a line
}

func traitsOf(in info.Info) traits {
	t := traits{
		runID:    in.Get("run_id"),
		version:  in.Get("redis_version"),
		sentinel: in.Mode() == "sentinel",
		cluster:  in.Get("cluster_enabled") == "1",
	}
	t.kind, t.own = kindOf(in)
	t.major, t.minor = versionOf(t.version)
	t.ownMajor, t.ownMinor = versionOf(t.own)
	if n, ok := in.Int("cluster_connections"); ok {
		t.manyLinks = n >= linksLimit
	}
	if t.sentinel {
		t.masters = strings.Join(mastersOf(in), "\n")
	}
	return t
}

// clone returns traits that do not keep the reply alive whose parts they are.
func (t traits) clone() traits {
	t.runID, t.version, t.own, t.masters = strings.Clone(t.runID), strings.Clone(t.version), strings.Clone(t.own), strings.Clone(t.masters)
	return t
}

// kindOf returns what program answers, and its own version if it is not Redis.
func kindOf(in info.Info) (kind, string) {
	for _, k := range []struct {
		kind  kind
		field string // which no other kind has
	}{
		{kindValkey, "valkey_version"}, {kindDragonfly, "dragonfly_version"}, {kindGarnet, "garnet_version"},
		{kindKvrocks, "kvrocks_version"}, {kindTile38, "tile38_version"},
	} {
		if v, ok := in.Lookup(k.field); ok {
			return k.kind, v
		}
	}
	// KeyDB calls itself Redis; its threads are its own.
	if _, ok := in.Lookup("server_threads"); ok {
		return kindKeyDB, in.Get("redis_version")
	}
	return kindRedis, ""
}

// versionOf reads the first two numbers of a version such as 7.0.15, 8.1.0-rc1
// or df-v1.24.0; what is no number is 0.
func versionOf(s string) (major, minor int) {
	if i := strings.IndexAny(s, "0123456789"); i >= 0 {
		s = s[i:]
	}
	first, rest, _ := strings.Cut(s, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}

// since tells whether the server is compatible with that version of Redis.
func (t traits) since(major, minor int) bool { return notBefore(t.major, t.minor, major, minor) }

// hasCommandlog tells whether the server knows COMMANDLOG, which Valkey has
// since 8.1 and Redis not.
func (t traits) hasCommandlog() bool {
	return t.kind == kindValkey && notBefore(t.ownMajor, t.ownMinor, 8, 1)
}

func notBefore(major, minor, wantMajor, wantMinor int) bool {
	return major > wantMajor || major == wantMajor && minor >= wantMinor
}

func (t traits) String() string {
	mode := "standalone"
	switch {
	case t.sentinel:
		mode = "sentinel"
	case t.cluster:
		mode = "cluster"
	}
	version := t.version
	if t.own != "" {
		version = t.own
	}
	return string(t.kind) + " " + version + ", " + mode
}

// mastersOf returns the names of the primaries a Sentinel watches, ordered, at
// most mastersLimit.
func mastersOf(in info.Info) []string {
	var names []string
	for field, line := range in.Section("sentinel") {
		if n, ok := strings.CutPrefix(field, "master"); !ok || !isDigits(n) {
			continue
		}
		for key, value := range pairs(line) {
			if key == "name" && value != "" {
				names = append(names, value)
				break
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), mastersLimit)]
}

// masterNames yields the names in masters.
func (t traits) masterNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		if t.masters == "" {
			return
		}
		for name := range strings.SplitSeq(t.masters, "\n") {
			if !yield(name) {
				return
			}
		}
	}
}
