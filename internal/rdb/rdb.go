// Package rdb answers one question about a stream of bytes: is it a whole and
// intact RDB, the snapshot format of Redis and Valkey, and what is in it?
//
// [Scan] reads the stream once, from its magic to its end, through one buffer of
// fixed size. It follows the structure record by record without keeping keys or
// values, and computes the CRC64 on the way. [CanLoad] tells whether a server
// release can read what was found.
//
// What the walk proves: every record is of a known kind, every length fits,
// nothing is missing at the end, nothing follows it. What only the checksum
// proves: that no byte inside a key or value has changed. A server with
// rdbchecksum no writes none, see [Summary.Checksum].
package rdb

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// The two magics an RDB can begin with.
const (
	MagicRedis  = "REDIS"  // Redis of every version, Valkey before 9.0
	MagicValkey = "VALKEY" // Valkey 9.0 and later, from version 80 on
)

// Up to these versions the walk was proven on files of real servers: what it
// does not know there is damage. A newer file is walked with what is known; when
// that does not suffice, its checksum alone must prove it.
const (
	provenRedis  = 14
	provenValkey = 80
)

// checksumSince is the first version whose files end in a checksum.
const checksumSince = 5

// Summary is what Scan learnt from an RDB.
type Summary struct {
	Magic   string // MagicRedis or MagicValkey
	Version int    // of the format: 10 is what Redis 7.0 writes

	// Aux holds the auxiliary fields, such as redis-ver, ctime (Unix seconds)
	// and repl-id. Of a field that comes more than once, the first. Left out are
	// fields beyond the 64th, names over 64 bytes, values over 1 KiB or
	// compressed.
	Aux map[string]string

	Databases []Database // sorted by index; those the file mentions
	Expiry    []Expiry   // when keys expire, by time; at most 64 spans. Empty without a field ctime
	Functions int        // function libraries
	Modules   []string   // types of module data, 9 letters each, such as "ReJSON-RL"; sorted, at most 64

	Bytes int64 // length of the whole file

	CRC64    uint64 // computed over everything before the checksum
	Checksum uint64 // stored at the end; 0: the server ran with rdbchecksum no, or the version is below 5

	// Walked is false when the format is newer than this package knows: then only
	// the checksum, which was there, proves the file, and Databases, Functions
	// and Modules are empty.
	Walked bool
}

// Database counts the keys of one database. Keys that had expired but were not
// yet removed count, too.
type Database struct {
	Index   int
	Keys    uint64
	Expires uint64 // keys with a time to live; hash fields with one do not count
}

// Keys returns the number of keys in all databases.
func (s Summary) Keys() uint64 {
	var n uint64
	for _, db := range s.Databases {
		n += db.Keys
	}
	return n
}

// Error says where an RDB is damaged.
type Error struct {
	Offset int64  // in bytes from the start
	What   string // what is wrong
	In     string // the part of the file that was being read; may be empty
}

// Error returns all of it in one line.
func (e *Error) Error() string {
	text := fmt.Sprintf("rdb: %s at offset %d", e.What, e.Offset)
	if e.In != "" {
		text += ", in " + e.In
	}
	return text
}

// Scan reads r until io.EOF and reports what it holds. It calls no file good before
// r has returned io.EOF, so r may follow a file that is still being written, as
// long as its Read waits for more and returns io.EOF when the writer is done.
//
// The error is an *Error with reason corrupt when r is not a whole and intact
// RDB, which includes a byte after its end and a checksum that does not match. A
// checksum of zero is no error: see Summary.Checksum. An error of r itself is
// wrapped as it is. With any error the Summary holds what was read before it.
//
// Where r has a method Next() ([]byte, error), that is called in place of Read: it
// returns the next piece, valid until the next call, and so saves a copy.
//
// Scan takes about 150 KB, whatever the data, and never more than some MB even when
// r was made to do harm.
func Scan(r io.Reader) (Summary, error) {
	w := newWalker(r)
	err := w.scan()
	if damage, ok := errors.AsType[*Error](err); ok {
		err = status.WithHint(status.ReasonCorrupt, w.hint, damage)
	}
	w.sum.Databases = w.sortedDatabases()
	if w.expiry != nil {
		w.sum.Expiry = w.expiry.spans()
	}
	slices.Sort(w.sum.Modules)
	w.sum.Bytes = w.end()
	return w.sum, err
}

func (w *walker) scan() error {
	if err := w.header(); err != nil {
		return err
	}
	err := w.records()
	if err == nil {
		err = w.trailer()
	}
	if err == nil {
		w.sum.Walked = true
		return nil
	}
	damage, ok := errors.AsType[*Error](err)
	if !ok || !w.newer() {
		return err
	}
	return w.checksumOnly(damage)
}

// newer reports whether the format is newer than what the walk was proven on.
func (w *walker) newer() bool {
	if w.sum.Magic == MagicValkey {
		return w.sum.Version > provenValkey
	}
	return w.sum.Version > provenRedis
}

// trailer reads the checksum, and that nothing comes after it.
func (w *walker) trailer() error {
	w.part = "the checksum"
	size := 0
	if w.sum.Version >= checksumSince {
		size = trailerSize
		if err := w.need(size); err != nil {
			return err
		}
	}
	end := w.offset() + int64(size)
	err := w.need(size + 1)
	if err == nil {
		return &Error{Offset: end, What: "data after the end of the RDB"}
	}
	if !w.atEOF() {
		return err
	}
	w.sum.CRC64, w.sum.Checksum = w.checksums(size)
	return w.compare()
}

func (w *walker) compare() error {
	if w.sum.Checksum == 0 || w.sum.Checksum == w.sum.CRC64 {
		return nil
	}
	return &Error{
		Offset: w.end() - trailerSize,
		What:   fmt.Sprintf("wrong checksum: stored %016x, computed %016x", w.sum.Checksum, w.sum.CRC64),
	}
}

// checksumOnly reads the rest of a file that could not be walked because of why.
// It is whole and intact when it ends in the end record and a checksum that is
// right.
func (w *walker) checksumOnly(why *Error) error {
	w.forget()
	if err := w.drain(); err != nil {
		return err
	}
	w.sum.CRC64, w.sum.Checksum = w.checksums(trailerSize)
	var what string
	switch {
	case !w.endsIn(opEOF):
		what = "it does not end in an end record and a checksum"
	case w.sum.Checksum == 0:
		what = "it carries no checksum"
		w.hint = "let the server write checksums (rdbchecksum yes, needs a restart), or use a release of this program that knows the format"
	default:
		return w.compare()
	}
	return &Error{
		Offset: why.Offset,
		What:   fmt.Sprintf("format %s %d is newer than this program knows, and the file cannot be verified: %s; the walk met: %s", w.sum.Magic, w.sum.Version, what, why.What),
		In:     why.In,
	}
}

// forget drops the counts of a walk that was not finished.
func (w *walker) forget() {
	w.databases, w.db, w.templates, w.expiry = nil, nil, nil, nil
	w.sum.Functions, w.sum.Modules = 0, nil
}

func (w *walker) sortedDatabases() []Database {
	var list []Database
	for _, db := range w.databases {
		list = append(list, *db)
	}
	slices.SortFunc(list, func(a, b Database) int { return cmp.Compare(a.Index, b.Index) })
	return list
}
