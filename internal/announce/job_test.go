package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var _ Server = (*redis.Client)(nil)

// running is a Job that runs, with what it reported and logged.
type running struct {
	*Job
	board *status.Board
	log   *testenv.Log
}

// run starts a Job against r. change may alter it before.
func run(t *testing.T, s Server, o Options, change ...func(*Job)) running {
	t.Helper()
	log := &testenv.Log{}
	board := status.NewBoard(slog.New(slog.NewTextHandler(log, nil)), nil)
	if o.Interval == 0 {
		o.Interval = 100 * time.Millisecond
	}
	j := New(s, o, board.Register(status.Announce, Reasons()...))
	for _, c := range change {
		c(j)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return running{j, board, log}
}

// says waits until the report has a state and a message, and returns it.
func (r running) says(t *testing.T, state status.State, message string) status.Report {
	t.Helper()
	var rep status.Report
	testenv.Eventually(t, 15*time.Second, func() error {
		rep, _ = r.board.Report(status.Announce)
		if rep.State != state || rep.Message != message {
			return fmt.Errorf("got %s %q, want %s %q", rep.State, rep.Message, state, message)
		}
		return nil
	})
	return rep
}

func get(t *testing.T, r *testenv.Redis, param string) string {
	t.Helper()
	return pairs(r.Do(t, "CONFIG", "GET", param))[param]
}

func infoOf(t *testing.T, r *testenv.Redis, section string) info.Info {
	t.Helper()
	in, err := r.Client(t).Info(t.Context(), section)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// replicaAt waits until the master lists its only replica under an address.
func replicaAt(t *testing.T, master *testenv.Redis, ip string) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := infoOf(t, master, "replication").Get("slave0"); !strings.HasPrefix(got, "ip="+ip+",") || !strings.Contains(got, "state=online") {
			return fmt.Errorf("the master lists %q, want %s", got, ip)
		}
		return nil
	})
}

func TestReplicaGetsANewAddress(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--bind", "127.0.0.2", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port),
		"--replica-announce-ip", "127.0.0.2")
	replicaAt(t, master, "127.0.0.2")
	before := infoOf(t, master, "stats")

	// The user of docs/announce.md.
	replica.Do(t, "ACL", "SETUSER", "sidecar", "on", ">pw", "+info", "+role", "+config|get", "+config|set", "+client|kill", "+client|setname")
	c := redis.New(redis.Options{Addr: replica.Addr, Name: "announce", Credentials: func() (string, string, error) { return "sidecar", "pw", nil }})
	t.Cleanup(func() { _ = c.Close() })

	start := time.Now()
	j := run(t, c, Options{Address: "127.0.0.3"})
	replicaAt(t, master, "127.0.0.3")
	t.Logf("the master lists the new address after %s", time.Since(start).Round(time.Millisecond))
	rep := j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting)")

	after := infoOf(t, master, "stats")
	if got, want := after.Get("sync_full"), before.Get("sync_full"); got != want {
		t.Errorf("sync_full is %s, was %s: the new link cost a full copy", got, want)
	}
	if got := after.Get("sync_partial_ok"); got != "1" {
		t.Errorf("sync_partial_ok is %s, want 1", got)
	}
	if ok, why := j.OK(); !ok {
		t.Errorf("not OK: %s", why)
	}

	d := rep.Detail.(Detail)
	want := Detail{
		Mode: Auto, Address: "127.0.0.3", Source: SourceSetting,
		Announced:      map[string]string{replicaParam: "127.0.0.3", clusterParam: ""},
		Corrections:    1,
		LastCorrection: &Correction{At: d.LastCorrection.At, Parameter: replicaParam, From: "127.0.0.2", To: "127.0.0.3"},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
	if got := strings.Count(j.log.String(), `msg="announced address corrected" job=announce parameter=replica-announce-ip from=127.0.0.2 to=127.0.0.3`); got != 1 {
		t.Errorf("%d lines about the correction in:\n%s", got, j.log)
	}
	wantMetrics := `redis_sidecar_announce_address_info{address="127.0.0.3",source="setting"} 1
redis_sidecar_announce_corrections_total 1
redis_sidecar_announce_mismatch 0
`
	if diff := cmp.Diff(wantMetrics, testenv.MetricsText(t, NewMetrics(j.Job))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// During a full copy there is no link to cut yet; the address must not be lost.
func TestReplicaGetsANewAddressDuringAFullCopy(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 1500, 1000)
	link := testenv.StartProxy(t, master.Addr)
	link.Set(testenv.Fault{Kind: testenv.Hang, AfterDownload: 20 << 10}) // in the middle of the copy
	replica := testenv.StartRedis(t, "--bind", "127.0.0.2", "--replica-announce-ip", "127.0.0.2")
	_, port, _ := strings.Cut(link.Addr, ":")
	replica.Do(t, "REPLICAOF", "127.0.0.1", port)
	testenv.Eventually(t, 10*time.Second, func() error {
		if infoOf(t, replica, "replication").Get("master_sync_in_progress") != "1" {
			return errors.New("no full copy runs")
		}
		return nil
	})
	j := run(t, replica.Client(t), Options{Address: "127.0.0.3"})
	j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting); the master learns the new address when the copy from it is complete")
	link.Set(testenv.Fault{})
	replicaAt(t, master, "127.0.0.3")
	j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting)")
	if got := infoOf(t, master, "stats").Get("sync_full"); got != "1" {
		t.Errorf("sync_full is %s, want 1", got)
	}
}

