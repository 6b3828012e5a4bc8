// Command faults produces the fault table of backup and restore: it does to the
// real program, beside a real redis-server and a real S3 server, all that is
// known to go wrong, at every step that can be told from outside, and after each
// run makes sure that
//
//   - every snapshot that is listed restores, into a new directory and a real
//     server, to exactly the keys of the moment that it was asked for at;
//   - a server starts in every data directory, and no data is gone;
//   - whatever failed says so, and why.
//
// usage:
//
//	go run ./test/faults [-binary bin/redis-sidecar] [-only REGEXP] [-runs N] [-seed N] [-out FILE]
//	go run ./test/faults -chaos 250
//
// It prints Markdown, and exits with 1 when any of these did not hold. The quick
// rows of it are part of make test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// settings say what is run.
type settings struct {
	binary string
	only   string
	runs   int // of each row; 0: as the row says
	quick  bool
	budget time.Duration // of quick: no run begins later
	seed   uint64
	beside int // rows that wait, at the same time
	log    io.Writer
	chaos  int // rounds; 0: the table
}

func main() {
	if done, code := otherwise(); done {
		os.Exit(code)
	}
	s := settings{log: os.Stderr}
	flag.StringVar(&s.binary, "binary", "bin/redis-sidecar", "the program (`path`)")
	flag.StringVar(&s.only, "only", "", "the rows whose group or step matches `REGEXP`")
	flag.IntVar(&s.runs, "runs", 0, "`runs` of each row; 0: as many as it wants")
	flag.BoolVar(&s.quick, "quick", false, "what make test runs")
	flag.DurationVar(&s.budget, "budget", time.Minute, "with -quick, how long new runs are begun")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "of what is left to chance")
	flag.IntVar(&s.beside, "beside", 12, "how many rows that only wait run at the same time")
	flag.IntVar(&s.chaos, "chaos", 0, "only the chaos test, this many `rounds` with each source")
	out := flag.String("out", "", "write the table to this `file`, too")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := tables(ctx, s, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// otherwise does what this program is started for by itself.
func otherwise() (done bool, code int) {
	if done, code := asTracer(); done {
		return done, code
	}
	return inOwnMounts()
}

// tables makes and prints the table.
func tables(ctx context.Context, s settings, out string) error {
	to := io.Writer(os.Stdout)
	if out != "" {
		f, err := os.Create(out)
		if err != nil {
			return err
		}
		defer f.Close()
		to = io.MultiWriter(os.Stdout, f)
	}
	fmt.Fprintf(to, "Seed %d.\n", s.seed)
	if s.chaos > 0 {
		var results []*chaosResult
		for _, source := range []string{"bgsave", "stream"} {
			results = append(results, chaos(ctx, s, source, s.chaos))
		}
		return errors.Join(chaosTable(to, results), context.Cause(ctx))
	}
	tb, err := produce(ctx, s)
	if tb == nil {
		return err
	}
	tb.print(to) // what there is of it, when it was interrupted
	if err != nil {
		return err
	}
	for _, kind := range kinds() {
		if n := tb.count(kind); n > 0 {
			return fmt.Errorf("%d × %s", n, kind)
		}
	}
	return nil
}

// produce runs the rows.
func produce(ctx context.Context, s settings) (*table, error) {
	only, err := regexp.Compile(s.only)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.binary); err != nil {
		return nil, fmt.Errorf("%w: run make build", err)
	}
	// What all share is the trial around all others.
	tb := &table{}
	all := &trial{name: "all", binary: s.binary, s3: &sharedS3{}}
	all.run(ctx, func(t *trial) {
		t.s3.S3 = testenv.StartS3(t)
		jobs := s.jobs(t, tb, only)
		var waiting sync.WaitGroup
		defer waiting.Wait()
		places := make(chan struct{}, max(s.beside, 1))
		began := time.Now()
		for _, j := range jobs {
			if s.quick && time.Since(began) > s.budget {
				break
			}
			if !j.res.row.waits {
				s.once(ctx, t, tb, j)
				continue
			}
			places <- struct{}{}
			waiting.Go(func() {
				defer func() { <-places }()
				s.once(ctx, t, tb, j)
			})
		}
	})
	if len(all.broken) > 0 {
		return nil, errors.New(all.broken[0].text)
	}
	if tb.runs() == 0 {
		return nil, errors.New("no row was run")
	}
	return tb, context.Cause(ctx)
}

// job is one run of a row.
type job struct {
	res *result
	run int
}

// jobs returns all runs, in the order of the table, and adds its lines; those for
// make test are as many as the time allows, by chance.
func (s settings) jobs(all *trial, tb *table, only *regexp.Regexp) []job {
	var jobs []job
	for _, r := range rows() {
		if !only.MatchString(r.group + ": " + r.step) {
			continue
		}
		expanded := []row{r}
		if r.expand != nil {
			expanded = r.expand(all)
		}
		for i, r := range expanded {
			res := &result{row: r, outcomes: map[string]int{}}
			tb.results = append(tb.results, res)
			for run := range s.runsOf(r, i) {
				jobs = append(jobs, job{res, run})
			}
		}
	}
	if s.quick {
		rand.New(rand.NewPCG(s.seed, 0)).Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	}
	return jobs
}

// runsOf returns how often the i-th row of those that were expanded is run.
func (s settings) runsOf(r row, i int) int {
	const sample = 6 // of the expanded ones
	switch {
	case s.quick && r.quick && i%sample == 0:
		return 1
	case s.quick:
		return 0
	case s.runs > 0:
		return s.runs
	}
	return r.runs
}

// once runs a row once.
func (s settings) once(ctx context.Context, all *trial, tb *table, j job) {
	res := j.res
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	seed := s.seed + uint64(j.run)
	t := &trial{name: res.row.step, binary: s.binary, s3: all.s3, random: rand.New(rand.NewPCG(seed, uint64(len(res.row.step))))}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	t.run(ctx, res.row.do)
	tb.add(res, t)
	line := fmt.Sprintf("%5.1f s  %s: %s: %s\n", time.Since(began).Seconds(), res.row.group, res.row.step, t.outcome)
	var verdict strings.Builder
	for _, v := range t.broken {
		fmt.Fprintf(&verdict, "    %s: %s\n", v.kind, tail(v.text))
	}
	fmt.Fprint(s.log, line+verdict.String())
}
