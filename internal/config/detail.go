package config

import (
	"slices"
	"strings"
	"time"
)

// maxListed bounds each list of the status page.
const maxListed = 100

// Detail is what the status page shows of the job. It holds no secrets.
type Detail struct {
	Path         string    `json:"path"`
	Files        []string  `json:"files,omitempty"`      // the file and what it includes
	Hash         string    `json:"hash,omitempty"`       // SHA-256 over all of them
	Directives   int       `json:"directives,omitempty"` // lines of the last good file
	Watching     string    `json:"watching,omitempty"`   // how changes are noticed
	Note         string    `json:"note,omitempty"`
	RedisVersion string    `json:"redis_version,omitempty"`
	RunID        string    `json:"run_id,omitempty"`
	Problems     []string  `json:"problems,omitempty"`  // of the file as it is now
	Applied      []Change  `json:"applied,omitempty"`   // by the last application
	AppliedAt    time.Time `json:"applied_at,omitzero"` // also when there was nothing to do
	Restart      []Change  `json:"restart,omitempty"`   // a restart of redis-server does it
	Drift        []Change  `json:"drift,omitempty"`     // changed by hand, or not applied yet
	Altered      []Change  `json:"altered,omitempty"`   // taken by the server, and held as something else
	Refused      []Change  `json:"refused,omitempty"`   // not sent, or beyond what the machine gives
	Ignored      []Change  `json:"ignored,omitempty"`   // kept by somebody else
	Outside      []Change  `json:"outside,omitempty"`   // in no line of the file, and not at the default
}

// ofFile takes over what is known of the files alone.
func (d *Detail) ofFile(t *Tree) {
	d.Path, d.Files, d.Hash = t.Path, t.Files, t.Hash
}

// clone returns a copy that the board may keep: the lists are replaced, never
// written to.
func (d *Detail) clone() Detail { return *d }

func bounded(changes []Change) []Change {
	return slices.Clip(changes[:min(len(changes), maxListed)])
}

// names lists the names of changes.
func names(changes []Change) string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.Name
	}
	return strings.Join(out, ", ")
}

// list describes changes, for the log.
func list(changes []Change) string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.String()
	}
	return strings.Join(out, ", ")
}
