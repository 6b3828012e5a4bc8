package exporter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// refusalExpiry is after how long a refused command is tried again, so that a
// mended ACL is noticed on a connection that never breaks.
const refusalExpiry = 10 * time.Minute

// plan is what one server is asked in every scrape.
type plan struct {
	server traits
	asks   []ask
	spans  []span // by collector
	// doubtful means that the connection broke after the read: who answers next
	// may be another server, or know another user.
	doubtful bool
}

// ask is one command of a plan.
type ask struct {
	command
	refused error     // why the server does not allow it; nil = it does
	again   time.Time // when a refused command is tried again
}

// span is a part of plan.asks.
type span struct{ from, to int }

func newPlan(server traits, collectors []collector) *plan {
	p := &plan{server: server.clone()}
	for _, c := range collectors {
		from := len(p.asks)
		for _, cmd := range c.ask(server) {
			p.asks = append(p.asks, ask{command: cmd})
		}
		p.spans = append(p.spans, span{from, len(p.asks)})
	}
	return p
}

// due returns the indices of the asks to send now, and their commands.
func (p *plan) due(now time.Time) (asked []int, commands [][]string) {
	for i, a := range p.asks {
		if a.refused == nil || !now.Before(a.again) {
			asked = append(asked, i)
			commands = append(commands, a.args)
		}
	}
	return asked, commands
}

// settle notes in r the replies to the asked commands, and remembers refusals.
func (p *plan) settle(r *reading, asked []int, replies []any) {
	r.replies = make([]any, len(p.asks))
	r.problems = make([]error, len(p.asks))
	for i, n := range asked {
		a := &p.asks[n]
		err, refused := replies[i].(error)
		switch {
		case !refused, errorIsAnswer(a.name, err):
			a.refused = nil
			r.replies[n] = replies[i]
		case lasting(status.ReasonOf(err)):
			a.refused, a.again = err, r.at.Add(refusalExpiry)
		default:
			r.problems[n] = err
		}
	}
	for i, a := range p.asks {
		if a.refused != nil {
			r.problems[i] = a.refused
		}
	}
}

// lasting tells whether a command that fails so will fail again next time.
func lasting(reason status.Reason) bool {
	switch reason {
	case status.ReasonNoPerm, status.ReasonUnknownCmd, status.ReasonRedis:
		return true
	}
	return false
}

// read asks the server everything. Its error says why redis_up is 0. A kept
// connection that broke since the last read, by a restart of the server, says
// nothing about the server now: then it is asked once more, on a new one.
func (e *Exporter) read(ctx context.Context) (*reading, error) {
	kept := e.plan != nil
	r, err := e.readOnce(ctx)
	if kept && status.ReasonOf(err) == status.ReasonUnreachable && ctx.Err() == nil {
		return e.readOnce(ctx)
	}
	return r, err
}

// readOnce is read on one connection: one round trip when it is the server of
// the last read, else two.
func (e *Exporter) readOnce(ctx context.Context) (*reading, error) {
	if e.plan != nil && e.plan.doubtful {
		e.plan = nil
	}
	if e.plan == nil {
		e.plainInfo = false
	}
	now := time.Now()
	var asked []int
	commands := [][]string{e.infoCommand()}
	if e.plan != nil {
		var more [][]string
		asked, more = e.plan.due(now)
		commands = append(commands, more...)
	}
	replies, err := e.pipeline(ctx, commands)
	if err != nil {
		return nil, err
	}
	in, err := infoOf(replies[0])
	if err != nil && !e.plainInfo && needsPlainInfo(err) {
		e.plainInfo = true
		// When that is no better, what INFO ALL said is the reason.
		if plain, failed := e.pipeline(ctx, [][]string{e.infoCommand()}); failed == nil {
			if found, odd := infoOf(plain[0]); odd == nil {
				in, err = found, nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	r := &reading{info: in, server: traitsOf(in), at: now}
	replies = replies[1:]
	if e.plan == nil || e.plan.server != r.server {
		e.plan = newPlan(r.server, e.collectors)
		asked, commands = e.plan.due(now)
		if replies, err = e.pipeline(ctx, commands); err != nil {
			return nil, err
		}
	}
	e.plan.settle(r, asked, replies)
	e.follow(ctx, r)
	return r, nil
}

// infoCommand is how the server is asked for everything it says of itself.
func (e *Exporter) infoCommand() []string {
	if e.plainInfo {
		return []string{"INFO"}
	}
	return []string{"INFO", "ALL"}
}

// needsPlainInfo tells whether a server that answered INFO ALL so may know INFO
// without a section: some proxies and servers akin to Redis do only that.
func needsPlainInfo(err error) bool {
	reason := status.ReasonOf(err)
	return reason == status.ReasonRedis || errors.Is(err, errNoField)
}

// errNoField is what infoOf says of an empty reply.
var errNoField = errors.New("no field in the reply")

// pipeline sends commands. When the connection breaks, the plan is forgotten:
// who answers next may be another server, or know another user.
func (e *Exporter) pipeline(ctx context.Context, commands [][]string) ([]any, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	replies, err := e.server.Pipeline(ctx, commands...)
	if err == nil && len(replies) != len(commands) {
		err = status.WithReason(status.ReasonProtocol, fmt.Errorf("%d replies to %d commands", len(replies), len(commands)))
	}
	if err != nil {
		e.plan = nil
		return nil, err
	}
	return replies, nil
}

func infoOf(reply any) (info.Info, error) {
	switch reply := reply.(type) {
	case error:
		return info.Info{}, reply
	case string:
		if in := info.Parse(reply); in.Len() > 0 {
			return in, nil
		}
		return info.Info{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("INFO: %w of %d bytes", errNoField, len(reply)))
	}
	return info.Info{}, odd("INFO", reply)
}