// A replica that has no link yet tells the new address when it makes one.
func TestReplicaWithoutALink(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Stop(t)
	replica := testenv.StartRedis(t, "--bind", "127.0.0.2", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port),
		"--replica-announce-ip", "127.0.0.2")
	j := run(t, replica.Client(t), Options{Address: "127.0.0.3"})
	j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting)")
	master.Start(t)
	replicaAt(t, master, "127.0.0.3")
	if got := infoOf(t, master, "stats").Get("sync_partial_ok"); got != "0" {
		t.Errorf("sync_partial_ok is %s: the link was cut for nothing", got)
	}
}

func TestMasterAndAddressThatChanges(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	var mu sync.Mutex
	addr := addrs("10.1.1.1")
	j := run(t, r.Client(t), Options{}, func(j *Job) {
		j.find.interfaces = func() ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			return append([]netip.Addr(nil), addr...), nil
		}
	})
	j.says(t, status.OK, "replica-announce-ip is 10.1.1.1 (interface)")
	if got := get(t, r, replicaParam); got != "10.1.1.1" {
		t.Errorf("the server says %q", got)
	}
	mu.Lock()
	addr = addrs("10.1.1.2")
	mu.Unlock()
	j.says(t, status.OK, "replica-announce-ip is 10.1.1.2 (interface)")

	// Somebody else changes it back.
	r.Do(t, "CONFIG", "SET", replicaParam, "10.1.1.1")
	testenv.Eventually(t, 20*time.Second, func() error {
		if got := get(t, r, replicaParam); got != "10.1.1.2" {
			return fmt.Errorf("the server says %q", got)
		}
		return nil
	})

	// An address that is gone is not replaced by a guess.
	mu.Lock()
	addr = nil
	mu.Unlock()
	rep := j.says(t, status.Failing, "no network interface has an address that others could reach")
	if rep.Reason != status.ReasonAddress {
		t.Errorf("reason %s", rep.Reason)
	}
	if !strings.Contains(j.log.String(), `hint="set announce.address, or give the container POD_IP from status.podIP"`) {
		t.Errorf("no hint in:\n%s", j.log)
	}
	if got := get(t, r, replicaParam); got != "10.1.1.2" {
		t.Errorf("the server says %q", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--replica-announce-ip", "redis-0.redis")
	j := run(t, r.Client(t), Options{PodIP: "10.1.1.1"})
	j.says(t, status.OK, "replica-announce-ip is the name redis-0.redis and stays so; own address is 10.1.1.1 (pod)")
	if got := get(t, r, replicaParam); got != "redis-0.redis" {
		t.Errorf("the server says %q", got)
	}

	second := testenv.StartRedis(t, "--replica-announce-ip", "redis-0.redis")
	j = run(t, second.Client(t), Options{PodIP: "10.1.1.1", Mode: Replication})
	j.says(t, status.OK, "replica-announce-ip is 10.1.1.1 (pod)")

	third := testenv.StartRedis(t)
	j = run(t, third.Client(t), Options{Address: "redis-1.redis"})
	j.says(t, status.OK, "replica-announce-ip is redis-1.redis (setting)")
	if got := get(t, third, replicaParam); got != "redis-1.redis" {
		t.Errorf("the server says %q", got)
	}

	cluster := testenv.StartRedis(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "redis-0.redis")
	j = run(t, cluster.Client(t), Options{PodIP: "10.1.1.1"})
	j.says(t, status.OK, "cluster-announce-ip is 10.1.1.1 (pod)")
	if got := get(t, cluster, clusterParam); got != "10.1.1.1" {
		t.Errorf("the server says %q", got)
	}
	if got := get(t, cluster, replicaParam); got != "" {
		t.Errorf("%s was touched: %q", replicaParam, got)
	}

	j = run(t, cluster.Client(t), Options{Address: "redis-0.redis"})
	j.says(t, status.Failing, "announce.address redis-0.redis is a name, and the cluster bus knows only IP addresses")
}

func TestClusterModeWithoutACluster(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	j := run(t, r.Client(t), Options{Mode: Cluster, PodIP: "10.1.1.1"})
	j.says(t, status.OK, "cluster-announce-ip is 10.1.1.1 (pod); it has no effect, this server is not a cluster node")
}

func TestOff(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	j := run(t, r.Client(t), Options{Mode: Off, Address: "127.0.0.3"})
	j.says(t, status.Disabled, "announce.mode is off")
	if got := get(t, r, replicaParam); got != "" {
		t.Errorf("the server says %q", got)
	}
	if ok, _ := j.OK(); !ok {
		t.Error("not OK")
	}
}

// A cluster with a stale cluster-announce-ip looks healthy and sends clients away.
func TestClusterWithAStaleAddress(t *testing.T) {
	t.Parallel()
	const stale = "127.0.0.99"
	var nodes []*testenv.Redis
	for i := range 3 {
		ip := fmt.Sprintf("127.0.0.%d", 21+i)
		nodes = append(nodes, testenv.StartRedis(t, "--cluster-enabled", "yes", "--bind", ip, "--bind-source-addr", ip, "--cluster-node-timeout", "2000",
			"--port", strconv.Itoa(clusterPort(t))))
	}
	for i, n := range nodes {
		n.Do(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*5461), strconv.Itoa([]int{5460, 10921, 16383}[i]))
		if i > 0 {
			n.Do(t, "CLUSTER", "MEET", "127.0.0.21", strconv.Itoa(nodes[0].Port))
		}
	}
	id := nodes[2].Do(t, "CLUSTER", "MYID").(string)
	peersSay := func(ip string) error {
		for _, n := range nodes[:2] {
			if state := infoText(n.Do(t, "CLUSTER", "INFO")).Get("cluster_state"); state != "ok" {
				return fmt.Errorf("cluster_state is %s", state)
			}
			text := n.Do(t, "CLUSTER", "NODES").(string)
			if !strings.Contains(text, id+" "+ip+":") {
				return fmt.Errorf("%s is not at %s:\n%s", id, ip, text)
			}
		}
		return nil
	}
	testenv.Eventually(t, 20*time.Second, func() error { return peersSay("127.0.0.23") })
	nodes[2].Do(t, "CONFIG", "SET", clusterParam, stale)
	testenv.Eventually(t, 20*time.Second, func() error { return peersSay(stale) })

	start := time.Now()
	j := run(t, nodes[2].Client(t), Options{Address: "127.0.0.23"})
	testenv.Eventually(t, 20*time.Second, func() error { return peersSay("127.0.0.23") })
	t.Logf("the peers know the right address after %s", time.Since(start).Round(time.Millisecond))
	j.says(t, status.OK, "cluster-announce-ip is 127.0.0.23 (setting)")
}

