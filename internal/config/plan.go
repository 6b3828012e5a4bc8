package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Change is one parameter whose value in the server is not the one of the file.
type Change struct {
	Name  string `json:"name"`            // real name; with the class for client-output-buffer-limit
	From  string `json:"from"`            // what the server has; secrets redacted
	To    string `json:"to"`              // what the file asks for; secrets redacted
	Why   string `json:"why,omitempty"`   // why it is not applied, or what to expect
	Where string `json:"where,omitempty"` // file:line; "" for a line that was removed

	spec *spec
	want string // canonical, unredacted
	have string // as CONFIG GET gave it, unredacted: for a rollback
}

// String returns "name from -> to".
func (c Change) String() string {
	return fmt.Sprintf("%s %s -> %s", c.Name, quoteWord(c.From), quoteWord(c.To))
}

// plan is what separates a server from its file.
type plan struct {
	apply   []Change // CONFIG SET does it
	restart []Change // a restart of redis-server does it, or a person
	refused []Change // this sidecar will not send it, or the machine cannot do it
	ignored []Change // differs, and is kept by somebody else
}

// maxSafeClients bounds maxclients: while redis-server looks for a limit of open
// files that the kernel grants it answers nobody, 7.7 s for 300 million.
const maxSafeClients = 1_000_000

// minSafeBytes is the least limit of memory that is set in a running server.
const minSafeBytes = 1 << 20

// makePlan compares what a file asks for with CONFIG GET *, by name. first is
// what the file asked for when the server was first seen.
func makePlan(cat *catalogue, settings, first map[string]*setting, live map[string]string) plan {
	var p plan
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		s := settings[key]
		raw, ok := s.spec.value(live)
		if !ok {
			continue // the server does not show it: nothing to compare
		}
		have := haveOf(s, raw, cat.version)
		if same(s, have, first[key]) {
			continue
		}
		c := Change{Name: key, From: have, To: s.shown, Why: s.spec.reason(), Where: s.where(), spec: s.spec, want: s.want, have: have}
		if s.spec.secret {
			c.From, c.To = redacted, redacted
		}
		switch s.spec.class {
		case Live, Care:
			if why := refuse(s); why != "" {
				c.Why = why
				p.refused = append(p.refused, c)
				continue
			}
			if s.file == "" {
				c.Why = "no longer in the file"
			}
			p.apply = append(p.apply, c)
		case Owned:
			p.ignored = append(p.ignored, c)
		default:
			p.restart = append(p.restart, c)
		}
	}
	return p
}

// same tells whether the server has what the file asks for.
func same(s *setting, have string, first *setting) bool {
	if have == s.want {
		return true
	}
	switch s.spec.kind {
	case kindDir:
		// The server shows where it is, whatever the file says: a path may be
		// relative, or lead there through a link. What counts is a changed line.
		return !path.IsAbs(s.want) || first != nil && first.want == s.want
	case kindEvents:
		return visibleEvents(have) == visibleEvents(s.want)
	case kindUnknown:
		a, ok1 := parseMemory(have)
		b, ok2 := parseMemory(s.want)
		return ok1 && ok2 && a == b || strings.EqualFold(have, s.want)
	}
	return false
}

// value returns a parameter out of the answer to CONFIG GET *. Redis 6.2 knows
// replicaof by its older name only.
func (s *spec) value(live map[string]string) (raw string, ok bool) {
	if raw, ok = live[s.name]; !ok && s.alias != "" {
		raw, ok = live[s.alias]
	}
	return raw, ok
}

// haveOf returns the canonical form of what the server holds for a setting.
func haveOf(s *setting, raw string, v version) string {
	if s.spec.kind != kindBuffer {
		return s.spec.canonicalLive(raw, v)
	}
	return bufferLimits(raw)[strings.TrimPrefix(s.key, s.spec.name+" ")]
}

// bufferLimits reads what CONFIG GET client-output-buffer-limit answers.
func bufferLimits(raw string) map[string]string {
	out := map[string]string{}
	for group := range slices.Chunk(strings.Fields(raw), 4) {
		class, bad := bufferClass(group[0])
		if bad != nil {
			continue
		}
		if limit, bad := bufferLimit(group[1:]); bad == nil {
			out[class] = limit
		}
	}
	return out
}

