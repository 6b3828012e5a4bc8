package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/scratch"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The rows of the matrix: how the server that was backed up, and the one that is
// restored, keep their data.
type matrixKind struct {
	name           string
	source, target []string // arguments of the servers
	names          DataNames
}

func matrixKinds() []matrixKind {
	names := []string{"--dbfilename", "data.rdb", "--appenddirname", "aof", "--appendfilename", "log"}
	return []matrixKind{
		{name: "RDB", source: []string{"--appendonly", "no", "--save", "900 1"}, target: []string{"--appendonly", "no", "--save", "900 1"}},
		{name: "AOF on", source: []string{"--appendonly", "yes"}, target: []string{"--appendonly", "yes"}},
		{name: "AOF off", source: []string{"--appendonly", "yes"}, target: []string{"--appendonly", "no", "--save", ""}},
		{
			name: "custom names", source: append([]string{"--appendonly", "yes"}, names...), target: append([]string{"--appendonly", "yes"}, names...),
			names: DataNames{DBFilename: "data.rdb", AppendDirname: "aof", AppendFilename: "log"},
		},
	}
}

// The states of the directory: the steps after which an earlier restore was killed.
func matrixStates() []string {
	return []string{"empty", "has data", "killed: downloading", "killed: placing", onlyCluster, "killed: placeholder", "killed: aof", "killed: dump"}
}

// onlyCluster is a step that no other restore has.
const onlyCluster = "killed: nodes placeholder"

// The child of the matrix: this test binary, which restores and is killed.
const matrixChildEnv = "RESTORE_MATRIX_CHILD"

type matrixChild struct {
	Store, Instance, Dir, Step string
	Names                      DataNames
	Peers                      []ClusterPeer // of a cluster, whose first node is restored
	IPs                        []string      // of the peers
}

// options are those of the restore in the child.
func (c matrixChild) options() RestoreOptions {
	o := RestoreOptions{Dir: c.Dir}
	if len(c.Peers) > 0 {
		var pods []*newcomer
		for i, p := range c.Peers {
			pods = append(pods, &newcomer{dir: c.Dir, ip: c.IPs[i], peer: p})
		}
		o = restoreOf(pods, 0, nil)
	}
	o.Names = c.Names
	return o
}

func TestRestoreMatrixChild(t *testing.T) {
	text := os.Getenv(matrixChildEnv)
	if text == "" {
		return
	}
	var c matrixChild
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), c.Store, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := NewCatalogue(s, c.Instance)
	if err != nil {
		t.Fatal(err)
	}
	o := c.options()
	o.step = func(step string) {
		if step == c.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal may take a moment
		}
	}
	_, err = Restore(t.Context(), o, cat, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
}

// killedRestore restores in a process that is killed after a step.
func killedRestore(t *testing.T, c matrixChild) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("/proc/self/exe", "-test.run=^TestRestoreMatrixChild$")
	child.Env = append(os.Environ(), matrixChildEnv+"="+string(text))
	out, err := child.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed after %q: %v\n%s", c.Step, err, out)
	}
}

// matrixSource is a snapshot with its digest.
type matrixSource struct {
	url    string
	cat    *Catalogue
	m      Manifest
	digest string
}

func snapshotOf(t *testing.T, server *testenv.Redis) matrixSource {
	t.Helper()
	s, dir := dirStore(t)
	out := matrixSource{url: "file://" + dir, cat: newTestCatalogue(t, s), digest: server.Digest(t)}
	out.m = mustSnapshot(t, newTestSnapshotter(t, server, s))
	return out
}