// clusterPort returns a free port whose cluster bus port is a valid one.
func clusterPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		if p := testenv.FreePort(t); p < 55000 {
			return p
		}
	}
	t.Fatal("no free port below 55000")
	return 0
}

func infoText(v any) info.Info { text, _ := v.(string); return info.Parse(text) }

func TestNotPermitted(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	user := func(name string, rules ...string) *redis.Client {
		r.Do(t, append([]string{"ACL", "SETUSER", name, "on", ">pw", "-@all"}, rules...)...)
		c := redis.New(redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return name, "pw", nil }})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	j := run(t, user("blind", "+info"), Options{PodIP: "10.1.1.1"})
	j.says(t, status.Failing, "CONFIG GET: NOPERM this user has no permissions to run the 'config|get' command")

	j = run(t, user("reader", "+info", "+config|get"), Options{PodIP: "10.1.1.1"})
	rep := j.says(t, status.Failing, `correct replica-announce-ip from "" to 10.1.1.1: CONFIG SET: NOPERM this user has no permissions to run the 'config|set' command`)
	if rep.Reason != status.ReasonNoPerm {
		t.Errorf("reason %s", rep.Reason)
	}
	// It is not tried every few seconds, and does not keep clients away.
	if wait := time.Until(rep.NextRun); wait < 30*time.Second {
		t.Errorf("next run in %s", wait)
	}
	if ok, why := j.OK(); !ok {
		t.Errorf("not OK: %s", why)
	}
	if metrics := testenv.MetricsText(t, NewMetrics(j.Job)); !strings.Contains(metrics, "redis_sidecar_announce_mismatch 1\n") {
		t.Errorf("metrics:\n%s", metrics)
	}
	if n := strings.Count(j.log.String(), "\n"); n != 1 {
		t.Errorf("%d log lines:\n%s", n, j.log)
	}
}

