package settings

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// WriteHelp writes one line or two per setting, for --help. Only the sections
// named are written; none means all.
func WriteHelp(w io.Writer, sections ...string) {
	fmt.Fprintf(w, "  --%s FILE\n        %s\n", fileSetting, fileHelp)
	for _, e := range table() {
		if len(sections) > 0 && !slices.Contains(sections, e.section()) {
			continue
		}
		def := ""
		if e.def != "" {
			def = " (default " + e.def + ")"
		}
		fmt.Fprintf(w, "  --%s %s%s\n        %s\n", e.name, strings.ToUpper(strings.ReplaceAll(e.value.kind, " ", "")), def, e.help)
	}
}

// Flag is the flag of a setting.
type Flag struct {
	Name string // without dashes
	Bool bool   // it needs no value
}

// Flags returns the flags of settings, in the order of the table. Only the
// sections named are there; none means all.
func Flags(sections ...string) []Flag {
	out := []Flag{{Name: fileSetting}}
	for _, e := range table() {
		if len(sections) == 0 || slices.Contains(sections, e.section()) {
			out = append(out, Flag{Name: e.name, Bool: e.value.kind == boolKind})
		}
	}
	return out
}

// WriteReference writes the reference page's tables as Markdown.
func WriteReference(w io.Writer) {
	section := ""
	for _, e := range table() {
		if s := e.section(); s != section {
			section = s
			fmt.Fprintf(w, "\n## %s\n\n| setting and flag | variable | type | default | meaning |\n|---|---|---|---|---|\n", section)
		}
		vars := []string{"`" + e.ownEnv() + "`"}
		for _, v := range e.env {
			vars = append(vars, "`"+v+"`")
		}
		names := []string{"`" + e.name + "`"}
		for _, f := range e.flags {
			names = append(names, "`--"+f+"`")
		}
		def := ""
		if e.def != "" {
			def = "`" + e.def + "`"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", strings.Join(names, ", "), strings.Join(vars, ", "),
			strings.ReplaceAll(e.value.kind, "|", "\\|"), def, e.help)
	}
}

// WriteMigration writes the table of redis_exporter's flags as Markdown, in the
// order of the settings.
func WriteMigration(w io.Writer) {
	fmt.Fprint(w, "\n| flag | variable | default there | setting here | default here | differs in |\n|---|---|---|---|---|---|\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, e := range table() {
		if c := e.compat; c != nil {
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", code(c.flag), code(c.env), code(c.def), code(e.name), code(e.def), c.differs)
		}
	}
	fmt.Fprint(w, "| `version` |  |  |  |  | prints the sidecar's version |\n")
}
