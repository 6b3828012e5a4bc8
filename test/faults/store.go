package main

import (
	"net/http"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// place is where in a snapshot the store makes trouble.
type place struct {
	name                string
	method, path, query string
	data                bool // requests and answers have bodies worth altering
}

func snapshotPlaces() []place {
	return []place{
		{name: "lease", method: http.MethodPut, path: "/lease.json"},
		{name: "first listing", method: http.MethodGet, query: "list-type"},
		{name: "begin of the upload", method: http.MethodPost, path: "/dump.rdb", query: "uploads"},
		{name: "part in the middle", method: http.MethodPut, path: "/dump.rdb", query: "partNumber=2&", data: true},
		{name: "commit", method: http.MethodPost, path: "/dump.rdb", query: "uploadId="},
		{name: "read-back", method: http.MethodGet, path: "/dump.rdb", data: true},
		{name: "manifest", method: http.MethodPut, path: "/manifest.json", data: true},
		{name: "manifest read back", method: http.MethodGet, path: "/manifest.json", data: true},
	}
}

// want is how a run under trouble of the store has to end.
type want int

const (
	succeeds want = iota
	fails
	either
)

// trouble is what the store does.
type trouble struct {
	name string
	rule testenv.Rule // where is added
	want want
	slow bool // the program waits long before it gives up
	down bool // concerns the answer's body, not the request's
	body bool // concerns a body at all
}

func troubles() []trouble {
	return []trouble{
		{name: "500, once", rule: testenv.Rule{Kind: testenv.Answer, Status: 500, Body: testenv.S3Error("InternalError", "try again"), Times: 1}},
		{name: "503, twice", rule: testenv.Rule{Kind: testenv.Answer, Status: 503, Body: testenv.S3Error("SlowDown", "slow down"), Times: 2}},
		{name: "cut, once", rule: testenv.Rule{Kind: testenv.Cut, Times: 1}},
		{name: "done, but the answer is lost, once", rule: testenv.Rule{At: testenv.AtAnswer, Kind: testenv.Cut, Times: 1}},
		{name: "done, but answered with 500, once", rule: testenv.Rule{At: testenv.AtAnswer, Kind: testenv.Answer, Status: 500, Times: 1}},
		{name: "slow", rule: testenv.Rule{Delay: 700 * time.Millisecond}},

		{name: "cut in the middle of the upload, once", rule: testenv.Rule{At: testenv.InUpload, Kind: testenv.Cut, Times: 1}, body: true},
		{name: "upload truncated, once", rule: testenv.Rule{At: testenv.InUpload, Kind: testenv.Truncate, Times: 1}, body: true},
		{name: "byte of the upload altered, once", rule: testenv.Rule{At: testenv.InUpload, Kind: testenv.Alter, Times: 1}, body: true},
		{name: "byte of the upload altered, always", rule: testenv.Rule{At: testenv.InUpload, Kind: testenv.Alter}, body: true, want: fails, slow: true},
		{name: "cut in the middle of the download, once", rule: testenv.Rule{At: testenv.InDownload, Kind: testenv.Cut, Times: 1}, body: true, down: true},
		{name: "download truncated", rule: testenv.Rule{At: testenv.InDownload, Kind: testenv.Truncate}, body: true, down: true, want: fails},
		{name: "byte of the download altered", rule: testenv.Rule{At: testenv.InDownload, Kind: testenv.Alter}, body: true, down: true, want: fails},

		{name: "403, always", rule: testenv.Rule{Kind: testenv.Answer, Status: 403, Body: testenv.S3Error("AccessDenied", "no")}, want: fails},
		{name: "500, always", rule: testenv.Rule{Kind: testenv.Answer, Status: 500, Body: testenv.S3Error("InternalError", "try again")}, want: fails, slow: true},
		{name: "503, always", rule: testenv.Rule{Kind: testenv.Answer, Status: 503, Body: testenv.S3Error("SlowDown", "slow down")}, want: fails, slow: true},
		{name: "cut, always", rule: testenv.Rule{Kind: testenv.Cut}, want: fails, slow: true},
		{name: "done, but the answer is lost, always", rule: testenv.Rule{At: testenv.AtAnswer, Kind: testenv.Cut}, want: either, slow: true},
		{name: "hangs, always", rule: testenv.Rule{Kind: testenv.Hang}, want: fails, slow: true},
	}
}

// at returns the trouble's rule for a place.
func (tr trouble) at(p place) testenv.Rule {
	r := tr.rule
	r.Method, r.Path, r.Query = p.method, p.path, p.query
	return r
}

// fits tells whether a trouble can be at a place.
func (tr trouble) fits(p place) bool {
	return !tr.body || p.data && tr.down == (p.method == http.MethodGet)
}

func storeRows() []row {
	quick := map[string]bool{
		"500, once at commit": true, "done, but the answer is lost, once at commit": true, "byte of the download altered at read-back": true,
		"download truncated at read-back": true, "upload truncated, once at part in the middle": true, "403, always at manifest": true,
		"cut in the middle of the download, once at the dump, restored": true, "byte of the download altered at the dump, restored": true,
	}
	var rows []row
	for _, p := range snapshotPlaces() {
		for _, tr := range troubles() {
			if tr.fits(p) {
				step := tr.name + " at " + p.name
				rows = append(rows, row{group: groupStore, step: step, runs: 1, quick: quick[step], waits: tr.slow, do: func(t *trial) { storeTrouble(t, p, tr) }})
			}
		}
	}
	for _, p := range restorePlaces() {
		for _, tr := range troubles() {
			if tr.fits(p) {
				step := tr.name + " at " + p.name + ", restored"
				rows = append(rows, row{group: groupStore, step: step, runs: 1, quick: quick[step], waits: tr.slow, do: func(t *trial) { restoreTrouble(t, p, tr) }})
			}
		}
	}
	for _, step := range []string{"403", "cut", "500"} {
		rows = append(rows, row{group: groupStore, step: step + ", always at the delete of prune", runs: 1, quick: step == "403", waits: step != "403", do: func(t *trial) { pruneTrouble(t, step) }})
	}
	return rows
}

// storeTrouble takes a snapshot while the store makes trouble at a place.
func storeTrouble(t *trial, p place, tr trouble) {
	w := newWorld(t, options{})
	before := w.truth.saves()
	w.store.Set(tr.at(p))
	run := w.start("backup", "now")
	code := run.wait(w, 8*time.Minute)
	if w.store.Struck() == 0 {
		w.Fatalf("the store was not asked for that: %q", w.store.Requests())
	}
	w.disarm()
	w.judge(run, code, tr.want)
	w.outcomeOf(before, w.outcome, w.outcome)
	// What was sent and given up may still arrive. outcomeOf has restored it, so it
	// is a good one that was not reported.
	late := tr.rule.Kind == testenv.Hang && p.name == "manifest"
	if listed := len(w.listed); code == 0 && listed != 1 || tr.want == fails && listed != 0 && !late {
		w.violated(falseSnapshot, "exit code %d, and %d snapshots are listed", code, listed)
	}
	w.backupAgain()
}

// judge names how a command ended, and whether it was to end so and says why.
func (w *world) judge(run *sidecar, code int, want want) {
	switch {
	case code == 0:
		w.ends("succeeds")
		if want == fails {
			w.violated(silentFailure, "it succeeds under that trouble\n%s", run.stderr.String())
		}
		return
	case want == succeeds:
		w.violated(otherFault, "exit code %d\n%s", code, run.stderr.String())
	}
	cause := run.cause()
	w.ends("refused: %s", short(cause))
	if cause == "" {
		w.violated(silentFailure, "exit code %d, and standard error is %q", code, run.stderr.String())
	}
}

func restorePlaces() []place {
	return []place{
		{name: "the listing", method: http.MethodGet, query: "list-type"},
		{name: "the manifest", method: http.MethodGet, path: "/manifest.json", data: true},
		{name: "the dump", method: http.MethodGet, path: "/dump.rdb", data: true},
	}
}

// restoreTrouble restores while the store makes trouble at a place. What fails
// leaves an empty directory; the next restore makes it whole.
func restoreTrouble(t *trial, p place, tr trouble) {
	w := newWorld(t, options{keys: 100})
	w.past().must("backup", "now")
	w.checkNew(0)
	dir := t.TempDir()
	w.store.Set(tr.at(p))
	run := w.start("restore", "--restore.dir="+dir)
	code := run.wait(w, 8*time.Minute)
	if w.store.Struck() == 0 {
		w.Fatalf("the store was not asked for that: %q", w.store.Requests())
	}
	w.disarm()
	w.judge(run, code, tr.want)
	if code != 0 {
		if got := w.boot(dir, nil); got != loadsNone {
			w.violated(unusableDir, "after a restore that failed, the server %s", got)
		}
		w.past().must("restore", "--restore.dir="+dir)
	}
	if got := w.boot(dir, nil); got != loadsAll {
		w.violated(unusableDir, "after the restore, the server %s", got)
	}
}

// pruneTrouble lets the retention fail: the snapshot is there, and the command
// says that not all went well.
func pruneTrouble(t *trial, how string) {
	w := newWorld(t, options{keys: 3}).with("REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=1")
	w.past().must("backup", "now")
	w.checkNew(0)
	before := w.truth.saves()
	rule := testenv.Rule{Method: http.MethodDelete, Kind: testenv.Answer}
	switch how {
	case "403":
		rule.Status, rule.Body = 403, testenv.S3Error("AccessDenied", "no")
	case "500":
		rule.Status, rule.Body = 500, testenv.S3Error("InternalError", "try again")
	case "cut":
		rule.Kind = testenv.Cut
	}
	w.store.Set(rule, testenv.Rule{Method: http.MethodPost, Query: "delete", Kind: rule.Kind, Status: rule.Status, Body: rule.Body})
	run := w.start("backup", "now", "--prune")
	code := run.wait(w, 8*time.Minute)
	if w.store.Struck() == 0 {
		w.Fatalf("the store was not asked for that: %q", w.store.Requests())
	}
	w.disarm()
	w.judge(run, code, fails)
	if n := w.checkNew(before); n != 1 {
		w.violated(otherFault, "%d new snapshots", n)
	}
	w.backupAgain()
	if n := len(w.ids()); n != 1 {
		w.violated(otherFault, "%d snapshots are left after the next run, want 1", n)
	}
}
