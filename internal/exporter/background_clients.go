package exporter

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ClientOptions say whether and how the clients of the server are shown.
type ClientOptions struct {
	// Enabled switches the collector on. Every client has 13 series or more.
	Enabled bool
	// Port adds the label port to connected_client_info.
	Port bool
	// Max is how many clients are shown. The default is 20,000.
	Max int
}

// clients is the background collector of CLIENT LIST.
type clients struct {
	opts   ClientOptions
	info   *family
	fields [numClientFields]*family
}

// clientField is a number in a line of CLIENT LIST.
type clientField int

// The numbers that are shown; those of the second group are not there in every
// version.
const (
	clientOutputMemory clientField = iota
	clientMemory
	clientCreated
	clientIdleSince
	clientSubscriptions
	clientPatterns
	clientQueryBuffer
	clientQueryFree
	clientOutputBuffer
	clientOutputList

	clientShards
	clientWatched
	clientReadEvents
	clientPipelineCommands
	clientPipelineBatches

	numClientFields
)

func newClients(c *catalog, opts BackgroundOptions) *clients {
	labels := []string{"db", "flags", "host", "id", "name", "resp", "user"}
	if opts.Clients.Port {
		labels = []string{"db", "flags", "host", "id", "name", "port", "resp", "user"}
	}
	l := &clients{
		opts: opts.Clients,
		info: c.add(typeGauge, "connected_client_info", "CLIENT LIST", "1, with who a client is.", labels...),
	}
	l.info.limit = opts.Clients.Max
	for field, row := range map[clientField]struct{ name, help string }{
		clientOutputMemory:  {"output_buffer_memory_usage_bytes", "Bytes of a client's output buffer."},
		clientMemory:        {"total_memory_consumed_bytes", "Bytes that all buffers of a client take."},
		clientCreated:       {"created_at_timestamp", "When a client connected, in Unix time."},
		clientIdleSince:     {"idle_since_timestamp", "When a client last did something, in Unix time."},
		clientSubscriptions: {"channel_subscriptions_count", "Channels that a client has subscribed to."},
		clientPatterns:      {"pattern_matching_subscriptions_count", "Patterns of channels that a client has subscribed to."},
		clientQueryBuffer:   {"query_buffer_length_bytes", "Bytes in a client's query buffer."},
		clientQueryFree:     {"query_buffer_free_space_bytes", "Free bytes in a client's query buffer; 0 when it is full."},
		clientOutputBuffer:  {"output_buffer_length_bytes", "Bytes in the fixed part of a client's output buffer."},
		clientOutputList:    {"output_list_length", "Replies in the list behind a client's output buffer."},
		clientShards:        {"shard_channel_subscriptions_count", "Shard channels that a client has subscribed to (since Redis 7.0)."},
		clientWatched:       {"shard_channel_watched_keys", "Keys that a client watches for a transaction (since Redis 7.4)."},

		clientReadEvents:       {"read_events_total", "Times that input of a client was read (since Redis 8.8)."},
		clientPipelineCommands: {"pipeline_commands_total", "Commands found in the input of a client (since Redis 8.8)."},
		clientPipelineBatches:  {"pipeline_batches_total", "Readings of a client's input that found a command (since Redis 8.8)."},
	} {
		kind := typeGauge
		if strings.HasSuffix(row.name, "_total") {
			kind = typeCounter
		}
		f := c.add(kind, "connected_client_"+row.name, "CLIENT LIST", row.help, "id", "name")
		f.limit = opts.Clients.Max
		l.fields[field] = f
	}
	return l
}

func (c *clients) name() string { return "clients" }

func (c *clients) ofSentinels() {}

func (c *clients) needs() ([]string, bool) { return []string{"client|list"}, false }

func (c *clients) read(ctx context.Context, s *session, out *recorder) error {
	replies, err := s.do(ctx, 0, command{"client|list", []string{"CLIENT", "LIST"}})
	if err != nil {
		return err
	}
	switch reply := replies[0].(type) {
	case error:
		return reply
	case string:
		c.show(reply, time.Now().Unix(), out)
		return nil
	default:
		return odd("CLIENT LIST", reply)
	}
}

