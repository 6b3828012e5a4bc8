package exporter

// clusterLinks is the collector of CLUSTER LINKS: the connections of the cluster
// bus, of which there are two for each other node. Redis has it since 7.0.
type clusterLinks struct {
	links, buffers *family
}

func newClusterLinks(c *catalog) *clusterLinks {
	return &clusterLinks{
		links: c.add(typeGauge, "cluster_links", "CLUSTER LINKS",
			"Connections of the cluster bus that this node made (to) and that others made to it (from).", "direction"),
		buffers: c.add(typeGauge, "cluster_links_send_buffer_allocated_bytes", "CLUSTER LINKS",
			"Bytes of the send buffers of the connections of the cluster bus.", "direction"),
	}
}

func (c *clusterLinks) name() string { return "cluster_links" }

func (c *clusterLinks) ask(server traits) []command {
	if !server.cluster || !server.since(7, 0) || server.manyLinks || server.kind != kindRedis && server.kind != kindValkey {
		return nil
	}
	return []command{{"cluster|links", []string{"CLUSTER", "LINKS"}}}
}

func (c *clusterLinks) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	list, ok := replies[0].([]any)
	if !ok {
		return odd("CLUSTER LINKS", replies[0])
	}
	counts, bytes := make(map[string]int), make(map[string]float64)
	for _, item := range list {
		// direction, to, node, …, send-buffer-allocated, n, send-buffer-used, n
		link, ok := item.([]any)
		if !ok {
			return odd("CLUSTER LINKS", item)
		}
		direction, allocated := "", int64(0)
		for i := 0; i+1 < len(link); i += 2 {
			switch link[i] {
			case "direction":
				direction, _ = link[i+1].(string)
			case "send-buffer-allocated":
				allocated, _ = link[i+1].(int64)
			}
		}
		counts[direction]++
		bytes[direction] += float64(max(allocated, 0))
	}
	for _, direction := range []string{"from", "to"} {
		out.set(c.links, float64(counts[direction]), direction)
		out.set(c.buffers, bytes[direction], direction)
	}
	return nil
}
