package exporter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

// defaultVersion is of the server that permissions are for when none is named.
const defaultVersion = "7.0.0"

// Permissions returns the rules of an ACL, commands and keys to read, for all
// that an exporter with these options sends to a server of a version, such as
// 7.0.15 or valkey 9.0.1; "" stands for 7.0. Whether the server is in cluster
// mode is left open. What scripts call is not among them.
//
// It asks the collectors, so it cannot forget one.
func Permissions(opts Options, version string, sentinel bool) []string {
	opts = opts.withDefaults()
	commands := []string{"info"}
	if opts.Collect.Ping {
		commands = append(commands, "ping")
	}
	for _, c := range newCollectors(newCatalog(opts), opts) {
		for _, cluster := range []bool{false, true} {
			for _, a := range c.ask(traitsOf(info.Parse(likeInfo(version, sentinel, cluster)))) {
				commands = append(commands, a.name)
			}
		}
	}
	var words []string
	if sentinel { // in the background it is asked for its clients at most
		if opts.Background.Clients.Enabled {
			commands = append(commands, "client|list")
		}
	} else {
		more, _ := BackgroundCommands(opts)
		commands = append(commands, more...)
		if b := opts.Background; len(b.Keys.Check)+len(b.Keys.Single) > 0 && atLeast(version, 8, 8) {
			commands = append(commands, "arcount") // arrays, which are there since then
		}
		words = keyRules(opts.Background, version)
	}
	slices.Sort(commands)
	for _, c := range slices.Compact(commands) {
		words = append(words, "+"+c)
	}
	return words
}

// keyRules are those for the keys that the collectors in the background read, in
// order. A right to all keys stands for all others.
func keyRules(opts BackgroundOptions, version string) []string {
	reading := "%R~"
	if program, _ := splitVersion(version); program == "redis" && !atLeast(version, 7, 0) {
		reading = "~" // rights to keys come with a direction since 7.0
	}
	if len(opts.Groups.Patterns) > 0 {
		return []string{reading + "*"}
	}
	var rules []string
	add := func(keys []Key, patterns, literals bool) {
		for _, k := range keys {
			switch isPattern := patterns && k.isPattern(); {
			case isPattern:
				rules = append(rules, reading+spaceless(k.Key))
			case literals:
				rules = append(rules, reading+spaceless(literal(k.Key)))
			}
		}
	}
	add(slices.Concat(opts.Keys.Check, opts.Streams.Check), true, true)
	add(slices.Concat(opts.Keys.Single, opts.Streams.Single), false, true)
	for _, k := range opts.Keys.Count { // by SCAN, which needs no right to keys, but for single ones
		add([]Key{k}, false, !k.isPattern())
	}
	if slices.Contains(rules, reading+"*") {
		return []string{reading + "*"}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// likeInfo is what INFO of such a server says of what it is.
func likeInfo(version string, sentinel, cluster bool) string {
	program, version := splitVersion(version)
	lines := []string{"# Server", "redis_version:" + version}
	if program == "valkey" { // since its 8.0; it is as compatible as Redis 7.2.4
		lines = []string{"# Server", "redis_version:7.2.4", "server_name:valkey", "valkey_version:" + version}
	}
	mode, enabled := "standalone", "0"
	switch {
	case sentinel:
		mode = "sentinel"
		lines = append(lines, "# Sentinel", "sentinel_masters:1", "master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=0,sentinels=1")
	case cluster:
		mode, enabled = "cluster", "1"
	}
	return strings.Join(append(lines, "# Server", "redis_mode:"+mode, "# Cluster", "cluster_enabled:"+enabled), "\r\n")
}

// splitVersion reads "7.0.15", "redis 7.0.15" and "valkey 9.0.1".
func splitVersion(text string) (program, version string) {
	program, version, ok := strings.Cut(strings.ToLower(text), " ")
	if !ok {
		program, version = "redis", program
	}
	return program, cmp.Or(version, defaultVersion)
}

// atLeast tells whether a version of Redis is that or later. Valkey is not.
func atLeast(text string, major, minor int) bool {
	program, version := splitVersion(text)
	parts := strings.Split(version+".0", ".")
	n, _ := strconv.Atoi(parts[0])
	m, _ := strconv.Atoi(parts[1])
	return program == "redis" && (n > major || n == major && m >= minor)
}

// literal makes a glob that one key fits.
func literal(key string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(key)
}

// spaceless replaces what no word of a rule can hold by what fits it too.
func spaceless(pattern string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("\x00 \t\n\v\f\r", r) {
			return '?'
		}
		return r
	}, pattern)
}
