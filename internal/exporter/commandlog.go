package exporter

// commandlog is the collector of Valkey's command log, which has large requests
// and replies besides slow commands, since 8.1.
type commandlog struct {
	lengths  []*family // as commandlogKinds
	settings map[string]*family
}

func commandlogKinds() []string { return []string{"slow", "large-request", "large-reply"} }

// commandlogParameters are the parameters of the configuration that are shown.
func commandlogParameters() []string {
	return []string{"commandlog-execution-slower-than", "commandlog-slow-execution-max-len", "commandlog-request-larger-than",
		"commandlog-large-request-max-len", "commandlog-reply-larger-than", "commandlog-large-reply-max-len"}
}

func newCommandlog(c *catalog) *commandlog {
	length := func(name, kind, help string) *family {
		return c.add(typeGauge, name, "COMMANDLOG LEN "+kind, help)
	}
	setting := func(name, parameter, help string) *family {
		return c.add(typeGauge, name, "CONFIG GET "+parameter, help)
	}
	names := commandlogParameters()
	return &commandlog{
		lengths: []*family{
			length("commandlog_slow_length", "slow", "Entries in the log of slow commands (since Valkey 8.1)."),
			length("commandlog_large_request_length", "large-request", "Entries in the log of large requests (since Valkey 8.1)."),
			length("commandlog_large_reply_length", "large-reply", "Entries in the log of large replies (since Valkey 8.1)."),
		},
		settings: map[string]*family{
			names[0]: setting("commandlog_execution_slower_than", names[0], "Microseconds from which on a command is logged as slow; -1 is never (since Valkey 8.1)."),
			names[1]: setting("commandlog_slow_execution_max_len", names[1], "Entries that the log of slow commands keeps (since Valkey 8.1)."),
			names[2]: setting("commandlog_request_larger_than", names[2], "Bytes from which on a request is logged as large; -1 is never (since Valkey 8.1)."),
			names[3]: setting("commandlog_large_request_max_len", names[3], "Entries that the log of large requests keeps (since Valkey 8.1)."),
			names[4]: setting("commandlog_reply_larger_than", names[4], "Bytes from which on a reply is logged as large; -1 is never (since Valkey 8.1)."),
			names[5]: setting("commandlog_large_reply_max_len", names[5], "Entries that the log of large replies keeps (since Valkey 8.1)."),
		},
	}
}

func (c *commandlog) name() string { return "commandlog" }

func (c *commandlog) ask(server traits) []command {
	if server.sentinel || !server.hasCommandlog() {
		return nil
	}
	var out []command
	for _, kind := range commandlogKinds() {
		out = append(out, command{"commandlog|len", []string{"COMMANDLOG", "LEN", kind}})
	}
	return out
}

func (c *commandlog) collect(r *reading, replies []any, out *sink) error {
	for i, reply := range replies {
		switch n := reply.(type) {
		case nil:
		case int64:
			out.set(c.lengths[i], float64(n))
		default:
			return odd("COMMANDLOG LEN", n)
		}
	}
	if !r.server.hasCommandlog() {
		return nil
	}
	for parameter, f := range c.settings {
		if v, ok := number(r.config[parameter]); ok {
			out.set(f, v)
		}
	}
	return nil
}
