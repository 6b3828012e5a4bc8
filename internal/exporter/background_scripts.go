package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// ScriptOptions say which Lua scripts the server runs for us.
type ScriptOptions struct {
	// Files are the scripts' files. Each is read again at every run, so that a
	// changed one counts.
	Files []string
	// ReadOnly uses EVAL_RO, which is there since Redis 7.0 and refuses scripts
	// that write, instead of EVAL.
	ReadOnly bool
}

// scriptLimit is how many bytes a script may have.
const scriptLimit = 1 << 20

// The values of script_result, which are redis_exporter's.
const (
	scriptFailed = 0
	scriptGood   = 1
	scriptEmpty  = 2
)

// scripts is the background collector of what Lua scripts return.
type scripts struct {
	opts           ScriptOptions
	values, result *family
}

func newScripts(c *catalog, opts BackgroundOptions) *scripts {
	return &scripts{
		opts: opts.Scripts,
		values: c.add(typeGauge, "script_values", "EVAL",
			"A value that a Lua script returned, by the key it returned with it.", "filename", "key"),
		result: c.add(typeGauge, "script_result", "EVAL",
			"How a Lua script ended: 0 with an error, 1 with values, 2 without any.", "filename"),
	}
}

func (c *scripts) name() string { return "scripts" }

// needs leaves out what the scripts themselves do: a user needs the right to
// each command and key of theirs as well.
func (c *scripts) needs() ([]string, bool) {
	if c.opts.ReadOnly {
		return []string{"eval_ro"}, true
	}
	return []string{"eval"}, true
}

func (c *scripts) read(ctx context.Context, s *session, out *recorder) error {
	for _, file := range c.opts.Files {
		text, err := readScript(file)
		if err != nil {
			c.failed(file, status.WithReason(status.ReasonFile, err), out)
			continue
		}
		if err := c.eval(ctx, s, file, text, out); err != nil {
			return err
		}
	}
	return nil
}

func readScript(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("script: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, scriptLimit+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("script: %w", err)
	case len(text) > scriptLimit:
		return "", fmt.Errorf("script %s: more than %d bytes", file, scriptLimit)
	}
	return string(text), nil
}

// failed notes that a script has no result.
func (c *scripts) failed(file string, err error, out *recorder) {
	out.note(err)
	out.set(c.result, scriptFailed, file)
}

// eval runs one script, without keys and with "0" as its argument, which is what
// redis_exporter gives it.
func (c *scripts) eval(ctx context.Context, s *session, file, text string, out *recorder) error {
	ask := command{"eval", []string{"EVAL", text, "0", "0"}}
	if c.opts.ReadOnly {
		ask = command{"eval_ro", []string{"EVAL_RO", text, "0", "0"}}
	}
	replies, err := s.do(ctx, 0, ask)
	if err != nil {
		return fmt.Errorf("script %s: %w", file, err)
	}
	switch reply := replies[0].(type) {
	case error:
		switch status.ReasonOf(reply) {
		case status.ReasonRedis, status.ReasonNoPerm, status.ReasonUnknownCmd:
			c.failed(file, fmt.Errorf("script %s: %w", file, reply), out)
			return nil
		}
		return reply
	case nil:
		out.set(c.result, scriptEmpty, file)
	case []any:
		c.show(file, reply, out)
	default:
		c.failed(file, wrongResult(file, fmt.Sprintf("it returned one value of type %T", reply)), out)
	}
	return nil
}

// show adds what a script returned: a list of names and values. Of a name that
// comes twice the last value counts.
func (c *scripts) show(file string, list []any, out *recorder) {
	if len(list)%2 != 0 {
		c.failed(file, wrongResult(file, fmt.Sprintf("it returned %d values", len(list))), out)
		return
	}
	if len(list) == 0 {
		out.set(c.result, scriptEmpty, file)
		return
	}
	values := make(map[string]float64)
	var names []string
	for i := 0; i < len(list); i += 2 {
		name, ok := list[i].(string)
		if !ok {
			c.failed(file, wrongResult(file, fmt.Sprintf("element %d, which should be a name, is of type %T", i+1, list[i])), out)
			return
		}
		v, ok := scriptValue(list[i+1])
		if !ok {
			c.failed(file, wrongResult(file, fmt.Sprintf("the value of %q is no number", labelValue(name))), out)
			return
		}
		if _, twice := values[name]; !twice {
			names = append(names, name)
		}
		values[name] = v
	}
	for _, name := range names {
		out.set(c.values, values[name], file, name)
	}
	out.set(c.result, scriptGood, file)
}

func wrongResult(file, what string) error {
	return status.WithHint(status.ReasonRejected, "return a table of names and values: {'name', '1', …}",
		errors.New("script "+file+": "+what+"; it must return {'name', '1', 'name', '2', …}"))
}

// scriptValue returns a value as a number. Lua numbers come without their
// fraction, so scripts return them as text.
func scriptValue(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}
