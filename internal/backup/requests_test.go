package backup

import (
	"io"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What docs/store.md says about the number of requests of each job.
func TestStoreRequests(t *testing.T) {
	srv := testenv.StartS3(t)
	srv.CreateBucket(t, testBucket)
	requests := testenv.CountRequests(t, srv)
	s := openStore(t, testenv.StoreURL(requests.URL, srv.Region, testBucket, "p"), srv.Getenv)
	redis := testenv.StartRedis(t)
	sn := newTestSnapshotter(t, redis, s)
	c := newTestCatalogue(t, s)
	var m Manifest
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"snapshot", func() { m = mustSnapshot(t, sn) }, "GET 2, LIST 1, PUT 2"},
		{"another", func() { m = mustSnapshot(t, sn) }, "GET 2, LIST 1, PUT 2"},
		{"prune", func() {
			if _, err := c.Prune(testContext(t), Retention{Last: 2}, false); err != nil {
				t.Fatal(err)
			}
		}, "GET 2, LIST 2"},
		{"list", func() {
			if _, err := c.List(testContext(t), 0); err != nil {
				t.Fatal(err)
			}
		}, "GET 2, LIST 1"},
		{"find", func() {
			if _, err := c.Find(testContext(t), "latest"); err != nil {
				t.Fatal(err)
			}
		}, "GET 1, LIST 1"},
		{"open", func() {
			r, _, err := c.Open(testContext(t), m)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Fatal(err)
			}
		}, "GET 1"},
		{"delete", func() {
			if err := c.Delete(testContext(t), m.ID); err != nil {
				t.Fatal(err)
			}
		}, "DELETE 2, HEAD 2, LIST 1"},
	} {
		requests.Take()
		step.do()
		if got := requests.Take(); got != step.want {
			t.Errorf("%s: got %s, want %s", step.name, got, step.want)
		}
	}
}
