package rdb_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What the installed redis-server writes, with every type of value in every
// encoding it knows, agrees with what that server says of itself.
func TestServer(t *testing.T) {
	// Everything in its large encoding.
	large := []string{
		"--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0", "--set-max-intset-entries", "0",
		"--list-max-listpack-size", "1", "--stream-node-max-entries", "2",
	}
	for _, tt := range []struct {
		name      string
		args      []string
		unchecked bool
	}{
		{name: "defaults"},
		{name: "rdbcompression no", args: []string{"--rdbcompression", "no"}},
		{name: "rdbchecksum no", args: []string{"--rdbchecksum", "no"}, unchecked: true},
		{name: "large encodings", args: large},
		{name: "large encodings, rdbcompression no", args: append([]string{"--rdbcompression", "no"}, large...)},
		{name: "list-compress-depth", args: append([]string{"--list-compress-depth", "1"}, large...)},
		{name: "allkeys-lru", args: []string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"}},
		{name: "allkeys-lfu", args: []string{"--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"}},
		{name: "cluster", args: []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(testenv.FreePort(t))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testenv.StartRedis(t, tt.args...)
			databases := []int{0, 1, 15}
			if tt.name == "cluster" {
				databases = databases[:1] // a cluster has no others
				r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
				testenv.Eventually(t, 20*time.Second, func() error {
					if text := r.Do(t, "CLUSTER", "INFO").(string); !strings.Contains(text, "cluster_state:ok") {
						return fmt.Errorf("not ready: %s", text)
					}
					return nil
				})
			}
			fill(t, r, databases)
			dump := save(t, r)

			got := scan(t, dump)
			server := info.Parse(r.Do(t, "INFO").(string))
			if diff := cmp.Diff(got.Databases, keyspace(t, server)); diff != "" {
				t.Errorf("databases, -got +INFO keyspace:\n%s", diff)
			}
			if want := r.DBSize(t); int64(got.Databases[0].Keys) != want {
				t.Errorf("%d keys in database 0, DBSIZE says %d", got.Databases[0].Keys, want)
			}
			if got.Keys() != uint64(len(databases))*keysPerDatabase {
				t.Errorf("%d keys in all", got.Keys())
			}
			if !got.Walked || got.Functions != 2 || got.Bytes != int64(len(dump)) || got.Modules != nil {
				t.Errorf("got %+v", got)
			}
			if version := server.Get("redis_version"); got.Aux["redis-ver"] != version {
				t.Errorf("redis-ver is %q, INFO says %q", got.Aux["redis-ver"], version)
			} else if ok, known := rdb.CanLoad("redis", version, got); !ok || !known {
				t.Errorf("CanLoad of its own file: %t, known %t", ok, known)
			}
			if wantSum := got.CRC64; tt.unchecked && got.Checksum != 0 || !tt.unchecked && got.Checksum != wantSum {
				t.Errorf("checksum %016x, computed %016x", got.Checksum, got.CRC64)
			}
		})
	}
}

// Every prefix of a real dump is recognised as cut off, every flipped byte as
// damage, also in the installed server's own format.
func TestServerDumpDamaged(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Do(t, "HSET", "hash", "field", "value")
	r.Do(t, "XADD", "stream", "1-1", "field", "value")
	r.Do(t, "XGROUP", "CREATE", "stream", "group", "0")
	r.Do(t, "XREADGROUP", "GROUP", "group", "consumer", "STREAMS", "stream", ">")
	r.Do(t, "SET", "string", strings.Repeat("value", 20), "PX", "100000000")
	r.Do(t, "RPUSH", "list", "a", "b")
	dump := save(t, r)
	for i := range dump {
		if _, err := rdb.Scan(strings.NewReader(string(dump[:i]))); err == nil {
			t.Errorf("the first %d of %d bytes passed as whole", i, len(dump))
		}
		dump[i] ^= 0x10
		if _, err := rdb.Scan(strings.NewReader(string(dump))); err == nil {
			t.Errorf("a flipped bit in byte %d passed as intact", i)
		}
		dump[i] ^= 0x10
	}
}

