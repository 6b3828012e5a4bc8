package exporter

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
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

// KeyOptions say which keys are looked at.
type KeyOptions struct {
	// Check are patterns and keys whose size, memory and value are shown. The
	// keys of a pattern are found by SCAN.
	Check []Key
	// Single are keys of which the same is shown, whatever characters they have.
	Single []Key
	// Count are patterns whose keys are counted.
	Count []Key
	// HideValues keeps the values of the keys of Check and Single to the server.
	HideValues bool
}

// keyFamilies are the metrics of a key.
type keyFamilies struct{ size, memory, value, text *family }

func newKeyFamilies(c *catalog) keyFamilies {
	return keyFamilies{
		size: c.add(typeGauge, "key_size", "STRLEN, PFCOUNT, LLEN, SCARD, ZCARD, HLEN, XLEN, ARCOUNT",
			"Bytes of a string, elements of any other key.", "db", "key"),
		memory: c.add(typeGauge, "key_memory_usage_bytes", "MEMORY USAGE",
			"Bytes that a key takes in memory, as far as the server's sampling of nested values goes.", "db", "key"),
		value: c.add(typeGauge, "key_value", "GETRANGE",
			"Value of a string that is a number.", "db", "key"),
		text: c.add(typeGauge, "key_value_as_string", "GETRANGE",
			"1, with the value of a string that is no number, cut after 256 bytes.", "db", "key", "val"),
	}
}

// keyList is what the collectors of listed keys have in common.
type keyList struct {
	label  string
	keys   []Key
	single bool // keys has no patterns
	opts   BackgroundOptions
}

// keyLists returns the lists that have keys.
func keyLists(label string, single, check []Key, opts BackgroundOptions) []keyList {
	return slices.DeleteFunc([]keyList{{"single_" + label, single, true, opts}, {label, check, false, opts}},
		func(l keyList) bool { return len(l.keys) == 0 })
}

func (l *keyList) name() string { return l.label }

// keyValues is the background collector of sizes and values of keys.
type keyValues struct {
	keyList
	families keyFamilies
}

// sizeCommands has for each type the command that gives its size. Type array is
// of Redis 8.8.
var sizeCommands = map[string]string{
	"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN", "array": "ARCOUNT",
}

func (c *keyValues) needs() ([]string, bool) {
	names := []string{"type", "memory|usage", "getrange", "pfcount"}
	for kind, name := range sizeCommands {
		if kind != "array" {
			names = append(names, strings.ToLower(name))
		}
	}
	return append(names, placesNeed(c.keys, !c.single)...), true
}

// placesNeed returns the commands to get to keys.
func placesNeed(keys []Key, patterns bool) []string {
	names := []string{"readonly"}
	for _, k := range keys {
		if k.DB != 0 {
			names = append(names, "select")
		}
		if patterns && k.isPattern() {
			names = append(names, "scan")
		}
	}
	return names
}

func (c *keyValues) read(ctx context.Context, s *session, out *recorder) error {
	exact, patterns := places(c.keys, c.single)
	for _, k := range patterns {
		s.expect(k.DB)
	}
	for _, db := range exact {
		if s.target.keys[db.number] == 0 && !s.target.cluster { // whose keys may be on another node
			for _, key := range db.keys {
				out.set(c.families.size, 0, Key{DB: db.number}.label(), key.(string))
			}
			continue
		}
		if err := c.look(ctx, s, db.number, db.keys, true, out); err != nil {
			return err
		}
	}
	for _, k := range patterns {
		err := s.scan(ctx, k.DB, k.Key, "", func(keys []any) error { return c.look(ctx, s, k.DB, keys, false, out) })
		if err != nil {
			return err
		}
	}
	return nil
}

// database is a database with some keys of it.
type database struct {
	number int
	keys   []any // strings, as in a reply
}

