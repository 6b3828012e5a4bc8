package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// SnapshotOptions say of what snapshots are taken and how.
type SnapshotOptions struct {
	Instance string // see ValidInstance
	Pod      string // for the id and the manifest
	Tool     string // program and version, for the manifest
	Role     Role   // "" is RoleAny

	// MaxLag is how long a replica may have heard nothing from its master. The
	// default is 30 seconds.
	MaxLag time.Duration
	// Shard says where the snapshots of a cluster's shard go: ShardAuto, also
	// when empty, ShardNone or the name of the shard. See shard.go.
	Shard string

	// DataDir is where the server's data directory is mounted here. "" means
	// where the server says it is: the same path in both containers.
	DataDir string

	// Encryption says for whom what is stored is encrypted.
	Encryption Encryption

	// Source is where they come from, one of Sources. "" is SourceBGSave.
	Source string
	// RDBCompression says whether a save of SourceBGSave is made without the
	// server's own compression of strings, one of RDBCompressions. "" is
	// RDBCompressionServer. The others need CONFIG SET.
	RDBCompression string
	// MemoryLimit is that of the server's container, in bytes; 0 is not known. See
	// checkMemory.
	MemoryLimit int64
	// RemoveLeftovers allows to delete the temporary files that killed servers have
	// left in the data directory, which are reported in any case.
	RemoveLeftovers bool

	// RateLimit is how many bytes a second are uploaded at most, on average over a
	// part of an upload; 0 is no limit.
	RateLimit int64
	// CPUs is how many cores the process uses while it takes a snapshot; 0 leaves
	// that as it is.
	CPUs int

	// BusyTimeout is how long another save, a rewrite or the sync of a replica
	// may keep the server from saving. The default is 15 minutes.
	BusyTimeout time.Duration
	// StallTimeout is how long nothing at all may move, neither the save nor the
	// store. It does not bound the whole. The default is 10 minutes.
	StallTimeout time.Duration

	Log *slog.Logger // nil: no log
}

// Snapshotter takes snapshots of one server. One at a time: the server runs one
// child at a time anyway.
type Snapshotter struct {
	opts      SnapshotOptions
	redis     Redis
	base      *Catalogue // of the instance
	catalogue *Catalogue // that snapshots are put in: in a cluster, that of the shard
	located   bool       // the server has said what catalogue is by
	log       *slog.Logger

	distrust    distrust       // of bgsave; used by Snapshot only
	compression rdbCompression // used by Snapshot only
	patience    time.Duration  // see bgsave

	mu     sync.Mutex
	left   leftovers // as of the last snapshot
	before Manifest  // a snapshot of this server or its peers, see likelyStored; zero until known
}

// learnFrom lets the next snapshot be expected to be like m.
func (s *Snapshotter) learnFrom(m Manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = m
}

func (s *Snapshotter) like() Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before
}

// NewSnapshotter returns a Snapshotter; the error is about opts.
func NewSnapshotter(opts SnapshotOptions, redis Redis, store Store) (*Snapshotter, error) {
	catalogue, err := NewCatalogue(store, opts.Instance)
	if err != nil {
		return nil, err
	}
	if opts.Role == "" {
		opts.Role = RoleAny
	}
	if !slices.Contains(Roles(), opts.Role) {
		return nil, fmt.Errorf("role %q is none of %v", opts.Role, Roles())
	}
	if opts.MaxLag == 0 {
		opts.MaxLag = defaultMaxLag
	}
	if opts.Shard == "" {
		opts.Shard = ShardAuto
	}
	if err := ValidShard(opts.Shard); err != nil {
		return nil, err
	}
	if opts.Source == "" {
		opts.Source = SourceBGSave
	}
	if !slices.Contains(Sources(), opts.Source) {
		return nil, fmt.Errorf("source %q is none of %v", opts.Source, Sources())
	}
	if opts.RDBCompression == "" {
		opts.RDBCompression = RDBCompressionServer
	}
	if !slices.Contains(RDBCompressions(), opts.RDBCompression) {
		return nil, fmt.Errorf("compression of RDBs %q is none of %v", opts.RDBCompression, RDBCompressions())
	}
	if opts.BusyTimeout == 0 {
		opts.BusyTimeout = 15 * time.Minute
	}
	if opts.StallTimeout == 0 {
		opts.StallTimeout = 10 * time.Minute
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Snapshotter{opts: opts, redis: redis, base: catalogue, catalogue: catalogue, log: log, compression: rdbCompression{setting: opts.RDBCompression}}, nil
}

// Catalogue returns the catalogue that snapshots are put in. Beside a node of a
// cluster it is known after Snapshot or Locate.
func (s *Snapshotter) Catalogue() *Catalogue { return s.catalogue }

// Snapshot takes one snapshot and returns its manifest when it is stored, read
// back and published. The data is of a moment between the call and the return,
// see Manifest.CreatedAt. progress may be nil; it is called a few times a second,
// never twice at the same time.
//
// After an error there is no new snapshot in the catalogue, but for a manifest
// whose writing was given up on a store that hung: that one may arrive later, and
// its data stays for it. Nothing else than an object without a manifest can stay
// in the store, and only if the store refuses to delete it.
func (s *Snapshotter) Snapshot(ctx context.Context, progress func(Progress)) (Manifest, error) {
	defer useCPUs(s.opts.CPUs)()
	r := &run{Snapshotter: s, began: time.Now(), report: newReporter(progress)}
	m, err := r.do(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = status.WithReason(status.ReasonCanceled, err)
		}
		return Manifest{}, fmt.Errorf("snapshot: %w", err)
	}
	return m, nil
}

