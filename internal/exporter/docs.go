package exporter

import (
	"fmt"
	"io"
	"strings"
)

// MetricDoc describes one metric for the documentation.
type MetricDoc struct {
	Name   string
	Type   string // gauge, counter, summary or histogram
	Labels []string
	Source string // the command or field of the server, or "exporter"
	Help   string
}

// Docs returns a description of every metric, ordered by name, with the default
// namespace. Fields passed through by prefix are not in it.
func Docs() []MetricDoc {
	opts := Options{}.withDefaults()
	c := newCatalog(opts)
	newSelf(c, newCollectors(c, opts), opts)
	newBackgrounds(c, opts, nil)
	c.seal()
	out := make([]MetricDoc, len(c.families))
	for i, f := range c.families {
		out[i] = MetricDoc{f.name, strings.ToLower(f.kind.String()), f.labels, f.source, f.help}
	}
	return out
}

// WriteDocs writes Docs as a Markdown table.
func WriteDocs(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| metric | type | labels | from | meaning |\n|---|---|---|---|---|\n")
	for _, d := range Docs() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, d.Type, strings.Join(d.Labels, ", "), d.Source, d.Help)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