// places divides keys into names, by database, and patterns. In a list of single keys
// everything is a name.
func places(keys []Key, single bool) (exact []database, patterns []Key) {
	for _, k := range keys {
		if !single && k.isPattern() {
			patterns = append(patterns, k)
			continue
		}
		i := slices.IndexFunc(exact, func(d database) bool { return d.number == k.DB })
		if i < 0 {
			i = len(exact)
			exact = append(exact, database{number: k.DB})
		}
		exact[i].keys = append(exact[i].keys, k.Key)
	}
	return exact, patterns
}

// look reads keys of one database. Those for which there is no room are counted.
// A key that was named and does not exist has size 0: so does a list that was
// emptied.
func (c *keyValues) look(ctx context.Context, s *session, db int, keys []any, named bool, out *recorder) error {
	for batch := range slices.Chunk(keys, detailBatch) {
		if out.full(c.families.size) {
			out.dropped += uint64(len(batch))
			continue
		}
		if err := c.lookBatch(ctx, s, db, batch, named, out); err != nil {
			return err
		}
	}
	return nil
}

// found is a key with what is known of it.
type found struct {
	key, kind   string
	size        any // reply
	value       any // reply, of a string
	hyperloglog any // its count, or the error of PFCOUNT
}

func (c *keyValues) lookBatch(ctx context.Context, s *session, db int, keys []any, named bool, out *recorder) error {
	list, commands := make([]found, 0, len(keys)), make([]command, 0, 2*len(keys))
	for _, k := range keys {
		key, ok := k.(string)
		if !ok {
			return odd("SCAN", k)
		}
		list = append(list, found{key: key})
		commands = append(commands, command{"type", []string{"TYPE", key}}, command{"memory|usage", []string{"MEMORY", "USAGE", key}})
	}
	replies, err := s.do(ctx, db, commands...)
	if err != nil {
		return err
	}
	label := Key{DB: db}.label()
	for i := range list {
		kind, memory := replies[2*i], replies[2*i+1]
		for _, reply := range []any{kind, memory} {
			if err, failed := reply.(error); failed {
				if err := judge(err, out); err != nil {
					return err
				}
			}
		}
		list[i].kind, _ = kind.(string)
		if bytes, ok := memory.(int64); ok {
			out.set(c.families.memory, float64(bytes), label, list[i].key)
		}
	}
	if err := c.sizes(ctx, s, db, list, out); err != nil {
		return err
	}
	for i := range list {
		if named && list[i].kind == "none" {
			out.set(c.families.size, 0, label, list[i].key)
		}
		c.show(&list[i], label, out)
	}
	return nil
}

// A HyperLogLog is a string: "HYLL", a byte for the encoding, three that are not
// used, and the last result of PFCOUNT in eight bytes, the least one first, whose
// highest bit is set when it is out of date (hyperloglog.c).
const (
	hyperloglogMagic  = "HYLL"
	hyperloglogHeader = 16 // bytes
)

// isHyperloglog tells whether a string begins as a HyperLogLog does. Asking for
// that first spares all other strings a WRONGTYPE, which the server would count.
func isHyperloglog(value string) bool {
	return len(value) >= hyperloglogHeader && strings.HasPrefix(value, hyperloglogMagic) && value[len(hyperloglogMagic)] <= 1
}

// lastCount returns the last result of PFCOUNT, if it is still right.
func lastCount(hyperloglog string) (n int64, ok bool) {
	v := binary.LittleEndian.Uint64([]byte(hyperloglog[hyperloglogHeader-8 : hyperloglogHeader]))
	return int64(v & math.MaxInt64), v <= math.MaxInt64
}

// sizes asks for the size of the keys, each according to its type, and for the
// beginning of strings.
func (c *keyValues) sizes(ctx context.Context, s *session, db int, list []found, out *recorder) error {
	end := hyperloglogHeader - 1
	if !c.opts.Keys.HideValues {
		end = labelLimit - 1
	}
	var q questions
	for i := range list {
		k := &list[i]
		name, known := sizeCommands[k.kind]
		if !known {
			continue // it is gone, or of a type of a module
		}
		q.ask(&k.size, strings.ToLower(name), name, k.key)
		if k.kind == "string" {
			q.ask(&k.value, "getrange", "GETRANGE", k.key, "0", strconv.Itoa(end))
		}
	}
	if err := q.do(ctx, s, db, out); err != nil {
		return err
	}
	q = questions{}
	for i := range list {
		k := &list[i]
		value, _ := k.value.(string)
		if !isHyperloglog(value) {
			continue
		}
		if n, ok := lastCount(value); ok {
			k.hyperloglog = n
			continue
		}
		q.ask(&k.hyperloglog, "pfcount", "PFCOUNT", k.key)
	}
	return q.do(ctx, s, db, out)
}

