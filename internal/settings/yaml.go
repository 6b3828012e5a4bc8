package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads nested sections into values by full name. Only the shape is
// checked here: names that exist, sections that are sections, no name twice.
func parseYAML(path string, data []byte, entries []entry) (map[string]given, []Problem) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // an empty file sets nothing
			return nil, nil
		}
		return nil, []Problem{{Name: fileSetting, Source: path, What: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	w := yamlWalker{path: path, values: map[string]given{}, leaves: map[string]bool{}, sections: map[string]bool{}}
	for _, e := range entries {
		w.leaves[e.name] = true
		for prefix := e.name; ; {
			i := strings.LastIndex(prefix, ".")
			if i < 0 {
				break
			}
			prefix = prefix[:i]
			w.sections[prefix] = true
		}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		w.problem("", &doc, "holds more than one YAML document", "keep one")
	}
	w.mapping("", doc.Content[0])
	return w.values, w.problems
}

type yamlWalker struct {
	path             string
	values           map[string]given
	leaves, sections map[string]bool
	problems         []Problem
}

func (w *yamlWalker) problem(name string, n *yaml.Node, what, hint string) {
	if name == "" {
		name = fileSetting
	}
	w.problems = append(w.problems, Problem{Name: name, Source: lineSource(w.path, n.Line), What: what, Hint: hint})
}

func (w *yamlWalker) mapping(prefix string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" { // "backup:" with everything below commented out
		return
	}
	if n.Kind != yaml.MappingNode {
		w.problem(prefix, n, "is not a section", "names and values, indented by two spaces")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := key.Value
		if prefix != "" {
			name = prefix + "." + name
		}
		if line, twice := seen[name]; twice {
			w.problem(name, key, fmt.Sprintf("is set twice, also in line %d", line), "keep one")
			continue
		}
		seen[name] = key.Line
		switch {
		case w.leaves[name]:
			w.leaf(name, val)
		case w.sections[name]:
			w.mapping(name, val)
		default:
			w.problem(name, key, unknownSetting, "")
		}
	}
}

func (w *yamlWalker) leaf(name string, n *yaml.Node) {
	source := lineSource(w.path, n.Line)
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
	case n.Kind == yaml.ScalarNode:
		w.values[name] = given{n.Value, source}
	case n.Kind == yaml.SequenceNode:
		parts := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				w.problem(name, item, "is a list of something else than values", "")
				return
			}
			parts[i] = item.Value
		}
		w.values[name] = given{strings.Join(parts, ","), source}
	default:
		w.problem(name, n, "is a value, not a section", "")
	}
}
