package exporter

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// config is the collector of the settings that dashboards use, and of all of
// them when asked for. The few are asked by name: CONFIG GET * costs the server
// many times more.
type config struct {
	command         string // what CONFIG is called; "-" = do not ask
	all, users      bool
	files           bool // the collector of the files wants its parameters
	numbers         map[string]*family
	limit, overcome *family
	keyValue, value *family
}

func newConfig(c *catalog, opts Options) *config {
	number := func(name, parameter, help string) *family {
		return c.add(typeGauge, name, "CONFIG GET "+parameter, help)
	}
	const buffers = "client-output-buffer-limit"
	return &config{
		command: opts.ConfigCommand,
		all:     opts.Collect.ConfigValues,
		users:   opts.Collect.RevealUsers,
		files:   opts.Files.on(),
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
		keyValue: c.add(typeGauge, "config_key_value", "CONFIG GET *",
			"1, with the text of a parameter; only there when that is asked for, secrets never.", "key", "value"),
		value: c.add(typeGauge, "config_value", "CONFIG GET *",
			"Value of a parameter that is a number; only there when that is asked for.", "key"),
	}
}

func (c *config) name() string { return "config" }

func (c *config) ask(server traits) []command {
	if c.command == "-" || server.sentinel {
		return nil
	}
	if c.all {
		return []command{{"config|get", []string{c.command, "GET", "*"}}}
	}
	parameters := []string{"maxclients", "maxmemory", "io-threads", "repl-backlog-size", "client-output-buffer-limit", "databases"}
	if c.files {
		parameters = append(parameters, fileParameters(server)...)
	}
	if server.hasCommandlog() {
		parameters = append(parameters, commandlogParameters()...)
	}
	if server.since(7, 0) {
		return []command{{"config|get", append([]string{c.command, "GET"}, parameters...)}}
	}
	// Before 7.0 CONFIG GET takes one parameter.
	var out []command
	for _, p := range parameters {
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
			if c.all {
				parameterSeries(c.keyValue, c.value, name, value, c.users, out)
			}
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
			return
		}
		if !c.all || slices.Contains(fileParameters(r.server), name) || strings.HasPrefix(name, "commandlog-") {
			if r.config == nil {
				r.config = make(map[string]string)
			}
			r.config[name] = value
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

// parameterSeries shows one parameter of a server or a Sentinel, unless it is
// not for everybody to read.
func parameterSeries(text, numeric *family, name, value string, users bool, out *sink) {
	if secret(name) || namesUser(name) && value != "" && !users {
		return
	}
	out.set(text, 1, name, value)
	if v, err := strconv.ParseFloat(value, 64); err == nil && !math.IsNaN(v) {
		out.set(numeric, v, name)
	}
}

// secret tells whether a parameter holds a secret: requirepass, masterauth,
// primaryauth (Valkey), tls-key-file-pass, sentinel-pass, auth-pass, and what a
// module may have of that kind. No option shows them.
func secret(parameter string) bool {
	p := strings.ToLower(parameter)
	for _, part := range []string{"pass", "secret", "token", "credential", "private-key", "auth"} {
		if strings.Contains(p, part) {
			return p != "tls-auth-clients" && p != "tls-auth-clients-user"
		}
	}
	return false
}

// namesUser tells whether a parameter holds the name of a user: masteruser,
// primaryuser (Valkey), sentinel-user, auth-user, tls-auth-clients-user; but not
// lazyfree-lazy-user-del.
func namesUser(parameter string) bool { return strings.HasSuffix(strings.ToLower(parameter), "user") }
