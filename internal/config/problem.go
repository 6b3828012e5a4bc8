package config

import (
	"fmt"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Problem is one thing in a redis.conf with which redis-server would not start,
// or which it would silently read as something else than was meant. It never
// holds a secret.
type Problem struct {
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"` // 0: about the file as a whole
	Directive string `json:"directive,omitempty"`
	What      string `json:"what"`
	Hint      string `json:"hint,omitempty"` // what to do about it

	reason status.Reason // "" means ReasonSyntax
}

// String returns "file:line: directive: what; hint".
func (p Problem) String() string {
	s := p.File + ": "
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d: ", p.File, p.Line)
	}
	if p.Directive != "" {
		s += p.Directive + ": "
	}
	s += p.What
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// Problems are all problems of a file and of what it includes, by file and line.
type Problems []Problem //nolint:errname // a list first, and an error only where somebody wants one

// Error returns the first problem, and how many more there are.
func (ps Problems) Error() string {
	switch len(ps) {
	case 0:
		return "no problem"
	case 1:
		return ps[0].String()
	case 2:
		return ps[0].String() + " (and 1 more problem)"
	}
	return fmt.Sprintf("%s (and %d more problems)", ps[0], len(ps)-1)
}

// Err returns the problems as an error that carries a status.Reason, or nil when
// there is none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	reason := ps[0].reason
	if reason == "" {
		reason = status.ReasonSyntax
	}
	return status.WithReason(reason, ps)
}

// Strings returns each problem as one line.
func (ps Problems) Strings() []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return out
}
