package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// guard applies what the configuration file says to every request: headers, rate
// limit and password. Probes need none of them.
func (r *reloader) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		st := r.get()
		for name, value := range st.headers {
			w.Header().Set(name, value)
		}
		if isPublic(req.URL.Path) {
			h.ServeHTTP(w, req)
			return
		}
		if !r.rate.allow(st.limit) {
			http.Error(w, "429: more requests than rate_limit allows", http.StatusTooManyRequests)
			return
		}
		if len(st.users) > 0 && !r.bears(req) {
			name, password, ok := req.BasicAuth()
			if !ok || !r.auth.check(req.Context(), st.users, name, password) {
				w.Header().Set("WWW-Authenticate", `Basic realm="redis-sidecar", charset="UTF-8"`)
				http.Error(w, "401: name and password, please", http.StatusUnauthorized)
				return
			}
		}
		h.ServeHTTP(w, req)
	})
}

// bears tells whether the path itself judges the token that came.
func (r *reloader) bears(req *http.Request) bool {
	return strings.HasPrefix(req.Header.Get("Authorization"), "Bearer ") && slices.Contains(r.bearer, req.URL.Path)
}

// authenticator checks passwords against bcrypt hashes, which is slow by intent,
// and remembers the last good one of each user, so that a scrape every few
// seconds costs one hash in all. One hash is computed at a time: a flood of
// guesses takes one processor, not all.
type authenticator struct {
	key  []byte        // of the digests; new in every process
	turn chan struct{} // holds one token

	mu   sync.Mutex
	good map[string][]byte // by user: digest of the hash and the password that fits it
}

func newAuthenticator() *authenticator {
	a := &authenticator{key: make([]byte, 32), turn: make(chan struct{}, 1), good: map[string][]byte{}}
	_, _ = rand.Read(a.key) // never fails, see crypto/rand
	return a
}

// check tells whether a password is the user's. A name that does not exist takes
// as long as a wrong password.
func (a *authenticator) check(ctx context.Context, users map[string]credential, name, password string) bool {
	want, known := users[name]
	if !known {
		for _, other := range users {
			want = other
			break
		}
	}
	if want.plain {
		sum := sha256.Sum256([]byte(password))
		return hmac.Equal(sum[:], want.hash) && known
	}
	digest := a.digest(want.hash, password)
	if known && a.remembered(name, digest) {
		return true
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return false
	}
	if bcrypt.CompareHashAndPassword(want.hash, []byte(password)) != nil || !known {
		return false
	}
	a.mu.Lock()
	a.good[name] = digest
	for user := range a.good {
		if _, ok := users[user]; !ok {
			delete(a.good, user)
		}
	}
	a.mu.Unlock()
	return true
}

func (a *authenticator) remembered(name string, digest []byte) bool {
	a.mu.Lock()
	good := a.good[name]
	a.mu.Unlock()
	return hmac.Equal(good, digest)
}

func (a *authenticator) digest(hash []byte, password string) []byte {
	m := hmac.New(sha256.New, a.key)
	m.Write(hash)
	m.Write([]byte{0})
	m.Write([]byte(password))
	return m.Sum(nil)
}
