package exporter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var (
	errGone  = errors.New("no such index")
	anchored = regexp.MustCompile("^idx:")
)

func TestClients(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "CONFIG", "SET", "bind", "127.0.0.1 ::1")
	socket := filepath.Join(t.TempDir(), "redis server.sock")
	other := testenv.StartRedis(t, "--unixsocket", socket)

	six := newClient(t, redis.Options{Addr: net.JoinHostPort("::1", strconv.Itoa(srv.Port)), Name: "six=6"})
	if _, err := six.Do(t.Context(), "SUBSCRIBE", "a"); err != nil {
		t.Fatal(err)
	}
	named := newClient(t, redis.Options{Addr: srv.Addr, Name: "named"})
	for _, cmd := range [][]string{{"SELECT", "3"}, {"PSUBSCRIBE", "a*"}, {"PSUBSCRIBE", "b*"}} {
		if _, err := named.Do(t.Context(), cmd...); err != nil {
			t.Fatal(err)
		}
	}
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Clients: exporter.ClientOptions{Enabled: true}})
	got := ranBackground(t, e, "clients")
	ids := make(map[string]string)
	for series := range only(got, "redis_connected_client_info") {
		ids[label(series, "name")] = label(series, "id")
	}
	expect(t, got, map[string]string{
		`redis_connected_client_info{db="0",flags="P",host="::1",id="` + ids["six=6"] + `",name="six=6",resp="2",user="default"}`:       "1",
		`redis_connected_client_info{db="3",flags="P",host="127.0.0.1",id="` + ids["named"] + `",name="named",resp="2",user="default"}`: "1",
		`redis_connected_client_pattern_matching_subscriptions_count{id="` + ids["named"] + `",name="named"}`:                           "2",
		`redis_connected_client_channel_subscriptions_count{id="` + ids["six=6"] + `",name="six=6"}`:                                    "1",
		`redis_connected_client_shard_channel_subscriptions_count{id="` + ids["named"] + `",name="named"}`:                              "0",
		`redis_connected_client_shard_channel_watched_keys{id="` + ids["named"] + `",name="named"}`:                                     "absent", // since 7.4
		about("success", "clients"): "1",
	})
	for _, metric := range []string{"created_at_timestamp", "idle_since_timestamp"} {
		at := number(t, got["redis_connected_client_"+metric+`{id="`+ids["named"]+`",name="named"}`])
		if age := float64(time.Now().Unix()) - at; age < 0 || age > 60 {
			t.Errorf("%s is %v s ago", metric, age)
		}
	}
	if v := number(t, got[`redis_connected_client_total_memory_consumed_bytes{id="`+ids["named"]+`",name="named"}`]); v < 1000 {
		t.Errorf("memory %v", v)
	}
	infos := len(only(got, "redis_connected_client_info"))
	for _, metric := range []string{"output_buffer_memory_usage_bytes", "query_buffer_length_bytes", "query_buffer_free_space_bytes",
		"output_buffer_length_bytes", "output_list_length"} {
		if n := len(only(got, "redis_connected_client_"+metric)); n != infos || n < 4 {
			t.Errorf("%s of %d clients, there are %d", metric, n, infos)
		}
	}

	// A unix socket whose path has a space, and ports.
	o := exporter.BackgroundOptions{Interval: quick, Clients: exporter.ClientOptions{Enabled: true, Port: true},
		Server: newClient(t, redis.Options{Network: "unix", Addr: socket, Name: "unix"})}
	e, _ = newExporter(t, other.Client(t), exporter.Options{Background: o})
	runBackground(t, e)
	got = ranBackground(t, e, "clients")
	for series := range only(got, "redis_connected_client_info") {
		switch label(series, "name") {
		case "unix":
			if label(series, "host") != socket || label(series, "port") != "0" {
				t.Errorf("%s", series)
			}
		default:
			if port, err := strconv.Atoi(label(series, "port")); err != nil || port < 1024 {
				t.Errorf("%s", series)
			}
		}
	}
}

// label returns the value of a label of a series.
func label(series, name string) string {
	_, rest, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// clientList is CLIENT LIST of n clients.
func clientList(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "id=%d addr=10.0.%d.%d:%d laddr=10.0.0.1:6379 fd=%d name=worker-%d age=%d idle=%d flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 "+
			"qbuf=0 qbuf-free=20474 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=22298 events=r cmd=get user=default redir=-1 resp=2\n",
			i+3, i/250, i%250, 30000+i, i+8, i%50, i, i%300)
	}
	return b.String()
}

// replayClients is a server with a given CLIENT LIST.
func replayClients(list string) *replay {
	return &replay{info: "redis_version:7.0.0\r\n", replies: map[string]any{
		"INFO server": "redis_version:7.0.0\r\n", "INFO replication": "role:master\r\n", "INFO keyspace": "", "CLIENT LIST": list,
	}}
}

func TestTooManyClients(t *testing.T) {
	e, _ := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
		Server: replayClients(clientList(3000)), Interval: time.Hour, Clients: exporter.ClientOptions{Enabled: true, Max: 2500},
	}})
	runBackground(t, e)
	testenv.Eventually(t, time.Minute, func() error { return has(about("runs_total", "clients"), "1")(scrape(t, e)) })
	families := e.Scrape(context.Background())
	gatherable(t, families)
	got := samples(t, text(t, families))
	for _, metric := range []string{"info", "created_at_timestamp", "shard_channel_subscriptions_count"} {
		if n := len(only(got, "redis_connected_client_"+metric)); n != 2500 {
			t.Errorf("%s of %d clients", metric, n)
		}
	}
	expect(t, got, map[string]string{about("dropped_series_total", "clients"): "6000"})
}

// A Sentinel has clients, and nothing else that is looked at in the background.
func TestClientsOfASentinel(t *testing.T) {
	srv := testenv.StartSentinel(t)
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{
		Interval: quick, Clients: exporter.ClientOptions{Enabled: true}, Streams: exporter.StreamOptions{Check: keysIn(0, "*")},
	})
	ranBackground(t, e, "streams")
	got := ranBackground(t, e, "clients")
	if len(only(got, "redis_connected_client_info")) == 0 {
		t.Error("no clients of a Sentinel")
	}
	expect(t, got, map[string]string{about("success", "clients"): "1", about("success", "streams"): "1"})
	for series := range only(got, "redis_errors_total") {
		t.Errorf("the Sentinel counted %s", series)
	}
}