// save lets the server write its dump and returns the file.
func save(tb testing.TB, r *testenv.Redis) []byte {
	tb.Helper()
	r.Do(tb, "SAVE")
	dump, err := os.ReadFile(filepath.Join(r.Dir, "dump.rdb"))
	if err != nil {
		tb.Fatal(err)
	}
	return dump
}

// keyspace reads the databases of INFO.
func keyspace(tb testing.TB, server info.Info) []rdb.Database {
	tb.Helper()
	var list []rdb.Database
	for name, text := range server.Section("keyspace") {
		var db rdb.Database
		if _, err := fmt.Sscanf(name+" "+text, "db%d keys=%d,expires=%d,", &db.Index, &db.Keys, &db.Expires); err != nil {
			tb.Fatalf("INFO keyspace: %s:%s: %v", name, text, err)
		}
		list = append(list, db)
	}
	return list
}

// keysPerDatabase is what fill writes into each.
const keysPerDatabase = 28

// fill writes every type of value the server has, and two function libraries.
func fill(tb testing.TB, r *testenv.Redis, databases []int) {
	tb.Helper()
	for _, name := range []string{"one", "two"} {
		r.Do(tb, "FUNCTION", "LOAD", "#!lua name="+name+"\nredis.register_function('"+name+"', function() return 1 end)")
	}
	// Fixed numbers, so that a failure can be repeated.
	random := make([]byte, 1<<20)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(source.Uint32())
	}
	const future = "4102444800" // in seconds: the year 2100

	c := r.Client(tb)
	do := func(args ...string) {
		tb.Helper()
		if _, err := c.Do(tb.Context(), args...); err != nil {
			tb.Fatalf("%.60q: %v", args, err)
		}
	}
	for _, db := range databases {
		if len(databases) > 1 {
			do("SELECT", strconv.Itoa(db))
		}
		do("SET", "", "empty name")
		do("SET", "empty", "")
		for i, n := range []string{"0", "-1", "127", "128", "-32768", "32768", "2147483647", "-2147483648", "2147483648", "9223372036854775807"} {
			do("SET", "int"+strconv.Itoa(i), n)
		}
		do("SET", "repetitive", strings.Repeat("a", 300<<10))
		do("SET", "random", string(random))
		do("SET", "expires", "x", "EXAT", future)
		do("PFADD", "hyperloglog", "a", "b", "c")
		do("SETBIT", "bits", "100000", "1")

		for _, size := range []int{1, 600} {
			name, value := strconv.Itoa(size), strings.Repeat("v", size)
			for i := range size {
				n := strconv.Itoa(i)
				do("RPUSH", "list"+name, n)
				do("SADD", "set"+name, n+value)
				do("ZADD", "zset"+name, n+".5", "m"+n)
				do("HSET", "hash"+name, "f"+n, value)
			}
		}
		do("ZADD", "zset600", "inf", "top", "-inf", "bottom")
		do("SADD", "integers", "1", "2", "300", "70000", "5000000000")
		do("RPUSH", "listbig", "a", string(random), "b")
		do("EXPIREAT", "hash600", future)

		for i := range 5 {
			do("XADD", "stream", strconv.Itoa(i+1)+"-1", "field", "value", "n", strconv.Itoa(i))
		}
		do("XDEL", "stream", "2-1")
		for _, group := range []string{"g1", "g2"} {
			do("XGROUP", "CREATE", "stream", group, "0")
			do("XGROUP", "CREATECONSUMER", "stream", group, "idle")
			do("XREADGROUP", "GROUP", group, "c1", "COUNT", "2", "STREAMS", "stream", ">")
			do("XREADGROUP", "GROUP", group, "c2", "COUNT", "1", "STREAMS", "stream", ">")
			do("XACK", "stream", group, "1-1")
		}
	}
}
