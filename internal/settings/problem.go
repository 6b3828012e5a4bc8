package settings

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Name   string // setting, or the unknown name as it was written
	Source string // flag --x, variable X, or file:line
	Value  string // as written, redacted; may be empty
	What   string
	Hint   string // what to do; may be empty
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Name)
	if p.Value != "" {
		fmt.Fprintf(&b, " = %q", p.Value)
	}
	if p.Source != "" {
		fmt.Fprintf(&b, " (%s)", p.Source)
	}
	b.WriteString(": " + p.What)
	if p.Hint != "" {
		b.WriteString("\n    hint: " + p.Hint)
	}
	return b.String()
}

// Problems are all that were found, in the order of the table.
type Problems []Problem //nolint:errname // a list, which is an error when it is not empty

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = "  " + one.String()
	}
	what := "1 problem"
	if len(p) != 1 {
		what = fmt.Sprintf("%d problems", len(p))
	}
	return fmt.Sprintf("%s in the settings:\n%s", what, strings.Join(lines, "\n"))
}

// Nearest returns the candidate that differs least from name, or "" when none
// is near enough to be meant.
func Nearest(name string, candidates []string) string {
	best, distance := "", len(name)/3+2
	for _, c := range candidates {
		if d := editDistance(name, c); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance is the number of insertions, deletions and replacements that
// make b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func didYouMean(name string, candidates []string) string {
	if n := Nearest(name, candidates); n != "" {
		return "did you mean " + n + "?"
	}
	return "redis-sidecar run --help lists every setting"
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}
