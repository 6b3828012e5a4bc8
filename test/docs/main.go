// Command docs writes the generated parts of docs/: the settings reference and
// the table of the server's metrics. With -check it writes nothing and exits 1
// when a file is not what it would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// A part is what stands between two marker lines of a page.
type part struct {
	page, marker string
	write        func(io.Writer) error
}

func main() {
	check := flag.Bool("check", false, "only tell whether the pages are up to date")
	flag.Parse()
	parts := []part{
		{"docs/settings.md", "settings", func(w io.Writer) error { settings.WriteReference(w); return nil }},
		{"docs/migration.md", "migration", func(w io.Writer) error { settings.WriteMigration(w); return nil }},
		{"docs/metrics.md", "server-metrics", exporter.WriteDocs},
	}
	stale := 0
	for _, p := range parts {
		changed, err := p.update(*check)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if changed && *check {
			fmt.Fprintf(os.Stderr, "%s is not up to date: make docs\n", p.page)
			stale++
		}
	}
	if stale > 0 {
		os.Exit(1)
	}
}

// update replaces the part in its page, unless dry, and tells whether it differed.
func (p part) update(dry bool) (changed bool, err error) {
	old, err := os.ReadFile(p.page)
	if err != nil {
		return false, err
	}
	begin, end := "<!-- generated:"+p.marker+" -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return false, fmt.Errorf("%s: the lines %q and %q are missing", p.page, strings.TrimSpace(begin), end)
	}
	var b bytes.Buffer
	b.WriteString(head + begin)
	if err := p.write(&b); err != nil {
		return false, err
	}
	b.WriteString("\n" + end + tail)
	if bytes.Equal(old, b.Bytes()) {
		return false, nil
	}
	if dry {
		return true, nil
	}
	return true, os.WriteFile(p.page, b.Bytes(), 0o644)
}
