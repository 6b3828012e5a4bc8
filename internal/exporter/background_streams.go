package exporter

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// StreamOptions say which streams are looked at.
type StreamOptions struct {
	// Check are patterns and keys of streams. The keys of a pattern are found by
	// SCAN.
	Check []Key
	// Single are keys of streams, whatever characters they have.
	Single []Key
	// NoConsumers leaves out the metrics of single consumers.
	NoConsumers bool
}

// streamBatch is how many streams are asked about at once: the server answers
// with the whole first and last entry of each.
const streamBatch = 16

// streamField is a field of XINFO and the metric that shows it.
type streamField struct {
	name    string // in XINFO
	family  *family
	id      bool    // it is an entry's id, of which the time is shown
	divisor float64 // 0 means 1
}

// streamFamilies are the metrics of streams, their groups and consumers.
type streamFamilies struct{ stream, group, consumer []streamField }

func newStreamFamilies(c *catalog) streamFamilies {
	labels := []string{"db", "stream"}
	source := "XINFO STREAM"
	add := func(metric, help string) *family {
		return c.add(typeGauge, metric, source, help, labels...)
	}
	f := streamFamilies{}
	f.stream = []streamField{
		{name: "length", family: add("stream_length", "Entries of a stream.")},
		{name: "radix-tree-keys", family: add("stream_radix_tree_keys", "Keys of the radix tree that holds a stream.")},
		{name: "radix-tree-nodes", family: add("stream_radix_tree_nodes", "Nodes of the radix tree that holds a stream.")},
		{name: "last-generated-id", id: true, family: add("stream_last_generated_id", "Time in the id that was given out last, in Unix milliseconds.")},
		{name: "groups", family: add("stream_groups", "Consumer groups of a stream.")},
		{name: "max-deleted-entry-id", id: true, family: add("stream_max_deleted_entry_id",
			"Time in the greatest id that was deleted, in Unix milliseconds; 0 when none was (since Redis 7.0).")},
		{name: "first-entry", id: true, family: add("stream_first_entry_id", "Time in the id of the first entry, in Unix milliseconds; 0 when the stream is empty.")},
		{name: "last-entry", id: true, family: add("stream_last_entry_id", "Time in the id of the last entry, in Unix milliseconds; 0 when the stream is empty.")},
	}
	count := func(metric, help string) *family {
		return c.add(typeCounter, metric, source, help, labels...)
	}
	f.stream = append(f.stream,
		streamField{name: "entries-added", family: count("stream_entries_added_total", "Entries added to a stream since it was made (since Redis 7.0).")},
		// Entries added with an id of the producer's own, so that none comes twice.
		streamField{name: "idmp-duration", family: add("stream_idmp_duration_seconds", "Seconds for which a stream remembers a producer's id (since Redis 8.6).")},
		streamField{name: "idmp-maxsize", family: add("stream_idmp_max_size", "Ids of one producer that a stream remembers at most (since Redis 8.6).")},
		streamField{name: "pids-tracked", family: add("stream_idmp_producer_ids_tracked", "Producers of which a stream remembers ids (since Redis 8.6).")},
		streamField{name: "iids-tracked", family: add("stream_idmp_idempotent_ids_tracked", "Producers' ids that a stream remembers (since Redis 8.6).")},
		streamField{name: "iids-added", family: count("stream_idmp_entries_added_total", "Entries added to a stream with a producer's id (since Redis 8.6).")},
		streamField{name: "iids-duplicates", family: count("stream_idmp_duplicates_total", "Entries that were refused because a stream had their producer's id already (since Redis 8.6).")},
	)

	labels, source = []string{"db", "group", "stream"}, "XINFO GROUPS"
	f.group = []streamField{
		{name: "consumers", family: add("stream_group_consumers", "Consumers of a group.")},
		{name: "pending", family: add("stream_group_messages_pending", "Entries that were delivered to a group and not acknowledged.")},
		{name: "last-delivered-id", id: true, family: add("stream_group_last_delivered_id", "Time in the id that was delivered to a group last, in Unix milliseconds.")},
		{name: "entries-read", family: add("stream_group_entries_read",
			"Entries that a group has read; absent when the server does not know (since Redis 7.0).")},
		{name: "lag", family: add("stream_group_lag",
			"Entries that wait to be delivered to a group; absent when the server does not know (since Redis 7.0).")},
	}
	labels, source = []string{"consumer", "db", "group", "stream"}, "XINFO CONSUMERS"
	f.consumer = []streamField{
		{name: "pending", family: add("stream_group_consumer_messages_pending", "Entries that were delivered to a consumer and not acknowledged.")},
		{name: "idle", divisor: 1000, family: add("stream_group_consumer_idle_seconds", "Seconds since a consumer last tried to do anything.")},
	}
	return f
}

// streamStates is the background collector of XINFO.
type streamStates struct {
	keyList
	families streamFamilies
}

func (c *streamStates) needs() ([]string, bool) {
	names := append(placesNeed(c.keys, !c.single), "type", "xinfo|stream", "xinfo|groups")
	if !c.opts.Streams.NoConsumers {
		names = append(names, "xinfo|consumers")
	}
	return names, true
}

func (c *streamStates) read(ctx context.Context, s *session, out *recorder) error {
	exact, patterns := places(c.keys, c.single)
	for _, k := range patterns {
		s.expect(k.DB)
	}
	for _, db := range exact {
		if s.target.keys[db.number] == 0 {
			continue
		}
		streams, err := c.streamsOf(ctx, s, db, out)
		if err != nil {
			return err
		}
		if err := c.look(ctx, s, db.number, streams, out); err != nil {
			return err
		}
	}
	for _, k := range patterns {
		err := s.scan(ctx, k.DB, k.Key, "stream", func(keys []any) error { return c.look(ctx, s, k.DB, keys, out) })
		if err != nil {
			return err
		}
	}
	return nil
}

