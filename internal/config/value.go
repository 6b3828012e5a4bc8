package config

import (
	"fmt"
	"math"
	"math/bits"
	"path"
	"slices"
	"strconv"
	"strings"
)

// badValue says what is wrong with a value, and what would be right.
type badValue struct{ what, hint string }

// canonical brings the arguments of a directive into the one form in which equal
// values are equal strings, and which CONFIG SET accepts. v decides where the
// versions differ. Arguments of kindBuffer are those of one class.
func (s *spec) canonical(args []string, v version) (string, *badValue) {
	if !s.kind.multi() {
		if s.kind == kindUnknown {
			return strings.Join(args, " "), nil
		}
		if len(args) != 1 {
			return "", &badValue{what: "wrong number of arguments", hint: "it takes one; quote a value that has blanks"}
		}
		return s.single(args[0], v)
	}
	switch s.kind {
	case kindFlags:
		return s.flags(args)
	case kindSave:
		return savePoints(args)
	case kindBuffer:
		return bufferLimit(args)
	case kindOOM:
		return oomValues(args)
	case kindPercentiles:
		return percentiles(args)
	case kindReplicaOf:
		return replicaOf(args)
	}
	return strings.Join(args, " "), nil
}

// single is canonical for the kinds with one argument.
func (s *spec) single(arg string, v version) (string, *badValue) {
	switch s.kind {
	case kindBool:
		if b := lower(arg); b == "yes" || b == "no" {
			return b, nil
		}
		return "", &badValue{what: shown(arg) + " is neither yes nor no"}
	case kindWord:
		if w, ok := s.word(arg); ok {
			return w, nil
		}
		return "", s.unknownWord(arg)
	case kindInt:
		return s.integer(arg)
	case kindOctal:
		n, err := strconv.ParseInt(arg, 8, 64)
		if err != nil || n < s.min || n > s.max {
			return "", &badValue{what: shown(arg) + " is not an octal number", hint: fmt.Sprintf("from 0 to %o, for example 700", s.max)}
		}
		return strconv.FormatInt(n, 8), nil
	case kindMemory:
		return s.memory(arg)
	case kindPercent:
		if p, ok := strings.CutSuffix(arg, "%"); ok {
			n, err := strconv.ParseUint(p, 10, 63)
			if err != nil || n > 100 {
				return "", &badValue{what: shown(arg) + " is not a percentage", hint: "from 0% to 100%"}
			}
			if n == 0 {
				return "0", nil
			}
			return strconv.FormatUint(n, 10) + "%", nil
		}
		return s.memory(arg)
	case kindEvents:
		return events(arg, v)
	case kindDir:
		if !path.IsAbs(arg) {
			return arg, nil
		}
		return path.Clean(arg), nil
	}
	return arg, nil
}

// canonicalLive is canonical for what CONFIG GET answers. A value that does not
// fit what is known of the directive comes back as it is.
func (s *spec) canonicalLive(value string, v version) string {
	args := []string{value}
	if s.kind.multi() && value != "" {
		args = strings.Fields(value)
	}
	if out, bad := s.canonical(args, v); bad == nil {
		return out
	}
	return value
}

func (s *spec) integer(arg string) (string, *badValue) {
	n, err := strconv.ParseInt(arg, 10, 64)
	// redis-server takes no sign, blank or zero in front.
	if err != nil || strconv.FormatInt(n, 10) != arg {
		hint := "write a whole number"
		if _, ok := parseMemory(arg); ok {
			hint = "write a whole number, without a unit"
		}
		return "", &badValue{what: shown(arg) + " is not a whole number", hint: hint}
	}
	if n < s.min || n > s.max {
		return "", &badValue{what: fmt.Sprintf("%d is out of range", n), hint: s.rangeHint(n)}
	}
	if s.name == "hz" {
		n = min(max(n, 1), 500) // the server clamps it
	}
	return strconv.FormatInt(n, 10), nil
}

func (s *spec) rangeHint(n int64) string {
	if n < s.min {
		return fmt.Sprintf("the least is %d", s.min)
	}
	return fmt.Sprintf("the most is %d", s.max)
}

