package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	hintComment = "redis.conf has no trailing comments: put it on a line of its own"
	hintBlank   = "redis.conf separates name and value by a blank: maxmemory 1gb"
)

// invented are directives that no Redis ever had, or that it lost long ago, and
// which articles and examples on the web show. The value says what was probably
// meant. A name that ends in '*' is a prefix.
func invented() map[string]string {
	const (
		noExpire = "there is no such switch: expired keys always go; for how eagerly see active-expire-effort"
		old      = "it was removed in Redis 2.6"
	)
	return map[string]string{
		"dsn-role":                    "a replica is made by replicaof <host> <port>; without it a server is a master",
		"dsn-auth-*":                  "use masteruser and masterauth for the link to the master, user lines for clients",
		"dsn-replica-read-only":       "use replica-read-only",
		"dsn-replica-priority":        "use replica-priority",
		"dsn-replica-failover-*":      "failover is Sentinel's or Redis Cluster's: see sentinel failover-timeout, cluster-node-timeout",
		"dsn-replica-auto-failover*":  "failover is Sentinel's or Redis Cluster's: see sentinel failover-timeout, cluster-node-timeout",
		"dsn-*":                       "use replicaof, and the repl-* and replica-* directives",
		"evict-on-expire":             noExpire,
		"evict-on-max-memory":         "use maxmemory-policy, for example: maxmemory-policy allkeys-lru",
		"evict-on-maxmemory":          "use maxmemory-policy, for example: maxmemory-policy allkeys-lru",
		"eviction-policy":             "use maxmemory-policy",
		"maxmemory-eviction-policy":   "use maxmemory-policy",
		"max-memory-policy":           "use maxmemory-policy",
		"max-connections":             "use maxclients",
		"maxmemory-reserved":          "this is a setting of a hosted service: lower maxmemory instead",
		"ziplist-max-value":           "use hash-max-listpack-value and zset-max-listpack-value",
		"ziplist-max-size":            "use list-max-listpack-size",
		"ziplist-max-entries":         "use hash-max-listpack-entries and zset-max-listpack-entries",
		"hash-max-zipmap-*":           "use hash-max-listpack-entries and hash-max-listpack-value",
		"aof-enabled":                 "use appendonly",
		"aof-filename":                "use appendfilename",
		"aof-sync":                    "use appendfsync",
		"aof-fsync":                   "use appendfsync",
		"aof-rewrite-percentage":      "use auto-aof-rewrite-percentage",
		"aof-rewrite-min-size":        "use auto-aof-rewrite-min-size",
		"rdbfilename":                 "use dbfilename",
		"rdb-filename":                "use dbfilename",
		"rdb-enabled":                 `use save; save "" switches snapshots off`,
		"rdb-save-interval":           "use save <seconds> <changes>",
		"save-interval":               "use save <seconds> <changes>",
		"replication-backlog-size":    "use repl-backlog-size",
		"replication-timeout":         "use repl-timeout",
		"replication-enabled":         "use replicaof <host> <port>",
		"master-host":                 "use replicaof <host> <port>",
		"master-port":                 "use replicaof <host> <port>",
		"master-password":             "use masterauth",
		"password":                    "use requirepass",
		"cluster-mode":                "use cluster-enabled",
		"enable-cluster":              "use cluster-enabled",
		"cluster-replicas":            "this is an option of redis-cli --cluster create, not of the server",
		"tls-enabled":                 "use tls-port <port>, and port 0 to switch plain text off",
		"enable-tls":                  "use tls-port <port>, and port 0 to switch plain text off",
		"ssl":                         "use tls-port <port>, and port 0 to switch plain text off",
		"ssl-cert-file":               "use tls-cert-file",
		"ssl-key-file":                "use tls-key-file",
		"active-defrag":               "use activedefrag",
		"active-defrag-enabled":       "use activedefrag",
		"log-file":                    "use logfile",
		"log-level":                   "use loglevel",
		"data-dir":                    "use dir",
		"bind-address":                "use bind",
		"sentinel_link_buffer_size":   "Sentinel has no such directive",
		"vm-*":                        "virtual memory is no more, " + old,
		"really-use-vm":               "virtual memory is no more, " + old,
		"glueoutputbuf":               "delete the line, " + old,
		"slave-of":                    "use replicaof <host> <port>",
		"replica-of":                  "use replicaof <host> <port>",
		"requirepassword":             "use requirepass",
		"lazyfree":                    "use lazyfree-lazy-eviction, lazyfree-lazy-expire, lazyfree-lazy-server-del",
		"client-output-buffer-limits": "use client-output-buffer-limit",
	}
}

// inventedHint returns what was probably meant by an invented directive.
func inventedHint(name string) (hint string, ok bool) {
	table := invented()
	if hint, ok = table[name]; ok {
		return hint, true
	}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(table))) { // the longest prefix first
		if prefix, wild := strings.CutSuffix(key, "*"); wild && strings.HasPrefix(name, prefix) {
			return table[key], true
		}
	}
	return "", false
}

// didYouMean returns a hint naming the known directive that is closest to name,
// "" when none is close.
func didYouMean(name string, known []string) string {
	best, bestDistance := "", max(1, min(3, len(name)/4))+1
	flat := flatten(name)
	for _, k := range known {
		d := 0 // max_memory and max-memory are maxmemory
		if flatten(k) != flat {
			d = distance(name, k, bestDistance)
		}
		if d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", best)
}

func flatten(name string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "").Replace(name)
}

// distance is the number of inserted, deleted, changed and swapped neighbouring
// bytes between a and b; limit or more is returned as limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