// show adds the clients of a list, given the time it is of.
func (c *clients) show(list string, now int64, out *recorder) {
	lines := make([]string, 0, strings.Count(list, "\n")+1)
	for list != "" {
		var line string
		line, list, _ = strings.Cut(list, "\n")
		lines = append(lines, line)
	}
	slices.SortFunc(lines, byFirstWord) // else each metric's series would have to be sorted
	for _, f := range append(c.fields[:], c.info) {
		out.expect(f, len(lines))
	}
	var l client
	for _, line := range lines {
		if !l.parse(line) {
			continue
		}
		if out.full(c.info) {
			out.dropped += l.series()
			continue
		}
		if c.opts.Port {
			out.set(c.info, 1, l.db, l.flags, l.host, l.id, l.name, l.port, l.resp, l.user)
		} else {
			out.set(c.info, 1, l.db, l.flags, l.host, l.id, l.name, l.resp, l.user)
		}
		l.numbers[clientCreated] = now - l.age
		l.numbers[clientIdleSince] = now - l.idle
		for field, v := range l.numbers {
			if v >= 0 {
				out.set(c.fields[field], float64(v), l.id, l.name)
			}
		}
	}
}

// byFirstWord compares two lines by what they have before the first space: the
// id, as text, which is how a metric's series are ordered.
func byFirstWord(a, b string) int {
	a, _, _ = strings.Cut(a, " ")
	b, _, _ = strings.Cut(b, " ")
	return strings.Compare(a, b)
}

// client is one line of CLIENT LIST. Its texts are parts of that line.
type client struct {
	id, name, user, flags, db, host, port, resp string
	age, idle                                   int64 // seconds
	numbers                                     [numClientFields]int64
}

// parse reads a line such as
//
//	id=3 addr=10.0.0.7:52555 laddr=10.0.0.1:6379 fd=8 name=api age=855 idle=0 flags=N db=0 …
//
// and tells whether it is one. A word without an equals sign goes on with what
// came before: the path of a unix socket may have spaces.
func (c *client) parse(line string) bool {
	*c = client{}
	for field := clientShards; field < numClientFields; field++ {
		c.numbers[field] = -1
	}
	line = strings.TrimSuffix(line, "\r")
	address := ""
	for line != "" {
		i := strings.IndexByte(line, '=')
		if i < 0 {
			break
		}
		key, rest := line[:i], line[i+1:]
		end := valueEnd(rest)
		value := rest[:end]
		line = strings.TrimPrefix(rest[end:], " ")
		c.take(key, value, &address)
	}
	if c.id == "" || address == "" {
		return false
	}
	c.host, c.port = hostPort(address)
	return true
}

// valueEnd returns where the value ends that s begins with: at a space behind
// which a name and an equals sign follow.
func valueEnd(s string) int {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], ' ')
		if i < 0 {
			return len(s)
		}
		i += from
		for j := i + 1; j < len(s); j++ {
			if s[j] == '=' && j > i+1 {
				return i
			}
			if s[j] == ' ' || s[j] == '/' || s[j] == ':' { // not in a name
				break
			}
		}
		from = i + 1
	}
}

// take notes one field.
func (c *client) take(key, value string, address *string) {
	number := func(field clientField) {
		c.numbers[field], _ = strconv.ParseInt(value, 10, 64)
	}
	switch key {
	case "id":
		c.id = value
	case "addr":
		*address = value
	case "name":
		c.name = value
	case "user":
		c.user = value
	case "flags":
		c.flags = value
	case "db":
		c.db = value
	case "resp":
		c.resp = value
	case "age":
		c.age, _ = strconv.ParseInt(value, 10, 64)
	case "idle":
		c.idle, _ = strconv.ParseInt(value, 10, 64)
	case "sub":
		number(clientSubscriptions)
	case "psub":
		number(clientPatterns)
	case "ssub":
		number(clientShards)
	case "watch":
		number(clientWatched)
	case "qbuf":
		number(clientQueryBuffer)
	case "qbuf-free":
		number(clientQueryFree)
	case "obl":
		number(clientOutputBuffer)
	case "oll":
		number(clientOutputList)
	case "omem":
		number(clientOutputMemory)
	case "tot-mem":
		number(clientMemory)
	case "read-events":
		number(clientReadEvents)
	case "avg-pipeline-len-sum":
		number(clientPipelineCommands)
	case "avg-pipeline-len-cnt":
		number(clientPipelineBatches)
	}
}

// series is how many series the client has.
func (c *client) series() uint64 {
	n := uint64(1)
	for _, v := range c.numbers {
		if v >= 0 {
			n++
		}
	}
	return n
}

// hostPort divides an address at its last colon: an IPv6 address, which Redis
// puts into brackets, and the path of a socket have others. A host is given
// without brackets.
func hostPort(address string) (host, port string) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address, ""
	}
	host, port = address[:i], address[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			host = inner
		}
	}
	return host, port
}
