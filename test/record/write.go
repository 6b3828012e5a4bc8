package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// write writes info.txt and replies.json, one command a line, in their order.
func (r *recording) write(dir string) error {
	var b bytes.Buffer
	b.WriteString("{\n")
	for i, line := range slices.Sorted(maps.Keys(r.replies)) {
		if i > 0 {
			b.WriteString(",\n")
		}
		if err := writePair(&b, line, r.replies[line]); err != nil {
			return err
		}
	}
	b.WriteString("\n}\n")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "info.txt"), []byte(r.info), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "replies.json"), b.Bytes(), 0o644)
}

// writePair writes "line": reply. JSON can hold a reply only if it is text.
func writePair(b *bytes.Buffer, line string, reply any) error {
	if !isText(reply) {
		return fmt.Errorf("%s: the reply is not UTF-8", line)
	}
	key, err := encode(line)
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	value, err := encode(reply)
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	fmt.Fprintf(b, "%s: %s", key, value)
	return nil
}

// encode returns v as JSON on one line, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func isText(v any) bool {
	switch v := v.(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !isText(e) })
	}
	return true
}
