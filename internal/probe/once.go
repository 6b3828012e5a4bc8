package probe

import "context"

// Once looks at the server a single time, bounded by ctx, and judges that by the
// same table. Without a history it cannot tell a hung server from a busy one, so
// liveness is no only when nothing listens. The caller closes s.
func Once(ctx context.Context, s Server, p Policy) Verdicts {
	a := ask(ctx, s, false, refusals{})
	if a.info.Get("cluster_enabled") == "1" {
		a = ask(ctx, s, true, refusals{})
	}
	o := Observation{Once: true}
	a.facts(&o)
	o.WasUp = a.contact == Answered
	o.Started = o.WasUp && !o.Loading
	return Judge(o, p)
}
