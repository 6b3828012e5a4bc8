package rdb

import "strings"

// value describes how the value of one type is written. The letters of its shape
// stand for what comes, in order:
//
//	s      a string
//	n      a number
//	4 8    so many raw bytes (times are 8 bytes, stream entry IDs twice 8)
//	(...)  a number, then what is inside, that many times
//	d      a score as text, as before RDB version 8
//	q      the container of a quicklist node
//	m      a module's value up to its end mark
//	M      the identity of a module type
//	a      an array
//	t      a template's number, then as many strings as it has fields
type value struct {
	name  string
	shape string
}

// The parts of a stream: nodes; length, last ID (with type 19 also first ID, last
// deleted ID, entries added); groups of name, ID (and entries read), pending
// entries, consumers with seen time (and active time) and their pending entries.
const (
	stream1 = "(ss)nnn(snn(888n)(s8(88)))"
	stream2 = "(ss)nnnnnnnn(snnn(888n)(s8(88)))"
	stream3 = "(ss)nnnnnnnn(snnn(888n)(s88(88)))"
	// then the idempotent producers: settings, entries of each, counters
	stream4 = stream3 + "nn(s(snn))nn"
	// as before, with the IDs of each group's negative acknowledgements
	stream5 = "(ss)nnnnnnnn(snnn(888n)(s88(88))(88))nn(s(snn))nn"
)

// commonValues are the types that Redis and Valkey share, by number. Type 6,
// modules of the release candidates of 4.0, cannot be read without the module,
// and no release reads it.
var commonValues = [...]value{
	0:  {"a string", "s"},
	1:  {"a list", "(s)"},
	2:  {"a set", "(s)"},
	3:  {"a sorted set", "(sd)"},
	4:  {"a hash", "(ss)"},
	5:  {"a sorted set", "(s8)"},
	7:  {"a module's value", "Mm"},
	9:  {"a hash (zipmap)", "s"},
	10: {"a list (ziplist)", "s"},
	11: {"a set (intset)", "s"},
	12: {"a sorted set (ziplist)", "s"},
	13: {"a hash (ziplist)", "s"},
	14: {"a list (quicklist of ziplists)", "(s)"},
	15: {"a stream", stream1},
	16: {"a hash (listpack)", "s"},
	17: {"a sorted set (listpack)", "s"},
	18: {"a list (quicklist)", "(qs)"},
	19: {"a stream", stream2},
	20: {"a set (listpack)", "s"},
	21: {"a stream", stream3},
}

// redisValues follow in Redis: 22 and 23 in release candidates of 7.4, 24 and 25
// since 7.4, 26 since 8.6, 27 and 28 since 8.8, 30 and 32 since 8.10. Types 29 and
// 31 exist in the payload of DUMP only.
var redisValues = map[byte]value{
	22: {"a hash with field expiry", "(nss)"},
	23: {"a hash (listpack) with field expiry", "s"},
	24: {"a hash with field expiry", "8(nss)"},
	25: {"a hash (listpack) with field expiry", "8s"},
	26: {"a stream", stream4},
	27: {"a stream", stream5},
	28: {"an array", "a"},
	30: {"a hash (listpack) of a template", "s"},
	32: {"a hash of a template", "t"},
}

// valkeyValues follow in files of Valkey 9.0, where numbers mean other things.
var valkeyValues = map[byte]value{
	22: {"a hash with field expiry", "(ss8)"},
}

// value returns the description of a type, if there is such a type.
func (w *walker) value(kind byte) (value, bool) {
	if int(kind) < len(commonValues) {
		v := commonValues[kind]
		return v, v.shape != ""
	}
	own := redisValues
	if w.sum.Magic == MagicValkey {
		own = valkeyValues
	}
	v, ok := own[kind]
	return v, ok
}

// follow consumes what shape describes.
func (w *walker) follow(shape string) error {
	for i := 0; i < len(shape); i++ {
		var err error
		switch shape[i] {
		case 's':
			err = w.string()
		case 'n':
			_, err = w.number()
		case '8':
			err = w.skip(8)
		case '4':
			err = w.skip(4)
		case '(':
			inside := group(shape[i:])
			err = w.repeat(inside)
			i += len(inside) + 1
		case 'd':
			err = w.score()
		case 'q':
			err = w.container()
		case 'm':
			err = w.moduleValue()
		case 'M':
			err = w.moduleID()
		case 'a':
			err = w.array()
		case 't':
			err = w.templated()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// group returns what stands between the parenthesis that shape begins with and
// its counterpart.
func group(shape string) string {
	depth := 0
	end := strings.IndexFunc(shape, func(c rune) bool {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		return depth == 0
	})
	return shape[1:end]
}

// repeat consumes a number and shape that many times. Every shape has at least
// one byte in the file, so a false number ends with the file.
func (w *walker) repeat(shape string) error {
	n, err := w.number()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := w.follow(shape); err != nil {
			return err
		}
	}
	return nil
}

// score consumes a length and so many digits; the highest lengths stand for not a
// number and the infinities.
func (w *walker) score() error {
	const nan = 253
	n, err := w.byte()
	if err != nil || n >= nan {
		return err
	}
	return w.skip(uint64(n))
}

// container consumes what tells whether a node is one big element or a listpack.
func (w *walker) container() error {
	at := w.offset()
	n, err := w.number()
	if err == nil && n != 1 && n != 2 {
		return w.damaged(at, "quicklist container %d", n)
	}
	return err
}

// The elements of an array tell how they are written.
const (
	arrayString = 0
	arrayInt    = 1
	arrayFloat  = 2
	arraySmall  = 3
)

// array consumes an array: its count, its insertion index if there is one, then
// index, kind and value of each element.
func (w *walker) array() error {
	n, err := w.number()
	if err != nil {
		return err
	}
	at := w.offset()
	switch indexed, err := w.number(); {
	case err != nil:
		return err
	case indexed > 1:
		return w.damaged(at, "array insertion mark %d", indexed)
	case indexed == 1:
		if _, err := w.number(); err != nil {
			return err
		}
	}
	for ; n > 0; n-- {
		if err := w.element(); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) element() error {
	if _, err := w.number(); err != nil {
		return err
	}
	at := w.offset()
	kind, err := w.number()
	if err != nil {
		return err
	}
	switch kind {
	case arrayString, arraySmall:
		return w.string()
	case arrayInt, arrayFloat:
		return w.skip(8)
	}
	return w.damaged(at, "array element of kind %d", kind)
}

// templated consumes the values of a hash whose field names stand in a template.
func (w *walker) templated() error {
	at := w.offset()
	id, err := w.number()
	if err != nil {
		return err
	}
	fields, ok := w.templates[id]
	if !ok {
		return w.damaged(at, "no hash template %d", id)
	}
	for range fields {
		if err := w.string(); err != nil {
			return err
		}
	}
	return nil
}
