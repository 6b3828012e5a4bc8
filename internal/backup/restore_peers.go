package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Before a restore writes anything it asks the other servers of this Redis what
// they hold. A server that runs holds newer data than any snapshot: restored
// beside it, the snapshot either vanishes (this server becomes a replica and
// copies its master, within milliseconds) or takes the newer data away (this
// server becomes the master, and its replicas copy it).

// IfPeers says what Restore does about peers that hold data, or that do not let
// themselves be asked.
type IfPeers string

// The choices about peers.
const (
	IfPeersHeed    IfPeers = "heed"    // do not restore over them
	IfPeersRestore IfPeers = "restore" // go back to the snapshot on purpose: replicas copy it
)

// ErrPeers is wrapped by the error for peers that hold newer data, or may hold it.
var ErrPeers = errors.New("another server of this Redis holds data")

// PeerAddress is where one peer can be asked, or several that share a name, as
// the pods behind a headless service do.
type PeerAddress struct {
	Host     string // a name or an IP address
	Port     string
	TLS      bool
	Sentinel bool // it is a Sentinel
}

// PeerConn is a connection to one peer, as package redis makes them: dialled at the
// first call, errors with a status reason.
type PeerConn interface {
	Do(ctx context.Context, args ...string) (any, error)
	Close() error
}

// PeerOptions say whom to ask. Without any address nobody is asked.
type PeerOptions struct {
	Addresses []PeerAddress
	// Master is the name of the master, for the Sentinels.
	Master string
	// Dial returns a connection to one address of peer.
	Dial func(peer PeerAddress, ip string) PeerConn
	// Own tells whether an address is that of the server that is restored.
	Own func(ip netip.Addr, port string) bool
	// Wait is how long a peer may take to answer, or to give a clear answer.
	Wait time.Duration

	IfData    IfPeers // what to do when a peer holds data; "" is IfPeersHeed
	IfUnclear IfPeers // what to do when one is there but does not say; "" is IfPeersHeed
}

// Bounds of asking.
const (
	maxPeers    = 64
	peersAtOnce = 16
	peerTimeout = 3 * time.Second // for one answer
	peerPause   = 500 * time.Millisecond
)

// Peer is what one server answered.
type Peer struct {
	Addr     string `json:"address"`        // host:port
	Name     string `json:"name,omitempty"` // as which it was given, when that is another
	Role     string `json:"role,omitempty"` // "master" or "slave", as Redis says it; "sentinel"; "" when it did not answer
	Keys     uint64 `json:"keys"`           // in all databases
	Loading  bool   `json:"loading,omitempty"`
	LinkUp   bool   `json:"link_up,omitempty"` // a replica: its master is there
	ReplID   string `json:"replication_id,omitempty"`
	Offset   int64  `json:"replication_offset,omitempty"`
	Problem  string `json:"problem,omitempty"` // why it did not answer, or did not say
	alive    bool   // something listens there
	err      error
	isMaster bool // a Sentinel says so
}

// holdsData tells whether the peer has any. One that loads has it on its disk.
func (p Peer) holdsData() bool { return p.Role != "" && (p.Keys > 0 || p.Loading) }

// String names the peer for people: redis-0.redis-pods:6379, or 10.0.0.7:6379 (redis-pods).
func (p Peer) String() string {
	if p.Name == "" {
		return p.Addr
	}
	return p.Addr + " (" + p.Name + ")"
}

// holds says what the peer holds, for people.
func (p Peer) holds() string {
	role := "as master"
	switch {
	case p.Role != "master" && p.LinkUp:
		role = "as a replica of a master that is there"
	case p.Role != "master":
		role = "as a replica whose master is gone"
	}
	if p.Loading {
		return fmt.Sprintf("%s is loading its data %s", p, role)
	}
	return fmt.Sprintf("%s holds %d keys %s", p, p.Keys, role)
}

// survey is what all peers answered, once.
type survey struct {
	peers []Peer
	// ownIsMaster: a Sentinel names the server that is restored as the master.
	ownIsMaster bool
	// notes are what a person should know of, such as a name that does not resolve.
	notes []string
}

