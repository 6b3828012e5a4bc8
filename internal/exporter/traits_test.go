package exporter

import (
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

// What a server is, from the first lines of its INFO.
func TestTraits(t *testing.T) {
	for _, c := range []struct {
		name, info, want       string
		kind                   kind
		since62, since70, v81  bool
		sentinel, cluster, big bool
	}{
		{name: "redis", info: "redis_version:7.0.15\r\nredis_mode:standalone\r\n", want: "redis 7.0.15, standalone",
			kind: kindRedis, since62: true, since70: true},
		{name: "redis 6.0", info: "redis_version:6.0.16\r\n", want: "redis 6.0.16, standalone", kind: kindRedis},
		{name: "redis 10", info: "redis_version:10.1\r\n", want: "redis 10.1, standalone", kind: kindRedis, since62: true, since70: true},
		{name: "unstable", info: "redis_version:255.255.255\r\ncluster_enabled:1\r\ncluster_connections:1000\r\n", want: "redis 255.255.255, cluster",
			kind: kindRedis, since62: true, since70: true, cluster: true, big: true},
		{name: "valkey 8.0", info: "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.3\r\n", want: "valkey 8.0.3, standalone",
			kind: kindValkey, since62: true, since70: true},
		{name: "valkey 8.1", info: "redis_version:7.2.4\r\nvalkey_version:8.1.0-rc1\r\nserver_mode:sentinel\r\n", want: "valkey 8.1.0-rc1, sentinel",
			kind: kindValkey, since62: true, since70: true, v81: true, sentinel: true},
		{name: "valkey 10.0", info: "redis_version:7.2.4\r\nvalkey_version:10.0.0\r\n", want: "valkey 10.0.0, standalone",
			kind: kindValkey, since62: true, since70: true, v81: true},
		{name: "keydb", info: "redis_version:6.3.4\r\nserver_threads:2\r\n", want: "keydb 6.3.4, standalone", kind: kindKeyDB, since62: true},
		{name: "dragonfly", info: "redis_version:7.4.0\r\ndragonfly_version:df-v1.24.0\r\n", want: "dragonfly df-v1.24.0, standalone",
			kind: kindDragonfly, since62: true, since70: true},
		{name: "tile38", info: "tile38_version:1.33.0\r\nredis_version:6.2.0\r\n", want: "tile38 1.33.0, standalone", kind: kindTile38, since62: true},
		{name: "nonsense", info: "redis_version:seven\r\n", want: "redis seven, standalone", kind: kindRedis},
		{name: "nothing", info: "x:1\r\n", want: "redis , standalone", kind: kindRedis},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := traitsOf(info.Parse(c.info))
			if got.String() != c.want || got.kind != c.kind {
				t.Errorf("%q of kind %q, want %q", got, got.kind, c.want)
			}
			if got.since(6, 2) != c.since62 || got.since(7, 0) != c.since70 || got.hasCommandlog() != c.v81 {
				t.Errorf("since 6.2 %v, since 7.0 %v, valkey 8.1 %v", got.since(6, 2), got.since(7, 0), got.hasCommandlog())
			}
			if got.sentinel != c.sentinel || got.cluster != c.cluster || got.manyLinks != c.big {
				t.Errorf("sentinel %v, cluster %v, many links %v", got.sentinel, got.cluster, got.manyLinks)
			}
			if got.clone() != got {
				t.Error("a clone is not the same")
			}
		})
	}
}

// The primaries of a Sentinel are part of what it is, in one order and bounded.
func TestMasters(t *testing.T) {
	var text strings.Builder
	text.WriteString("redis_mode:sentinel\r\nmaster0:name=elsewhere\r\n# Sentinel\r\nsentinel_masters:1\r\nmaster0:name=b,status=ok\r\nmaster1:name=a,status=ok\r\nmaster2:name=a\r\nmaster3:status=ok\r\nmasterx:name=c\r\n")
	if got := traitsOf(info.Parse(text.String())).masters; got != "a\nb" {
		t.Errorf("masters %q", got)
	}
	for range 200 {
		text.WriteString("master9:name=m" + strings.Repeat("x", text.Len()%97) + "\r\n")
	}
	server := traitsOf(info.Parse(text.String()))
	n := 0
	for range server.masterNames() {
		n++
	}
	if n > mastersLimit || n < 50 {
		t.Errorf("%d masters", n)
	}
	for range (traits{}).masterNames() {
		t.Error("a server without masters has one")
	}
}