func TestConfigRenamed(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--rename-command", "CONFIG", "HIDDEN")
	j := run(t, r.Client(t), Options{PodIP: "10.1.1.1"})
	rep := j.says(t, status.Failing, "CONFIG GET: ERR unknown command 'CONFIG'")
	if rep.Reason != status.ReasonUnknownCmd || time.Until(rep.NextRun) < 30*time.Second {
		t.Errorf("%+v", rep)
	}
}

// A replica that may not cut its link says that the master does not know yet.
func TestMayNotCutTheLink(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	replicaAt(t, master, "127.0.0.1")
	replica.Do(t, "ACL", "SETUSER", "app", "on", ">pw", "-@all", "+info", "+role", "+config|get", "+config|set")
	c := redis.New(redis.Options{Addr: replica.Addr, Credentials: func() (string, string, error) { return "app", "pw", nil }})
	defer c.Close()
	j := run(t, c, Options{Address: "127.0.0.3"})
	j.says(t, status.Failing, "re-make the link to the master, so that it learns the new address: CLIENT KILL: NOPERM this user has no permissions to run the 'client|kill' command")
	if got := get(t, replica, replicaParam); got != "127.0.0.3" {
		t.Errorf("the server says %q", got)
	}
}

func TestServerGoneAndBack(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	j := run(t, r.Client(t), Options{PodIP: "10.1.1.1"})
	j.says(t, status.OK, "replica-announce-ip is 10.1.1.1 (pod)")
	r.Kill(t)
	j.says(t, status.Failing, "INFO replication: connect: connection refused")
	if ok, why := j.OK(); !ok {
		t.Errorf("not OK: %s", why)
	}
	r.Start(t) // without the address
	j.says(t, status.OK, "replica-announce-ip is 10.1.1.1 (pod)")
	if got := get(t, r, replicaParam); got != "10.1.1.1" {
		t.Errorf("the server says %q", got)
	}
}

// A Sentinel has nothing to announce by CONFIG, which it does not know. A server
// that comes to its address later is looked after again.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	s := testenv.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", master.Port))
	for _, mode := range []Mode{Auto, Replication, Cluster} {
		j := run(t, s.Client(t), Options{PodIP: "10.1.1.1", Mode: mode, Interval: 20 * time.Millisecond})
		rep := j.says(t, status.OK, "a Sentinel: nothing to announce here")
		if diff := cmp.Diff(Detail{Mode: mode}, rep.Detail); diff != "" {
			t.Errorf("detail (-want +got):\n%s", diff)
		}
		// Look after look.
		testenv.Eventually(t, 10*time.Second, func() error {
			if now, _ := j.board.Report(status.Announce); !now.NextRun.After(rep.NextRun) {
				return errors.New("it does not look again")
			}
			return nil
		})
		if ok, why := j.OK(); !ok {
			t.Errorf("not OK: %s", why)
		}
		if n := strings.Count(j.log.String(), "\n"); n != 1 {
			t.Errorf("%d log lines:\n%s", n, j.log)
		}
	}
	// INFO errorstats is always empty on a Sentinel, INFO stats is not.
	if got := infoOf(t, s, "stats").Get("total_error_replies"); got != "0" {
		t.Errorf("%s error replies", got)
	}
}