// refuse says why a value that the server would accept is not sent: it would do
// harm at once, and is more likely a slip.
func refuse(s *setting) string {
	n, err := strconv.ParseInt(s.want, 10, 64)
	known := err == nil
	switch {
	case s.key == "maxclients" && known && n > maxSafeClients:
		return fmt.Sprintf("not sent above %d: redis-server would stand still while it looks for a limit that the kernel grants", maxSafeClients)
	case s.key == "maxmemory" && known && 0 < n && n < minSafeBytes:
		return "not sent below 1mb: keys would be evicted or writes refused at once; is a unit missing?"
	case s.key == "maxmemory-clients" && known && 0 < n && n < minSafeBytes:
		return "not sent below 1mb: clients would be closed, this sidecar among them; is a unit missing?"
	case s.key == "client-output-buffer-limit normal":
		hard, _, _ := strings.Cut(s.want, " ")
		if n, err := strconv.ParseInt(hard, 10, 64); err == nil && 0 < n && n < minSafeBytes {
			return "not sent with a hard limit below 1mb: clients that ask for more would be closed, this sidecar among them; is a unit missing?"
		}
	}
	return ""
}

// pair is one parameter of a CONFIG SET.
type pair struct {
	name, value string
	before      string // to set it back
	spec        *spec
	keys        []string // of the changes that it makes
}

// pairs turns changes into the arguments of CONFIG SET: one pair for each
// parameter, since the server refuses a name that comes twice.
func pairs(changes []Change) []pair {
	var out []pair
	for _, c := range changes {
		name, value, before := c.spec.name, c.want, c.have
		if class, ok := strings.CutPrefix(c.Name, name+" "); ok {
			value, before = class+" "+value, class+" "+before
		}
		if i := slices.IndexFunc(out, func(p pair) bool { return p.name == name }); i >= 0 {
			out[i].value += " " + value
			out[i].before += " " + before
			out[i].keys = append(out[i].keys, c.Name)
			continue
		}
		out = append(out, pair{name: name, value: value, before: before, spec: c.spec, keys: []string{c.Name}})
	}
	return out
}

// backToDefault returns the settings that undo lines which are in the file no
// more. before are the settings that the server may have from the file, start
// what it had when it was first seen, first what the file asked for then.
//
// A parameter that came from the file goes back to the built-in default; one that
// the file overrode later goes back to what the server was started with: options
// of its command line and of its image count.
func backToDefault(cat *catalogue, before, now, first map[string]*setting, start map[string]string) map[string]*setting {
	out := map[string]*setting{}
	for key, s := range before {
		if now[key] != nil {
			continue
		}
		undo := &setting{key: key, spec: s.spec}
		raw, ok := s.spec.value(start)
		had := ""
		if ok {
			had = haveOf(undo, raw, cat.version)
		}
		if f := first[key]; ok && (f == nil || f.want != had) {
			undo.want = had
		} else {
			undo.want = haveOf(undo, s.spec.initial, cat.version)
		}
		undo.shown = undo.want
		if s.spec.secret {
			undo.shown = redacted
		}
		if s.spec.kind == kindUnknown {
			unknown := *s.spec
			unknown.class, unknown.why = Restart, "no longer in the file, and its default is not known here"
			undo.spec, undo.shown = &unknown, "(default)"
		}
		out[key] = undo
	}
	return out
}

// outside returns the parameters that no line of the file sets and that are not
// at their default either: set on the command line, by the image or by hand.
func outside(cat *catalogue, settings map[string]*setting, live map[string]string) []Change {
	if cat.version == latest {
		return nil
	}
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(live)) {
		s := cat.specs[name]
		if s == nil || s.name != name || s.class == Owned {
			continue
		}
		for _, set := range settingsOf(s) {
			if settings[set.key] != nil {
				continue
			}
			have, initial := haveOf(set, live[name], cat.version), haveOf(set, s.initial, cat.version)
			if have == initial {
				continue
			}
			c := Change{Name: set.key, From: have, To: initial}
			if s.secret {
				c.From, c.To = redacted, redacted
			}
			out = append(out, c)
		}
	}
	return out
}

// settingsOf returns the keys under which a parameter is compared.
func settingsOf(s *spec) []*setting {
	if s.kind != kindBuffer {
		return []*setting{{key: s.name, spec: s}}
	}
	var out []*setting
	for _, class := range []string{"normal", "replica", "pubsub"} {
		out = append(out, &setting{key: s.name + " " + class, spec: s})
	}
	return out
}
