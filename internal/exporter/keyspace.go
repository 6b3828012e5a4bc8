package exporter

import (
	"strconv"
	"strings"
)

// defaultDatabases is how many databases a server has that does not tell.
const defaultDatabases = 16

// keyspace is the collector of INFO keyspace. A Sentinel has none.
type keyspace struct {
	infoOnly
	skipEmpty                            bool
	keys, expiring, ttl, cached, subkeys *family
}

func newKeyspace(c *catalog, opts CollectOptions) *keyspace {
	return &keyspace{
		skipEmpty: opts.SkipEmptyDatabases,
		keys: c.add(typeGauge, "db_keys", "INFO keyspace",
			"Keys in a database; 0 for those that are configured and empty.", "db"),
		expiring: c.add(typeGauge, "db_keys_expiring", "INFO keyspace",
			"Keys in a database that have an expiry.", "db"),
		ttl: c.add(typeGauge, "db_avg_ttl_seconds", "INFO keyspace",
			"Estimated average time to live of the keys that have an expiry, in seconds.", "db"),
		cached: c.add(typeGauge, "db_keys_cached", "INFO keyspace",
			"Keys of a database in the memory cache of the storage provider (KeyDB).", "db"),
		subkeys: c.add(typeGauge, "db_keys_with_expiring_items", "INFO keyspace",
			"Keys in a database with parts that expire by themselves: hashes with fields that have an expiry (since Redis 7.4 and Valkey 9.0).", "db"),
	}
}

func (c *keyspace) name() string { return "keyspace" }

func (c *keyspace) collect(r *reading, _ []any, out *sink) error {
	if r.server.sentinel {
		return nil
	}
	seen := make(map[string]bool)
	for db, line := range r.info.Section("keyspace") {
		if !strings.HasPrefix(db, "db") || !isDigits(db[2:]) {
			continue
		}
		seen[db] = true
		// By name: which fields there are, and their order, depends on the server.
		for key, v := range numbers(line) {
			switch key {
			case "keys":
				out.set(c.keys, v, db)
			case "expires":
				out.set(c.expiring, v, db)
			case "avg_ttl":
				out.set(c.ttl, v/1000, db)
			case "cached_keys":
				out.set(c.cached, v, db)
			case "subexpiry", "keys_with_volatile_items": // Redis, Valkey
				out.set(c.subkeys, v, db)
			}
		}
	}
	if c.skipEmpty {
		return nil
	}
	databases := r.databases
	switch {
	case r.server.cluster:
		databases = 1
	case databases <= 0:
		databases = defaultDatabases
	}
	for i := range min(databases, c.keys.limit) {
		if db := "db" + strconv.Itoa(i); !seen[db] {
			out.set(c.keys, 0, db)
			out.set(c.expiring, 0, db)
		}
	}
	return nil
}
