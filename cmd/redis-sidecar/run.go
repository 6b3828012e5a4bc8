package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/announce"
	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/config"
	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/metric"
	"github.com/redis-sidecar/redis-sidecar/internal/probe"
	"github.com/redis-sidecar/redis-sidecar/internal/process"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/web"
)

func agentCommand() *command {
	return &command{
		name: "run", summary: "Run the agent: announce, configuration, metrics, backup and probes.",
		text: "Runs until SIGTERM or SIGINT: then it waits for a snapshot in progress, up to pod.drain-timeout, and ends. A second signal\n" +
			"ends it at once. A redis-server or a store that is away stops nothing: it is reported, and tried again.",
		flags:    "  --version\n        Print the version and end.\n",
		exits:    "  0  ended by a signal\n  1  an address is taken, or the agent cannot go on\n  2  a setting or the command line is wrong\n",
		sections: []string{},
		run: func(ctx context.Context, e *env, args []string) error {
			if slices.Contains(args, "--version") || slices.Contains(args, "-version") {
				return versionCommand().run(ctx, e, nil)
			}
			l, err := load(e, args, nil)
			if err != nil {
				return err
			}
			if err := noArguments(l.rest); err != nil {
				return err
			}
			oneCore(e.getenv)
			a, err := newAgent(e, l)
			if err != nil {
				return err
			}
			defer a.close()
			return a.run(ctx, e.hurry)
		},
	}
}

// agent is everything that runs beside the server, wired.
type agent struct {
	l       *loaded
	started time.Time
	board   *status.Board
	clients []*redis.Client
	jobs    []func(ctx context.Context, hurry <-chan struct{}) error
	sources []metric.Source // the metrics of the agent itself
	process *process.Collector
	gate    *exporter.Gate // of all that is read in the background, here and for /scrape
	server  *web.Server
}

