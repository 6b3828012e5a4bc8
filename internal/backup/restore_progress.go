package backup

import (
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

// The phases of a restore, in their order.
const (
	PhaseAsk      Phase = "asking peers"
	PhaseFind     Phase = "finding"     // asking the store what there is
	PhaseDownload Phase = "downloading" // fetching, decompressing and checking, all at once
	PhasePlace    Phase = "placing"     // making it durable and putting it in place
)

// RestoreProgress is how far a restore is.
type RestoreProgress struct {
	Phase   Phase
	Done    int64         // bytes of the stored object fetched; 0 in other phases than PhaseDownload
	Total   int64         // of this many; 0 when nothing is counted
	Rate    float64       // bytes a second, over the whole phase
	Elapsed time.Duration // since the restore began
}

// String returns how far the phase is, for people; "" when nothing is counted.
func (p RestoreProgress) String() string {
	if p.Total == 0 {
		return ""
	}
	s := fmt.Sprintf("%3d%%  %s of %s", p.Done*100/p.Total, human.Bytes(p.Done), human.Bytes(p.Total))
	if p.Rate > 0 {
		left := time.Duration(float64(p.Total-p.Done) / p.Rate * float64(time.Second))
		s += fmt.Sprintf("  %s/s  %s left", human.Bytes(int64(p.Rate)), left.Round(time.Second))
	}
	return s
}

// progressEvery is the shortest time between two reports of one phase.
const progressEvery = 250 * time.Millisecond

// meter turns byte counts into reports.
type meter struct {
	report   func(RestoreProgress)
	began    time.Time
	current  RestoreProgress
	since    time.Time // of the current phase
	reported time.Time
}

func newMeter(report func(RestoreProgress)) *meter {
	return &meter{report: report, began: time.Now()}
}

// phase begins a phase in which total bytes will be counted; 0 is none.
func (m *meter) phase(phase Phase, total int64) {
	m.since = time.Now()
	m.current = RestoreProgress{Phase: phase, Total: total}
	m.send(m.since)
}

// at says how many bytes of the phase are done.
func (m *meter) at(done int64) {
	m.current.Done = done
	if now := time.Now(); now.Sub(m.reported) >= progressEvery || done == m.current.Total {
		if s := now.Sub(m.since).Seconds(); s > 0 {
			m.current.Rate = float64(done) / s
		}
		m.send(now)
	}
}

func (m *meter) send(now time.Time) {
	m.reported = now
	m.current.Elapsed = now.Sub(m.began)
	m.report(m.current)
}
