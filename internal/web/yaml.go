package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File string // "" when there is none, see [Direct]
	Line int    // 0 when it concerns the whole file
	Path string // such as tls_server_config.cert_file; may be empty
	What string // never holds a password, a hash or a key
}

// String returns "file:line: path: what".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	if p.File != "" {
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	return b.String()
}

// Problems is an error: everything that is wrong with a configuration file, in
// the order of its lines.
type Problems []Problem //nolint:errname // a list, which is an error when it is not empty

// Error returns one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// reader walks a YAML document and collects what is wrong with it.
type reader struct {
	file     string
	problems Problems
	stamps   []stamp // of the files it looked at
}

func (r *reader) add(line int, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.file, line, path, fmt.Sprintf(format, args...)})
}

// err returns the problems in the order of their lines, or nil.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
	return r.problems
}

// document parses text and returns its root; nil for an empty document or one
// that is not YAML.
func (r *reader) document(text []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.syntax(err)
		}
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			r.syntax(err)
		} else {
			r.add(more.Line, "", "a second document: there must be one")
		}
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// syntax takes the line out of a message such as "yaml: line 3: what".
func (r *reader) syntax(err error) {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(what, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, what = n, text
			}
		}
	}
	r.add(line, "", "not YAML: %s", what)
}

// field reads the value of one key of a mapping.
type field func(path string, n *yaml.Node)

// mapping reads a mapping with the given keys and no others.
func (r *reader) mapping(path string, n *yaml.Node, fields map[string]field) {
	r.each(path, n, func(key, value *yaml.Node) {
		read, ok := fields[key.Value]
		if !ok {
			r.add(key.Line, join(path, key.Value), "unknown key%s", didYouMean(key.Value, fields))
			return
		}
		read(join(path, key.Value), value)
	})
}

// each calls fn for every entry of a mapping. An empty value counts as an empty
// mapping.
func (r *reader) each(path string, n *yaml.Node, fn func(key, value *yaml.Node)) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.add(n.Line, path, "must be a mapping, is %s", kindOf(n))
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			r.add(key.Line, path, "a key must be a plain text")
			continue
		}
		if line, dup := seen[key.Value]; dup {
			r.add(key.Line, join(path, key.Value), "is there twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		fn(key, value)
	}
}

// text reads a scalar into dst and remembers its line.
func (r *reader) text(dst *located) field {
	return func(path string, n *yaml.Node) {
		n = resolve(n)
		if isNull(n) {
			return
		}
		if n.Kind != yaml.ScalarNode {
			r.add(n.Line, path, "must be a text, is %s", kindOf(n))
			return
		}
		*dst = located{value: n.Value, line: n.Line}
	}
}

// list reads a list of scalars.
func (r *reader) list(dst *[]located) field {
	return func(path string, n *yaml.Node) {
		n = resolve(n)
		if isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			r.add(n.Line, path, "must be a list, is %s", kindOf(n))
			return
		}
		for i, item := range n.Content {
			var v located
			r.text(&v)(fmt.Sprintf("%s[%d]", path, i), item)
			if v.line > 0 {
				*dst = append(*dst, v)
			}
		}
	}
}

// boolean reads true or false.
func (r *reader) boolean(dst *bool) field {
	return func(path string, n *yaml.Node) {
		n = resolve(n)
		if isNull(n) {
			return
		}
		if err := n.Decode(dst); err != nil {
			r.add(n.Line, path, "must be true or false")
		}
	}
}

// integer reads a whole number that is not negative.
func (r *reader) integer(dst *int) field {
	return func(path string, n *yaml.Node) {
		n = resolve(n)
		if isNull(n) {
			return
		}
		if err := n.Decode(dst); err != nil || *dst < 0 {
			r.add(n.Line, path, "must be a whole number, 0 or more")
		}
	}
}

// duration reads a duration such as 1s.
func (r *reader) duration(dst *time.Duration) field {
	return func(path string, n *yaml.Node) {
		var v located
		r.text(&v)(path, n)
		if v.line == 0 || v.value == "0" {
			return
		}
		d, err := time.ParseDuration(v.value)
		if err != nil || d < 0 {
			r.add(v.line, path, "%q is not a duration such as 1s or 500ms", v.value)
			return
		}
		*dst = d
	}
}

// located is a scalar and the line it stands in; line 0 means that it is not there.
type located struct {
	value string
	line  int
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a text"
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// didYouMean names the known key that is most like an unknown one.
func didYouMean(key string, fields map[string]field) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	best := ""
	for known := range fields {
		a, b := plain(key), plain(known)
		if a == b {
			best = known
			break
		}
		like := len(a) >= 3 && (strings.HasPrefix(b, a) || strings.HasPrefix(a, b))
		if like && (len(known) > len(best) || len(known) == len(best) && known < best) {
			best = known
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}