// streamsOf returns the keys that are streams: XINFO on another key is an error
// that the server would count.
func (c *streamStates) streamsOf(ctx context.Context, s *session, db database, out *recorder) (streams []any, err error) {
	for batch := range slices.Chunk(db.keys, detailBatch) {
		kinds := make([]any, len(batch))
		var q questions
		for i, key := range batch {
			q.ask(&kinds[i], "type", "TYPE", key.(string))
		}
		if err := q.do(ctx, s, db.number, out); err != nil {
			return nil, err
		}
		for i, key := range batch {
			switch kind, _ := kinds[i].(string); kind {
			case "stream":
				streams = append(streams, key)
			case "", "none":
			default:
				out.note(status.WithReason(status.ReasonRedis, fmt.Errorf("%s in db%d is a %s, not a stream", key, db.number, kind)))
			}
		}
	}
	return streams, nil
}

// look reads streams of one database. Those for which there is no room are counted.
func (c *streamStates) look(ctx context.Context, s *session, db int, keys []any, out *recorder) error {
	for batch := range slices.Chunk(keys, streamBatch) {
		if out.full(c.families.stream[0].family) {
			out.dropped += uint64(len(batch))
			continue
		}
		if err := c.lookBatch(ctx, s, db, batch, out); err != nil {
			return err
		}
	}
	return nil
}

// groupOf is a consumer group with the reply of XINFO CONSUMERS.
type groupOf struct {
	stream, name string
	consumers    any
}

func (c *streamStates) lookBatch(ctx context.Context, s *session, db int, keys []any, out *recorder) error {
	states, groups := make([]any, len(keys)), make([]any, len(keys))
	var q questions
	for i, k := range keys {
		key, ok := k.(string)
		if !ok {
			return odd("SCAN", k)
		}
		q.ask(&states[i], "xinfo|stream", "XINFO", "STREAM", key)
		q.ask(&groups[i], "xinfo|groups", "XINFO", "GROUPS", key)
	}
	if err := q.do(ctx, s, db, out); err != nil {
		return err
	}
	label := Key{DB: db}.label()
	var all []groupOf
	for i, k := range keys {
		key := k.(string)
		showFields(states[i], c.families.stream, out, label, key)
		list, _ := groups[i].([]any)
		for _, g := range list {
			if name, ok := textOf(g, "name"); ok {
				showFields(g, c.families.group, out, label, name, key)
				all = append(all, groupOf{stream: key, name: name})
			}
		}
	}
	if c.opts.Streams.NoConsumers {
		return nil
	}
	for batch := range slices.Chunk(all, detailBatch) {
		if err := c.consumers(ctx, s, db, batch, out); err != nil {
			return err
		}
	}
	return nil
}

// consumers reads the consumers of some groups.
func (c *streamStates) consumers(ctx context.Context, s *session, db int, groups []groupOf, out *recorder) error {
	var q questions
	for i := range groups {
		q.ask(&groups[i].consumers, "xinfo|consumers", "XINFO", "CONSUMERS", groups[i].stream, groups[i].name)
	}
	if err := q.do(ctx, s, db, out); err != nil {
		return err
	}
	label := Key{DB: db}.label()
	for _, g := range groups {
		list, _ := g.consumers.([]any)
		for _, consumer := range list {
			if name, ok := textOf(consumer, "name"); ok {
				showFields(consumer, c.families.consumer, out, name, label, g.name, g.stream)
			}
		}
	}
	return nil
}

// showFields adds the fields of a reply "name, value, name, value …" that have a
// metric. What the server does not say, or does not know, has no series: a lag
// of nil is not a lag of 0.
func showFields(reply any, fields []streamField, out *recorder, labels ...string) {
	list, _ := reply.([]any)
	for _, f := range fields {
		value, ok := valueOf(list, f.name)
		if !ok {
			continue
		}
		v, ok := f.number(value)
		if !ok {
			continue
		}
		if f.divisor != 0 {
			v /= f.divisor
		}
		out.set(f.family, v, labels...)
	}
}

// number returns the value of a field.
func (f streamField) number(value any) (float64, bool) {
	if f.id {
		return entryTime(value)
	}
	n, ok := value.(int64)
	return float64(n), ok
}

// entryTime returns the time of an id "milliseconds-number", or of an entry,
// which is a list with the id first. An entry that is not there has time 0.
func entryTime(v any) (float64, bool) {
	if entry, ok := v.([]any); ok && len(entry) > 0 {
		v = entry[0]
	}
	switch v := v.(type) {
	case nil:
		return 0, true
	case []any:
		return 0, len(v) == 0
	case string:
		ms, _, _ := strings.Cut(v, "-")
		n, err := strconv.ParseUint(ms, 10, 64)
		return float64(n), err == nil
	}
	return 0, false
}

// valueOf returns the value of a name in a list of names and values.
func valueOf(list []any, name string) (value any, ok bool) {
	for i := 0; i+1 < len(list); i += 2 {
		if list[i] == name {
			return list[i+1], true
		}
	}
	return nil, false
}

// textOf returns the value of a name in a reply of names and values, if that is text.
func textOf(reply any, name string) (string, bool) {
	list, _ := reply.([]any)
	v, _ := valueOf(list, name)
	s, ok := v.(string)
	return s, ok
}
