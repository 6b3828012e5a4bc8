package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Selection says which snapshot of an instance is meant.
type Selection struct {
	From string // see Catalogue.Find; "" is "latest"
	Pod  string // only those that this pod made; "" is any
}

// Select returns the manifest of the snapshot that is meant. Its errors are those
// of Find.
func (c *Catalogue) Select(ctx context.Context, s Selection) (Manifest, error) {
	if s.From == "" {
		s.From = "latest"
	}
	if s.Pod == "" {
		return c.Find(ctx, s.From)
	}
	if _, err := IDTime(s.From); err == nil {
		m, err := c.Find(ctx, s.From)
		if err == nil && m.Server.Pod != s.Pod {
			err = status.WithHint(status.ReasonStoreMissing, "name one of its own, or leave restore.pod out",
				fmt.Errorf("snapshot %s: %w of %s: it was made by %s", m.ID, ErrNotFound, s.Pod, m.Server.Pod))
		}
		return m, err
	}
	notAfter, err := time.Parse(time.RFC3339, s.From)
	if s.From != "latest" && err != nil {
		return c.Find(ctx, s.From) // which says what is wrong with it
	}
	ids, err := c.IDs(ctx)
	if err != nil {
		return Manifest{}, err
	}
	if len(ids) == 0 {
		return Manifest{}, fmt.Errorf("instance %s in %s: %w", c.instance, c.store, ErrNoSnapshots)
	}
	for _, id := range ids {
		at, _ := IDTime(id)
		if podInID(id) != cleanPod(s.Pod) || s.From != "latest" && at.After(notAfter) {
			continue
		}
		m, err := c.chosen(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound): // deleted a moment ago
		case err != nil:
			return Manifest{}, err
		case m.Server.Pod == s.Pod && (s.From == "latest" || !m.CreatedAt.After(notAfter)):
			return m, nil
		}
	}
	return Manifest{}, status.WithHint(status.ReasonStoreMissing, "there are those of "+strings.Join(podsIn(ids), ", "),
		fmt.Errorf("%w of %s (%s)", ErrNotFound, s.Pod, s.From))
}

// podInID returns the pod's part of a valid id, as cleanPod made it.
func podInID(id string) string {
	_, rest, _ := strings.Cut(id, "-")
	return rest[:max(0, len(rest)-suffixInID-1)]
}

// podsIn returns the pods of valid ids, each once, at most ten.
func podsIn(ids []string) []string {
	const shown = 10
	var pods []string
	for _, id := range ids {
		if p := podInID(id); !slices.Contains(pods, p) && len(pods) < shown {
			pods = append(pods, p)
		}
	}
	slices.Sort(pods)
	return pods
}
