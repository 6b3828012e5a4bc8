package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Server is the redis-server whose configuration is kept. Its errors carry a
// status.Reason; an error reply that is not about the connection, a permission
// or a passing state has ReasonRedis.
type Server interface {
	Info(ctx context.Context, sections ...string) (info.Info, error)
	ConfigGet(ctx context.Context, patterns ...string) (map[string]string, error)
	// ConfigSet sets all pairs (name, value, name, value …) in one command.
	ConfigSet(ctx context.Context, pairs ...string) error
}

// apply sets all pairs or none. From Redis 7.0 on that is one command; before, a
// command takes one pair, and those that were set are set back when a later one
// is refused.
//
// refused are parameters, with the server's words, that were left out: those
// where not the value but the machine is at fault (maxclients above the limit of
// open files), and those of which nothing is known but that the server has them.
// Any other refusal is an error with status.ReasonRejected that names the
// parameter.
func apply(ctx context.Context, server Server, v version, ps []pair) (refused map[string]string, err error) {
	refused = map[string]string{}
	for len(ps) > 0 {
		culprit, err := set(ctx, server, v, ps)
		if err == nil {
			break
		}
		err = withoutSecrets(err, ps)
		if status.ReasonOf(err) != status.ReasonRedis {
			return refused, err
		}
		i := slices.IndexFunc(ps, func(p pair) bool { return p.name == culprit })
		if i < 0 || !ps[i].spec.yields && ps[i].spec.kind != kindUnknown {
			return refused, status.WithHint(status.ReasonRejected, "nothing was changed; correct the value in the file", &rejection{culprit, err})
		}
		refused[culprit] = err.Error()
		ps = slices.Delete(slices.Clone(ps), i, i+1)
	}
	return refused, nil
}

// rejection is the refusal of a value by the server.
type rejection struct {
	name string // of the parameter; "" when the server did not say
	err  error
}

func (r *rejection) Error() string {
	if r.name == "" {
		return r.err.Error()
	}
	return r.name + ": " + r.err.Error()
}

func (r *rejection) Unwrap() error { return r.err }

// set sends the pairs. culprit is the parameter that the server refused.
func set(ctx context.Context, server Server, v version, ps []pair) (culprit string, err error) {
	if v < v70 {
		return setOneByOne(ctx, server, ps)
	}
	args := make([]string, 0, 2*len(ps))
	for _, p := range ps {
		args = append(args, p.name, p.value)
	}
	err = server.ConfigSet(ctx, args...)
	if err != nil && len(ps) == 1 {
		return ps[0].name, err
	}
	return namedCulprit(err), err
}

// namedCulprit returns X of "ERR CONFIG SET failed (possibly related to argument
// 'X') - …", the words of Redis 7.0 and later.
func namedCulprit(err error) string {
	if err == nil {
		return ""
	}
	_, rest, ok := strings.Cut(err.Error(), "related to argument '")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "'")
	return name
}

func setOneByOne(ctx context.Context, server Server, ps []pair) (culprit string, err error) {
	for i, p := range ps {
		err := server.ConfigSet(ctx, p.name, p.value)
		if err == nil {
			continue
		}
		for _, done := range slices.Backward(ps[:i]) {
			if back := server.ConfigSet(ctx, done.name, done.before); back != nil {
				err = fmt.Errorf("%w (and %s could not be set back: %w)", err, done.name, back)
			}
		}
		return p.name, err
	}
	return "", nil
}

// withoutSecrets returns err, or when its text repeats a secret value, an error
// without it: Redis 6.2 quotes the value that it refuses.
func withoutSecrets(err error, ps []pair) error {
	message := err.Error()
	for _, p := range ps {
		if !p.spec.secret {
			continue
		}
		for _, value := range []string{p.value, p.before} {
			if value != "" {
				message = strings.ReplaceAll(message, value, redacted)
			}
		}
	}
	if message == err.Error() {
		return err
	}
	return status.WithHint(status.ReasonOf(err), status.HintOf(err), errors.New(message))
}
