package backup

import "time"

// Phase is what a snapshot or its verification is doing.
type Phase string

// The phases, in their order.
const (
	PhaseWait     Phase = "waiting"      // for another save of the server to end
	PhaseSave     Phase = "saving"       // the server writes, the sidecar reads, checks and uploads
	PhaseUpload   Phase = "uploading"    // the save is over, the rest is on its way
	PhaseReadBack Phase = "reading back" // the stored object is read and compared
	PhasePublish  Phase = "publishing"   // the manifest
	PhaseVerify   Phase = "verifying"    // Verify
	PhaseLoad     Phase = "loading"      // Verify: into a scratch server
)

// Progress is how far a snapshot or a verification is.
type Progress struct {
	Phase Phase `json:"phase"`
	Plain int64 `json:"plain_bytes"` // of the RDB, so far

	// Stored is the bytes sent to the store so far, or in PhaseReadBack and
	// PhaseVerify received from it; in PhaseLoad loaded by the server.
	Stored int64 `json:"stored_bytes"`

	// Total is the size at which the phase is complete: of Plain while saving,
	// there only an estimate that may be passed; otherwise of Stored, exact. 0
	// means unknown.
	Total int64  `json:"total_bytes"`
	Keys  uint64 `json:"keys"` // the server held when the save began; in Verify those of the manifest
}

// reporter hands progress on, not too often. It is used from one goroutine.
type reporter struct {
	fn   func(Progress) // may be nil
	p    Progress
	last time.Time
}

func newReporter(fn func(Progress)) *reporter { return &reporter{fn: fn} }

// phase begins a phase; it is always reported.
func (r *reporter) phase(phase Phase, total int64) {
	r.p.Phase, r.p.Total = phase, total
	r.send(time.Now())
}

func (r *reporter) keys(n uint64) { r.p.Keys = n }

func (r *reporter) bytes(plain, stored int64) {
	const interval = 200 * time.Millisecond
	r.p.Plain, r.p.Stored = plain, stored
	if now := time.Now(); now.Sub(r.last) >= interval {
		r.send(now)
	}
}

func (r *reporter) send(now time.Time) {
	r.last = now
	if r.fn != nil {
		r.fn(r.p)
	}
}
