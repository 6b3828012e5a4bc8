package config

import (
	"cmp"
	"slices"
)

// Check reads a redis.conf and everything that it includes, and returns what a
// redis-server of that version would not accept, or would read as something else
// than was meant. version is as in INFO, for example "7.0.15"; with "" the file
// is accepted when any version of Redis would do so. It needs no server.
//
// Includes are read here: their paths must be the same as for the server.
func Check(path, version string) Problems {
	tree, problems := Load(path)
	_, more := newCatalogue(version).interpret(tree)
	return sortProblems(tree, append(problems, more...))
}

// sortProblems sorts by file, in the order in which the files were first met,
// and line.
func sortProblems(t *Tree, ps Problems) Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(t.paths, a.File), slices.Index(t.paths, b.File)),
			cmp.Compare(a.Line, b.Line))
	})
	return ps
}
