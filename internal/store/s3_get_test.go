package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// One body, and many ranges.
func downloadSizes() map[string]int {
	return map[string]int{"one body": 3 << 20, "ranges": 21 << 20}
}

func TestS3DownloadSurvives(t *testing.T) {
	srv := startS3(t)
	faults := map[string]func(size int64) testenv.Fault{
		"a cut": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Cut, AfterDownload: size / 3, Once: true}
		},
		"a cut in the first answer": func(int64) testenv.Fault { return testenv.Fault{Kind: testenv.Cut, AfterDownload: 100, Once: true} },
		"a cut near the end": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Cut, AfterDownload: size - 1000, Once: true}
		},
		"an error meanwhile": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Answer, AfterDownload: size / 3, Status: 500, Body: testenv.S3Error("InternalError", "oops"), Once: true}
		},
		"a plea for patience": func(size int64) testenv.Fault {
			return testenv.Fault{Kind: testenv.Answer, AfterDownload: size / 3, Status: 503, Body: testenv.S3Error("SlowDown", "Please reduce your request rate."), Once: true}
		},
		"a silent connection": func(size int64) testenv.Fault { return testenv.Fault{Kind: testenv.Hang, AfterDownload: size / 3} },
	}
	for sort, size := range downloadSizes() {
		want, _ := sum(t, noise(1, size))
		put(t, open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}), "key", noise(1, size))
		for name, fault := range faults {
			t.Run(sort+", "+name, func(t *testing.T) {
				s, proxy := throughProxy(t, srv, silence(fault(1)))
				defer mendSilence(proxy, fault(int64(size)))()
				r, _, err := s.Get(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, n := sum(t, r); got != want {
					t.Errorf("got other %d bytes", n)
				}
				if _, down := proxy.Passed(); fault(1).Kind != testenv.Hang && down <= fault(int64(size)).AfterDownload {
					t.Errorf("the fault did not strike: %d bytes", down)
				}
			})
		}
	}
}

func TestS3DownloadGivesUp(t *testing.T) {
	srv := startS3(t)
	for sort, size := range downloadSizes() {
		put(t, open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}), "key", noise(1, size))
		for name, kind := range map[string]testenv.FaultKind{"cut": testenv.Cut, "hang": testenv.Hang} {
			t.Run(sort+", "+name, func(t *testing.T) {
				fault := testenv.Fault{Kind: kind, AfterDownload: int64(size) / 3}
				s, proxy := throughProxy(t, srv, Options{Stall: time.Second}) // the first answer has three attempts
				s.carry.within = time.Second
				proxy.Set(fault)
				r, _, err := s.Get(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				n, err := io.Copy(io.Discard, r)
				if status.ReasonOf(err) != status.ReasonStoreUnreachable || !strings.HasPrefix(err.Error(), "get key in s3://bucket/p ("+proxy.URL()+"): ") {
					t.Errorf("after %d bytes: got %v (%s)", n, err, status.ReasonOf(err))
				}
				if _, again := r.Read(make([]byte, 1)); !same(again, err) {
					t.Errorf("a second read gives %v", again)
				}
			})
		}
	}
}

// Another object under the same key is not taken for the rest of the first.
func TestS3DownloadOfReplaced(t *testing.T) {
	for kind, srv := range bothS3(t) {
		s := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv}).(*S3)
		s.rangeSize, s.rangeBuffers = 1<<20, 2
		put(t, s, "key", noise(1, 9<<20))
		r, _, err := s.Get(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Fatal(err)
		}
		put(t, s, "key", noise(2, 9<<20))
		n, err := io.Copy(io.Discard, r)
		if !isCode(err, minio.PreconditionFailed) || status.HintOf(err) != "the object was replaced while it was read: try again" || n > 2<<20 {
			t.Errorf("%s: got %d bytes, %v (hint %s)", kind, n, err, status.HintOf(err))
		}
	}
}