// askPeers asks everybody, all at once.
func askPeers(ctx context.Context, o PeerOptions) survey {
	var s survey
	asked := map[string]bool{}
	sentinels := slices.DeleteFunc(slices.Clone(o.Addresses), func(a PeerAddress) bool { return !a.Sentinel })
	servers := slices.DeleteFunc(slices.Clone(o.Addresses), func(a PeerAddress) bool { return a.Sentinel })

	masters := map[string]bool{}
	for _, answer := range s.ask(ctx, o, asked, sentinels, askSentinel) {
		s.peers = append(s.peers, answer.peer)
		servers = append(servers, answer.found...)
		if len(answer.found) == 0 {
			continue
		}
		master := answer.found[0]
		ips, _ := resolve(ctx, master.Host) // a failure is met again below
		for _, ip := range ips {
			s.ownIsMaster = s.ownIsMaster || o.own(ip, master.Port)
			masters[net.JoinHostPort(ip.String(), master.Port)] = true
		}
	}
	for _, answer := range s.ask(ctx, o, asked, servers, askServer) {
		answer.peer.isMaster = masters[answer.peer.Addr]
		s.peers = append(s.peers, answer.peer)
	}
	return s
}

func (o PeerOptions) own(ip netip.Addr, port string) bool { return o.Own != nil && o.Own(ip, port) }

// peerAnswer is a peer, and those that it knows: of a Sentinel the master first.
type peerAnswer struct {
	peer  Peer
	found []PeerAddress
}

// ask asks every address behind the given ones, unless it was asked already.
func (s *survey) ask(ctx context.Context, o PeerOptions, asked map[string]bool, of []PeerAddress, how func(context.Context, PeerConn, PeerOptions, PeerAddress, Peer) peerAnswer) []peerAnswer {
	var answers []peerAnswer
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, peersAtOnce)
	for _, a := range of {
		ips, problem := resolve(ctx, a.Host)
		if problem.err != nil || problem.Problem != "" {
			problem.Addr = net.JoinHostPort(a.Host, a.Port)
			mu.Lock()
			answers = append(answers, peerAnswer{peer: problem})
			mu.Unlock()
			continue
		}
		for _, ip := range ips {
			p := Peer{Addr: net.JoinHostPort(ip.String(), a.Port)}
			if p.Addr != net.JoinHostPort(a.Host, a.Port) {
				p.Name = a.Host
			}
			switch {
			case asked[p.Addr], o.own(ip, a.Port):
				continue
			case len(asked) >= maxPeers:
				s.notes = append(s.notes, fmt.Sprintf("more than %d peers: %s is not asked", maxPeers, p))
				continue
			}
			asked[p.Addr] = true
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				ctx, cancel := context.WithTimeout(ctx, peerTimeout)
				defer cancel()
				answer := peerAnswer{}
				var done bool
				if answer.peer, done = knock(ctx, p); !done {
					c := o.Dial(a, ip.String())
					defer func() { _ = c.Close() }() // it answered, or did not
					answer = how(ctx, c, o, a, p)
				}
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, answer)
			})
		}
	}
	wg.Wait()
	slices.SortFunc(answers, func(a, b peerAnswer) int { return cmp.Compare(a.peer.Addr, b.peer.Addr) })
	return answers
}

// resolve looks up a name. A name without addresses is nobody: so a headless
// service without pods looks. A resolver that fails is a peer that does not say.
func resolve(ctx context.Context, host string) ([]netip.Addr, Peer) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, Peer{}
	}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if nameNotFound(err) {
		return nil, Peer{Problem: "the name has no address"}
	}
	if err != nil {
		return nil, unclear(Peer{}, resolverError(err))
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips), Peer{}
}

// nameNotFound tells a name that has no address from a resolver that fails.
func nameNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func resolverError(err error) error {
	return status.WithHint(status.ReasonUnreachable, "check the DNS", err)
}

// unclear is a peer that is there but does not say what it holds.
func unclear(p Peer, err error) Peer {
	p.alive, p.err, p.Problem = true, err, err.Error()
	return p
}

// knock connects and hangs up: only that tells a server that is not there from one
// that does not say. done is true when there is nothing more to ask.
func knock(ctx context.Context, p Peer) (_ Peer, done bool) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.Addr)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		_ = c.Close()
		return p, false
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		isNet && netErr.Timeout():
		p.Problem = "nobody is there: " + err.Error()
		return p, true
	}
	return unclear(p, status.WithReason(status.ReasonUnreachable, err)), true
}