func (s *spec) memory(arg string) (string, *badValue) {
	n, ok := parseMemory(arg)
	if !ok {
		return "", &badValue{what: shown(arg) + " is not a size",
			hint: "write a whole number with no unit or b, k, kb, m, mb, g or gb, without a blank: 512mb"}
	}
	if n < uint64(max(0, s.min)) {
		return "", &badValue{what: fmt.Sprintf("%d bytes is out of range", n), hint: s.rangeHint(math.MinInt64)}
	}
	if n > uint64(s.max) {
		return "", &badValue{what: fmt.Sprintf("%d bytes is out of range", n), hint: s.rangeHint(math.MaxInt64)}
	}
	return strconv.FormatUint(n, 10), nil
}

// parseMemory reads a size as redis-server does: k is 1000, kb is 1024. Unlike
// the server it takes neither a unit without a number, which the server reads as
// 0, nor what does not fit into 64 bits.
func parseMemory(s string) (n uint64, ok bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseUint(s[:end], 10, 64)
	if err != nil {
		return 0, false
	}
	var unit uint64
	switch lower(s[end:]) {
	case "", "b":
		unit = 1
	case "k":
		unit = 1000
	case "kb":
		unit = 1 << 10
	case "m":
		unit = 1000 * 1000
	case "mb":
		unit = 1 << 20
	case "g":
		unit = 1000 * 1000 * 1000
	case "gb":
		unit = 1 << 30
	default:
		return 0, false
	}
	high, low := bits.Mul64(n, unit)
	return low, high == 0
}

// word returns the canonical form of one of the words of s.
func (s *spec) word(arg string) (string, bool) {
	for _, w := range s.words {
		name, same, other := strings.Cut(w, "=")
		if !strings.EqualFold(arg, name) {
			continue
		}
		if other {
			return same, true
		}
		return name, true
	}
	return "", false
}

func (s *spec) unknownWord(arg string) *badValue {
	names := make([]string, len(s.words))
	for i, w := range s.words {
		names[i], _, _ = strings.Cut(w, "=")
	}
	return &badValue{what: shown(arg) + " is not a value of it", hint: "one of " + strings.Join(names, ", ")}
}

// flags reads a set of words. The first word of the set is the empty set, which
// adds nothing beside others.
func (s *spec) flags(args []string) (string, *badValue) {
	if len(args) == 0 {
		return "", &badValue{what: "no value", hint: "for none write " + s.words[0]}
	}
	var set []string
	for _, a := range args {
		w, ok := s.word(a)
		if !ok {
			return "", s.unknownWord(a)
		}
		if w != s.words[0] {
			set = append(set, w)
		}
	}
	if slices.Contains(set, "save") && slices.Contains(set, "nosave") {
		return "", &badValue{what: "save and nosave exclude each other"}
	}
	if len(set) == 0 {
		return s.words[0], nil
	}
	slices.Sort(set)
	return strings.Join(slices.Compact(set), " "), nil
}

// allEvents are the classes of notify-keyspace-events that A stands for.
const allEvents = "g$lshzxetd"

// events reads the letters of notify-keyspace-events. A stays A: what it stands
// for grows with the versions.
func events(arg string, v version) (string, *badValue) {
	letters := "KEA" + allEvents + "m"
	if v >= v70 {
		letters += "n"
	}
	if v >= v80 {
		letters += "ocSTIVar"
	}
	if strings.Trim(arg, letters) != "" {
		return "", &badValue{what: shown(arg) + " has a letter that is no class of events", hint: "letters of " + letters + `, or ""`}
	}
	set := []byte(arg)
	if strings.Contains(arg, "A") {
		set = slices.DeleteFunc(set, func(c byte) bool { return strings.IndexByte(allEvents, c) >= 0 })
	}
	slices.Sort(set)
	return string(slices.Compact(set)), nil
}

