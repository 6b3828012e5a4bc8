package exporter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/luapattern"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// GroupOptions say how keys are put into groups whose keys and memory are shown.
type GroupOptions struct {
	// Patterns are patterns of Lua that [luapattern.Compile] takes. A key belongs
	// to the group that the captures of the first pattern found in it spell, joined.
	Patterns []string
	// MaxDistinct is how many groups of a database are shown, those with the
	// most memory; the rest is one group named overflow. The default is 100.
	MaxDistinct int
}

const (
	// unclassified is the group of keys in which no pattern is found.
	unclassified = "unclassified"
	// overflow is the group of the groups that are not shown.
	overflow = "overflow"
	// groupLimit is how many groups of one database are told apart while they
	// are counted; more go to overflow at once.
	groupLimit = 50_000
	// memoryBatch is how many keys are asked about in one pipeline, with a command
	// that takes about a microsecond.
	memoryBatch = 500
)

// keyGroups is the background collector of keys and memory by group of keys.
type keyGroups struct {
	opts          BackgroundOptions
	configCommand string
	patterns      []luapattern.Pattern

	distinct, keys, memory *family
}

func newKeyGroups(c *catalog, opts BackgroundOptions, configCommand string) *keyGroups {
	g := &keyGroups{
		opts: opts, configCommand: configCommand,
		distinct: c.add(typeGauge, "number_of_distinct_key_groups", "SCAN",
			"Groups of keys in a database, those in overflow included.", "db"),
		keys: c.add(typeGauge, "key_group_count", "SCAN",
			"Keys in a group of keys.", "db", "key_group"),
		memory: c.add(typeGauge, "key_group_memory_usage_bytes", "SCAN, MEMORY USAGE",
			"Bytes that the keys of a group take in memory, as far as the server's sampling of nested values goes.", "db", "key_group"),
	}
	// max-distinct-key-groups is the limit that a user sets.
	g.keys.limit = max(g.keys.limit, (opts.Groups.MaxDistinct+1)*defaultDatabases)
	g.memory.limit = g.keys.limit
	for _, text := range opts.Groups.Patterns {
		p, err := luapattern.Compile(text)
		if err != nil {
			panic(fmt.Sprintf("exporter: key group %q: %v", text, err)) // package settings has checked it
		}
		g.patterns = append(g.patterns, p)
	}
	return g
}

func (c *keyGroups) name() string { return "key_groups" }

func (c *keyGroups) needs() ([]string, bool) {
	names := []string{"scan", "memory|usage", "select", "readonly"}
	if c.configCommand != "-" {
		names = append(names, "config|get")
	}
	return names, true
}

// groupTotals is what a group has.
type groupTotals struct{ keys, bytes int64 }

func (c *keyGroups) read(ctx context.Context, s *session, out *recorder) error {
	databases, err := c.databases(ctx, s)
	if err != nil {
		return err
	}
	for db := range s.target.keys {
		s.expect(db)
	}
	for db := range databases {
		if s.target.keys[db] == 0 {
			out.set(c.distinct, 0, Key{DB: db}.label())
			continue
		}
		groups := make(map[string]groupTotals)
		err := s.scan(ctx, db, "", "", func(keys []any) error { return c.add(ctx, s, db, keys, groups, out) })
		if err != nil {
			return err
		}
		c.show(Key{DB: db}.label(), groups, out)
	}
	return nil
}

// databases returns how many databases the server has.
func (c *keyGroups) databases(ctx context.Context, s *session) (int, error) {
	if s.target.cluster {
		return max(1, s.lastDatabase()+1), nil
	}
	n := defaultDatabases
	if c.configCommand != "-" {
		replies, err := s.do(ctx, 0, command{"config|get", []string{c.configCommand, "GET", "databases"}})
		if err != nil {
			return 0, err
		}
		if list, ok := replies[0].([]any); ok {
			if v, ok := valueOf(list, "databases"); ok {
				text, _ := v.(string)
				if i, err := strconv.Atoi(text); err == nil && i > 0 && i < maxDatabases {
					n = i
				}
			}
		}
	}
	return max(n, s.lastDatabase()+1), nil
}

// lastDatabase returns the last database with keys, -1 when there is none.
func (s *session) lastDatabase() int {
	last := -1
	for db := range s.target.keys {
		last = max(last, db)
	}
	return last
}

// add counts some keys.
func (c *keyGroups) add(ctx context.Context, s *session, db int, keys []any, groups map[string]groupTotals, out *recorder) error {
	for batch := range slices.Chunk(keys, memoryBatch) {
		bytes := make([]any, len(batch))
		var q questions
		for i, k := range batch {
			key, ok := k.(string)
			if !ok {
				return odd("SCAN", k)
			}
			q.ask(&bytes[i], "memory|usage", "MEMORY", "USAGE", key)
		}
		if err := q.do(ctx, s, db, out); err != nil {
			return err
		}
		for i, k := range batch {
			name := labelValue(c.group(k.(string), out)) // as it is shown, so bounded
			totals, known := groups[name]
			switch {
			case known:
			case len(groups) >= groupLimit:
				out.dropped++
				name = overflow
				totals = groups[name]
			default:
				name = strings.Clone(name) // the key must not live on
			}
			n, _ := bytes[i].(int64)
			groups[name] = groupTotals{totals.keys + 1, totals.bytes + n}
		}
	}
	return nil
}

// group returns the group of a key.
func (c *keyGroups) group(key string, out *recorder) string {
	for _, p := range c.patterns {
		name, ok, err := p.Find(key)
		if err != nil {
			out.note(status.WithReason(status.ReasonRejected, fmt.Errorf("key group %q: %w", p, err)))
			return unclassified
		}
		if ok {
			return name
		}
	}
	return unclassified
}

// show adds the groups of a database.
func (c *keyGroups) show(db string, groups map[string]groupTotals, out *recorder) {
	out.set(c.distinct, float64(len(groups)), db)
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	limit := c.opts.Groups.MaxDistinct
	if len(names) > limit {
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(cmp.Compare(groups[b].bytes, groups[a].bytes), cmp.Compare(groups[a].keys, groups[b].keys), strings.Compare(a, b))
		})
		rest := groups[overflow] // a group may really be called so
		for _, name := range names[limit:] {
			if name != overflow {
				rest.keys += groups[name].keys
				rest.bytes += groups[name].bytes
			}
		}
		groups[overflow] = rest
		names = slices.DeleteFunc(names[:limit], func(name string) bool { return name == overflow })
		names = append(names, overflow)
	}
	for _, name := range names {
		out.set(c.keys, float64(groups[name].keys), db, name)
		out.set(c.memory, float64(groups[name].bytes), db, name)
	}
}
