package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Server is one connection to redis-server that the probe has for itself.
type Server interface {
	// Pipeline sends all commands in one write. An element of the result is an
	// error when that command was answered with one. The error is not nil when
	// there was no answer; its chain holds the cause (a net.Error, an errno).
	Pipeline(ctx context.Context, cmds ...[]string) ([]any, error)
	// Close ends the connection, and with it a Pipeline that waits for a reply.
	Close() error
}

// refusals are the questions that the sidecar's user may not put. They are not
// put at every look: each would count in the very errors that are watched.
type refusals struct{ ping, info, cluster bool }

// commands returns one look, without what was refused. PING answers what INFO
// does not say: LOADING, MASTERDOWN and MISCONF; and it is asked when nothing is
// permitted, as a refusal is life, too. One section per INFO, for servers before
// 7.0. CLUSTER INFO is asked only of a cluster: elsewhere it is an error, and
// would count in the server's statistics every second.
func commands(cluster bool, without refusals) [][]string {
	var cmds [][]string
	if !without.ping || without.info {
		cmds = append(cmds, []string{"PING"})
	}
	if !without.info {
		cmds = append(cmds, []string{"INFO", "server"}, []string{"INFO", "persistence"}, []string{"INFO", "replication"}, []string{"INFO", "cluster"})
	}
	if cluster && !without.cluster {
		cmds = append(cmds, []string{"CLUSTER", "INFO"})
	}
	return cmds
}

// answer is what one look brought.
type answer struct {
	contact Contact
	err     error    // why there was no contact, or the error reply to PING
	gone    bool     // nothing listens: the process is gone
	trouble Reason   // see Observation.Trouble
	refused refusals // now, or before and not asked again

	info    info.Info // the sections that were permitted
	cluster info.Info // CLUSTER INFO
}

// ask puts one question and classifies what comes back.
func ask(ctx context.Context, s Server, cluster bool, without refusals) answer {
	cmds := commands(cluster, without)
	replies, err := s.Pipeline(ctx, cmds...)
	if err != nil {
		if status.ReasonOf(err) == status.ReasonMaxClients {
			return answer{contact: Answered, err: err, trouble: ReasonMaxClients}
		}
		return answer{contact: contactOf(err), err: err, gone: isGone(err)}
	}
	a := answer{contact: Answered, refused: without}
	var text strings.Builder
	for i, r := range replies {
		first := i == 0 // PING, or who speaks for it
		switch r := r.(type) {
		case string:
			switch cmds[i][0] {
			case "INFO":
				text.WriteString(r)
				text.WriteByte('\n')
			case "CLUSTER":
				a.cluster = info.Parse(r)
			}
		case error:
			if first {
				a.trouble = troubleOf(r)
			}
			if a.err == nil && cmds[i][0] != "CLUSTER" {
				a.err = r
			}
			a.refused.note(cmds[i][0], r)
		}
	}
	if without.ping && without.info && a.err == nil {
		a.refused = refusals{} // somebody has given rights
	}
	a.info = info.Parse(text.String())
	// A user without +ping that may read INFO gives all the facts but the
	// complaints; that is no trouble.
	if a.trouble == ReasonNoPerm && roleOf(a.info) != "" {
		a.trouble = ""
	}
	return a
}

// note takes down a refusal.
func (f *refusals) note(command string, err error) {
	if troubleOf(err) != ReasonNoPerm {
		return
	}
	switch command {
	case "PING":
		f.ping = true
	case "INFO":
		f.info = true
	case "CLUSTER":
		f.cluster = true
	}
}

// troubleOf names what an error reply complains of; LOADING is not among it, it
// is a fact of its own.
func troubleOf(err error) Reason {
	switch status.ReasonOf(err) {
	case status.ReasonBusy:
		return ReasonBusy
	case status.ReasonAuth:
		return ReasonAuth
	case status.ReasonNoPerm, status.ReasonUnknownCmd:
		return ReasonNoPerm
	case status.ReasonMaxClients:
		return ReasonMaxClients
	case status.ReasonMisconf:
		return ReasonMisconf
	case status.ReasonMasterDown:
		return ReasonMasterDown
	}
	return ""
}

// contactOf classifies an error of the connection. Only what the server itself
// must have caused counts against it; the rest is the sidecar's own trouble.
func contactOf(err error) Contact {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return Unable
	}
	switch {
	case status.ReasonOf(err) == status.ReasonTimeout:
		return Silent
	case isGone(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Refused
	}
	return Unable
}

// isGone tells whether nothing listens at the address.
func isGone(err error) bool {
	return status.ReasonOf(err) == status.ReasonUnreachable &&
		(errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist))
}

// facts copies what an answer says of the server into o. It touches nothing
// that needs a history.
func (a answer) facts(o *Observation) {
	o.Contact = a.contact
	o.Error = ""
	if a.err != nil {
		o.Error = oneLine(a.err.Error())
	}
	if a.contact != Answered {
		return
	}
	o.Trouble = a.trouble
	if a.info.Len() == 0 {
		// Nothing but PING was answered: with an error, or INFO is not permitted.
		o.Loading = a.err != nil && status.ReasonOf(a.err) == status.ReasonLoading
		return
	}
	in := a.info
	o.Loading = in.Get("loading") == "1"
	o.LoadedBytes, o.LoadingBytes, o.LoadingETA = 0, 0, 0
	if o.Loading {
		o.LoadedBytes, _ = in.Int("loading_loaded_bytes")
		o.LoadingBytes, _ = in.Int("loading_total_bytes")
		o.LoadingETA = secondsOf(in, "loading_eta_seconds")
	}
	o.Role = roleOf(in)
	o.LinkUp = in.Get("master_link_status") == "up"
	o.LinkDown = secondsOf(in, "master_link_down_since_seconds")
	o.LinkMute = secondsOf(in, "master_last_io_seconds_ago")
	o.Syncing = in.Get("master_sync_in_progress") == "1"
	o.SyncedByte, _ = in.Int("master_sync_read_bytes")
	o.SyncBytes, _ = in.Int("master_sync_total_bytes")
	// A replica that starts from its own dump goes on at that offset; one without
	// data stands at 0 or 1.
	offset, _ := in.Int("slave_repl_offset")
	o.HasData = o.LinkUp || offset > 1
	o.ClusterEnabled = in.Get("cluster_enabled") == "1"
	if state := a.cluster.Get("cluster_state"); state != "" {
		o.ClusterState = state
	}
	if !o.ClusterEnabled {
		o.ClusterState = ""
	}
}

// roleOf reads the role. A Sentinel answers INFO replication with nothing.
func roleOf(in info.Info) Role {
	switch {
	case in.Get("role") == "master":
		return Master
	case in.Get("role") == "slave":
		return Replica
	case in.Mode() == "sentinel":
		return Sentinel
	}
	return ""
}

// secondsOf reads a field of whole seconds; what is absent, negative or absurd
// is 0, unknown.
func secondsOf(in info.Info, name string) time.Duration {
	n, ok := in.Int(name)
	if !ok || n < 0 || n > 1<<32 {
		return 0
	}
	return time.Duration(n) * time.Second
}
