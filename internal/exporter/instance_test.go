package exporter_test

import (
	"strconv"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func role(of string) map[string]string {
	want := map[string]string{`redis_instance_role{role="master"}`: "0", `redis_instance_role{role="slave"}`: "0", `redis_instance_role{role="sentinel"}`: "0"}
	want[`redis_instance_role{role="`+of+`"}`] = "1"
	return want
}

// The role is a set of series that never go away, and its changes are counted
// whatever happens to the connection and the process.
func TestRole(t *testing.T) {
	other := testenv.StartRedis(t)
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	changes := func(n string) map[string]string { return map[string]string{"redis_instance_role_changes_total": n} }

	got := scrape(t, e)
	expect(t, got, role("master"))
	expect(t, got, changes("0"))

	srv.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(other.Port))
	got = scrape(t, e)
	expect(t, got, role("slave"))
	expect(t, got, changes("1"))
	expect(t, scrape(t, e), changes("1"))

	srv.Restart(t) // forgets that it is a replica
	got = scrape(t, e)
	expect(t, got, role("master"))
	expect(t, got, changes("2"))

	srv.Stop(t)
	if got := scrape(t, e); downReason(t, got) == "" {
		t.Error("a stopped server is up")
	}
	srv.Start(t) // as it was
	expect(t, scrape(t, e), changes("2"))
}

func TestRoleOfOthers(t *testing.T) {
	for text, want := range map[string]string{
		"redis_mode:sentinel\r\n":                        "sentinel",
		"# Replication\r\nrole:active-replica\r\n":       "slave", // KeyDB
		"# Replication\r\nrole:something else\r\n":       "",
		"redis_version:7.0.0\r\nuptime_in_seconds:1\r\n": "",
	} {
		e, _ := newExporter(t, &replay{info: text}, exporter.Options{})
		got := scrape(t, e)
		for _, r := range []string{"master", "slave", "sentinel"} {
			value := "0"
			if r == want {
				value = "1"
			}
			expect(t, got, map[string]string{`redis_instance_role{role="` + r + `"}`: value})
		}
	}
}
