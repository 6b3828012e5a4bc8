package backup

import (
	"fmt"
	"strings"
)

// maxProblems bounds how many problems an error names: a damaged manifest can
// have as many as it has bytes.
const maxProblems = 20

// problems is several errors as one, in one line: it goes to logs and tables.
type problems []error

// joined is errors.Join but for the text, which is one line and of limited
// length.
func joined(errs ...error) error {
	var ps problems
	for _, err := range errs {
		if inner, ok := err.(problems); ok { //nolint:errorlint // not a wrapped one
			ps = append(ps, inner...)
		} else if err != nil {
			ps = append(ps, err)
		}
	}
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// unless adds a problem if ok is false.
func (ps *problems) unless(ok bool, format string, args ...any) {
	if !ok {
		*ps = append(*ps, fmt.Errorf(format, args...))
	}
}

// Error implements error.
func (ps problems) Error() string {
	texts := make([]string, 0, maxProblems)
	for _, err := range ps[:min(len(ps), maxProblems)] {
		texts = append(texts, err.Error())
	}
	text := strings.Join(texts, "; ")
	if more := len(ps) - len(texts); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Unwrap returns them all.
func (ps problems) Unwrap() []error { return ps }
