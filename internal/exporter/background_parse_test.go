package exporter

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestClientLine(t *testing.T) {
	long := "id=40253233 addr=[fd40:1481:21::1]:44426 fd=19 name= age=782 idle=3 flags=N db=2 sub=896 psub=18 ssub=17 watch=3 multi=-1 qbuf=26 " +
		"qbuf-free=32742 argv-mem=10 obl=1 oll=555 omem=4 tot-mem=61466 ow=0 owmem=0 events=r cmd=client|list user=default lib-name=redis-py lib-ver=5.0.1"
	numbers := func(n ...int64) (out [numClientFields]int64) {
		for i := range out {
			out[i] = -1
		}
		copy(out[:], n)
		return out
	}
	for line, want := range map[string]client{
		long: {id: "40253233", host: "fd40:1481:21::1", port: "44426", user: "default", flags: "N", db: "2", age: 782, idle: 3,
			numbers: numbers(4, 61466, 0, 0, 896, 18, 26, 32742, 1, 555, 17, 3)},
		// Before 7.0.3; an IPv6 address without brackets, as some servers have it.
		"id=1 addr=fd40:1481:21:dbe0:7021:300:a03:1a06:44426 age=1\r": {id: "1", host: "fd40:1481:21:dbe0:7021:300:a03:1a06", port: "44426", age: 1,
			numbers: numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
		"id=2 addr=/run/a b/c d/redis.sock:0 laddr=/run/a b/c d/redis.sock:0 fd=8 name=a=b=c flags=U user=x": {id: "2",
			host: "/run/a b/c d/redis.sock", port: "0", name: "a=b=c", flags: "U", user: "x",
			numbers: numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
		"id=4 addr=10.0.0.1:5 watch=2 read-events=91 avg-pipeline-len-sum=90 avg-pipeline-len-cnt=72 cmd=get": {id: "4", host: "10.0.0.1", port: "5",
			numbers: numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 2, 91, 90, 72)},
		"id=3 addr=:0 name=unbound resp=3": {id: "3", port: "0", name: "unbound", resp: "3", numbers: numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
	} {
		var got client
		if !got.parse(line) {
			t.Errorf("%q is no client", line)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(client{})); diff != "" {
			t.Errorf("%q: -want +got\n%s", line, diff)
		}
	}
	for _, line := range []string{"", "id=", "id=1", "addr=1.2.3.4:5", "nonsense", "= = =", "ERR unknown"} {
		if new(client).parse(line) {
			t.Errorf("%q is a client", line)
		}
	}
}

// recorded runs show on what a catalog of all background collectors has, and
// fails the test unless the series are fit to be shown.
func recorded(tb testing.TB, show func(b *backgroundSet, out *recorder)) *sink {
	tb.Helper()
	set := newBackgroundSet()
	out := newRecorder(set.catalog)
	show(set, out)
	s := out.finish()
	for id, list := range s.series {
		f := set.catalog.families[id]
		if len(list) > f.limit {
			tb.Errorf("%d series of %s", len(list), f.name)
		}
		for i, m := range list {
			if len(m.labels) != len(f.labels) {
				tb.Errorf("%d labels of %s", len(m.labels), f.name)
			}
			for _, v := range m.labels {
				if len(v) > 3*labelLimit || !utf8.ValidString(v) {
					tb.Errorf("label %q of %s", v, f.name)
				}
			}
			if i > 0 && compareLabels(list[i-1], m) >= 0 {
				tb.Errorf("series of %s are not in order: %q, %q", f.name, list[i-1].labels, m.labels)
			}
		}
	}
	return s
}

// backgroundSet is one of some background collectors, ready to be fed.
type backgroundSet struct {
	catalog *catalog
	clients *clients
	streams streamFamilies
	search  *searchIndexes
}

func newBackgroundSet() *backgroundSet {
	c := newCatalog(Options{}.withDefaults())
	opts := BackgroundOptions{}.withDefaults()
	b := &backgroundSet{catalog: c, clients: newClients(c, opts), streams: newStreamFamilies(c), search: newSearchIndexes(c, opts)}
	c.seal()
	return b
}

func FuzzClientList(f *testing.F) {
	f.Add("id=3 addr=[::1]:52555 laddr=127.0.0.1:6379 fd=8 name=api age=855 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 qbuf=1 user=default resp=2\n")
	f.Add("id=2 addr=/run/a b/redis.sock:0 name=a=b\nid=2 addr=x:1\n\nid=\xff addr=\x00:1\r\nid=9 addr=a")
	f.Fuzz(func(t *testing.T, list string) {
		recorded(t, func(b *backgroundSet, out *recorder) { b.clients.show(list, 1e9, out) })
	})
}

// tree makes a reply of a text: "(" and ")" around lists, "#" for nil, digits
// for integers, everything between two spaces else for text.
func tree(s string) any {
	var open [][]any
	list := []any{}
	for word := range strings.SplitSeq(s, " ") {
		switch {
		case word == "(":
			if len(open) < 50 {
				open = append(open, list)
				list = []any{}
			}
		case word == ")":
			if n := len(open); n > 0 {
				list, open = append(open[n-1], list), open[:n-1]
			}
		case word == "#":
			list = append(list, nil)
		case word != "" && isDigits(word) && len(word) < 18:
			n, _ := strconv.ParseInt(word, 10, 64)
			list = append(list, n)
		default:
			list = append(list, word)
		}
	}
	return list
}

// FuzzBackgroundReplies: odd replies to XINFO and FT.INFO lead to valid series or none.
func FuzzBackgroundReplies(f *testing.F) {
	f.Add("length 3 radix-tree-keys 1 last-generated-id 100-1 groups 1 first-entry ( 100-1 ( a b ) ) last-entry # entries-added 3")
	f.Add("name g consumers 1 pending 2 last-delivered-id 0-0 entries-read # lag #")
	f.Add("name consumer pending 2 idle 100 inactive 7")
	f.Add("index_name idx num_docs 3 inverted_sz_mb 0.5 records_per_doc_avg nan attributes ( ( a b ) ) number_of_uses 7")
	f.Add("first-entry ( ( ( 1 ) ) ) last-entry ( ) name # index_name # num_docs ( 1 )")
	f.Fuzz(func(t *testing.T, text string) {
		reply := tree(text)
		recorded(t, func(b *backgroundSet, out *recorder) {
			showFields(reply, b.streams.stream, out, "db0", "stream")
			showFields(reply, b.streams.group, out, "db0", "group", "stream")
			showFields(reply, b.streams.consumer, out, "consumer", "db0", "group", "stream")
			b.search.show("index", reply, out)
		})
	})
}

// oddServer gives one reply to everything but INFO.
type oddServer struct{ reply any }

func (s oddServer) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	out := make([]any, len(commands))
	for i, c := range commands {
		out[i] = s.reply
		switch strings.Join(c, " ") {
		case "INFO server":
			out[i] = "redis_version:7.0.0\r\n"
		case "INFO replication":
			out[i] = "role:master\r\n"
		case "INFO keyspace":
			out[i] = "db0:keys=7\r\ndb-1:keys=1\r\ndb99999999999:keys=1\r\ndb3:keys=x\r\n"
		case "SELECT 0":
			out[i] = "OK"
		}
	}
	return out, nil
}

// Replies of another shape than a command has are errors, not panics.
func TestOddReplies(t *testing.T) {
	key := []Key{{Key: "*"}, {Key: "a?"}, {Key: "a"}}
	opts := BackgroundOptions{
		Keys: KeyOptions{Check: key, Single: key, Count: key}, Streams: StreamOptions{Check: key, Single: key},
		Groups: GroupOptions{Patterns: []string{"a"}}, Clients: ClientOptions{Enabled: true}, Search: SearchOptions{Enabled: true},
	}.withDefaults()
	for _, reply := range []any{nil, "", "x", int64(-1), []any{}, []any{nil, nil}, []any{"0", nil}, []any{"0", []any{nil}}, []any{"0", []any{int64(1)}},
		[]any{"0", []any{"a"}}, []any{"0", []any{[]any{"name", "g"}}}, []any{[]any{"name", nil}}, []any{"name", []any{}, "length", "x"}} {
		opts.Server = oddServer{reply}
		c := newCatalog(Options{}.withDefaults())
		all := newBackgroundCollectors(c, opts, "CONFIG")
		c.seal()
		l := newLink(opts)
		for _, b := range all {
			s := newSession(l, new(progress), func(time.Time) bool { return true })
			s.limit = time.Hour
			if err := s.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.notBefore = l.sent
			out := newRecorder(c)
			_ = b.read(t.Context(), s, out) // an error or not: it must not panic, and what it found must be valid
			out.finish()
		}
	}
}

// BenchmarkClients is CLIENT LIST of 10,000 clients, from the reply to the
// series as they are shown.
func BenchmarkClients(b *testing.B) {
	var list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&list, "id=%d addr=10.0.%d.%d:%d laddr=10.0.0.1:6379 fd=%d name=worker-%d age=%d idle=%d flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 "+
			"qbuf=0 qbuf-free=20474 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=22298 events=r cmd=get user=default redir=-1 resp=2\n",
			i+3, i/250, i%250, 30000+i, i+8, i%50, i, i%300)
	}
	text := list.String()
	set := newBackgroundSet()
	b.ReportAllocs()
	for b.Loop() {
		out := newRecorder(set.catalog)
		set.clients.show(text, 1e9, out)
		out.finish()
	}
}

func BenchmarkClientLines(b *testing.B) {
	line := "id=40253233 addr=[fd40:1481:21::1]:44426 laddr=10.0.0.1:6379 fd=19 name= age=782 idle=3 flags=N db=2 sub=896 psub=18 ssub=17 watch=3 multi=-1 " +
		"qbuf=26 qbuf-free=32742 argv-mem=10 multi-mem=0 rbs=1024 rbp=0 obl=1 oll=555 omem=4 tot-mem=61466 events=r cmd=client|list user=default redir=-1 resp=2"
	b.ReportAllocs()
	for b.Loop() {
		var c client
		for range 10_000 {
			c.parse(line)
		}
	}
}
