package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

// other is an exporter to compare with.
type other struct{ name, command string }

var placeholder = regexp.MustCompile(`\{([a-z]+)(:[^}]*)?\}`)

// parseOther reads the command of another exporter and looks for mistakes in it.
func parseOther(command string) (other, error) {
	words := strings.Fields(command)
	if len(words) == 0 {
		return other{}, errors.New("the command is empty")
	}
	missing := map[string]bool{"{redis}": true, "{listen}": true}
	for _, m := range placeholder.FindAllStringSubmatch(command, -1) {
		if m[2] != "" {
			if _, err := choose(states(), []string{m[1]}); err != nil {
				return other{}, fmt.Errorf("%s: %w", m[0], err)
			}
			continue
		}
		if m[1] != "redis" && m[1] != "listen" {
			return other{}, fmt.Errorf("%s: there are {redis}, {listen} and {STATE:words}", m[0])
		}
		delete(missing, m[0])
	}
	for name := range missing {
		return other{}, fmt.Errorf("%q lacks %s", command, name)
	}
	return other{name: filepath.Base(words[0]), command: command}, nil
}

// words fills in the placeholders.
func (o other) words(st state, redis, listen string) []string {
	return strings.Fields(placeholder.ReplaceAllStringFunc(o.command, func(found string) string {
		m := placeholder.FindStringSubmatch(found)
		switch {
		case m[2] == "" && m[1] == "redis":
			return redis
		case m[2] == "":
			return listen
		case m[1] == st.name:
			return m[2][1:]
		default:
			return ""
		}
	}))
}

// start starts the exporter. It ends with the servers.
func (o other) start(ctx context.Context, s *rig.Servers, st state, redis string) (*subject, error) {
	ports, err := rig.FreePorts(1)
	if err != nil {
		return nil, err
	}
	listen := "127.0.0.1:" + ports[0]
	words := o.words(st, redis, listen)
	child, err := s.Children.Start(o.name+"-"+ports[0], os.Environ(), words[0], words[1:]...)
	if err != nil {
		return nil, err
	}
	return newSubject(o.name, child, "http://"+listen), child.Listens(ctx, listen)
}