// visibleEvents brings canonical events into the form in which equal sets look
// equal in CONFIG GET, which says A for all that A stands for and then leaves out
// the classes n, o, c and r (keyspaceEventsFlagsToString of Redis 7 and 8).
// Whether A includes a, for arrays, depends on the version.
func visibleEvents(set string) string {
	if !strings.Contains(set, "A") {
		for _, letter := range allEvents {
			if !strings.ContainsRune(set, letter) {
				return set
			}
		}
	}
	return "A" + strings.Map(func(r rune) rune {
		if strings.ContainsRune("Aanocr"+allEvents, r) {
			return -1
		}
		return r
	}, set)
}

// savePoints reads pairs of seconds and changes; a single empty argument is none.
func savePoints(args []string) (string, *badValue) {
	if len(args) == 1 && args[0] == "" {
		return "", nil
	}
	bad := &badValue{what: "not pairs of seconds and changes", hint: `for example: save 3600 1, or save "" for never`}
	if len(args)%2 != 0 {
		return "", bad
	}
	out := make([]string, len(args))
	for i, a := range args {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil || n < int64(1-i%2) {
			return "", bad
		}
		out[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(out, " "), nil
}

// bufferClass returns the class of clients of a client-output-buffer-limit as
// the file should name it. The server says slave.
func bufferClass(arg string) (string, *badValue) {
	switch c := lower(arg); c {
	case "normal", "pubsub", "replica":
		return c, nil
	case "slave":
		return "replica", nil
	}
	return "", &badValue{what: shown(arg) + " is not a class of clients", hint: "one of normal, replica, pubsub"}
}

// bufferLimit reads hard limit, soft limit and seconds.
func bufferLimit(args []string) (string, *badValue) {
	if len(args) != 3 {
		return "", &badValue{what: "wrong number of arguments", hint: "it takes class, hard limit, soft limit and seconds: replica 256mb 64mb 60"}
	}
	hard, ok1 := parseMemory(args[0])
	soft, ok2 := parseMemory(args[1])
	seconds, err := strconv.ParseInt(args[2], 10, 32)
	if !ok1 || !ok2 || err != nil || seconds < 0 {
		return "", &badValue{what: "not two sizes and seconds", hint: "for example: replica 256mb 64mb 60"}
	}
	return fmt.Sprintf("%d %d %d", hard, soft, seconds), nil
}

func oomValues(args []string) (string, *badValue) {
	bad := &badValue{what: "not three numbers from -2000 to 2000", hint: "for master, replica and background child: 0 200 800"}
	if len(args) != 3 {
		return "", bad
	}
	out := make([]string, len(args))
	for i, a := range args {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil || n < -2000 || n > 2000 {
			return "", bad
		}
		out[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(out, " "), nil
}

// percentiles reads numbers from 0 to 100; a single empty argument is none. The
// server shows six digits behind the point at most.
func percentiles(args []string) (string, *badValue) {
	if len(args) == 1 && args[0] == "" {
		return "", nil
	}
	out := make([]string, len(args))
	for i, a := range args {
		f, err := strconv.ParseFloat(a, 64)
		if err != nil || !(0 <= f && f <= 100) {
			return "", &badValue{what: shown(a) + " is not a percentile", hint: "numbers from 0 to 100: 50 99 99.9"}
		}
		out[i] = strconv.FormatFloat(f, 'f', 6, 64)
		out[i] = strings.TrimSuffix(strings.TrimRight(out[i], "0"), ".")
	}
	return strings.Join(out, " "), nil
}

func replicaOf(args []string) (string, *badValue) {
	if len(args) != 2 {
		return "", &badValue{what: "wrong number of arguments", hint: "it takes host and port, or no one"}
	}
	if strings.EqualFold(args[0], "no") && strings.EqualFold(args[1], "one") {
		return "", nil
	}
	if n, err := strconv.Atoi(args[1]); err != nil || n < 0 || n > maxPort {
		return "", &badValue{what: shown(args[1]) + " is not a port"}
	}
	return args[0] + " " + args[1], nil
}

// shown quotes a part of a value for a message, cut to a sane length.
func shown(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}
