package exporter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// openedLimit is how many further exporters /scrape may keep at once.
	openedLimit = 32
	// openedIdle is after how long without a scrape one is closed.
	openedIdle = 15 * time.Minute
)

// Request is what a request to /scrape asks for.
type Request struct {
	// Target is the server as it was named: an own target's name, or an address.
	Target string
	// User is the ACL user of the target's URL, "" for none and for an own target. A
	// password there is never used.
	User string
	// TLSServerName is the name to expect in the server's certificate, "" for the
	// host of the address.
	TLSServerName string
	// Checks are the key checks asked for, by the name of the parameter; they
	// replace those of the settings.
	Checks map[string]string
}

// checkParams are the parameters of /scrape that redis_exporter knows.
func checkParams() []string {
	return []string{"check-keys", "check-single-keys", "check-streams", "check-single-streams", "count-keys"}
}

// Opened is an exporter made for /scrape.
type Opened struct {
	Exporter *Exporter
	// Close closes its connections. Run has returned before.
	Close func()
}

// Scraper is the handler of /scrape: it answers for own targets and for those on
// a list, and never connects to any other host. Own targets keep their exporter.
// One of the list, or an own one with other key checks, gets an exporter of its
// own that is kept for as long as it is asked for.
type Scraper struct {
	// Own are the handlers of the own targets, by name and by address in canonical
	// form.
	Own map[string]http.Handler
	// Canonical returns an address in canonical form, without user and password.
	Canonical func(address string) (string, error)
	// Allowed tells whether the server at an address in canonical form may be
	// asked. It is called for addresses that are not in Own.
	Allowed func(canonical string) bool
	// Open makes the exporter for a request, whose Target is in canonical form or
	// the name of an own target. An error is the request's: a bad pattern, say.
	Open func(Request) (Opened, error)
	// Rejected is told of each request that was not good.
	Rejected func()

	mu     sync.Mutex
	opened map[string]*opened
	runs   sync.WaitGroup
	closed bool
}

type opened struct {
	Opened
	handler http.Handler
	used    time.Time
	using   int
	stop    context.CancelFunc
}

// ServeHTTP answers one scrape.
func (s *Scraper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, own, err := s.parse(r.URL.Query())
	if err != nil {
		s.Rejected()
		code := http.StatusBadRequest
		if errors.Is(err, errNotAllowed) {
			code = http.StatusForbidden
		}
		http.Error(w, fmt.Sprintf("%d: %v", code, err), code)
		return
	}
	r = r.Clone(r.Context())
	q := url.Values{} // what is left for the handler of metrics
	for _, name := range []string{"name[]", "collect[]"} {
		if v := r.URL.Query()[name]; v != nil {
			q[name] = v
		}
	}
	r.URL.RawQuery = q.Encode()
	if own != nil && len(req.Checks) == 0 && req.TLSServerName == "" {
		own.ServeHTTP(w, r)
		return
	}
	o, err := s.get(req, time.Now()) //nolint:contextcheck // what it starts outlives the request
	if err != nil {
		s.Rejected()
		http.Error(w, "400: "+err.Error(), http.StatusBadRequest)
		return
	}
	defer s.put(o)
	o.handler.ServeHTTP(w, r)
}

// errNotAllowed says that a target is neither an own one nor on the list.
var errNotAllowed = errors.New("this target may not be scraped from here: it is not one of exporter.targets, and not in exporter.scrape-allow")

// parse reads a query. own is the handler of an own target.
func (s *Scraper) parse(q url.Values) (req Request, own http.Handler, err error) {
	target := q.Get("target")
	if target == "" {
		return req, nil, errors.New("'target' parameter must be specified")
	}
	for _, name := range checkParams() {
		if v := q.Get(name); v != "" {
			if req.Checks == nil {
				req.Checks = make(map[string]string)
			}
			req.Checks[name] = v
		}
	}
	req.TLSServerName = q.Get("tls_server_name")
	if req.TLSServerName == "" {
		req.TLSServerName = q.Get("tls-server-name")
	}
	if own = s.Own[target]; own != nil {
		req.Target = target
		return req, own, nil
	}
	target, req.User = withoutUser(target)
	if req.Target, err = s.Canonical(target); err != nil {
		return req, nil, fmt.Errorf("the target is not an address: %w", err)
	}
	if own = s.Own[req.Target]; own != nil {
		req.User = "" // it is asked as the settings say
	} else if !s.Allowed(req.Target) {
		return req, nil, errNotAllowed
	}
	return req, own, nil
}

// withoutUser cuts user and password out of an address. Passwords belong into a
// file: they would stand in the logs of Prometheus.
func withoutUser(address string) (rest, user string) {
	scheme, after, ok := strings.Cut(address, "://")
	if !ok {
		scheme, after = "", address
	}
	if i := strings.LastIndex(after, "@"); i >= 0 {
		user, _, _ = strings.Cut(after[:i], ":")
		if plain, err := url.PathUnescape(user); err == nil {
			user = plain
		}
		after = after[i+1:]
	}
	if ok {
		return scheme + "://" + after, user
	}
	return after, user
}

// key tells requests apart that need exporters of their own.
func (r Request) key() string {
	parts := []string{r.Target, r.User, r.TLSServerName}
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		parts = append(parts, name, r.Checks[name])
	}
	return strings.Join(parts, "\x00")
}

// get returns the exporter for a request and makes it if there is none. put
// gives it back.
func (s *Scraper) get(req Request, now time.Time) (*opened, error) {
	key := req.key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the sidecar is stopping")
	}
	s.sweep(now)
	if o := s.opened[key]; o != nil {
		o.used = now
		o.using++
		return o, nil
	}
	if len(s.opened) >= openedLimit && !s.giveUp() {
		return nil, fmt.Errorf("%d combinations of target and checks are being scraped at this moment", openedLimit)
	}
	made, err := s.Open(req)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &opened{Opened: made, handler: NewHandler(made.Exporter, nil), used: now, using: 1, stop: stop}
	if s.opened == nil {
		s.opened = make(map[string]*opened)
	}
	s.opened[key] = o
	s.runs.Go(func() {
		defer made.Close()
		_ = made.Exporter.Run(ctx) // it ends with ctx
	})
	return o, nil
}

func (s *Scraper) put(o *opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.using--
	o.used = time.Now()
}

// sweep closes what nobody asked for lately. It is called with mu held.
func (s *Scraper) sweep(now time.Time) {
	for key, o := range s.opened {
		if o.using == 0 && now.Sub(o.used) > openedIdle {
			o.stop()
			delete(s.opened, key)
		}
	}
}

// giveUp closes the one that nobody has asked for the longest. It is called with
// mu held, and returns false when all are in use.
func (s *Scraper) giveUp() bool {
	oldest := ""
	for key, o := range s.opened {
		if o.using == 0 && (oldest == "" || o.used.Before(s.opened[oldest].used)) {
			oldest = key
		}
	}
	if oldest == "" {
		return false
	}
	s.opened[oldest].stop()
	delete(s.opened, oldest)
	return true
}

// Run closes everything when ctx ends, and in between what is not used any more.
func (s *Scraper) Run(ctx context.Context) error {
	t := time.NewTicker(openedIdle / 4)
	defer t.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-t.C:
			s.mu.Lock()
			s.sweep(now)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	s.closed = true
	for _, o := range s.opened {
		o.stop()
	}
	s.opened = nil
	s.mu.Unlock()
	s.runs.Wait()
	return nil
}
