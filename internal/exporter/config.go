package exporter

import (
	"strconv"
	"strings"
)

// config is the collector of the settings that dashboards use. They are asked
// by name: CONFIG GET * costs the server many times more.
type config struct {
	command   string // what CONFIG is called; "-" = do not ask
	numbers   map[string]*family
	limit     *family
	overcome  *family
	parameter []string
}

func newConfig(c *catalog, command string) *config {
	number := func(name, parameter, help string) *family {
		return c.add(typeGauge, name, "CONFIG GET "+parameter, help)
	}
	const buffers = "client-output-buffer-limit"
	return &config{
		command: command,
		numbers: map[string]*family{
			"maxclients":        number("config_maxclients", "maxclients", "Configured limit of client connections."),
			"maxmemory":         number("config_maxmemory", "maxmemory", "Limit of used memory as the configuration has it, in bytes; 0 is no limit."),
			"io-threads":        number("config_io_threads", "io-threads", "Configured number of I/O threads, the main thread included."),
			"repl-backlog-size": number("config_repl_backlog_size", "repl-backlog-size", "Size of the replication backlog as the configuration has it, in bytes."),
		},
		limit: c.add(typeGauge, "config_client_output_buffer_limit_bytes", "CONFIG GET "+buffers,
			"Configured limit of the output buffer of a class of clients in bytes; 0 is no limit.", "class", "limit"),
		overcome: c.add(typeGauge, "config_client_output_buffer_limit_overcome_seconds", "CONFIG GET "+buffers,
			"Configured seconds for which the soft limit may be exceeded.", "class", "limit"),
		parameter: []string{"maxclients", "maxmemory", "io-threads", "repl-backlog-size", buffers, "databases"},
	}
}

func (c *config) name() string { return "config" }

func (c *config) ask(server traits) []command {
	switch {
	case c.command == "-" || server.sentinel:
		return nil
	case server.major >= 7:
		return []command{{"config|get", append([]string{c.command, "GET"}, c.parameter...)}}
	}
	// Before 7.0 CONFIG GET takes one parameter.
	var out []command
	for _, p := range c.parameter {
		out = append(out, command{"config|get", []string{c.command, "GET", p}})
	}
	return out
}

func (c *config) collect(r *reading, replies []any, out *sink) error {
	for _, reply := range replies {
		if reply == nil {
			continue
		}
		list, ok := reply.([]any)
		if !ok {
			return odd("CONFIG GET", reply)
		}
		for i := 0; i+1 < len(list); i += 2 {
			name, ok1 := list[i].(string)
			value, ok2 := list[i+1].(string)
			if !ok1 || !ok2 {
				return odd("CONFIG GET", list[i])
			}
			c.parameterValue(r, name, value, out)
		}
	}
	return nil
}

func (c *config) parameterValue(r *reading, name, value string, out *sink) {
	switch name {
	case "databases":
		if n, err := strconv.Atoi(value); err == nil {
			r.databases = n
		}
	case "client-output-buffer-limit":
		c.bufferLimits(value, out)
	default:
		if f := c.numbers[name]; f != nil {
			if v, ok := number(value); ok {
				out.set(f, v)
			}
		}
	}
}

// bufferLimits reads "normal 0 0 0 slave 268435456 67108864 60 pubsub …": class,
// hard limit, soft limit, seconds.
func (c *config) bufferLimits(value string, out *sink) {
	words := strings.Fields(value)
	for ; len(words) >= 4; words = words[4:] {
		if v, ok := number(words[1]); ok {
			out.set(c.limit, v, words[0], "hard")
		}
		if v, ok := number(words[2]); ok {
			out.set(c.limit, v, words[0], "soft")
		}
		if v, ok := number(words[3]); ok {
			out.set(c.overcome, v, words[0], "soft")
		}
	}
}
