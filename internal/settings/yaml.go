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
	w := yamlWalker{path: path, values: map[string]given{}, leaves: map[string]value{}, sections: map[string]bool{}}
	for _, e := range entries {
		w.leaves[e.name] = e.value
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
	path     string
	values   map[string]given
	leaves   map[string]value
	sections map[string]bool
	problems []Problem
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
		leaf, isLeaf := w.leaves[name]
		switch {
		case isLeaf:
			w.leaf(name, leaf, val)
		case w.sections[name]:
			w.mapping(name, val)
		default:
			w.problem(name, key, unknownSetting, "")
		}
	}
}

func (w *yamlWalker) leaf(name string, v value, n *yaml.Node) {
	var items []string
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return
	case n.Kind == yaml.ScalarNode:
		w.values[name] = given{n.Value, lineSource(w.path, n.Line)}
		return
	case n.Kind == yaml.SequenceNode:
		for _, it := range n.Content {
			if it.Kind != yaml.ScalarNode {
				w.problem(name, it, "is a list of something else than values", "")
				return
			}
			items = append(items, it.Value)
		}
	case n.Kind == yaml.MappingNode && v.pairs:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i+1].Kind != yaml.ScalarNode {
				w.problem(name, n.Content[i+1], "is a mapping to something else than values", "")
				return
			}
			items = append(items, n.Content[i].Value+"="+n.Content[i+1].Value)
		}
	default:
		w.problem(name, n, "is a value, not a section", "")
		return
	}
	text := strings.Join(items, ",")
	if v.list != nil && len(items) > 0 {
		var err error
		if text, err = v.list(items); err != nil {
			w.problem(name, n, err.Error(), hintOf(err, v.hint))
			return
		}
	}
	w.values[name] = given{text, lineSource(w.path, n.Line)}
}
