package config

import "math"

// Class says what becomes of a change of a directive while the server runs.
type Class string

// The classes. docs/config.md has them as a table.
const (
	Live    Class = "live"    // set by CONFIG SET
	Care    Class = "care"    // the same; the effect is worth a note
	Restart Class = "restart" // immutable: the server reads it at its start only
	Manual  Class = "manual"  // could be set, but would cut off clients, this sidecar among them
	Never   Class = "never"   // protected by Redis, or not this job's to set
	Owned   Class = "owned"   // kept by another job, by Sentinel or by replication
)

// kind is how the arguments of a directive are read.
type kind int

const (
	kindText        kind = iota // one string, taken as it is
	kindBool                    // yes, no
	kindWord                    // one of a set
	kindFlags                   // any of a set
	kindInt                     // whole number
	kindOctal                   // permission bits
	kindMemory                  // bytes, with a unit
	kindPercent                 // bytes, or a percentage
	kindEvents                  // letters of notify-keyspace-events
	kindSave                    // pairs of seconds and changes; lines add up
	kindBuffer                  // client-output-buffer-limit: per class of clients
	kindOOM                     // oom-score-adj-values
	kindPercentiles             // latency-tracking-info-percentiles
	kindList                    // addresses and the like, joined by blanks
	kindDir                     // dir: the server resolves it
	kindReplicaOf               // host and port
	kindDead                    // accepted and ignored by redis-server
	kindUnknown                 // only the server knows it: a module's, or of a newer version
)

// multi tells whether a directive takes its value as several words.
func (k kind) multi() bool {
	switch k {
	case kindFlags, kindSave, kindBuffer, kindOOM, kindPercentiles, kindList, kindReplicaOf:
		return true
	}
	return false
}

// spec is what is known of one directive in a range of versions.
type spec struct {
	name    string
	alias   string // the older name, which means the same
	kind    kind
	words   []string // of kindWord and kindFlags; a word "a=b" is another name of b
	min     int64
	max     int64 // for kindMemory math.MaxInt64 also stands for the unsigned maximum
	initial string
	class   Class
	why     string  // for Restart, Manual, Never, Owned: why not; for Care: what to expect
	from    version // the first series that has it
	until   version // the first series that has it no more
	hidden  bool    // not in CONFIG GET *, though CONFIG GET <name> may know it
	secret  bool
	// yields: when the server cannot follow, it goes on with less; a refusal is
	// of the machine, not of the value.
	yields bool
}

const (
	maxInt  = math.MaxInt32
	maxUint = math.MaxUint32
	maxLong = math.MaxInt64
)

func directive(name string, k kind, initial string, class Class) spec {
	return spec{name: name, kind: k, initial: initial, class: class, from: v62, until: latest + 1}
}

func yesno(name, initial string, class Class) spec {
	return directive(name, kindBool, initial, class)
}

func text(name, initial string, class Class) spec {
	return directive(name, kindText, initial, class)
}

func number(name, initial string, lo, hi int64, class Class) spec {
	s := directive(name, kindInt, initial, class)
	s.min, s.max = lo, hi
	return s
}

func memory(name, initial string, lo int64, class Class) spec {
	s := directive(name, kindMemory, initial, class)
	s.min, s.max = lo, maxLong
	return s
}

func word(name, initial string, class Class, words ...string) spec {
	s := directive(name, kindWord, initial, class)
	s.words = words
	return s
}

func (s spec) as(alias string) spec     { s.alias = alias; return s }
func (s spec) since(v version) spec     { s.from = v; return s }
func (s spec) before(v version) spec    { s.until = v; return s }
func (s spec) because(why string) spec  { s.why = why; return s }
func (s spec) hide() spec               { s.hidden = true; return s }
func (s spec) sensitive() spec          { s.secret = true; return s }
func (s spec) machine() spec            { s.yields = true; return s }
func (s spec) options(w ...string) spec { s.words = w; return s }
func (s spec) bounds(lo, hi int64) spec { s.min, s.max = lo, hi; return s }
func (s spec) is(v version) bool        { return s.from <= v && v < s.until }

// reason returns why a change is not applied, "" for one that is.
func (s *spec) reason() string {
	if s.why != "" {
		return s.why
	}
	switch s.class {
	case Restart:
		return "redis-server reads it at its start only"
	case Manual:
		return "not changed in a running server by this version: it could cut off clients"
	case Never:
		return "protected: not set from a file"
	case Owned:
		return "kept by another job, by Sentinel or by replication"
	}
	return ""
}
