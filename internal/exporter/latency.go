package exporter

// latency is the collector of LATENCY LATEST: spikes above
// latency-monitor-threshold, which is off by default.
type latency struct {
	last, duration *family
}

func newLatency(c *catalog) *latency {
	return &latency{
		last: c.add(typeGauge, "latency_spike_last", "LATENCY LATEST",
			"Unix time of the last latency spike of an event.", "event_name"),
		duration: c.add(typeGauge, "latency_spike_duration_seconds", "LATENCY LATEST",
			"Seconds the last latency spike of an event took.", "event_name"),
	}
}

func (c *latency) name() string { return "latency" }

func (c *latency) ask(server traits) []command {
	if server.sentinel {
		return nil
	}
	return []command{{"latency|latest", []string{"LATENCY", "LATEST"}}}
}

func (c *latency) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	events, ok := replies[0].([]any)
	if !ok {
		return odd("LATENCY LATEST", replies[0])
	}
	for _, e := range events {
		// name, Unix time, milliseconds of the last spike, of the longest …
		event, _ := e.([]any)
		if len(event) < 3 {
			return odd("LATENCY LATEST", e)
		}
		name, ok1 := event[0].(string)
		at, ok2 := event[1].(int64)
		millis, ok3 := event[2].(int64)
		if !ok1 || !ok2 || !ok3 {
			return odd("LATENCY LATEST", e)
		}
		out.set(c.last, float64(at), name)
		out.set(c.duration, float64(millis)/1e3, name)
	}
	return nil
}
