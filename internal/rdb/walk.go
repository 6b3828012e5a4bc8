package rdb

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strconv"
)

// A record begins with one of these bytes, or with the type of a key's value.
const (
	opHashTemplate = 242 // Redis 8.10: field names that hashes share
	opKeyMeta      = 243 // Redis 8.6: what modules attach to the key that follows
	opSlotImport   = 243 // Valkey 9.0: a slot migration that was under way
	opSlotInfo     = 244 // Redis 7.4: size of a cluster slot
	opFunction     = 245
	opFunctionRC   = 246 // Redis 7.0 release candidates 1 and 2
	opModuleAux    = 247
	opIdle         = 248
	opFreq         = 249
	opAux          = 250
	opResizeDB     = 251
	opExpireMs     = 252
	opExpireSec    = 253
	opSelectDB     = 254
	opEOF          = 255
)

// Limits of what is kept, so that memory does not grow with the file.
const (
	maxAux       = 64
	maxAuxName   = 64
	maxAuxValue  = 1 << 10
	maxDatabases = 1 << 16
	maxModules   = 64
	maxTemplates = 1 << 17
)

// walker follows the records of an RDB.
type walker struct {
	source
	sum       Summary
	hint      string // for the error
	databases map[int]*Database
	db        *Database         // the selected one
	templates map[uint64]uint64 // fields of each hash template
	expires   int64             // of the key that comes, Unix seconds
	expiry    *expiry           // nil until there is a key that expires
}

func newWalker(r io.Reader) *walker {
	return &walker{source: newSource(r)}
}

// header reads magic and version, nine bytes: REDIS0010 or VALKEY080.
func (w *walker) header() error {
	w.part = "the header"
	const size = len("REDIS0010")
	p, err := w.bytes(size)
	if err != nil {
		return err
	}
	magic, digits := MagicRedis, p[len(MagicRedis):]
	if string(p[:len(MagicValkey)]) == MagicValkey {
		magic, digits = MagicValkey, p[len(MagicValkey):]
	} else if string(p[:len(MagicRedis)]) != MagicRedis {
		return &Error{What: "not an RDB: it begins with " + strconv.Quote(string(p))}
	}
	version, err := strconv.ParseUint(string(digits), 10, 16)
	if err != nil || version < 1 || magic == MagicValkey && version < provenValkey {
		return &Error{Offset: int64(len(magic)), What: "not an RDB: no such version of the " + magic + " format: " + strconv.Quote(string(digits))}
	}
	w.sum.Magic, w.sum.Version = magic, int(version)
	return nil
}

// records reads up to the end record, and that one.
func (w *walker) records() error {
	attached := false // something precedes a key that has not come yet
	expires := false
	for {
		at := w.offset()
		w.part = "the records"
		op, err := w.byte()
		if err != nil {
			return err
		}
		if attached && (op == opEOF || op == opSelectDB) {
			return w.damaged(at, "an expire time or other attribute without a key")
		}
		switch op {
		case opEOF:
			return nil
		case opExpireSec, opExpireMs, opIdle, opFreq:
			attached = true
			expires = expires || op == opExpireSec || op == opExpireMs
			err = w.attribute(op)
		case opKeyMeta: // and opSlotImport
			if w.sum.Magic == MagicValkey {
				err = w.slotImport()
			} else {
				attached = true
				err = w.keyMeta()
			}
		default:
			if v, ok := w.value(op); ok {
				err = w.key(v, expires)
				attached, expires = false, false
			} else {
				err = w.record(op, at)
			}
		}
		if err != nil {
			return err
		}
	}
}

// attribute reads what comes before a key.
func (w *walker) attribute(op byte) error {
	w.part = "an attribute of a key"
	switch op {
	case opExpireSec:
		p, err := w.bytes(4)
		if err == nil {
			w.expires = littleEndian(p)
		}
		return err
	case opExpireMs:
		p, err := w.bytes(8)
		if err == nil {
			w.expires = int64(binary.LittleEndian.Uint64(p)) / 1000
		}
		return err
	case opFreq:
		return w.skip(1)
	default: // opIdle
		_, err := w.number()
		return err
	}
}

// key reads a key and its value.
func (w *walker) key(v value, expires bool) error {
	w.part = "a key"
	if err := w.string(); err != nil {
		return err
	}
	w.part = v.name
	if err := w.follow(v.shape); err != nil {
		return err
	}
	if w.db == nil { // no server writes a key before the first SELECTDB, all read it
		w.use(0)
	}
	w.db.Keys++
	if expires {
		w.db.Expires++
		w.countExpiry()
	}
	return nil
}

// countExpiry counts the key that was read by when it expires.
func (w *walker) countExpiry() {
	if w.expiry == nil {
		// Any honest clock is in between, and the end of the last span is a year of
		// four digits.
		ctime, err := strconv.ParseInt(w.sum.Aux["ctime"], 10, 64)
		if err != nil || ctime < 0 || ctime >= 1<<36 {
			return
		}
		w.expiry = &expiry{ctime: ctime}
	}
	w.expiry.add(w.expires)
}

