package exporter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// defaultVersion is of the server that permissions are for when none is named.
const defaultVersion = "7.0.0"

// Permissions returns the commands that scrapes send to a server of a version,
// such as 7.0.15 or valkey 9.0.1, as rules of an ACL name them. "" stands for
// 7.0. Whether the server is in cluster mode is left open.
//
// It asks the collectors, so it cannot forget one.
func Permissions(opts Options, version string, sentinel bool) []string {
	opts = opts.withDefaults()
	names := []string{"info"}
	for _, c := range newCollectors(newCatalog(opts), opts) {
		for _, cluster := range []bool{false, true} {
			for _, a := range c.ask(traitsOf(info.Parse(likeInfo(version, sentinel, cluster)))) {
				names = append(names, a.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// likeInfo is what INFO of such a server says of what it is.
func likeInfo(version string, sentinel, cluster bool) string {
	program, version := splitVersion(version)
	lines := []string{"redis_version:" + version}
	if program == "valkey" { // since its 8.0; it is as compatible as Redis 7.2.4
		lines = []string{"redis_version:7.2.4", "server_name:valkey", "valkey_version:" + version}
	}
	mode, enabled := "standalone", "0"
	switch {
	case sentinel:
		mode = "sentinel"
		lines = append(lines, "sentinel_masters:1", "master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=0,sentinels=1")
	case cluster:
		mode, enabled = "cluster", "1"
	}
	return strings.Join(append(lines, "redis_mode:"+mode, "cluster_enabled:"+enabled), "\r\n")
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

// BackgroundPermissions returns the rules of an ACL, commands and keys, for what
// the collectors in the background are told to look at. What scripts call is not
// among them.
func BackgroundPermissions(s settings.Exporter, version string) []string {
	p := permissions{reading: "%R~"}
	if program, _ := splitVersion(version); program == "redis" && !atLeast(version, 7, 0) {
		p.reading = "~" // rights to keys come with a direction since 7.0
	}
	if len(s.Keys.Check)+len(s.Keys.Single) > 0 {
		p.command("getrange", "hlen", "llen", "memory|usage", "pfcount", "scard", "strlen", "type", "xlen", "zcard")
		if atLeast(version, 8, 8) {
			p.command("arcount")
		}
	}
	if len(s.Streams.Check)+len(s.Streams.Single) > 0 {
		p.command("type", "xinfo|stream", "xinfo|groups")
		if !s.Streams.NoConsumers {
			p.command("xinfo|consumers")
		}
	}
	p.keys(s.Keys.Check, true, "")
	p.keys(s.Keys.Single, false, "")
	p.keys(s.Keys.Count, true, "exists")
	p.keys(s.Streams.Check, true, "")
	p.keys(s.Streams.Single, false, "")
	if len(s.Keys.Groups) > 0 {
		p.command("config|get", "memory|usage", "readonly", "scan", "select")
		p.words = append(p.words, p.reading+"*")
	}
	if len(s.Scripts.Files) > 0 {
		if s.Scripts.ReadOnly {
			p.command("eval_ro")
		} else {
			p.command("eval")
		}
	}
	if s.Clients.List {
		p.command("client|list")
	}
	if s.Search.On {
		p.command("ft._list", "ft.info")
	}
	if len(p.words) > 0 {
		p.command("info")
	}
	return p.sorted()
}

// permissions are the words of a rule.
type permissions struct {
	reading string // before a pattern of keys that may be read
	words   []string
}

func (p *permissions) command(names ...string) {
	for _, n := range names {
		p.words = append(p.words, "+"+n)
	}
}

// keys allows to read keys, and what it takes to get at them. One that is no glob
// is asked for by a command of its own, if there is one.
func (p *permissions) keys(list []settings.DBKey, globs bool, single string) {
	for _, k := range list {
		pattern := k.Key
		switch isGlob := strings.ContainsAny(k.Key, "?*[]^"); {
		case globs && isGlob:
			p.command("scan")
			if single != "" { // only counted, and SCAN needs no right to the keys
				pattern = ""
			}
		default:
			pattern = literal(k.Key)
			if single != "" {
				p.command(single)
			}
		}
		if pattern != "" {
			p.words = append(p.words, p.reading+spaceless(pattern))
		}
		if k.DB != 0 {
			p.command("select")
		}
		p.command("readonly") // a replica in a cluster answers for its keys only after that
	}
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

// sorted returns keys, then commands, each once. A right to all keys stands for
// all others.
func (p *permissions) sorted() []string {
	all := p.reading + "*"
	words := slices.Clone(p.words)
	if slices.Contains(words, all) {
		words = slices.DeleteFunc(words, func(w string) bool { return w != all && strings.HasPrefix(w, p.reading) })
	}
	rank := func(w string) int {
		if strings.HasPrefix(w, p.reading) {
			return 0
		}
		return 1
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b)) })
	return slices.Compact(words)
}
