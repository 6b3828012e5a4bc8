package exporter

// slowlog is the collector of SLOWLOG LEN and of the newest entry.
type slowlog struct {
	length, lastID, lastDuration *family
}

func newSlowlog(c *catalog) *slowlog {
	return &slowlog{
		length: c.add(typeGauge, "slowlog_length", "SLOWLOG LEN",
			"Entries in the slow log."),
		lastID: c.add(typeGauge, "slowlog_last_id", "SLOWLOG GET 1",
			"Number of the newest entry of the slow log; 0 also when there is none."),
		lastDuration: c.add(typeGauge, "last_slow_execution_duration_seconds", "SLOWLOG GET 1",
			"Seconds the command in the newest entry of the slow log took; 0 when there is none."),
	}
}

func (c *slowlog) name() string { return "slowlog" }

func (c *slowlog) ask(server traits) []command {
	if server.sentinel {
		return nil
	}
	return []command{
		{"slowlog|len", []string{"SLOWLOG", "LEN"}},
		{"slowlog|get", []string{"SLOWLOG", "GET", "1"}},
	}
}

func (c *slowlog) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 {
		return nil
	}
	switch n := replies[0].(type) {
	case nil:
	case int64:
		out.set(c.length, float64(n))
	default:
		return odd("SLOWLOG LEN", n)
	}
	switch entries := replies[1].(type) {
	case nil:
		return nil
	case []any:
		return c.newest(entries, out)
	default:
		return odd("SLOWLOG GET", entries)
	}
}

// newest reads the first entry: id, Unix time, microseconds, arguments …
func (c *slowlog) newest(entries []any, out *sink) error {
	var id, usec int64
	if len(entries) > 0 {
		entry, _ := entries[0].([]any)
		if len(entry) < 3 {
			return odd("SLOWLOG GET", entries[0])
		}
		var ok1, ok2 bool
		id, ok1 = entry[0].(int64)
		usec, ok2 = entry[2].(int64)
		if !ok1 || !ok2 {
			return odd("SLOWLOG GET", entry[0])
		}
	}
	out.set(c.lastID, float64(id))
	out.set(c.lastDuration, float64(usec)/1e6)
	return nil
}
