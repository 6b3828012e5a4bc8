package exporter

import (
	"context"
	"regexp"
	"slices"
	"strconv"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// SearchOptions say which indexes of the search module are shown.
type SearchOptions struct {
	// Enabled switches the collector on.
	Enabled bool
	// Indexes must be found in the name of an index that is to be shown. Nil
	// means all.
	Indexes *regexp.Regexp
}

// searchBatch is how many indexes are asked about at once.
const searchBatch = 16

// searchField is a field of FT.INFO and the metric that shows it.
type searchField struct {
	name   string
	factor float64
	family *family
}

// searchIndexes is the background collector of FT.INFO.
type searchIndexes struct {
	opts   SearchOptions
	fields []searchField
}

func newSearchIndexes(c *catalog, opts BackgroundOptions) *searchIndexes {
	const megabyte = 1 << 20
	s := &searchIndexes{opts: opts.Search}
	for _, row := range []struct {
		field, metric, help string
		factor              float64
	}{
		{"num_docs", "num_docs", "Documents in a search index.", 1},
		{"max_doc_id", "max_doc_id", "Greatest number that a document of a search index was given.", 1},
		{"num_terms", "num_terms", "Distinct terms in a search index.", 1},
		{"num_records", "num_records", "Records in a search index.", 1},
		{"inverted_sz_mb", "inverted_size_bytes", "Bytes of the inverted index of a search index.", megabyte},
		{"total_inverted_index_blocks", "total_inverted_index_blocks", "Blocks in the inverted index of a search index.", 1},
		{"vector_index_sz_mb", "vector_index_size_bytes", "Bytes of the vectors of a search index.", megabyte},
		{"offset_vectors_sz_mb", "offset_vectors_size_bytes", "Bytes of the positions of terms of a search index.", megabyte},
		{"doc_table_size_mb", "doc_table_size_bytes", "Bytes of the table of documents of a search index.", megabyte},
		{"sortable_values_size_mb", "sortable_values_size_bytes", "Bytes of the values to sort by of a search index.", megabyte},
		{"key_table_size_mb", "key_table_size_bytes", "Bytes of the table from documents to keys of a search index.", megabyte},
		{"tag_overhead_sz_mb", "tag_overhead_size_bytes", "Bytes of the structures for tags of a search index.", megabyte},
		{"text_overhead_sz_mb", "text_overhead_size_bytes", "Bytes of the structures for text of a search index.", megabyte},
		{"total_index_memory_sz_mb", "total_index_memory_size_bytes", "Bytes that a search index takes in all.", megabyte},
		{"geoshapes_sz_mb", "geoshapes_size_bytes", "Bytes of the geometric shapes of a search index.", megabyte},
		{"records_per_doc_avg", "avg_per_doc_records", "Records of a document of a search index on average, deleted ones included.", 1},
		{"bytes_per_record_avg", "avg_per_record_bytes", "Bytes of a record of a search index on average.", 1},
		{"offsets_per_term_avg", "avg_per_term_offsets", "Positions of a term of a search index on average.", 1},
		{"offset_bits_per_record_avg", "avg_per_record_offset_bits", "Bits for the positions in a record of a search index on average.", 1},
		{"indexing", "indexing", "1 while a search index is being built.", 1},
		{"percent_indexed", "percent_indexed", "Part of a search index that is built, from 0 to 1.", 1},
		{"hash_indexing_failures", "hash_indexing_failures", "Documents that a search index could not take.", 1},
		{"number_of_uses", "number_of_uses_total", "Uses of a search index.", 1},
		{"cleaning", "cleaning", "1 while a deleted search index is being removed.", 1},
	} {
		kind := typeGauge
		if row.field == "number_of_uses" {
			kind = typeCounter
		}
		s.fields = append(s.fields, searchField{row.field, row.factor,
			c.add(kind, "search_index_"+row.metric, "FT.INFO "+row.field, row.help, "index_name")})
	}
	return s
}

func (c *searchIndexes) name() string { return "search_indexes" }

// needs says that no key is read: the module asks for no right to keys here.
func (c *searchIndexes) needs() ([]string, bool) { return []string{"ft._list", "ft.info"}, false }

func (c *searchIndexes) read(ctx context.Context, s *session, out *recorder) error {
	replies, err := s.do(ctx, 0, command{"ft._list", []string{"FT._LIST"}})
	if err != nil {
		return err
	}
	var names []string
	switch reply := replies[0].(type) {
	case error:
		if status.ReasonOf(reply) == status.ReasonUnknownCmd {
			return nil // the server has no search module
		}
		return reply
	case []any:
		for _, v := range reply {
			if name, ok := v.(string); ok && (c.opts.Indexes == nil || c.opts.Indexes.MatchString(name)) {
				names = append(names, name)
			}
		}
	default:
		return odd("FT._LIST", reply)
	}
	for batch := range slices.Chunk(names, searchBatch) {
		infos := make([]any, len(batch))
		var q questions
		for i, name := range batch {
			q.ask(&infos[i], "ft.info", "FT.INFO", name)
		}
		if err := q.do(ctx, s, 0, out); err != nil {
			return err
		}
		for i, reply := range infos {
			c.show(batch[i], reply, out)
		}
	}
	return nil
}

// show adds the fields of one index. A field that the module's version does not
// have has no series.
func (c *searchIndexes) show(index string, reply any, out *recorder) {
	list, _ := reply.([]any)
	if name, ok := textOf(reply, "index_name"); ok {
		index = name
	}
	for _, f := range c.fields {
		value, ok := valueOf(list, f.name)
		if !ok {
			continue
		}
		switch v := value.(type) {
		case int64:
			out.set(f.family, float64(v)*f.factor, index)
		case string:
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				out.set(f.family, n*f.factor, index)
			}
		}
	}
}
