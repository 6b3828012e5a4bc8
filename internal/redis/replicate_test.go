package redis_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func replicate(tb testing.TB, c *redis.Client) (rdb.Summary, string, int64, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	id, offset := "", int64(-1)
	r, err := c.Replicate(ctx, 0, func(i string, o int64) { id, offset = i, o })
	if err != nil {
		return rdb.Summary{}, id, offset, err
	}
	defer r.Close()
	s, err := rdb.Scan(r)
	return s, id, offset, err
}

// The stream is a whole RDB, with the offset of the moment, however the server
// sends it and the connection is made.
func TestReplicate(t *testing.T) {
	certs := t.TempDir()
	cert, key := testenv.Certificate(t, certs, "localhost", time.Now().Add(time.Hour))
	socket := t.TempDir() + "/redis.sock"
	tests := []struct {
		name    string
		args    []string
		options func(*testenv.Redis, *redis.Options)
	}{
		{"diskless", nil, nil},
		{"by the server's disk", []string{"--repl-diskless-sync", "no"}, nil},
		{"a password", []string{"--requirepass", "hush"}, func(_ *testenv.Redis, o *redis.Options) { o.Credentials = credentials("", "hush") }},
		{"a user with no other right", nil, func(r *testenv.Redis, o *redis.Options) {
			r.Do(t, "ACL", "SETUSER", "copy", "on", ">hush", "+psync", "+replconf")
			o.Credentials = credentials("copy", "hush")
		}},
		{"a renamed command", []string{"--rename-command", "REPLCONF", "repl-conf"}, func(_ *testenv.Redis, o *redis.Options) {
			o.Rename = map[string]string{"REPLCONF": "repl-conf"}
		}},
		{"a unix socket", []string{"--unixsocket", socket}, func(_ *testenv.Redis, o *redis.Options) { o.Network, o.Addr = "unix", socket }},
		{"TLS", []string{"--tls-port", "0", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"}, func(r *testenv.Redis, o *redis.Options) {
			port := strconv.Itoa(testenv.FreePort(t))
			r.Do(t, "CONFIG", "SET", "tls-port", port)
			o.Addr = "127.0.0.1:" + port
			o.TLS = func() (*tls.Config, error) { return redis.TLSFiles{CA: cert}.Config() }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := testenv.StartRedis(t, append([]string{"--repl-diskless-sync-delay", "0"}, tt.args...)...)
			o := redis.Options{Addr: srv.Addr, Name: "redis-sidecar:backup"}
			if tt.name == "a password" {
				o.Credentials = credentials("", "hush")
			}
			if tt.options != nil {
				tt.options(srv, &o)
			}
			c := newClient(t, o)
			for _, keys := range []uint64{0, 3000} {
				if keys > 0 {
					fill(t, srv, o, int(keys))
				}
				s, id, offset, err := replicate(t, c)
				if err != nil {
					t.Fatalf("%v (%s)", err, status.HintOf(err))
				}
				if s.Keys() != keys || !s.Walked {
					t.Errorf("%d keys, want %d; %+v", s.Keys(), keys, s)
				}
				if s.Aux["repl-id"] != id || s.Aux["repl-offset"] != fmt.Sprint(offset) {
					t.Errorf("replication id and offset %s %d, in the RDB %s %s", id, offset, s.Aux["repl-id"], s.Aux["repl-offset"])
				}
			}
		})
	}
}

// fill writes keys on a connection with enough rights.
func fill(tb testing.TB, srv *testenv.Redis, o redis.Options, n int) {
	tb.Helper()
	admin := redis.Options{Addr: srv.Addr}
	if o.Credentials != nil {
		if user, _, _ := o.Credentials(); user == "" {
			admin.Credentials = o.Credentials
		}
	}
	c := redis.New(admin)
	defer c.Close()
	var cmds [][]string
	for i := range n {
		cmds = append(cmds, []string{"SET", fmt.Sprint("key:", i), strings.Repeat("x", 100)})
	}
	if _, err := c.Pipeline(tb.Context(), cmds...); err != nil {
		tb.Fatal(err)
	}
}