// TestRestoreMatrix restores onto real servers in every combination of how they
// keep their data, what stands in the directory, and what the server will be.
// Run it with -v for the table.
func TestRestoreMatrix(t *testing.T) {
	version, err := scratch.Version(t.Context(), testenv.Program(t, "redis-server", ""), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	st, root := dirStore(t)
	lost := newClusterFixture(t, st, 3)
	shard := matrixSource{url: "file://" + root, cat: lost.base, m: lost.set[0], digest: lost.nodes[0].Digest(t)}
	lost.lose(t)
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "newer", 700, 20)

	type cell struct{ kind, state, role, result, keys string }
	var cells []cell
	for _, kind := range matrixKinds() {
		server := testenv.StartRedis(t, kind.source...)
		server.Fill(t, "key", 2000, 50)
		server.Do(t, "SET", "soon", "value", "EX", "86400")
		server.Do(t, "RPUSH", "list", "a", "b")
		server.Do(t, "HSET", "hash", "field", "value")
		standalone := snapshotOf(t, server)
		server.Kill(t)

		for _, state := range matrixStates() {
			for _, role := range []string{"primary", "replica", "cluster shard"} {
				if state == onlyCluster && role != "cluster shard" {
					continue
				}
				t.Run(kind.name+"/"+state+"/"+role, func(t *testing.T) {
					c := cell{kind: kind.name, state: state, role: role}
					source, args := standalone, slices.Clone(kind.target)
					child := matrixChild{Dir: t.TempDir(), Names: kind.names}
					opts := child.options()
					switch role {
					case "replica":
						opts.Peers = peersOf(t, master.Addr)
						args = append(args, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
					case "cluster shard":
						source = shard
						pods := newcomers(t, 3, kind.target...)
						args = pods[0].args
						for _, p := range pods {
							child.Peers, child.IPs = append(child.Peers, p.peer), append(child.IPs, p.ip)
						}
						opts = child.options()
					default:
						opts.Peers = peersOf(t, closedPort(t))
						opts.Peers.Wait = 0
					}
					opts.RedisVersion = version
					child.Store, child.Instance = source.url, source.cat.Instance()

					want := source.digest
					switch step, killed := strings.CutPrefix(state, "killed: "); {
					case killed:
						child.Step = step
						killedRestore(t, child)
					case state == "has data":
						want = populate(t, opts.Dir, role, args)
					}
					if role == "replica" {
						want = master.Digest(t)
					}

					r := &restorable{t: t, cat: source.cat}
					result, log, err := r.restore(t, opts)
					if err != nil {
						t.Fatalf("restore: %v\n%s", err, log)
					}
					done := state == "killed: dump" || state == "killed: aof" // past the point of no return: finished first
					switch {
					case state == "has data":
						c.result = "refused: the directory holds data"
						if !strings.HasPrefix(result.Skipped, "the directory holds data") {
							t.Errorf("skipped %q", result.Skipped)
						}
					case done:
						c.result = "finished"
						if !result.Resumed {
							t.Errorf("%+v", result)
						}
					case role == "replica":
						c.result = "refused: a master holds data"
						if !strings.Contains(result.Skipped, "holds 700 keys as master") {
							t.Errorf("skipped %q", result.Skipped)
						}
						wantNoFiles(t, opts.Dir)
					default:
						c.result = "restored"
						if result.ID != source.m.ID || result.Resumed {
							t.Errorf("%+v", result)
						}
					}
					if exists(filepath.Join(opts.Dir, stagingName)) {
						t.Error("the working directory is still there")
					}

					started := startIn(t, opts.Dir, args...)
					if role == "replica" {
						inSync(t, master, started)
					}
					switch got := started.Digest(t); {
					case got != want:
						t.Errorf("digest %s with %d keys, want %s; the server's log:\n%s", got, started.DBSize(t), want, started.Log())
						c.keys = "WRONG"
					case role == "replica":
						c.keys = "those of its master"
					case state == "has data":
						c.keys = "those it had"
					default:
						c.keys = "those of the snapshot"
					}
					if role == "cluster shard" && state != "has data" {
						if nodes := started.Do(t, "CLUSTER", "NODES").(string); !strings.Contains(nodes, " 0-5460\n") {
							t.Errorf("the node has not the slots of its shard:\n%s", nodes)
						}
					}
					c.keys += fmt.Sprintf(" (%d)", started.DBSize(t))
					started.Kill(t)
					cells = append(cells, c)
				})
			}
		}
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "data\tdirectory\trole\trestore\tkeys after the start, by digest")
	for _, c := range cells {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.kind, c.state, c.role, c.result, c.keys)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d combinations on real servers of version %s\n%s", len(cells), version, b.String())
}

// populate lets a server of that kind leave data of its own in a directory, and
// returns its digest.
func populate(t *testing.T, dir, role string, args []string) string {
	t.Helper()
	if role == "replica" { // it had its data as a master
		args = slices.Clone(args[:len(args)-2])
	}
	server := startIn(t, dir, args...)
	if role == "cluster shard" {
		server.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
		testenv.Eventually(t, 20*time.Second, func() error {
			if text := server.Do(t, "CLUSTER", "INFO").(string); !strings.Contains(text, "cluster_state:ok") {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}
	for i := range 50 {
		server.Do(t, "SET", "own:"+strconv.Itoa(i), "value")
	}
	server.Do(t, "SAVE")
	digest := server.Digest(t)
	server.Stop(t)
	return digest
}
