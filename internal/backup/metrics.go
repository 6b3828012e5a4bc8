package backup

import (
	"maps"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

var _ metric.Source = (*Metrics)(nil)

// Metrics gives what a job knows of the snapshots, and what it did, as metrics. All
// series exist from the start, 0 meaning that no snapshot is known.
type Metrics struct {
	job                                                      *Job
	created, duration, size, keys, ratio, snapshots, running *metric.Desc
	phases, runs, skipped, taken, held, lease                *metric.Desc
	refused, leftover                                        *metric.Desc
}

// NewMetrics returns the metrics of j.
func NewMetrics(j *Job) *Metrics {
	desc := func(kind metric.Kind, name, help string, labels ...string) *metric.Desc {
		return metric.New(kind, "backup_"+name, help, labels...)
	}
	return &Metrics{
		job: j,
		created: desc(metric.Gauge, "last_success_timestamp_seconds",
			"When the newest snapshot in the store was begun, whichever pod took it; 0 when none is known."),
		duration:  desc(metric.Gauge, "last_duration_seconds", "How long the newest snapshot took, up to the writing of its manifest."),
		size:      desc(metric.Gauge, "last_size_bytes", "Size of the newest snapshot: plain as an RDB, stored as in the store.", "kind"),
		keys:      desc(metric.Gauge, "last_keys", "Keys in the newest snapshot, in all databases."),
		ratio:     desc(metric.Gauge, "last_compression_ratio", "Plain size of the newest snapshot divided by its stored size."),
		snapshots: desc(metric.Gauge, "snapshots", "Snapshots of this instance in the store, as of the last look."),
		running:   desc(metric.Gauge, "running", "1 while a snapshot is taken."),
		phases: desc(metric.Gauge, "last_run_phase_seconds",
			"How long the last run of this pod, good or not, was in each phase; total is all of it.", "phase"),
		runs:    desc(metric.Counter, "runs_total", "Snapshots begun by this pod, by what they were begun for.", "trigger"),
		skipped: desc(metric.Counter, "skipped_runs_total", "Scheduled times left out because the run before them was not over."),
		taken:   desc(metric.Counter, "taken_total", "Snapshots that this pod has taken and stored, by their source.", "source"),
		held:    desc(metric.Gauge, "lease_held", "1 while this pod has the lease under which snapshots are taken and deleted."),
		lease: desc(metric.Gauge, "lease_info",
			"1, with the pod that had the lease when it was last looked at, empty for none, and how the store keeps it as labels.", "holder", "mode"),
		refused:  desc(metric.Gauge, "writes_refused", "1 while the server refuses writes because a save failed, and the sidecar waits to ask for one that succeeds."),
		leftover: desc(metric.Gauge, "leftover_bytes", "Size of the temporary files that killed servers have left in the data directory, as of the last snapshot."),
	}
}

// Describe implements metric.Source.
func (m *Metrics) Describe() []*metric.Desc {
	return []*metric.Desc{
		m.created, m.duration, m.size, m.keys, m.ratio, m.snapshots, m.running, m.phases, m.runs, m.skipped, m.taken, m.held, m.lease,
		m.refused, m.leftover,
	}
}

// Emit implements metric.Source. The values of snapshots are those of the last look
// into the store.
func (m *Metrics) Emit(to metric.Sink) {
	m.job.mu.Lock()
	last, d := m.job.last, m.job.detail
	count := m.job.count.clone()
	m.job.mu.Unlock()
	created, ratio := 0.0, 0.0
	if last.ID != "" {
		created = float64(last.CreatedAt.UnixMilli()) / 1000
	}
	if last.Object.Size > 0 {
		ratio = float64(last.RDB.Size) / float64(last.Object.Size)
	}
	to.Set(m.created, created)
	to.Set(m.duration, last.Durations.Total)
	to.Set(m.size, float64(last.RDB.Size), "plain")
	to.Set(m.size, float64(last.Object.Size), "stored")
	to.Set(m.keys, float64(last.RDB.Keys))
	to.Set(m.ratio, ratio)
	to.Set(m.snapshots, float64(d.Count))
	metric.Flag(to, m.refused, m.job.mend.state() != "")
	to.Set(m.leftover, float64(d.LeftoverBytes))
	metric.Flag(to, m.running, d.Running != nil)
	for _, phase := range phaseLabels() {
		to.Set(m.phases, count.phases[phase], phase)
	}
	for _, t := range triggers() {
		to.Set(m.runs, float64(count.runs[t]), string(t))
	}
	to.Set(m.skipped, float64(count.skipped))
	for source, n := range count.taken {
		to.Set(m.taken, float64(n), source)
	}
	lease := LeaseLine{Mode: LeaseUnknown}
	if d.Lease != nil {
		lease = *d.Lease
	}
	metric.Flag(to, m.held, lease.Mine)
	pod, _, _ := strings.Cut(lease.Holder, "/")
	to.Set(m.lease, 1, pod, string(lease.Mode))
}

// counters are what a job has done since the start of the program.
type counters struct {
	runs    map[Trigger]uint64
	skipped uint64
	taken   map[string]uint64  // by source
	phases  map[string]float64 // seconds of the last run
}

func newCounters() counters {
	return counters{runs: map[Trigger]uint64{}, taken: map[string]uint64{SourceBGSave: 0, SourceStream: 0}, phases: map[string]float64{}}
}

func (c counters) clone() counters {
	c.runs, c.taken = maps.Clone(c.runs), maps.Clone(c.taken) // phases is replaced whole
	return c
}

// skipped counts scheduled times that are left out.
func (j *Job) skipped(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count.skipped += uint64(n)
}

// began counts a run and shows it.
func (j *Job) began(t *turn) {
	j.mu.Lock()
	j.count.runs[t.trigger]++
	j.mu.Unlock()
	if t.request != nil {
		t.request.start()
	}
	j.setDetail(func(d *Detail) { d.Running, d.Waiting = &Progress{Phase: PhaseWait}, "" })
}

// finished records how a run went.
func (j *Job) finished(t *turn, began time.Time, phases map[string]float64, m Manifest, err error) {
	line := &RunLine{Trigger: t.trigger, Began: began.UTC(), ID: m.ID, Phases: phases}
	if err != nil {
		line.Error = err.Error()
	}
	j.mu.Lock()
	j.count.phases = phases
	if _, known := j.count.taken[m.Source]; err == nil && known {
		j.count.taken[m.Source]++
	}
	j.mu.Unlock()
	j.setDetail(func(d *Detail) { d.LastRun = line })
}

// phaseClock measures how long a run is in each phase.
type phaseClock struct {
	began, since time.Time
	now          string
	took         map[string]float64
}

const phaseTotal = "total"

func newPhaseClock(began time.Time) *phaseClock {
	return &phaseClock{began: began, since: began, now: phaseLabel(PhaseWait), took: map[string]float64{}}
}

// phaseLabel is a phase as a label.
func phaseLabel(p Phase) string {
	switch p {
	case PhaseWait:
		return "wait"
	case PhaseSave:
		return "save"
	case PhaseUpload:
		return "upload"
	case PhaseReadBack:
		return "read_back"
	case PhasePublish:
		return "publish"
	default:
		return phaseTotal // none of a snapshot
	}
}

func phaseLabels() []string {
	return []string{"wait", "save", "upload", "read_back", "publish", phaseTotal}
}

// enter begins a phase, if it is not the present one.
func (c *phaseClock) enter(p Phase, now time.Time) {
	label := phaseLabel(p)
	if label == c.now || label == phaseTotal {
		return
	}
	c.took[c.now] += now.Sub(c.since).Seconds()
	c.now, c.since = label, now
}

// end returns all of them.
func (c *phaseClock) end(now time.Time) map[string]float64 {
	c.took[c.now] += now.Sub(c.since).Seconds()
	c.took[phaseTotal] = now.Sub(c.began).Seconds()
	return c.took
}