// Refusals say what is missing.
func TestReplicateRefused(t *testing.T) {
	srv := testenv.StartRedis(t)
	addr := srv.Addr
	for name, tt := range map[string]struct {
		user, password string
		rules          []string
		reason         status.Reason
		want           string
	}{
		"no psync":       {"a", "hush", []string{"+replconf"}, status.ReasonNoPerm, "PSYNC: NOPERM"},
		"no replconf":    {"b", "hush", []string{"+psync"}, status.ReasonNoPerm, "REPLCONF: NOPERM"},
		"wrong password": {"c", "hush-hush", nil, status.ReasonAuth, "AUTH: WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			srv.Do(t, append([]string{"ACL", "SETUSER", tt.user, "on", ">hush"}, tt.rules...)...)
			_, _, _, err := replicate(t, newClient(t, redis.Options{Addr: addr, Credentials: credentials(tt.user, tt.password)}))
			if status.ReasonOf(err) != tt.reason || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s: %v, want %s: %s…", status.ReasonOf(err), err, tt.reason, tt.want)
			}
		})
	}
	// A PSYNC of another name does what SYNC does.
	renamed := testenv.StartRedis(t, "--rename-command", "PSYNC", "p-sync", "--repl-diskless-sync-delay", "0")
	_, _, _, err := replicate(t, newClient(t, redis.Options{Addr: renamed.Addr, Rename: map[string]string{"PSYNC": "p-sync"}}))
	if status.ReasonOf(err) != status.ReasonUnknownCmd {
		t.Errorf("renamed: %s: %v", status.ReasonOf(err), err)
	}
	srv.Do(t, "REPLICAOF", "127.0.0.1", "1")
	_, _, _, err = replicate(t, newClient(t, redis.Options{Addr: addr}))
	if status.ReasonOf(err) != status.ReasonMasterDown {
		t.Errorf("a replica without its master: %s: %v", status.ReasonOf(err), err)
	}
	_, _, _, err = replicate(t, newClient(t, redis.Options{Addr: "127.0.0.1:1"}))
	if status.ReasonOf(err) != status.ReasonUnreachable {
		t.Errorf("no server: %s: %v", status.ReasonOf(err), err)
	}
}