// The memory of a download does not depend on the size, and each byte is asked
// for once.
func TestS3GetMemory(t *testing.T) {
	srv := startS3(t)
	s, requests := counted(t, srv)
	const size = 61<<20 + 7
	put(t, s, "key", noise(1, size))
	requests.Take()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); n != size || err != nil {
		t.Fatal(n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > rangeBuffers*rangeSize+5<<20 {
		t.Errorf("a download of 61 MiB allocates %d KiB", got>>10)
	}
	if rangeBuffers*rangeSize > 24<<20 {
		t.Error("the buffers have more than 24 MiB")
	}
	if got := requests.AtOnce(); got < 2 || got > rangeBuffers+2 {
		t.Errorf("%d requests at once", got)
	}
	if down := requests.Down(); down > size+1<<20 {
		t.Errorf("%d bytes came for an object of %d", down, size)
	}
	if got, want := requests.Take(), "GET 13"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is lent stays as it is until it is given back, by whoever and however late.
func TestS3GetLent(t *testing.T) {
	s, _ := counted(t, startS3(t))
	data, err := io.ReadAll(noise(1, 61<<20+7))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "key", bytes.NewReader(data))
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	var first [1000]byte
	if _, err := io.ReadFull(r, first[:]); err != nil || !bytes.Equal(first[:], data[:1000]) {
		t.Fatal("another beginning", err)
	}
	type lent struct {
		piece    []byte
		giveBack func()
	}
	pieces := make(chan lent, rangeBuffers-2) // so many, one that is compared, and one that is fetched
	var got []byte
	var compared sync.WaitGroup
	compared.Go(func() {
		for p := range pieces {
			got = append(got, p.piece...)
			p.giveBack()
		}
	})
	for {
		piece, giveBack, err := r.(Lender).Lend()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(piece) == 0 {
			t.Fatal(len(piece), err)
		}
		pieces <- lent{piece, giveBack}
	}
	close(pieces)
	compared.Wait()
	if !bytes.Equal(got, data[1000:]) {
		t.Errorf("%d bytes of %d, or others", len(got), len(data)-1000)
	}
	if _, _, err := r.(Lender).Lend(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A reader that is closed early leaves nothing behind, and asks for nothing more.
func TestS3GetClosedEarly(t *testing.T) {
	s, requests := counted(t, startS3(t))
	put(t, s, "key", noise(1, 61<<20))
	requests.Take()
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	var n int
	if got := requests.Take(); got == "" || !scan(got, &n) || n > rangeBuffers+1 {
		t.Errorf("%s for the first 5 MiB", got)
	}
}

// counted returns a store whose requests are counted on their way.
func counted(t *testing.T, srv *testenv.S3) (*S3, *testenv.Requests) {
	t.Helper()
	requests := testenv.CountRequests(t, srv)
	return open(t, testenv.StoreURL(requests.URL, srv.Region, "bucket", "p"), Options{Getenv: srv.Getenv}).(*S3), requests
}

func scan(requests string, n *int) bool {
	_, err := fmt.Sscanf(requests, "GET %d", n)
	return err == nil
}

// What docs/store.md says about the number of requests.
func TestS3Requests(t *testing.T) {
	for kind, srv := range bothS3(t) {
		t.Run(kind, func(t *testing.T) {
			s, requests := counted(t, srv)
			ctx := t.Context()
			version := ""
			try := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			read := func(key string) {
				t.Helper()
				r, _, err := s.Get(ctx, key)
				try(err)
				_, err = io.Copy(io.Discard, r)
				try(err)
				try(r.Close())
			}
			for _, c := range []struct {
				name string
				do   func()
				want string
			}{
				{"put of up to one part", func() { put(t, s, "one", noise(1, 8<<20-1)) }, "PUT 1"},
				{"put of five parts", func() { put(t, s, "five", noise(1, 33<<20)) }, "PART 5, POST 2"},
				{"get of up to 5 MiB", func() { put(t, s, "small", noise(1, 5<<20)); requests.Take(); read("small") }, "GET 1"},
				{"get of 33 MiB", func() { read("five") }, "GET 7"},
				{"stat", func() { _, err := s.Stat(ctx, "one"); try(err) }, "HEAD 1"},
				{"list", func() { list(t, s, "") }, "LIST 1"},
				{"delete", func() { try(s.Delete(ctx, "one")) }, "DELETE 1, HEAD 1"},
				{"sweep", func() { _, err := s.Sweep(ctx, time.Hour, anyKey); try(err) }, "LIST 1"},
				{"first putif", func() { v, err := s.PutIf(ctx, "r", []byte("1"), ""); try(err); version = v }, "HEAD 2, PUT 2"},
				{"first replacing putif", func() { v, err := s.PutIf(ctx, "r", []byte("2"), version); try(err); version = v }, "PUT 2"},
				{"putif", func() { v, err := s.PutIf(ctx, "r", []byte("3"), version); try(err); version = v }, "PUT 1"},
				{"creating putif", func() { _, err := s.PutIf(ctx, "q", []byte("3"), ""); try(err) }, "PUT 1"},
				{"getversioned", func() { _, _, err := s.GetVersioned(ctx, "r"); try(err) }, "GET 1"},
			} {
				requests.Take()
				c.do()
				if got := requests.Take(); got != c.want {
					t.Errorf("%s: got %s, want %s", c.name, got, c.want)
				}
			}
		})
	}
}

// Two parts are on their way at once, not more.
func TestS3PutAtOnce(t *testing.T) {
	s, requests := counted(t, startS3(t))
	put(t, s, "key", noise(1, 48<<20))
	// For the front a request ends a moment later than for the client.
	if got := requests.AtOnce(); got < mostBuffers-1 || got > mostBuffers {
		t.Errorf("%d requests at once", got)
	}
}

// bothS3 starts one server of each kind, with a bucket.
func bothS3(t *testing.T) map[string]*testenv.S3 {
	t.Helper()
	servers := map[string]*testenv.S3{"versitygw": testenv.StartS3(t), "minio": testenv.StartMinIO(t, testenv.MinIO{})}
	for _, srv := range servers {
		srv.CreateBucket(t, "bucket")
	}
	return servers
}

// A way that lets the start of every answer pass is given up like one that lets
// nothing pass.
func TestS3DownloadStallsAgainAndAgain(t *testing.T) {
	srv := startS3(t)
	for sort, size := range downloadSizes() {
		t.Run(sort, func(t *testing.T) {
			put(t, open(t, srv.URL("bucket", "stalls"), Options{Getenv: srv.Getenv}), "key", noise(1, size))
			proxy := testenv.StartHTTPProxy(t, srv.Addr())
			at := testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "stalls")
			s := open(t, at, Options{Getenv: srv.Getenv, Stall: time.Second})
			proxy.Set(testenv.Rule{Method: http.MethodGet, Path: "/key", At: testenv.InDownload, Kind: testenv.Hang})
			r, _, err := s.Get(t.Context(), "key")
			if err == nil {
				defer r.Close()
				_, err = io.Copy(io.Discard, r)
			}
			if status.ReasonOf(err) != status.ReasonStoreUnreachable {
				t.Errorf("got %v", err)
			}
			// Each half of what is left would be a stall of its own, two dozen for a byte.
			if n := proxy.Struck(); n <= maxStalls || n > (maxStalls+1)*rangeBuffers {
				t.Errorf("it stalled %d times", n)
			}
		})
	}
}
