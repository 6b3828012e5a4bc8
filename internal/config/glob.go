package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// glob returns the paths that match an absolute pattern, sorted by name, as
// glob(3) does for redis-server. Unlike [filepath.Glob] a wildcard does not
// match a leading dot, so that "conf.d/*" leaves out the ..data directory of a
// Kubernetes volume, and [!x] negates. A malformed pattern matches nothing.
func glob(pattern string) []string {
	found, err := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	if err != nil {
		return nil
	}
	parts := strings.Split(filepath.Clean(pattern), "/")
	found = slices.DeleteFunc(found, func(path string) bool { return hidden(parts, strings.Split(path, "/")) })
	slices.Sort(found)
	return found
}

// hidden tells whether a wildcard of the pattern matched a leading dot.
func hidden(pattern, path []string) bool {
	for i, part := range path {
		if i < len(pattern) && strings.HasPrefix(part, ".") && !strings.HasPrefix(pattern[i], ".") && !strings.HasPrefix(pattern[i], `\.`) {
			return true
		}
	}
	return false
}