// peer answers as a server would, line by line, and then says last.
func peer(tb testing.TB, replies []string, last string, after func(net.Conn)) *redis.Client {
	tb.Helper()
	addr := testenv.Listen(tb, func(_ context.Context, c net.Conn) {
		in := bufio.NewReader(c)
		for _, reply := range replies {
			if !readCommand(in) {
				return
			}
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, last)
		if after != nil {
			after(c)
		}
	})
	c := redis.New(redis.Options{Addr: addr, Timeout: 20 * time.Second})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func readCommand(in *bufio.Reader) bool {
	head, err := in.ReadString('\n')
	n := 0
	if _, serr := fmt.Sscanf(head, "*%d\r\n", &n); err != nil || serr != nil {
		return false
	}
	for range 2 * n {
		if _, err := in.ReadString('\n'); err != nil {
			return false
		}
	}
	return true
}

// What the reader returns of what a peer sends.
func TestReplicateStream(t *testing.T) {
	const id = "0123456789012345678901234567890123456789"
	const mark = "abcdefghij0123456789klmnopqrstuvwxyzABCD"
	full := "+FULLRESYNC " + id + " 17\r\n"
	long := strings.Repeat("0123456789", 20_000)
	ok := []string{"+OK\r\n", "+OK\r\n"}
	const cut = "the server cut the stream before any data came: PSYNC: EOF"
	for name, tt := range map[string]struct {
		replies []string
		last    string
		want    string
		reason  status.Reason // "" is none
		text    string
	}{
		"mark":               {ok, "\n\n" + full + "\n$EOF:" + mark + "\r\nhello" + mark, "hello", "", ""},
		"nothing":            {ok, full + "$EOF:" + mark + "\r\n" + mark, "", "", ""},
		"long":               {ok, full + "$EOF:" + mark + "\r\n" + long + mark, long, "", ""},
		"half a mark inside": {ok, full + "$EOF:" + mark + "\r\n" + mark[:39] + mark[:20] + mark, mark[:39] + mark[:20], "", ""},
		"more after it":      {ok, full + "$EOF:" + mark + "\r\nhello" + mark + "*1\r\n$4\r\nPING\r\n", "hello", "", ""},
		"length":             {ok, full + "\n\n$5\r\nhello*1\r\n", "hello", "", ""},
		"old server":         {[]string{"+OK\r\n", "-ERR Unrecognized REPLCONF option: rdb-only\r\n"}, full + "$5\r\nhello", "hello", "", ""}, //nolint:misspell // the server's own words
		"cut before mark":    {ok, full + "$EOF:" + mark + "\r\nhello" + mark[:39], "", status.ReasonSave, "the server ended its stream after "},
		"cut in length":      {ok, full + "$50\r\nhello", "hello", status.ReasonSave, "the server ended its stream after 5 bytes: unexpected EOF"},
		"cut at once":        {ok, full + "$EOF:" + mark + "\r\n", "", status.ReasonSave, "the server ended its stream after 0 bytes: unexpected EOF"},
		"cut while waiting":  {ok, "\n\n\n", "", status.ReasonUnreachable, cut},
		"cut after full":     {ok, full, "", status.ReasonUnreachable, cut},
		"fork refused":       {ok, full + "-ERR BGSAVE failed, replication can't continue\r\n", "", status.ReasonSave, "PSYNC: ERR BGSAVE failed"},
		"continue":           {ok, "+CONTINUE\r\n", "", status.ReasonProtocol, `PSYNC: unexpected reply "+CONTINUE"`},
		"short mark":         {ok, full + "$EOF:abc\r\n", "", status.ReasonProtocol, `PSYNC: unexpected reply "$EOF:abc"`},
		"no length":          {ok, full + "$-1\r\n", "", status.ReasonProtocol, `PSYNC: unexpected reply "$-1"`},
		"no protocol":        {nil, "HTTP/1.1 400 Bad Request\r\n", "", status.ReasonProtocol, "REPLCONF: unexpected reply"},
		"endless line":       {ok, "+" + long, "", status.ReasonProtocol, "PSYNC: the reply is larger than the limit"},
		"too many clients":   {nil, "-ERR max number of clients reached\r\n", "", status.ReasonMaxClients, "max number of clients"},
		"loading":            {ok, "-LOADING Redis is loading the dataset in memory\r\n", "", status.ReasonLoading, "PSYNC: LOADING"},
	} {
		t.Run(name, func(t *testing.T) {
			if len(tt.replies) == 2 {
				tt.replies = append(tt.replies[:2:2], "")
			}
			c := peer(t, tt.replies, tt.last, nil)
			got := ""
			r, err := c.Replicate(t.Context(), 0, func(string, int64) {})
			if err == nil {
				defer r.Close()
				var b []byte
				b, err = io.ReadAll(r)
				got = string(b)
			}
			switch {
			case tt.reason == "" && (err != nil || got != tt.want):
				t.Errorf("%d bytes, %v, want %d", len(got), err, len(tt.want))
			case tt.reason != "" && (status.ReasonOf(err) != tt.reason || !strings.Contains(err.Error(), tt.text)):
				t.Errorf("%s: %v, want %s: %s", status.ReasonOf(err), err, tt.reason, tt.text)
			}
		})
	}
}

// The context ends the waiting and the reading, and says why.
func TestReplicateCanceled(t *testing.T) {
	why := errors.New("enough")
	const full = "+FULLRESYNC 0123456789012345678901234567890123456789 17\r\n"
	for name, last := range map[string]string{"waiting": "\n", "before the length": full, "reading": full + "$500\r\nhello"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			c := peer(t, []string{"+OK\r\n", "+OK\r\n", ""}, last, func(c net.Conn) {
				time.AfterFunc(50*time.Millisecond, func() { cancel(why) }) // most often it waits by then
				_, _ = io.Copy(io.Discard, c)
			})
			r, err := c.Replicate(ctx, 0, func(string, int64) {})
			if err == nil {
				defer r.Close()
				_, err = io.ReadAll(r)
			}
			if !errors.Is(err, why) {
				t.Errorf("%v, want %v", err, why)
			}
		})
	}
}

// Closing tells the server to end its child.
func TestReplicateClosed(t *testing.T) {
	srv := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--rdb-key-save-delay", "1000")
	srv.Fill(t, "key", 20_000, 1000)
	c := srv.Client(t)
	r, err := c.Replicate(t.Context(), 0, func(string, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); status.ReasonOf(err) != status.ReasonUnreachable {
		t.Errorf("reading from it: %v", err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		v := srv.Do(t, "INFO", "persistence").(string)
		if info.Parse(v).Get("rdb_bgsave_in_progress") != "0" {
			return errors.New("the child still runs")
		}
		return nil
	})
}