// askServer asks a server for its role and its keys. INFO is answered while it
// loads, too, and by a replica without its master.
func askServer(ctx context.Context, c PeerConn, _ PeerOptions, _ PeerAddress, p Peer) peerAnswer {
	v, err := c.Do(ctx, "INFO")
	if err != nil {
		return peerAnswer{peer: unclear(p, err)}
	}
	text, ok := v.(string)
	if !ok {
		return peerAnswer{peer: unclear(p, status.WithReason(status.ReasonProtocol, fmt.Errorf("INFO: unexpected reply of type %T", v)))}
	}
	in := info.Parse(text)
	if in.Mode() == "sentinel" {
		return peerAnswer{peer: unclear(p, status.WithHint(status.ReasonRejected, "name it in restore.sentinels", errors.New("it is a Sentinel")))}
	}
	p.alive, p.Role, p.ReplID = true, in.Get("role"), in.Get("master_replid")
	if p.Role == "" {
		return peerAnswer{peer: unclear(p, status.WithReason(status.ReasonProtocol, errors.New("INFO: no role in the reply")))}
	}
	p.Loading = in.Get("loading") == "1"
	p.LinkUp = in.Get("master_link_status") == "up"
	p.Offset, _ = in.Int("master_repl_offset")
	if p.Role == "slave" { // as describeServer does
		p.Offset, _ = in.Int("slave_repl_offset")
	}
	for _, value := range in.Section("keyspace") { // db0: keys=3,expires=0,…
		n, _, _ := strings.Cut(strings.TrimPrefix(value, "keys="), ",")
		keys, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return peerAnswer{peer: unclear(p, status.WithReason(status.ReasonProtocol, fmt.Errorf("INFO: keyspace: %w", err)))}
		}
		p.Keys += keys
	}
	return peerAnswer{peer: p}
}

// askSentinel asks a Sentinel for the master and its replicas.
func askSentinel(ctx context.Context, c PeerConn, o PeerOptions, a PeerAddress, p Peer) peerAnswer {
	v, err := c.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", o.Master)
	if err != nil {
		if status.ReasonOf(err) == status.ReasonUnknownCmd {
			err = status.WithHint(status.ReasonRejected, "name it in restore.peers", fmt.Errorf("it is no Sentinel: %w", err))
		}
		return peerAnswer{peer: unclear(p, err)}
	}
	p.alive, p.Role = true, "sentinel"
	pair, ok := v.([]any)
	if v == nil || !ok || len(pair) != 2 {
		p.Problem = fmt.Sprintf("it knows no master of the name %q", o.Master)
		return peerAnswer{peer: p}
	}
	answer := peerAnswer{peer: p}
	add := func(host, port any) {
		h, okHost := host.(string)
		n, okPort := port.(string)
		if okHost && okPort && h != "" && n != "" && n != "0" {
			answer.found = append(answer.found, PeerAddress{Host: h, Port: n, TLS: a.TLS})
		}
	}
	add(pair[0], pair[1])
	if v, err = c.Do(ctx, "SENTINEL", "REPLICAS", o.Master); err != nil {
		return peerAnswer{peer: unclear(p, err)}
	}
	replicas, _ := v.([]any)
	for _, r := range replicas {
		fields, _ := r.([]any)
		var host, port any
		for i := 0; i+1 < len(fields); i += 2 {
			switch fields[i] {
			case "ip":
				host = fields[i+1]
			case "port":
				port = fields[i+1]
			}
		}
		add(host, port)
	}
	return answer
}

// verdict is what the peers' answers mean for a restore. All empty: go on.
type verdict struct {
	skip  string // why to succeed without restoring, for people
	warn  bool   // skip deserves a warning
	err   error  // why to fail, unless it changes within the wait
	final bool   // err does not change
	wait  bool   // somebody may answer yet
}

// judgePeers decides. fixed tells that the server that is restored will be the
// master whatever its peers are; same, whether the snapshot is no older than the
// data of a peer.
func judgePeers(s survey, o PeerOptions, fixed bool, same func(Peer) (bool, error)) verdict {
	fixed = fixed || s.ownIsMaster
	var holders, unclears, empty []Peer
	silent, live := false, false
	for _, p := range s.peers {
		switch {
		case p.err != nil:
			unclears = append(unclears, p)
		case !p.alive:
			silent = true
		case p.holdsData():
			holders = append(holders, p)
			live = live || p.Role == "master" || p.LinkUp
		case p.Role == "master":
			empty = append(empty, p)
		}
	}
	// The one that says most comes first.
	slices.SortStableFunc(holders, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.Keys, a.Keys))
	})
	switch {
	case len(holders) > 0 && o.IfData == IfPeersRestore:
		return verdict{}
	case len(holders) > 0 && live && !fixed:
		return verdict{skip: holders[0].holds() + ", to be copied from there"}
	case len(holders) > 0:
		for _, p := range holders {
			ok, err := same(p)
			if err != nil {
				return verdict{err: err, final: true}
			}
			if !ok {
				return verdict{err: newerData(p, fixed)}
			}
		}
		return verdict{}
	case len(unclears) > 0 && o.IfUnclear != IfPeersRestore:
		p := unclears[0]
		return verdict{err: status.WithHint(status.ReasonOf(p.err),
			cmp.Or(status.HintOf(p.err), "look at that server")+"; or set restore.if-peers-unclear to restore",
			fmt.Errorf("%s is there, but does not say whether it holds data: %w", p, p.err))}
	case len(empty) > 0 && !fixed:
		return verdict{warn: true, skip: fmt.Sprintf("%s is the master and holds no keys: what is restored here it would replace by nothing. To restore, empty the volume of the server that is to be the master, and restore there while no other runs", empty[0])}
	}
	return verdict{wait: silent}
}

