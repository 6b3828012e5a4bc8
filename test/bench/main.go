// Command bench measures what a scrape of the real program costs: it, every job
// of it on, beside a real redis-server in the states that matter.
//
//	go run ./test/bench [-states small,commands,clients,delay] [-n 500] [-reps 5]
//	    [-other 'redis_exporter --redis.addr=redis://{redis} --web.listen-address={listen} {clients:--export-client-list}']
//
// It prints a table in Markdown, medians over the repetitions, and exits with 1
// when a figure is over a limit that does not depend on the machine. -other puts
// another exporter beside it: started for each state with its placeholders filled
// in, measured in turn with ours, with ratios ours/other. It may be repeated.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// options are the command line.
type options struct {
	binary string
	agent  []string // further flags of it
	states []state
	n      int // scrapes in a repetition of the small state
	reps   int
	others []other
}

func main() {
	// Children die with the thread that started them: it must be this one, and stay.
	runtime.LockOSThread()
	o, err := parse(flag.NewFlagSet("bench", flag.ContinueOnError), os.Args[1:])
	if err != nil {
		if err != flag.ErrHelp { //nolint:errorlint // it is never wrapped
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(f *flag.FlagSet, args []string) (options, error) {
	o := options{states: states()}
	f.StringVar(&o.binary, "binary", "bin/redis-sidecar", "the program to measure (`path`)")
	f.Func("agent", "further `flags` of the program, separated by spaces", func(s string) error {
		o.agent = strings.Fields(s)
		return nil
	})
	f.Func("states", "`names` of the states, separated by commas (all of them)", func(s string) (err error) {
		o.states, err = choose(states(), strings.Split(s, ","))
		return err
	})
	f.IntVar(&o.n, "n", 500, "`scrapes` in a repetition of the small state; the dearer states take a share of it")
	f.IntVar(&o.reps, "reps", 5, "`repetitions`")
	f.Func("other", "`command` of another exporter, with {redis} and {listen} for HOST:PORT and {STATE:words} for words in one state only (repeatable)",
		func(s string) error {
			other, err := parseOther(s)
			o.others = append(o.others, other)
			return err
		})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%q: there are only flags", f.Arg(0))
	case o.n < 1 || o.reps < 1:
		return o, fmt.Errorf("-n %d -reps %d: must be at least 1", o.n, o.reps)
	}
	return o, nil
}

// choose returns the states with these names, in the order of all.
func choose(all []state, names []string) ([]state, error) {
	var known []string
	for _, st := range all {
		known = append(known, st.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no state %q, only %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(st state) bool { return !slices.Contains(names, st.name) }), nil
}

// run measures all states and prints them.
func run(ctx context.Context, o options, out io.Writer) error {
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("%w: make build", err)
	}
	before := loadAverage()
	var results []result
	for _, st := range o.states {
		fmt.Fprintf(out, "# %s: %s\n", st.name, st.what)
		r, err := measure(ctx, o, st)
		if err != nil {
			return fmt.Errorf("%s: %w", st.name, err)
		}
		for _, note := range r.notes {
			fmt.Fprintln(out, "# note:", note)
		}
		results = append(results, r)
	}
	fmt.Fprintf(out, "\n%s; load average %s before, %s after.\n", machine(o.binary, results[0].redis), before, loadAverage())
	fmt.Fprintf(out, "Medians of %d repetitions, for one scrape over a kept connection of loopback; \"in 15s\" is one scrape and all that is used until the next.\n\n", o.reps)
	printTable(out, results)
	return checkLimits(out, results)
}