// useCPUs sets how many cores the process uses at once, until the returned
// function is called.
func useCPUs(n int) (restore func()) {
	if n <= 0 {
		return func() {}
	}
	before := runtime.GOMAXPROCS(n)
	return func() { runtime.GOMAXPROCS(before) }
}

// run is one call of Snapshot.
type run struct {
	*Snapshotter
	began  time.Time
	report *reporter
	facts  facts
	seal   recipients

	mayArrive bool // the writing of the manifest was given up, see mayArriveError
}

func (r *run) do(ctx context.Context) (Manifest, error) {
	r.report.phase(PhaseWait, 0)
	var err error
	if r.seal, err = r.opts.Encryption.load(); err != nil {
		return Manifest{}, err
	}
	if r.facts, err = learn(ctx, r.redis, r.opts.DataDir); err != nil {
		return Manifest{}, err
	}
	r.compression.repay(ctx, r.redis, r.facts.info, r.log)
	place, err := r.admit(ctx, r.facts.info)
	if err != nil {
		return Manifest{}, err
	}
	// A store that is not there is better noticed before the server forks.
	if err := r.catalogue.reachable(ctx); err != nil {
		return Manifest{}, err
	}
	if err := r.settle(ctx, place); err != nil {
		return Manifest{}, err
	}
	if err := r.catalogue.checkShard(ctx, place.slots); err != nil {
		return Manifest{}, err
	}
	r.sweepLeftovers()
	from := r.choose()
	for {
		r.log.Info("taking a snapshot", "source", from.name(), "why", from.reason)
		m, err := r.take(ctx, from, place)
		if err == nil {
			return m, nil
		}
		other, ok := r.instead(from, err)
		if !ok || ctx.Err() != nil {
			return Manifest{}, err
		}
		r.log.Warn("trying another source", "source", other.name(), "error", err, "hint", status.HintOf(err))
		from = other
	}
}

// take takes the snapshot from one source. place is where the server was in a
// cluster before.
func (r *run) take(ctx context.Context, from choice, place clusterPlace) (Manifest, error) {
	c, err := from.start(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer c.close()
	at := c.moment()
	// The wait for other children may have been long: what was the master may
	// have lost its role, or its slots.
	settled := place.slots
	if place, err = r.admit(ctx, at.info); err != nil {
		return Manifest{}, err
	}
	if err := r.stillSettled(ctx, settled, place); err != nil {
		return Manifest{}, err
	}
	r.warnOpen(place)
	m := Manifest{
		FormatVersion: FormatVersion,
		ID:            NewID(at.created, r.opts.Pod),
		Instance:      r.catalogue.instance,
		CreatedAt:     at.created,
		Tool:          r.opts.Tool,
		Source:        from.name(),
		SourceReason:  from.reason,
		Server:        describeServer(r.opts.Pod, at, place),
		Slots:         place.slots,
		Cluster:       place.cluster,
	}
	if m.Cluster != nil {
		m.Cluster.Shard = ShardOf(m.Instance)
	}
	if err := r.store(ctx, c, &m); err != nil {
		r.cleanUp(ctx, m.ID)
		return Manifest{}, err
	}
	return m, nil
}

// admit makes sure that in, the server's INFO, is that of a server to take
// snapshots of, and returns its place in a cluster.
func (r *run) admit(ctx context.Context, in info.Info) (clusterPlace, error) {
	if err := checkRole(in, r.opts.Role, r.opts.MaxLag); err != nil {
		return clusterPlace{}, err
	}
	place, err := learnCluster(ctx, r.redis, in)
	if err == nil {
		err = place.checkMember()
	}
	return place, err
}

// store reads the RDB to its end, checks it, uploads it, reads that back and
// publishes it. It completes m.
func (r *run) store(ctx context.Context, c capture, m *Manifest) error {
	estimate := r.facts.estimate()
	ctx, timer, stop := withStallTimer(ctx, r.opts.StallTimeout)
	defer stop() // before c is closed, which waits for what ctx ends
	at := c.moment()

	r.report.keys(at.after.keys)
	r.report.phase(PhaseSave, estimate)
	m.Object.Name = objectName(CompressionZstd, r.seal.name())
	up, err := startUpload(ctx, r.catalogue.store, r.catalogue.ObjectKey(*m), likelyStored(estimate, r.like()), r.seal, r.opts.RateLimit, timer)
	if err != nil {
		return err
	}
	if m.RDB, err = r.read(ctx, c, up, timer); err != nil {
		if storeErr := up.abort(err); storeErr != nil {
			err = storeErr
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx) // what the others failed of
		}
		return err
	}
	r.report.phase(PhaseUpload, 0)
	if m.Object, err = up.commit(); err != nil {
		return stalled(ctx, err)
	}
	uploaded := time.Now()

	timer.enterStore()
	if err := r.readBack(ctx, *m, timer); err != nil {
		return stalled(ctx, fmt.Errorf("read back: %w", err))
	}
	readBack := time.Now()

	r.report.phase(PhasePublish, 0)
	m.Durations = Durations{
		Save:     seconds(c.ended().Sub(at.created)),
		Upload:   seconds(uploaded.Sub(at.created)),
		ReadBack: seconds(readBack.Sub(uploaded)),
		Total:    seconds(readBack.Sub(r.began)),
	}
	if err := leaseLost(ctx); err != nil {
		return lostError(err)
	}
	err = r.catalogue.publish(ctx, *m)
	_, r.mayArrive = errors.AsType[mayArriveError](err)
	return stalled(ctx, err)
}