// rank orders peers by how much their data counts.
func rank(p Peer) int {
	switch {
	case p.isMaster:
		return 3
	case p.Role == "master":
		return 2
	case p.LinkUp:
		return 1
	}
	return 0
}

// newerData is the error for data that the restored server would take away.
func newerData(p Peer, fixed bool) error {
	hint := "wait for a failover to make it the master, or make it one (REPLICAOF NO ONE)"
	if fixed {
		hint = "this server will be the master, and its replicas will copy what it holds. To keep what they have: make that one a master (REPLICAOF NO ONE), take a snapshot there (redis-sidecar backup now)"
	}
	return status.WithHint(status.ReasonRejected, hint+"; to restore all the same, set restore.if-peers to restore",
		fmt.Errorf("%w: %s, newer than the snapshot", ErrPeers, p.holds()))
}

// heedPeers asks until the answers are clear, or the wait is over. skipped is why
// to succeed without restoring, for people.
func (r *restorer) heedPeers(ctx context.Context, wait time.Duration) (skipped string, err error) {
	o := r.opts.Peers
	if len(o.Addresses) == 0 {
		return "", nil
	}
	deadline := time.Now().Add(wait)
	for {
		s := askPeers(ctx, o)
		if err := ctx.Err(); err != nil {
			return "", err
		}
		r.peers = s.peers
		v := judgePeers(s, o, r.opts.OnlyPod != "", func(p Peer) (bool, error) { return r.sameData(ctx, p) })
		settled := v.skip != "" || v.final || v.err == nil && !v.wait
		if settled || !time.Now().Add(peerPause).Before(deadline) {
			r.logPeers(ctx, s, v)
			switch {
			case v.warn:
				r.log.Warn("not restored", "why", v.skip)
			case v.skip != "":
				r.log.Info("not restored", "why", v.skip)
			}
			return v.skip, v.err
		}
		if sleep(ctx, peerPause) != nil {
			return "", ctx.Err()
		}
	}
}

// logPeers says what everybody answered.
func (r *restorer) logPeers(ctx context.Context, s survey, v verdict) {
	for _, n := range s.notes {
		r.log.Warn("peers", "note", n)
	}
	for _, p := range s.peers {
		attrs := []any{"peer", p.String()}
		level := slog.LevelInfo
		switch {
		case p.err != nil, p.Problem != "":
			attrs = append(attrs, "problem", p.Problem)
			level = slog.LevelWarn
		case p.Role != "sentinel":
			attrs = append(attrs, "role", p.Role, "keys", p.Keys)
			if p.Loading {
				attrs = append(attrs, "loading", true)
			}
		}
		if p.err == nil && !p.alive && v.err == nil && v.skip == "" {
			attrs = append(attrs, "taken_for", "down: no other server answered that it holds data")
		}
		if p.holdsData() && r.opts.Peers.IfData == IfPeersRestore {
			level = slog.LevelWarn
			attrs = append(attrs, "note", "its data is given up for the snapshot, as restore.if-peers says, if it becomes a replica of this server")
		}
		r.log.Log(ctx, level, "asked a peer", attrs...)
	}
}

// sameData tells whether the snapshot holds all that a replica without its master
// does, because nothing was written since: then going back to it loses nothing. Of
// a master the offset does not tell it: before Redis 7.2 it stands still while
// there are no replicas.
func (r *restorer) sameData(ctx context.Context, p Peer) (bool, error) {
	if p.Loading || p.Role == "master" || p.LinkUp || p.ReplID == "" {
		return false, nil // it may take writes at any moment
	}
	m, err := r.find(ctx)
	if errors.Is(err, ErrNoSnapshots) {
		return false, nil
	}
	return m.Server.ReplicationID == p.ReplID && m.Server.ReplicationOffset == p.Offset, err
}