// questions are commands of one pipeline and where their replies go.
type questions struct {
	commands []command
	answers  []*any
}

func (q *questions) ask(answer *any, name string, args ...string) {
	q.commands = append(q.commands, command{name, args})
	q.answers = append(q.answers, answer)
}

// do asks the questions about keys of one database. An answer may be an error
// that does not end the run, see judge.
func (q *questions) do(ctx context.Context, s *session, db int, out *recorder) error {
	if len(q.commands) == 0 {
		return nil
	}
	replies, err := s.do(ctx, db, q.commands...)
	if err != nil {
		return err
	}
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			if err := judge(err, out); err != nil {
				return err
			}
		}
		*q.answers[i] = reply
	}
	return nil
}

// show adds the series of a key.
func (c *keyValues) show(k *found, db string, out *recorder) {
	size, ok := k.size.(int64)
	if !ok {
		return
	}
	switch n := k.hyperloglog.(type) {
	case int64:
		out.set(c.families.size, float64(n), db, k.key)
		return
	case error:
		if errorCode(n) != "WRONGTYPE" { // else it is a string that only begins like one
			return
		}
	}
	out.set(c.families.size, float64(size), db, k.key)
	value, ok := k.value.(string)
	if !ok || value == "" || c.opts.Keys.HideValues {
		return
	}
	if v, err := strconv.ParseFloat(value, 64); err == nil && size <= labelLimit {
		out.set(c.families.value, v, db, k.key)
		return
	}
	out.set(c.families.text, 1, db, k.key, value)
}

// keyCounts is the background collector that counts keys by pattern.
type keyCounts struct {
	opts BackgroundOptions
	n    *family
}

func newKeyCounts(c *catalog, opts BackgroundOptions) *keyCounts {
	return &keyCounts{opts, c.add(typeGauge, "keys_count", "SCAN", "Keys of a database that match a pattern.", "db", "key")}
}

func (c *keyCounts) name() string { return "count_keys" }

func (c *keyCounts) needs() ([]string, bool) {
	names := placesNeed(c.opts.Keys.Count, true)
	for _, k := range c.opts.Keys.Count {
		if !k.isPattern() {
			return append(names, "exists"), true
		}
	}
	return names, false
}

func (c *keyCounts) read(ctx context.Context, s *session, out *recorder) error {
	for _, k := range c.opts.Keys.Count {
		if k.isPattern() && k.Key != "*" {
			s.expect(k.DB)
		}
	}
	for _, k := range c.opts.Keys.Count {
		n, err := c.count(ctx, s, k)
		if err != nil && !elsewhere(err) {
			return err
		}
		out.set(c.n, float64(n), k.label(), k.Key)
	}
	return nil
}

// count counts the keys of one item: of all keys the server knows the number,
// for a name without a wildcard there is no need to look at others.
func (c *keyCounts) count(ctx context.Context, s *session, k Key) (n int64, err error) {
	switch {
	case k.Key == "*":
		return s.target.keys[k.DB], nil
	case !k.isPattern():
		if s.target.keys[k.DB] == 0 {
			return 0, nil
		}
		replies, err := s.do(ctx, k.DB, command{"exists", []string{"EXISTS", k.Key}})
		if err != nil {
			return 0, err
		}
		switch reply := replies[0].(type) {
		case int64:
			return reply, nil
		case error:
			return 0, reply
		default:
			return 0, odd("EXISTS", reply)
		}
	}
	err = s.scan(ctx, k.DB, k.Key, "", func(keys []any) error {
		n += int64(len(keys))
		return nil
	})
	return n, err
}