// record reads a record that has nothing to do with a single key.
func (w *walker) record(op byte, at int64) error {
	switch {
	case op == opSelectDB:
		return w.selectDB()
	case op == opResizeDB:
		w.part = "a database's size"
		return w.follow("nn")
	case op == opSlotInfo:
		w.part = "a cluster slot's size"
		return w.follow("nnn")
	case op == opAux:
		return w.aux()
	case op == opModuleAux:
		return w.moduleAux()
	case op == opFunction:
		w.part = "a function library"
		w.sum.Functions++
		return w.string()
	case op == opFunctionRC:
		w.part = "a function library"
		w.sum.Functions++
		return w.functionRC()
	case op == opHashTemplate && w.sum.Magic == MagicRedis:
		return w.hashTemplate()
	}
	return w.damaged(at, "unknown type of record 0x%02x", op)
}

func (w *walker) selectDB() error {
	w.part = "a database's number"
	at := w.offset()
	n, err := w.number()
	if err != nil {
		return err
	}
	if n > math.MaxInt32 {
		return w.damaged(at, "database number %d", n)
	}
	if _, ok := w.databases[int(n)]; !ok && len(w.databases) == maxDatabases {
		return w.damaged(at, "more than %d databases", maxDatabases)
	}
	w.use(int(n))
	return nil
}

func (w *walker) use(index int) {
	if w.databases == nil {
		w.databases = make(map[int]*Database)
	}
	if w.databases[index] == nil {
		w.databases[index] = &Database{Index: index}
	}
	w.db = w.databases[index]
}

// aux reads an auxiliary field and keeps it within the limits.
func (w *walker) aux() error {
	w.part = "an auxiliary field"
	name, keep, err := w.text(maxAuxName)
	if err != nil {
		return err
	}
	if _, ok := w.sum.Aux[name]; ok || !keep || len(w.sum.Aux) == maxAux {
		return w.string()
	}
	text, keep, err := w.text(maxAuxValue)
	if err != nil || !keep {
		return err
	}
	if w.sum.Aux == nil {
		w.sum.Aux = make(map[string]string)
	}
	w.sum.Aux[name] = text
	return nil
}

// text consumes a string. It is kept when it is not compressed and not longer
// than limit.
func (w *walker) text(limit uint64) (text string, keep bool, err error) {
	at := w.offset()
	n, special, err := w.length()
	if err != nil {
		return "", false, err
	}
	if !special {
		if n > limit {
			return "", false, w.skip(n)
		}
		p, err := w.bytes(int(n))
		return string(p), err == nil, err
	}
	switch n {
	case encInt8, encInt16, encInt32:
		p, err := w.bytes(1 << n)
		if err != nil {
			return "", false, err
		}
		return strconv.FormatInt(littleEndian(p), 10), true, nil
	case encLZF:
		return "", false, w.lzf()
	}
	return "", false, w.damaged(at, "unknown string encoding %d", n)
}

// littleEndian returns the signed number in 1, 2 or 4 bytes.
func littleEndian(p []byte) int64 {
	switch len(p) {
	case 1:
		return int64(int8(p[0]))
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(p)))
	default:
		return int64(int32(binary.LittleEndian.Uint32(p)))
	}
}

// functionRC reads name, engine, a description if there is one, and code.
func (w *walker) functionRC() error {
	if err := w.follow("ss"); err != nil {
		return err
	}
	described, err := w.number()
	if err != nil {
		return err
	}
	if described != 0 {
		return w.follow("ss")
	}
	return w.string()
}

// slotImport reads the job's name and its ranges of slots.
func (w *walker) slotImport() error {
	w.part = "a slot import"
	return w.follow("s(nn)")
}

// keyMeta reads what modules attach to a key: for each class four bytes that
// name it, and a value.
func (w *walker) keyMeta() error {
	w.part = "a key's module metadata"
	return w.follow("(4m)")
}

// moduleAux reads data of a module that belongs to no key.
func (w *walker) moduleAux() error {
	w.part = "a module's auxiliary data"
	if err := w.moduleID(); err != nil {
		return err
	}
	at := w.offset()
	kind, err := w.number()
	if err != nil {
		return err
	}
	if kind != modUint {
		return w.damaged(at, "module opcode %d where %d belongs", kind, modUint)
	}
	return w.follow("nm") // when the data was saved: before or after the keys
}

// moduleID reads the identity of a module type and keeps its name.
func (w *walker) moduleID() error {
	id, err := w.number()
	if err != nil {
		return err
	}
	if name := moduleName(id); len(w.sum.Modules) < maxModules && !slices.Contains(w.sum.Modules, name) {
		w.sum.Modules = append(w.sum.Modules, name)
	}
	return nil
}

// hashTemplate reads the field names that hashes of type 30 and 32 refer to by
// the template's number.
func (w *walker) hashTemplate() error {
	w.part = "a hash template"
	at := w.offset()
	id, err := w.number()
	if err != nil {
		return err
	}
	if len(w.templates) == maxTemplates {
		return w.damaged(at, "more than %d hash templates", maxTemplates)
	}
	fields, err := w.number()
	if err != nil {
		return err
	}
	for range fields {
		if err := w.string(); err != nil {
			return err
		}
	}
	if w.templates == nil {
		w.templates = make(map[uint64]uint64)
	}
	w.templates[id] = fields
	return nil
}