func newAgent(e *env, l *loaded) (*agent, error) {
	a := &agent{l: l, started: time.Now().UTC(), board: status.NewBoard(l.log, nil), process: process.New(), gate: exporter.NewGate()}
	a.sources = append(a.sources, status.NewMetrics(a.board), newBuildInfo())
	if !l.Exporter.Show.RedisOnly {
		a.sources = append(a.sources, a.process)
	}

	routes := web.Routes{
		MetricsPath: l.Web.TelemetryPath, Probes: map[string]http.Handler{}, Status: a.status,
		Pages: map[string]http.Handler{}, Actions: map[string]http.Handler{"/-/reload": http.HandlerFunc(a.reload)},
	}
	if l.Redis.Addr == "" {
		a.withoutServer(&routes)
	} else if err := a.withServer(e, &routes); err != nil {
		return nil, err
	}
	a.add(trim)

	var err error
	a.server, err = web.New(web.Options{Addresses: l.Web.ListenAddress, ConfigFile: l.Web.ConfigFile, Direct: webDirect(l.Settings), BearerPaths: []string{backupPath}}, routes.Handler(l.log), l.log)
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// withServer adds the jobs beside a server.
func (a *agent) withServer(e *env, routes *web.Routes) error {
	rep := a.board.Register(status.Exporter, exporter.Reasons()...)
	announced := a.addAnnounce()
	a.addConfig()
	if err := a.addBackup(e, routes); err != nil {
		return err
	}
	probes := a.addProbes(announced)
	client := a.exporterClient(a.l.redisOptions("redis-sidecar:exporter"), scrapeReplyLimit)
	export := a.newExporter(rep, client)
	main := exporter.NewHandler(export, a.goMetrics())
	routes.Metrics = main
	a.addScrapes(routes, export, main)
	at, _ := redis.ParseAddress(a.l.Redis.Addr)
	routes.Pages["/discover-cluster-nodes"] = exporter.NewDiscovery(client, scheme(at), a.l.Exporter.ClusterDiscoverHostnames, a.l.Redis.Timeout)
	for _, k := range probe.Kinds() {
		routes.Probes[k.Path()] = probes.Handler(k)
	}
	return nil
}

// withoutServer adds what is left when redis.addr is empty, as redis_exporter
// has it: the agent's own metrics. There are no probes, as there is nothing to
// judge.
func (a *agent) withoutServer(routes *web.Routes) {
	for _, j := range []status.Job{status.Announce, status.Config, status.Backup, status.Probe} {
		a.board.Register(j).Disable("redis.addr is empty")
	}
	rep := a.board.Register(status.Exporter)
	rep.Disable("redis.addr is empty")
	export := a.newExporter(rep, nil)
	routes.Metrics = exporter.NewHandler(export, a.goMetrics())
	a.addScrapes(routes, export, nil)
}

// client opens a kept connection that close closes.
func (a *agent) client(name string) *redis.Client {
	c := a.l.clientNamed("redis-sidecar:" + name)
	a.clients = append(a.clients, c)
	return c
}

// add makes a job part of run. A job that only stops needs no hurry.
func (a *agent) add(run func(context.Context) error) {
	a.jobs = append(a.jobs, func(ctx context.Context, _ <-chan struct{}) error { return run(ctx) })
}

// addAnnounce returns what readiness asks: whether the announced address is
// right.
func (a *agent) addAnnounce() func() (bool, string) {
	rep := a.board.Register(status.Announce, announce.Reasons()...)
	if a.l.elsewhere {
		rep.Disable("redis.addr is not on this host: announce.mode says what to do all the same")
		return nil
	}
	if a.l.Announce.Mode == "off" {
		rep.Disable("announce.mode is off")
		return nil
	}
	j := announce.New(a.client("announce"), announce.Options{
		Mode: announce.Mode(a.l.Announce.Mode), Address: a.l.Announce.Address, PodIP: a.l.Pod.IP, Interval: a.l.Announce.Interval,
	}, rep)
	a.sources = append(a.sources, announce.NewMetrics(j))
	a.add(j.Run)
	return j.OK
}

func (a *agent) addConfig() {
	rep := a.board.Register(status.Config, config.FailureReasons()...)
	if a.l.Config.Path == "" {
		rep.Disable("config.path is not set")
		return
	}
	j := config.New(config.Options{Path: a.l.Config.Path, Interval: a.l.Config.Interval, Timeout: a.l.Redis.Timeout}, a.client("config"), rep)
	a.sources = append(a.sources, j)
	a.add(j.Run)
}

// newExporter comes after everything that has metrics of its own. Without a
// server it has nothing but those.
func (a *agent) newExporter(rep *status.Reporter, server exporter.Server) *exporter.Exporter {
	o := a.l.exporterOptions()
	o.Sources = a.sources
	if server == nil {
		o.Background = exporter.BackgroundOptions{}
	} else {
		o.Background.Gate = a.gate
		o.Background.Server = a.exporterClient(a.l.backgroundOptions(a.l.redisOptions("redis-sidecar:background")), backgroundReplyLimit)
	}
	e := exporter.New(server, rep, o)
	a.add(e.Run)
	return e
}

// goMetrics gathers the metrics of the Go runtime, if they are wanted.
func (a *agent) goMetrics() prometheus.Gatherer {
	if !a.l.Exporter.Show.GoRuntime || a.l.Exporter.Show.RedisOnly {
		return nil
	}
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
	return r
}

func (a *agent) addBackup(e *env, routes *web.Routes) error {
	rep := a.board.Register(status.Backup, backup.Reasons()...)
	if a.l.Backup.Schedule == "" {
		const why = "backup.schedule is not set"
		rep.Disable(why)
		routes.Actions[backupPath] = backup.NoRequests(why, "set backup.schedule and backup.store")
		return nil
	}
	schedule, err := backup.ParseSchedule(a.l.Backup.Schedule)
	if err != nil {
		return err
	}
	snapshot := a.l.snapshotOptions()
	snapshot.Log = rep.Logger()
	j, err := backup.New(backup.Options{
		Snapshot: snapshot, Schedule: schedule, Jitter: a.l.Backup.Jitter, Retention: a.l.retention(), Verify: a.l.verifyPlan(e), Drain: a.l.Pod.DrainTimeout,
		OnStart: a.l.Backup.OnStart, OnShutdown: a.l.Backup.OnShutdown, LeaseTTL: a.l.Backup.LeaseTTL,
	}, a.client("backup"), func(ctx context.Context) (backup.Store, error) { return a.l.openStore(ctx, e) }, rep)
	if err != nil {
		return err
	}
	a.sources = append(a.sources, backup.NewMetrics(j))
	if a.l.Backup.Verify.Schedule != "" {
		a.sources = append(a.sources, backup.NewVerifyMetrics(j))
	}
	a.jobs = append(a.jobs, j.Run)
	routes.Actions[backupPath] = backup.NewRequestHandler(j, backup.RequestOptions{TokenFile: a.l.Backup.TriggerTokenFile, Log: rep.Logger()})
	return nil
}

// backupPath is where a snapshot is asked for.
const backupPath = "/backup"

func (a *agent) addProbes(announced func() (bool, string)) *probe.Monitor {
	rep := a.board.Register(status.Probe, probe.Reasons()...)
	// Whether the server is late is the monitor's to judge, not the connection's.
	o := a.l.redisOptions("redis-sidecar:probe")
	o.Timeout = probe.AskTimeout
	client := redis.New(o)
	a.clients = append(a.clients, client)
	m := probe.NewMonitor(client, probe.Options{
		Interval: a.l.Probe.Interval, Policy: a.l.probePolicy(), AnnounceOK: announced, Fresh: a.fresh,
	}, rep)
	a.sources = append(a.sources, probe.NewMetrics(m))
	a.add(m.Run)
	return m
}

// fresh proves that a new connection is still accepted.
func (a *agent) fresh(ctx context.Context) error {
	c := a.l.clientNamed("")
	defer c.Close()
	_, err := c.Do(ctx, "PING")
	return err
}

// statusPage is what /status answers.
type statusPage struct {
	Version string          `json:"version"`
	Pod     string          `json:"pod"`
	Redis   string          `json:"redis"` // address, without a password
	Started time.Time       `json:"started"`
	Now     time.Time       `json:"now"`
	State   status.State    `json:"state"`             // of all jobs together
	Targets []targetStatus  `json:"targets,omitempty"` // of exporter.targets
	Jobs    []status.Report `json:"jobs"`
}

func (a *agent) status() any {
	reports := a.board.Reports()
	return statusPage{
		Version: buildVersion().version, Pod: a.l.Pod.Name, Redis: settings.RedactURL(a.l.Redis.Addr),
		Started: a.started, Now: time.Now().UTC(), State: status.Overall(reports), Targets: a.targets(), Jobs: reports,
	}
}

// run runs all jobs until a signal. The web side starts first and ends last, so
// that what the others do can be seen to the end.
func (a *agent) run(ctx context.Context, hurry <-chan struct{}) error {
	addrs, err := a.server.Listen(ctx)
	if err != nil {
		return err
	}
	a.l.log.Info("redis-sidecar runs", "version", buildVersion().version, "pod", a.l.Pod.Name, "listen", addrs,
		"redis", settings.RedactURL(a.l.Redis.Addr))

	defer context.AfterFunc(ctx, func() {
		a.l.log.Info("stopping: work in progress may finish, a second signal ends it", "within", a.l.Pod.DrainTimeout.String())
	})()
	webCtx, stopWeb := context.WithCancel(context.WithoutCancel(ctx))
	webDone := make(chan error, 1)
	go func() { webDone <- a.server.Run(webCtx) }()

	g, jobs := errgroup.WithContext(ctx)
	for _, run := range a.jobs {
		g.Go(func() error { return run(jobs, hurry) })
	}
	g.Go(func() error { // the web side must not end before the jobs
		select {
		case err := <-webDone:
			webDone <- err
			return fmt.Errorf("web: %w", errors.Join(errors.New("ended before the jobs"), err))
		case <-jobs.Done():
			return nil
		}
	})
	jobsErr := g.Wait()
	stopWeb()
	webErr := <-webDone
	if errors.Is(jobsErr, context.Canceled) && ctx.Err() != nil {
		jobsErr = nil
	}
	if err := errors.Join(jobsErr, webErr); err != nil {
		return err
	}
	a.l.log.Info("stopped")
	return nil
}

func (a *agent) close() {
	for _, c := range a.clients {
		_ = c.Close()
	}
	a.process.Close()
}

// buildInfo is what this program was built from, as a metric.
type buildInfo struct {
	desc   *metric.Desc
	labels []string
}

func newBuildInfo() buildInfo {
	b := buildVersion()
	return buildInfo{
		desc:   metric.New(metric.Gauge, "build_info", "1, with what this program was built from as labels.", "goversion", "revision", "version"),
		labels: []string{b.goVersion, b.revision, b.version},
	}
}

// Describe implements metric.Source.
func (b buildInfo) Describe() []*metric.Desc { return []*metric.Desc{b.desc} }

// Emit implements metric.Source.
func (b buildInfo) Emit(to metric.Sink) { to.Set(b.desc, 1, b.labels...) }
