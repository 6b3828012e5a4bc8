package config

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// TestDocsNameTheClasses compares the table of classes in docs/config.md with the
// one in the code.
func TestDocsNameTheClasses(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[Class][]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		class := Class(strings.TrimSpace(cells[1]))
		for i, word := range strings.Split(cells[3], "`") {
			if i%2 == 1 && !strings.ContainsAny(word, "[ ") {
				named[class] = append(named[class], word)
			}
		}
	}
	matches := func(class Class, name string) bool {
		for _, pattern := range named[class] {
			if ok, _ := path.Match(pattern, strings.ReplaceAll(name, "_", "-")); ok {
				return true
			}
		}
		return false
	}
	lines := table()
	for _, class := range []Class{Care, Restart, Manual, Never, Owned} {
		for i := range lines {
			if s := &lines[i]; s.class == class && !s.hidden && s.name != "io-threads-do-reads" && !matches(class, s.name) {
				t.Errorf("docs/config.md does not name %s as %s", s.name, class)
			}
			if s := &lines[i]; s.class != class && s.name != "disable-thp" && matches(class, s.name) {
				t.Errorf("docs/config.md names %s as %s, it is %s", s.name, class, s.class)
			}
		}
	}
}
