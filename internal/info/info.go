// Package info reads the text that Redis answers to INFO and CLUSTER INFO.
package info

import (
	"iter"
	"strconv"
	"strings"
)

// Info is a parsed reply of INFO. The zero value is an empty reply.
type Info struct {
	fields []field
	index  map[string]int // name -> first field of that name
}

type field struct{ section, name, value string }

// maxFields is how many fields are read. A server with all its 16,384 databases
// in use, a thousand commands and as many replicas stays below two thirds of it.
const maxFields = 1 << 15

// Parse reads the text of an INFO reply. It never fails: a line that is not
// "name:value" is left out, so is what comes after 32,768 fields, and every byte
// is allowed in a value. Names and values are parts of text, they are not copied.
func Parse(text string) Info {
	n := min(strings.Count(text, "\n")+1, maxFields)
	in := Info{fields: make([]field, 0, n), index: make(map[string]int, n)}
	section := ""
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if title, ok := strings.CutPrefix(line, "#"); ok {
			section = strings.ToLower(strings.TrimSpace(title))
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			continue
		}
		if len(in.fields) == maxFields {
			break
		}
		if _, seen := in.index[name]; !seen {
			in.index[name] = len(in.fields)
		}
		in.fields = append(in.fields, field{section, name, value})
	}
	return in
}

// Lookup returns the value of the first field with that name.
func (in Info) Lookup(name string) (value string, ok bool) {
	i, ok := in.index[name]
	if !ok {
		return "", false
	}
	return in.fields[i].value, true
}

// Get returns the value of the first field with that name, "" when there is none.
func (in Info) Get(name string) string {
	v, _ := in.Lookup(name)
	return v
}

// Int returns a field as an integer; ok is false when it is absent or is not one.
func (in Info) Int(name string) (n int64, ok bool) {
	v, ok := in.Lookup(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

// Mode returns standalone, cluster or sentinel. Valkey 8 calls the field
// server_mode, and redis_mode only with extended-redis-compatibility on.
func (in Info) Mode() string {
	if mode, ok := in.Lookup("redis_mode"); ok {
		return mode
	}
	return in.Get("server_mode")
}

// Len returns the number of fields.
func (in Info) Len() int { return len(in.fields) }

// All yields name and value of every field in the order of the reply. A name
// can come more than once.
func (in Info) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range in.fields {
			if !yield(f.name, f.value) {
				return
			}
		}
	}
}

// Section yields the fields below one "# Title" line. The name is in lower
// case: "# Keyspace" is "keyspace". CLUSTER INFO has no titles: its fields are
// in section "".
func (in Info) Section(section string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range in.fields {
			if f.section == section && !yield(f.name, f.value) {
				return
			}
		}
	}
}
