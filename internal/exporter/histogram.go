package exporter

// histogram is the collector of LATENCY HISTOGRAM, which Redis has since 7.0.
type histogram struct {
	latencies *family
	edges     []float64
}

func newHistogram(c *catalog) *histogram {
	return &histogram{
		latencies: c.add(typeHistogram, "commands_latencies_usec", "LATENCY HISTOGRAM, INFO commandstats",
			"Time of the calls of a command in microseconds, since the server's start; the last bucket holds everything from half a second on.", "cmd"),
		edges: histogramEdges(),
	}
}

// histogramEdges are the upper edges, in microseconds, that the server uses:
// the powers of two from 1024 ns on, each to the end of its counter (HDR
// histogram with two significant digits), and the end of the last counter,
// which takes everything longer. The server names only those with calls; here
// every command has all of them at all times, so that rate() sees the first
// call of a bucket and sums over commands and servers are right.
func histogramEdges() []float64 {
	return []float64{1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16908, 33816, 67633, 135266,
		270532, 541065, 1073741}
}

func (c *histogram) name() string { return "histogram" }

func (c *histogram) ask(server traits) []command {
	if server.sentinel || server.major < 7 {
		return nil
	}
	return []command{{"latency|histogram", []string{"LATENCY", "HISTOGRAM"}}}
}

func (c *histogram) collect(r *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	list, ok := replies[0].([]any)
	if !ok {
		return odd("LATENCY HISTOGRAM", replies[0])
	}
	histograms := make([]named[any], 0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		cmd, ok := list[i].(string)
		if !ok {
			return odd("LATENCY HISTOGRAM", list[i])
		}
		histograms = append(histograms, named[any]{cmd, i, list[i+1]})
	}
	order(histograms)
	var reported, full []bucket
	for _, h := range histograms {
		cmd := h.name
		calls, counts, ok := histogramOf(h.value)
		if !ok {
			return odd("LATENCY HISTOGRAM", h.value)
		}
		reported = reported[:0]
		for j := 0; j+1 < len(counts); j += 2 {
			edge, ok1 := counts[j].(int64)
			count, ok2 := counts[j+1].(int64)
			if !ok1 || !ok2 || count < 0 {
				return odd("LATENCY HISTOGRAM", counts[j])
			}
			reported = append(reported, bucket{float64(edge), uint64(count)})
		}
		full = fill(full[:0], c.edges, reported)
		calls = max(calls, full[len(full)-1].count)
		out.histogram(c.latencies, calls, r.commands[cmd].usec, full, cmd)
	}
	return nil
}

// histogramOf reads ["calls", n, "histogram_usec", [edge, calls up to it, …]].
func histogramOf(reply any) (calls uint64, counts []any, ok bool) {
	list, _ := reply.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		switch list[i] {
		case "calls":
			n, isInt := list[i+1].(int64)
			calls, ok = uint64(max(n, 0)), isInt
		case "histogram_usec":
			counts, _ = list[i+1].([]any)
		}
	}
	return calls, counts, ok
}

// fill appends to dst every known edge with the count that the reported buckets
// imply. An edge that is not known stays. Edges ascend and counts never fall,
// whatever was reported.
func fill(dst []bucket, edges []float64, reported []bucket) []bucket {
	count, last := uint64(0), -1.0
	take := func(b bucket) {
		count, last = max(count, b.count), b.edge
	}
	for _, edge := range edges {
		for len(reported) > 0 && reported[0].edge <= edge {
			b := reported[0]
			reported = reported[1:]
			if b.edge <= last {
				continue
			}
			take(b)
			if b.edge < edge {
				dst = append(dst, bucket{b.edge, count})
			}
		}
		last = edge
		dst = append(dst, bucket{edge, count})
	}
	for _, b := range reported {
		if b.edge > last {
			take(b)
			dst = append(dst, bucket{b.edge, count})
		}
	}
	return dst
}
