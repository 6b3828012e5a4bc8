package probe

import "time"

// Contact is how the last question to the server ended.
type Contact int

// The contacts.
const (
	Unasked  Contact = iota // there was none yet
	Answered                // some well-formed reply came, an error reply included
	Silent                  // no reply came in time, or none yet
	Refused                 // nothing listens, or it closed the connection
	Unable                  // the question could not be put: TLS, name resolution, no RESP
)

// Role is what the server is; "" when it may not be asked.
type Role string

// The roles.
const (
	Master   Role = "master"
	Replica  Role = "replica"
	Sentinel Role = "sentinel" // it holds no data and has no role in replication
)

// Observation is what is known of the server when a verdict is asked for: the
// last answer, and what the Monitor remembers of those before. After a Silent
// or Unable contact the facts are those of the last answer.
type Observation struct {
	Contact Contact
	Error   string        // text of the last error or error reply; "" when there was none
	Silent  time.Duration // how long the server has owed an answer or refused connections
	Misses  int           // looks in a row without an answer
	Once    bool          // a single look, without any history

	// Trouble is what the reply to PING complained of: ReasonBusy, ReasonAuth,
	// ReasonNoPerm, ReasonMaxClients, ReasonMisconf, ReasonMasterDown or "".
	Trouble Reason
	Busy    time.Duration // with ReasonBusy: since the last normal answer

	Loading        bool
	LoadedBytes    int64         // 0 when unknown
	LoadingBytes   int64         // total; 0 when unknown
	LoadingETA     time.Duration // 0 when unknown
	LoadingStalled time.Duration // since LoadedBytes last grew

	Role       Role
	LinkUp     bool
	LinkDown   time.Duration // since the link broke or, if it never was up, since the first look
	LinkMute   time.Duration // since the master last sent anything
	HasData    bool          // the link was up in this process' life, or it started from a copy of its master
	Syncing    bool          // a full copy is coming in
	SyncedByte int64
	SyncBytes  int64 // total; 0 when unknown

	ClusterEnabled bool
	ClusterState   string // ok, fail, or "" when unknown
	ClusterWasOK   bool   // in this process' life

	Announce string // why the announced address is not right yet; "" when it is

	AcceptMisses int    // new connections that failed in a row
	AcceptFull   bool   // the last new connection was one too many
	AcceptError  string // what the last new connection died of

	WasUp    bool // some answer was seen since the Monitor began
	Started  bool // this server process has answered and was not LOADING
	WasReady bool // the last readiness verdict that rested on facts

	// Stale is how long the Monitor itself has not looked; 0 when it works.
	Stale time.Duration
}
