package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// state is what a server is like while it is measured.
type state struct {
	name, what string

	commands [][]string    // what its clients have used
	clients  int           // idle connections
	delay    time.Duration // added to each round trip
	config   string        // lines of redis.conf
	agent    []string      // flags of the program

	warm  int           // scrapes before all repetitions
	share int           // a repetition has 1/share of the scrapes of the small state
	rest  time.Duration // how long is watched what is used without any scrape

	goals goals
}

// goals are the ratios to redis_exporter that this project wants to keep. 0 is
// none.
type goals struct{ p50, cpu, redisCPU float64 }

// scrapesBeforeMemory is after how many scrapes of the small state the memory is
// looked at.
const scrapesBeforeMemory = 1000

func states() []state {
	return []state{
		{
			name: "small", what: "1,000 keys, about 30 distinct commands seen",
			commands: testenv.Everyday(), warm: scrapesBeforeMemory, share: 1, rest: 5 * time.Second,
			goals: goals{p50: 0.15, cpu: 0.12, redisCPU: 0.7},
		},
		{
			name: "commands", what: "about 125 distinct commands seen",
			commands: testenv.Everything(), warm: 20, share: 5, rest: 5 * time.Second,
			goals: goals{p50: 0.03, cpu: 0.03, redisCPU: 0.8},
		},
		{
			name: "clients", what: "10,000 idle clients, each of them shown",
			commands: testenv.Everyday(), clients: 10_000, config: "maxclients 12000\n",
			// The program lists clients in the background; as often as the scrapes come
			// that the table assumes, so that it does what an exporter would that lists
			// them in every scrape.
			agent: []string{"--exporter.export-client-list", "--exporter.interval=" + scrapeInterval.String()},
			warm:  5, share: 25, rest: 2 * scrapeInterval,
			goals: goals{p50: 0.3, cpu: 0.3, redisCPU: 1},
		},
		{
			name: "delay", what: "small, and 10 ms more for each round trip",
			commands: testenv.Everyday(), delay: 10 * time.Millisecond, warm: 20, share: 10, rest: 5 * time.Second,
			goals: goals{p50: 0.3},
		},
	}
}

// fill writes the keys and uses the commands.
func (st state) fill(ctx context.Context, addr string) error {
	client := redis.New(redis.Options{Addr: addr})
	defer client.Close()
	const keys = 1000
	var commands [][]string
	for i := range keys {
		set := []string{"SET", "app" + strconv.Itoa(i%7) + ":" + strconv.Itoa(i), strings.Repeat("x", i%100)}
		if i%3 == 0 {
			set = append(set, "EX", "36000")
		}
		commands = append(commands, set)
	}
	commands = append(commands, st.commands...)
	replies, err := client.Pipeline(ctx, commands...)
	if err != nil {
		return err
	}
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			return fmt.Errorf("%s: %w", strings.Join(commands[i], " "), err)
		}
	}
	return nil
}

// connect opens the idle connections and returns what closes them.
func (st state) connect(ctx context.Context, addr string) (closeAll func(), err error) {
	var (
		mu    sync.Mutex
		conns []net.Conn
		errs  []error
		wg    sync.WaitGroup
	)
	if err := allowFiles(uint64(st.clients) + 500); err != nil {
		return nil, err
	}
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < st.clients; i += workers {
				c, err := idle(ctx, addr, "app-"+strconv.Itoa(i%50))
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
					mu.Unlock()
					return
				}
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	if len(errs) > 0 {
		closeAll()
		return nil, fmt.Errorf("%d of %d idle clients: %w", len(conns), st.clients, errs[0])
	}
	return closeAll, nil
}

// idle opens a connection that has a name and says nothing more. It is not of a
// client package: ten thousand of these would need more memory than everything
// that is measured.
func idle(ctx context.Context, addr, name string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // an error comes again from the next call
	reply := make([]byte, 64)
	if _, err = fmt.Fprintf(c, "CLIENT SETNAME %s\r\n", name); err == nil {
		var n int
		if n, err = c.Read(reply); err == nil && string(reply[:n]) != "+OK\r\n" {
			err = fmt.Errorf("CLIENT SETNAME: %q", reply[:n])
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// allowFiles makes sure that this program may have n open files.
func allowFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= n {
		return nil
	}
	limit.Cur, limit.Max = n, max(n, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w; ulimit -n %d, or leave the state clients out", n, err, n)
	}
	return nil
}
