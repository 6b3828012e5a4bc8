package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// catalogue is what is known of the directives of one server: the table for its
// version and, once it was asked, the names that it has itself.
type catalogue struct {
	version version
	specs   map[string]*spec // by real name and by alias
	names   []string         // for did-you-mean
	live    map[string]bool  // names in CONFIG GET *; nil: the server was not asked
}

// newCatalogue returns the catalogue of a version, as INFO names it. For one that
// cannot be read, such as "", it knows what any version knows.
func newCatalogue(redisVersion string) *catalogue {
	c := &catalogue{version: parseVersion(redisVersion), specs: map[string]*spec{}}
	lines := table()
	for i := range lines {
		s := &lines[i]
		if old, ok := c.specs[s.name]; c.version == latest && ok && old.from > s.from {
			continue
		}
		if c.version == latest || s.is(c.version) {
			c.specs[s.name] = s
		}
	}
	for _, s := range maps.Clone(c.specs) {
		if s.alias != "" {
			c.specs[s.alias] = s
		}
	}
	c.names = append(slices.Sorted(maps.Keys(c.specs)), "include", "user", "loadmodule", "rename-command")
	return c
}

// withServer returns the catalogue completed by the answer to CONFIG GET *.
func (c *catalogue) withServer(values map[string]string) *catalogue {
	out := *c
	out.live = make(map[string]bool, len(values))
	for name := range values {
		out.live[name] = true
	}
	return &out
}

// lookup returns the spec of a parameter, or nil when the server has none of
// that name. A parameter that only the server knows is of kindUnknown.
func (c *catalogue) lookup(name string) *spec {
	s := c.specs[name]
	switch {
	case s == nil && c.live[name]:
		d := directive(name, kindUnknown, "", Live)
		d.secret = looksSecret(name)
		return &d
	case s != nil && c.live != nil && strings.HasPrefix(s.name, "tls-") && !c.live[s.name] && !s.hidden:
		return nil // built without TLS
	}
	return s
}

// looksSecret guesses from the name of a parameter that is not in the table.
func looksSecret(name string) bool {
	for _, part := range []string{"pass", "secret", "token", "auth", "credential", "key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// moduleParameter tells whether an unknown name may be a parameter of a module
// that is not loaded here: module.name, and for the modules that come with
// Redis 8 a prefix.
func (c *catalogue) moduleParameter(name string) bool {
	if c.version < v70 {
		return false
	}
	if strings.Contains(name, ".") {
		return true
	}
	if c.version < v80 {
		return false
	}
	for _, prefix := range []string{"search-", "ts-", "bf-", "cf-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// unknownHint says what may have been meant by a directive that does not exist.
// word is the first word of the line, name the part of it that may be shown.
func (c *catalogue) unknownHint(name, word string) string {
	switch {
	case strings.HasPrefix(word, "//"), strings.HasPrefix(word, ";"):
		return "a comment begins with #"
	case strings.HasPrefix(word, "--"):
		return "this is the form of the command line: leave out the dashes"
	case strings.HasPrefix(word, name+":"), strings.HasPrefix(word, name+"="):
		return hintBlank
	case c.live != nil && c.specs[name] != nil:
		return "this redis-server was built without it"
	}
	if hint, ok := inventedHint(name); ok {
		return "no version of Redis that this sidecar knows has it: " + hint
	}
	var in []string
	lines := table()
	for i := range lines {
		if s := &lines[i]; s.name == name || s.alias == name {
			in = append(in, s.rangeOfVersions())
		}
	}
	if len(in) > 0 {
		return fmt.Sprintf("Redis %s does not have it; it exists %s", c.version, strings.Join(slices.Compact(in), ", "))
	}
	return didYouMean(name, c.names)
}

func (s *spec) rangeOfVersions() string {
	switch {
	case s.until <= latest && s.from > v62:
		return fmt.Sprintf("from %s until before %s", s.from, s.until)
	case s.until <= latest:
		return fmt.Sprintf("until before %s", s.until)
	}
	return fmt.Sprintf("since %s", s.from)
}
