package config

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTableAgainstServer compares the table with the installed redis-server:
// names, aliases, defaults, words, bounds, and what CONFIG SET refuses.
func TestTableAgainstServer(t *testing.T) {
	server, refusal := startWith(t, "")
	if server == nil {
		t.Fatal(refusal)
	}
	cat := newCatalogue(server.version)
	if cat.version == latest {
		t.Fatalf("redis_version %q is not understood", server.version)
	}
	ctx := context.Background()

	t.Run("every name of the server is in the table", func(t *testing.T) {
		for name := range server.values {
			if cat.specs[name] == nil {
				t.Errorf("%s is missing", name)
			}
		}
	})
	t.Run("every name of the table is in the server", func(t *testing.T) {
		tls := slices.Contains(slices.Collect(maps.Keys(server.values)), "tls-port")
		for name, s := range cat.specs {
			if s.kind == kindDead || strings.HasPrefix(name, "tls-") && !tls {
				continue
			}
			if _, ok := s.value(server.values); ok == s.hidden {
				t.Errorf("%s: in CONFIG GET * %v, in the table hidden %v", name, ok, s.hidden)
			}
		}
	})
	t.Run("defaults", func(t *testing.T) {
		given := []string{"port", "unixsocket", "dir", "pidfile"} // by the test, or by what is given
		for name, s := range cat.specs {
			raw, ok := server.values[name]
			if !ok || slices.Contains(given, name) {
				continue
			}
			for _, set := range settingsOf(s) {
				if got, want := haveOf(set, raw, cat.version), haveOf(set, s.initial, cat.version); got != want {
					t.Errorf("%s: the server has %q, the table %q", set.key, got, want)
				}
			}
		}
	})
	t.Run("classes", func(t *testing.T) {
		for name, s := range cat.specs {
			raw, ok := server.values[name]
			if !ok {
				continue
			}
			err := server.client.ConfigSet(ctx, name, raw)
			immutable := err != nil
			switch s.class {
			case Live, Care, Manual:
				if immutable && (name != "bind" || cat.version >= v70) { // 6.2 cannot set it to none
					t.Errorf("%s is %s, but its own value %q is refused: %v", name, s.class, raw, err)
				}
			case Restart:
				if !immutable {
					t.Errorf("%s is %s, but can be set", name, s.class)
				}
			}
		}
	})
	t.Run("words", func(t *testing.T) {
		if cat.version < v70 {
			t.Log("before 7.0 the server does not list them")
			return
		}
		for name, s := range cat.specs {
			if s.kind != kindWord && s.kind != kindFlags || s.class == Restart || s.class == Never || s.name != name || s.hidden {
				continue
			}
			err := server.client.ConfigSet(ctx, name, "no-such-word")
			if err == nil {
				t.Errorf("%s takes any word", name)
				continue
			}
			_, list, ok := strings.Cut(err.Error(), "one of the following: ")
			if !ok {
				t.Errorf("%s: unexpected words %v", name, err)
				continue
			}
			var mine []string
			for _, w := range s.words {
				w, _, _ = strings.Cut(w, "=")
				mine = append(mine, w)
			}
			theirs := strings.Split(list, ", ")
			slices.Sort(mine)
			slices.Sort(theirs)
			if !slices.Equal(mine, theirs) {
				t.Errorf("%s: the server has %q, the table %q", name, theirs, mine)
			}
		}
	})
	t.Run("bounds", func(t *testing.T) {
		for name, s := range cat.specs {
			_, ok := server.values[name]
			if s.kind != kindInt && s.kind != kindMemory || !ok || s.class == Restart {
				continue
			}
			if name == "tls-port" && cat.version >= v80 {
				continue // a refused one crashes a server that was built without TLS
			}
			for _, outside := range []int64{s.min - 1, s.max + 1} {
				if s.max == maxLong && outside < 0 && s.kind == kindMemory || outside == -maxLong-1 {
					continue // not to be written in a file, or no bound
				}
				value := strconv.FormatInt(outside, 10)
				if _, bad := s.canonical([]string{value}, cat.version); bad == nil {
					t.Errorf("%s %s is taken", name, value)
				}
				if err := server.client.ConfigSet(ctx, name, value); err == nil {
					t.Errorf("%s %s is taken by the server", name, value)
				}
			}
			// The value next to the lower bound is within.
			least := strconv.FormatInt(s.min, 10)
			if _, bad := s.canonical([]string{least}, cat.version); bad != nil {
				t.Errorf("%s %s: %s", name, least, bad.what)
			}
			if s.class == Live && !strings.HasPrefix(name, "tls-") {
				if err := server.client.ConfigSet(ctx, name, least); err != nil && !s.yields {
					t.Errorf("%s %s: %v", name, least, err)
				}
			}
		}
	})
}

func TestTableIsConsistent(t *testing.T) {
	for _, v := range []string{"6.2.16", "7.0.15", "7.2.6", "7.4.1", "8.0.0", "8.4.0"} {
		cat := newCatalogue(v)
		lines := table()
		seen := map[string]bool{}
		for i := range lines {
			s := &lines[i]
			if !s.is(cat.version) {
				continue
			}
			for _, name := range []string{s.name, s.alias} {
				if name != "" && seen[name] {
					t.Errorf("Redis %s: %s comes twice", v, name)
				}
				seen[name] = true
			}
			if s.class == Care && s.why == "" {
				t.Errorf("%s: care, but of what?", s.name)
			}
			for _, set := range settingsOf(s) {
				if s.kind == kindDead || s.kind == kindReplicaOf || s.kind == kindBuffer || s.kind == kindDir {
					continue
				}
				if got := haveOf(set, s.initial, cat.version); got != s.initial {
					t.Errorf("Redis %s: the default of %s is written %q, canonical is %q", v, s.name, s.initial, got)
				}
			}
		}
	}
}

func TestInventedAreUnknown(t *testing.T) {
	cat := newCatalogue("")
	for name := range invented() {
		if s := cat.specs[strings.TrimSuffix(name, "*")]; s != nil {
			t.Errorf("%s exists", name)
		}
	}
	// A hint names directives that exist.
	for name, hint := range invented() {
		for word := range strings.FieldsFuncSeq(hint, func(r rune) bool { return strings.ContainsRune(" ,;:", r) }) {
			if !strings.Contains(word, "-") || strings.ContainsAny(word, "*<>.\"") || strings.HasPrefix(word, "-") || cat.specs[word] != nil {
				continue
			}
			switch word {
			case "allkeys-lru", "failover-timeout", "redis-cli":
				continue
			}
			t.Errorf("the hint for %s names %s", name, word)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"6.2.16": v62, "7.0.15": v70, "7.2.6": v72, "7.4.1": v74, "8.0.0": v80, "8.10.2": 810, "255.255.255": 25599,
		"5.0.14": v62, "": latest, "x.y": latest, "7": v70, "-1.2": latest, "99999999999999999999.1": latest,
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("parseVersion(%q) = %d, want %d", text, got, want)
		}
	}
}