func TestServerInPlaceOfASentinel(t *testing.T) {
	t.Parallel()
	s := testenv.StartSentinel(t)
	port := strconv.Itoa(s.Port)
	j := run(t, s.Client(t), Options{PodIP: "10.1.1.1"})
	j.says(t, status.OK, "a Sentinel: nothing to announce here")
	s.Stop(t)
	r := testenv.StartRedis(t, "--port", port)
	rep := j.says(t, status.OK, "replica-announce-ip is 10.1.1.1 (pod)")
	if got := rep.Detail.(Detail).Corrections; got != 1 {
		t.Errorf("%d corrections", got)
	}
	r.Stop(t)
	path := r.WriteFile(t, "sentinel.conf", "")
	testenv.StartRedisIn(t, r.Dir, path, "--sentinel", "--port", port)
	rep = j.says(t, status.OK, "a Sentinel: nothing to announce here")
	if d := rep.Detail.(Detail); d.Address != "" || d.Announced != nil {
		t.Errorf("the status page still shows %+v", d)
	}
}

// stubborn takes a CONFIG SET and forgets it.
type stubborn struct{ Server }

func (s stubborn) Do(ctx context.Context, args ...string) (any, error) {
	if args[1] == "SET" {
		return "OK", nil
	}
	return s.Server.Do(ctx, args...)
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	j := run(t, stubborn{r.Client(t)}, Options{PodIP: "10.1.1.1"})
	rep := j.says(t, status.Failing, `correct replica-announce-ip from "" to 10.1.1.1: the server took it and still says ""`)
	if rep.Reason != status.ReasonRejected {
		t.Errorf("reason %s", rep.Reason)
	}
	if ok, why := j.OK(); ok || why != `replica-announce-ip is "", own address is 10.1.1.1: being corrected` {
		t.Errorf("got %v %q", ok, why)
	}
}

// Two that do not agree on the address, the sidecar and an operator, must not
// cost the replica its link every few seconds.
func TestTheLinkIsCutSeldom(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--bind", "127.0.0.2", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	replicaAt(t, master, "127.0.0.1")
	j := run(t, replica.Client(t), Options{Address: "127.0.0.3"})
	replicaAt(t, master, "127.0.0.3")
	j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting)")

	for range 3 {
		replica.Do(t, "CONFIG", "SET", replicaParam, "127.0.0.4")
		rep := j.says(t, status.OK, "replica-announce-ip is 127.0.0.3 (setting); the link to the master was re-made less than a minute ago, and is not cut again before")
		if rep.Detail.(Detail).Waiting == "" {
			t.Error("the status page does not say what is waited for")
		}
	}
	if got := infoOf(t, replica, "commandstats").Get("cmdstat_client|kill"); !strings.HasPrefix(got, "calls=1,") {
		t.Errorf("CLIENT KILL: %s, want one call", got)
	}
}

// deaf loses the first answer to CONFIG GET of one parameter.
type deaf struct {
	Server
	once *sync.Once
}

func (d deaf) Do(ctx context.Context, args ...string) (any, error) {
	v, err := d.Server.Do(ctx, args...)
	if args[0] == "CONFIG" && args[1] == "GET" && args[2] == replicaParam {
		d.once.Do(func() { v, err = nil, status.WithReason(status.ReasonTimeout, errors.New("no answer")) })
	}
	return v, err
}

// An address that was set, and whose answer was lost, has to reach the master too.
func TestTheMasterLearnsWhatWasNotReadBack(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--bind", "127.0.0.2", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	replicaAt(t, master, "127.0.0.1")
	run(t, deaf{replica.Client(t), new(sync.Once)}, Options{Address: "127.0.0.3"})
	replicaAt(t, master, "127.0.0.3")
}

func TestPause(t *testing.T) {
	j := New(nil, Options{Interval: 5 * time.Second}, status.NewBoard(slog.New(slog.DiscardHandler), nil).Register(status.Announce))
	refused := status.WithReason(status.ReasonNoPerm, errors.New("NOPERM"))
	for _, tc := range []struct {
		name string
		cut  time.Duration // how long ago; 0: not
		err  error
		want time.Duration
	}{
		{"as a rule", 0, nil, 5 * time.Second},
		{"refused", 0, refused, time.Minute},
		{"server not there yet", 0, status.WithReason(status.ReasonUnreachable, errors.New("connection refused")), startPoll},
		{"link is being made", time.Second, nil, relinkPoll},
		{"link does not come back", relinkTimeout + time.Second, errors.New("no link"), 5 * time.Second},
	} {
		j.relink = relink{}
		if tc.cut > 0 {
			j.relink.killedAt = time.Now().Add(-tc.cut)
		}
		if got := j.pause(tc.err); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