// stalled returns why ctx ended in place of an error that follows from it.
func stalled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// seconds keeps milliseconds.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// read reads an RDB to its end through the walk and into the upload, and makes
// sure that it is the one that was asked for.
func (r *run) read(ctx context.Context, c capture, up *upload, timer *stallTimer) (RDB, error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var plain *flow
	sum := sha256.New()
	plain = newFlow(newBuffered(c.open(reading)), func() {
		timer.touch()
		r.report.bytes(plain.n.Load(), up.n.Load())
	}, up, sum)
	summary, err := rdb.Scan(plain)
	if err != nil {
		cause := plain.failure()
		cancel() // what the flow may still wait for
		up.interrupt(err)
		plain.stop()
		if lost, ok := errors.AsType[lostServerError](err); ok {
			return RDB{}, lost
		}
		damage, ok := errors.AsType[*rdb.Error](err)
		if ok && cause == nil && damage.Offset == plain.n.Load() {
			return RDB{}, c.cutOff(plain.n.Load())
		}
		return RDB{}, err
	}
	if err := plain.wait(); err != nil {
		return RDB{}, err
	}
	out := describeRDB(summary)
	out.Size, out.SHA256 = plain.n.Load(), hexSum(sum)
	return out, c.confirm(ctx, summary)
}

// readBack reads the stored object and compares it with what was sent.
func (r *run) readBack(ctx context.Context, m Manifest, timer *stallTimer) error {
	r.report.phase(PhaseReadBack, m.Object.Size)
	body, size, err := r.catalogue.store.Get(ctx, r.catalogue.ObjectKey(m))
	if err != nil {
		return err
	}
	defer body.Close()
	sum := ""
	if size == m.Object.Size {
		size, sum, err = hashAll(body, func(n int64) {
			timer.touch()
			r.report.bytes(m.RDB.Size, n)
		})
		if err != nil {
			return err
		}
	}
	if size != m.Object.Size || sum != m.Object.SHA256 {
		return status.WithHint(status.ReasonVerify, "the store or something before it alters or truncates objects: nothing in it can be trusted until that is found",
			fmt.Errorf("the store returns other bytes than were sent: %d of %d", size, m.Object.Size))
	}
	return nil
}

// cleanUp removes what a failed attempt has left, if the store lets it. The data
// stays when its manifest may still arrive: the snapshot is whole then, and swept
// later if not.
func (r *run) cleanUp(ctx context.Context, id string) {
	const timeout = 5 * time.Second // a pod that is told to end has not long
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	var err error
	if r.mayArrive {
		err = r.catalogue.store.Delete(ctx, r.catalogue.manifestKey(id))
	} else {
		err = r.catalogue.Delete(ctx, id)
	}
	if err != nil || r.mayArrive {
		r.log.Debug("the remains of a failed snapshot stay until they are swept", "id", id, "error", err)
	}
}

func describeServer(pod string, at *moment, place clusterPlace) Server {
	return Server{
		Pod:               pod,
		RunID:             at.runID,
		Role:              at.info.Get("role"),
		Mode:              at.info.Mode(),
		Version:           at.info.Get("redis_version"),
		NodeID:            place.nodeID,
		ReplicationID:     at.replicationID,
		ReplicationOffset: at.replicationOffset,
	}
}
