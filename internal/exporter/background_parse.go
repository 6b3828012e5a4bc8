package exporter

import (
	"encoding/csv"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Key names a key of a database, or a pattern of keys.
type Key struct {
	DB  int
	Key string
}

func (k Key) label() string { return "db" + strconv.Itoa(k.DB) }

// isPattern tells whether the key has a character that means something in a
// pattern of SCAN; redis_exporter looks for the same ones.
func (k Key) isPattern() bool { return strings.ContainsAny(k.Key, `?*[]^`) }

// ParseKeys reads a list of keys or patterns as redis_exporter's flags have it:
// items "db3=key", "3=key" or "key", which is in database 0, divided by commas.
// A comma, an equals sign, a percent sign or a plus in a key is written as in a
// URL's query: %2C, %3D, %25, %2B.
func ParseKeys(list string) ([]Key, error) {
	var out []Key
	for item := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		db, name, ok := strings.Cut(item, "=")
		if !ok {
			db, name = "0", item
		}
		if strings.Contains(name, "=") {
			return nil, fmt.Errorf("%q has two equals signs: write db0=key, and %%3D for an equals sign in the key", item)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(db), "db"))
		if err != nil || n < 0 || n >= maxDatabases {
			return nil, fmt.Errorf("%q: %q is not a database: write db0=key, or key alone for database 0", item, strings.TrimSpace(db))
		}
		key, err := url.QueryUnescape(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("%q: %w: write %%25 for a percent sign in the key", item, err)
		}
		if key == "" {
			return nil, fmt.Errorf("%q names no key: write db0=key, or leave the item out", item)
		}
		out = append(out, Key{n, key})
	}
	return out, nil
}

// ParseKeyGroups reads a list of Lua patterns in the form of one line of CSV: a
// pattern with a comma stands in double quotes. Spaces around a pattern are cut.
func ParseKeyGroups(list string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	r := csv.NewReader(strings.NewReader(list))
	items, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("not a line of CSV: %w: put a pattern with a comma in double quotes, and double those in it", err)
	}
	if _, err := r.Read(); err == nil {
		return nil, fmt.Errorf("more than one line: divide the patterns by commas")
	}
	var out []string
	for _, item := range items {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if _, err := compileLua(item); err != nil {
			return nil, fmt.Errorf("%q is not a Lua pattern: %w", item, err)
		}
		out = append(out, item)
	}
	return out, nil
}

// ParseScripts reads a list of files, divided by commas.
func ParseScripts(list string) ([]string, error) {
	var out []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out, nil
}

// ParseIntervals reads a list like "clients=15s,keys=10m": intervals of some of
// BackgroundCollectors.
func ParseIntervals(list string) (map[string]time.Duration, error) {
	known := make(map[string]bool)
	for _, name := range BackgroundCollectors() {
		known[name] = true
	}
	out := make(map[string]time.Duration)
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, text, _ := strings.Cut(item, "=")
		if !known[name] {
			return nil, fmt.Errorf("%q: no background collector of that name: there are %s", item, strings.Join(BackgroundCollectors(), ", "))
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second {
			return nil, fmt.Errorf("%q: the interval must be a duration of at least 1s, such as %s=5m", item, name)
		}
		out[name] = d
	}
	return out, nil
}