func TestQuorumMessage(t *testing.T) {
	const good = "OK 3 usable Sentinels. Quorum and failover authorization can be reached"
	for reply, want := range map[string]string{
		good:               good,
		"OK":               "OK",
		"OK 3 usable":      "OK",
		good + " and more": "OK",
		"OK 1x usable Sentinels. Quorum and failover authorization can be reached":                                                                                                                 "OK",
		"OK 99999 usable Sentinels. Quorum and failover authorization can be reached":                                                                                                              "OK",
		"SENTINEL CKQUORUM: NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master":                                                             "NOQUORUM too few Sentinels for the quorum",
		"NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority and authorize a failover":                                                                               "NOQUORUM too few Sentinels for the majority",
		"NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master. Not enough available Sentinels to reach the majority and authorize a failover": "NOQUORUM too few Sentinels for the quorum and for the majority",
		"NOQUORUM":                               "NOQUORUM",
		"ERR No such master with that name 4711": "ERR",
		"":                                       "ERR",
	} {
		if got := quorumMessage(reply); got != want {
			t.Errorf("message of %q is %q, want %q", reply, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	for _, name := range []string{"requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass", "sentinel-pass",
		"auth-pass", "REQUIREPASS", "mymodule.api-token", "mymodule.Secret", "oauth-x"} {
		if !secret(name) {
			t.Errorf("%s is no secret", name)
		}
	}
	for _, name := range []string{"maxmemory", "tls-auth-clients", "tls-key-file", "masteruser", "aclfile", "acllog-max-len", "port", "dir"} {
		if secret(name) {
			t.Errorf("%s is a secret", name)
		}
	}
}

func TestNamesUser(t *testing.T) {
	for name, want := range map[string]bool{"masteruser": true, "primaryuser": true, "sentinel-user": true, "auth-user": true,
		"lazyfree-lazy-user-del": false, "maxmemory": false} {
		if namesUser(name) != want {
			t.Errorf("%s names a user: %v", name, !want)
		}
	}
}

func TestNodeAddress(t *testing.T) {
	for word, want := range map[string]string{
		"10.0.0.1:6379@16379":                      "10.0.0.1:6379",
		"10.0.0.1:6379":                            "10.0.0.1:6379", // before 4.0
		"10.0.0.1:6379@16379,redis-0.example":      "10.0.0.1:6379",
		":6379@16379,redis-0.example,shard-id=abc": "redis-0.example:6379",
		":6379@16379,,tls-port=0,shard-id=abc":     ":6379",
		":0@0":                                     ":0",
		"fd00::1:6379@16379":                       "[fd00::1]:6379",
		"fd00::1:6379@16379,h,shard-id=x":          "[fd00::1]:6379",
		"":                                         "",
		"@":                                        "",
		"nonsense":                                 "nonsense",
	} {
		if got := nodeAddress(word); got != want {
			t.Errorf("address of %q is %q, want %q", word, got, want)
		}
	}
}

func TestClusterNodeOf(t *testing.T) {
	for _, c := range []struct {
		line string
		want clusterNode
		ok   bool
	}{
		{line: "a 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460 5462 [93-<-b] [94->-c] [95->-c]", ok: true,
			want: clusterNode{id: "a", address: "127.0.0.1:7000", role: "master", state: "ok", myself: true, connected: true, slots: 5462, importing: 1, migrating: 2}},
		{line: "b h:1@2,host slave a 0 1742836359057 3 connected", ok: true,
			want: clusterNode{id: "b", address: "h:1", role: "slave", state: "ok", connected: true, lastPong: 1742836359.057}},
		{line: "c 127.0.0.1:1@2 master,fail? - 1 2 3 disconnected 7", ok: true,
			want: clusterNode{id: "c", address: "127.0.0.1:1", role: "master", state: "pfail", lastPong: 0.002, slots: 1}},
		{line: "c 127.0.0.1:1@2 slave,fail,nofailover x 1 0 3 disconnected", ok: true,
			want: clusterNode{id: "c", address: "127.0.0.1:1", role: "slave", state: "fail"}},
		{line: "d 127.0.0.1:1@2 handshake - 1 0 0 disconnected", ok: true,
			want: clusterNode{id: "d", address: "127.0.0.1:1", role: "master", state: "handshake"}},
		{line: "e :0@0 master,fail,noaddr - 1 0 0 disconnected", ok: true,
			want: clusterNode{id: "e", address: ":0", role: "master", state: "noaddr"}},
		{line: "f h:1@2 noflags - x y z connected 99999 5-3 0-16383 0-16383 - [ [x]", ok: true,
			want: clusterNode{id: "f", address: "h:1", role: "master", state: "ok", connected: true, slots: 16384}},
		{line: ""}, {line: "a b c"},
	} {
		got, ok := clusterNodeOf(c.line)
		if ok != c.ok || got != c.want {
			t.Errorf("%q:\n got %+v %v\nwant %+v", c.line, got, ok, c.want)
		}
	}
}
