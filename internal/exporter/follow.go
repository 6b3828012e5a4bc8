package exporter

import "context"

// follower is a collector that may want to ask more once it has the replies to
// what it asked. That costs a round trip, so it is for what happens seldom.
type follower interface {
	collector
	// follow returns what else to ask the server; replies are as for collect,
	// which finds the answers in reading.followed under the collector's name. It
	// must take replies of any shape.
	follow(r *reading, replies []any) [][]string
}

// follow asks what the followers want to know. When that fails they do without:
// the scrape is as good as its first replies.
func (e *Exporter) follow(ctx context.Context, r *reading) {
	var commands [][]string
	var names []string
	for i, c := range e.collectors {
		f, ok := c.(follower)
		if !ok {
			continue
		}
		span := e.plan.spans[i]
		for _, args := range f.follow(r, r.replies[span.from:span.to]) {
			commands, names = append(commands, args), append(names, c.name())
		}
	}
	if len(commands) == 0 {
		return
	}
	replies, err := e.server.Pipeline(ctx, commands...)
	if err != nil || len(replies) != len(commands) {
		e.plan.doubtful = true
		return
	}
	r.followed = make(map[string][]any)
	for i, reply := range replies {
		if _, refused := reply.(error); !refused {
			r.followed[names[i]] = append(r.followed[names[i]], reply)
		}
	}
}
