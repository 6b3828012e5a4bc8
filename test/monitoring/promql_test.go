package monitoring_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A selector is a metric of a PromQL expression, with the matchers behind it.
type selector struct {
	name     string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// expression is what a PromQL expression speaks of.
type expression struct {
	selectors []selector
	labels    []string // in by, without, on, ignoring, group_left and group_right
}

// functions and aggregations of PromQL that the rules and dashboards may use.
// What is in front of a parenthesis and not listed is an error: either it is
// misspelt, or it belongs here.
var callable = map[string]bool{
	"abs": true, "absent": true, "changes": true, "clamp_max": true, "clamp_min": true, "count": true, "delta": true,
	"deriv": true, "group": true, "histogram_quantile": true, "increase": true, "label_values": true, "max": true,
	"max_over_time": true, "min": true, "min_over_time": true, "present_over_time": true, "quantile": true, "rate": true,
	"round": true, "sum": true, "time": true, "timestamp": true, "topk": true, "vector": true,
}

// grouping are the words that a list of labels follows.
var grouping = map[string]bool{"by": true, "without": true, "on": true, "ignoring": true, "group_left": true, "group_right": true}

// words of PromQL that are no metric.
var words = map[string]bool{"and": true, "or": true, "unless": true, "bool": true, "offset": true, "inf": true, "nan": true}

// parse reads a PromQL expression as far as it has to be understood to know
// every metric and every label in it. promtool proves its grammar.
func parse(text string) (expression, error) {
	tokens, err := tokenize(text)
	if err != nil {
		return expression{}, fmt.Errorf("%w in %q", err, text)
	}
	p := &parser{tokens: tokens}
	for p.err == nil && len(p.tokens) > 0 {
		p.next()
	}
	if p.err != nil {
		return expression{}, fmt.Errorf("%w in %q", p.err, text)
	}
	return p.out, nil
}

type parser struct {
	tokens []string
	out    expression
	err    error
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) take() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) expect(want string) {
	if got := p.take(); got != want && p.err == nil {
		p.err = fmt.Errorf("%q instead of %q", got, want)
	}
}

func (p *parser) next() {
	t := p.take()
	switch {
	case grouping[t]:
		if p.peek() != "(" {
			return // group_left has no list here
		}
		p.take()
		for p.err == nil && p.peek() != ")" {
			if t := p.take(); isName(t) {
				p.out.labels = append(p.out.labels, t)
			} else if t != "," {
				p.err = fmt.Errorf("%q in a list of labels", t)
			}
		}
		p.expect(")")
	case t == "{":
		p.err = fmt.Errorf("a selector without a name")
	case t == "[":
		for p.peek() != "]" && p.peek() != "" {
			p.take()
		}
		p.expect("]")
	case words[t] || !isName(t): // an operator, a number, a string, a duration
	case p.peek() == "(" || grouping[p.peek()] && callable[t]:
		if !callable[t] {
			p.err = fmt.Errorf("unknown function %q", t)
		}
	default:
		p.out.selectors = append(p.out.selectors, selector{t, p.matchers()})
	}
}

func (p *parser) matchers() (out []matcher) {
	if p.peek() != "{" {
		return nil
	}
	p.take()
	for p.err == nil && p.peek() != "}" {
		m := matcher{label: p.take(), op: p.take(), value: p.take()}
		if !isName(m.label) || len(m.value) < 2 || m.value[0] != '"' {
			p.err = fmt.Errorf("matcher %s%s%s", m.label, m.op, m.value)
			return nil
		}
		m.value = m.value[1 : len(m.value)-1]
		out = append(out, m)
		if p.peek() == "," {
			p.take()
		}
	}
	p.expect("}")
	return out
}

// tokenize cuts an expression into names, numbers, strings (with double quotes,
// whatever they had) and signs.
func tokenize(text string) (out []string, err error) {
	for text != "" {
		c := text[0]
		n := 1
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			text = text[1:]
			continue
		case c == '#':
			if n = strings.IndexByte(text, '\n'); n < 0 {
				n = len(text)
			}
			text = text[n:]
			continue
		case c == '"' || c == '\'' || c == '`':
			end := stringEnd(text)
			if end < 0 {
				return nil, fmt.Errorf("a string without an end")
			}
			out = append(out, `"`+text[1:end]+`"`)
			text = text[end+1:]
			continue
		case c == '$' || isLetter(c):
			for n < len(text) && (isLetter(text[n]) || isDigit(text[n])) {
				n++
			}
		case isDigit(c) || c == '.':
			for n < len(text) && (isLetter(text[n]) || isDigit(text[n]) || text[n] == '.' ||
				strings.IndexByte("+-", text[n]) >= 0 && strings.IndexByte("eE", text[n-1]) >= 0) {
				n++
			}
		case strings.HasPrefix(text, "=~"), strings.HasPrefix(text, "!~"), strings.HasPrefix(text, "!="),
			strings.HasPrefix(text, "=="), strings.HasPrefix(text, "<="), strings.HasPrefix(text, ">="):
			n = 2
		case strings.IndexByte("(){}[],+-*/%^<>=@:", c) >= 0:
		default:
			return nil, fmt.Errorf("unexpected %q", c)
		}
		out = append(out, text[:n])
		text = text[n:]
	}
	return out, nil
}

// stringEnd returns where the string at the begin of text ends, or -1.
func stringEnd(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[0] != '`':
			i++
		case text[i] == text[0]:
			return i
		}
	}
	return -1
}

func isLetter(c byte) bool {
	return c == '_' || c == ':' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isName(t string) bool {
	return t != "" && isLetter(t[0]) && t[0] != ':' || len(t) > 1 && t[0] == ':'
}

func TestParsePromQL(t *testing.T) {
	for _, tc := range []struct {
		text string
		want expression
	}{
		{"redis_up == 0", expression{selectors: []selector{{name: "redis_up"}}}},
		{
			`sum without (cmd, le) (rate(a_total{job=~"$job", x!='y}'}[5m])) / on (job) group_left b > 1e-3`,
			expression{
				selectors: []selector{{"a_total", []matcher{{"job", "=~", "$job"}, {"x", "!=", "y}"}}}, {name: "b"}},
				labels:    []string{"cmd", "le", "job"},
			},
		},
		{
			"topk(10, a[$__rate_interval] offset 5m) # c{\n or on () absent(d) or vector(0)",
			expression{selectors: []selector{{name: "a"}, {name: "d"}}},
		},
		{"max(instance_cmd:redis:p99_5m) by (le)", expression{selectors: []selector{{name: "instance_cmd:redis:p99_5m"}}, labels: []string{"le"}}},
		{"count by (a) (time() - x{} > 2 * 86400)", expression{selectors: []selector{{name: "x"}}, labels: []string{"a"}}},
	} {
		got, err := parse(tc.text)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(got, tc.want, cmp.AllowUnexported(expression{}, selector{}, matcher{}), cmp.Transformer("nil", func(m []matcher) string { return fmt.Sprint(m) })); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tc.text, diff)
		}
	}
	for _, text := range []string{`{job="x"}`, `a{job}`, `a{"x"}`, `rat(a[5m])`, `a{x="y}`, `a[5m`, `a ? b`, `sum by (1) (a)`} {
		if got, err := parse(text); err == nil {
			t.Errorf("%s was understood as %v", text, got)
		}
	}
}
