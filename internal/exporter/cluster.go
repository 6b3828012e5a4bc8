package exporter

import "github.com/redis-sidecar/redis-sidecar/internal/info"

// cluster is the collector of CLUSTER INFO, of a server in cluster mode. Its
// fields are in the same table as those of INFO.
type cluster struct{ fields *fields }

func newCluster(f *fields) *cluster { return &cluster{fields: f} }

func (c *cluster) name() string { return "cluster" }

func (c *cluster) ask(server traits) []command {
	if !server.cluster {
		return nil
	}
	return []command{{"cluster|info", []string{"CLUSTER", "INFO"}}}
}

func (c *cluster) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	text, ok := replies[0].(string)
	if !ok {
		return odd("CLUSTER INFO", replies[0])
	}
	for name, value := range info.Parse(text).All() {
		c.fields.emit(name, value, out)
	}
	return nil
}
