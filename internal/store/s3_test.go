package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func putOptions() minio.PutObjectOptions { return minio.PutObjectOptions{} }

func startS3(t *testing.T) *testenv.S3 {
	t.Helper()
	srv := testenv.StartS3(t)
	srv.CreateBucket(t, "bucket")
	return srv
}

// throughProxy returns a store of the bucket behind a proxy.
func throughProxy(t *testing.T, srv *testenv.S3, opts Options) (*S3, *testenv.Proxy) {
	t.Helper()
	proxy := testenv.StartProxy(t, srv.Addr())
	opts.Getenv = srv.Getenv
	return open(t, testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "p")+"&part-size=5MiB", opts).(*S3), proxy
}

// env is an environment of pairs of name and value.
func env(pairs ...string) func(string) string {
	m := map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

const (
	hintBadKey    = "the server does not know this access key: check AWS_ACCESS_KEY_ID, or the credentials file"
	hintBadSecret = "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY, or the credentials file"
	hintNetwork   = "check the endpoint in the store's URL, that the server runs, and that a NetworkPolicy lets this pod reach it"
)

func TestS3Denied(t *testing.T) {
	srv := startS3(t)
	srv.CreateUser(t, "nobody", "nobodys-secret")
	in := " in s3://bucket/p (" + srv.Endpoint + "): "
	ctx := t.Context()

	s := open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_ACCESS_KEY_ID", "unknown", "AWS_SECRET_ACCESS_KEY", "hunter2")})
	_, err := s.Put(ctx, "key", noise(1, 20<<20))
	pin(t, err, "put key"+in+"The AWS Access Key Id you provided does not exist in our records (InvalidAccessKeyId)", status.ReasonStoreDenied, hintBadKey)
	_, err = s.Put(ctx, "key", noise(1, 1<<20))
	pin(t, err, "put key"+in+"The AWS Access Key Id you provided does not exist in our records (InvalidAccessKeyId)", status.ReasonStoreDenied, hintBadKey)

	s = open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_ACCESS_KEY_ID", srv.AccessKey, "AWS_SECRET_ACCESS_KEY", "hunter2")})
	err = s.List(ctx, "", nil)
	pin(t, err, "list"+in+"The request signature we calculated does not match the signature you provided. Check your key and signing method (SignatureDoesNotMatch)",
		status.ReasonStoreDenied, hintBadSecret)
	_, _, err = s.Get(ctx, "key")
	if status.ReasonOf(err) != status.ReasonStoreDenied || status.HintOf(err) != hintBadSecret {
		t.Errorf("get: %v", err)
	}

	// Known, but without rights.
	s = open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_ACCESS_KEY_ID", "nobody", "AWS_SECRET_ACCESS_KEY", "nobodys-secret")})
	_, err = s.Put(ctx, "key", noise(1, 20<<20))
	pin(t, err, "put key"+in+"Access Denied (AccessDenied)", status.ReasonStoreDenied,
		"the credentials need s3:PutObject and s3:AbortMultipartUpload on arn:aws:s3:::bucket/p/*")
	err = s.List(ctx, "x/", nil)
	pin(t, err, "list x/"+in+"Access Denied (AccessDenied)", status.ReasonStoreDenied,
		"the credentials need s3:ListBucket on arn:aws:s3:::bucket")
	_, err = s.Stat(ctx, "key")
	pin(t, err, "stat key"+in+"Access Denied (AccessDenied)", status.ReasonStoreDenied,
		"the credentials need s3:GetObject on arn:aws:s3:::bucket/p/* (and s3:ListBucket on arn:aws:s3:::bucket, without which an absent object looks forbidden)")
	err = s.Delete(ctx, "key")
	pin(t, err, "delete key"+in+"Access Denied (AccessDenied)", status.ReasonStoreDenied,
		"the credentials need s3:GetObject and s3:DeleteObject on arn:aws:s3:::bucket/p/*")
}

// A versitygw that has no users has a name of its own for an unknown key.
func TestS3DeniedWithoutUsers(t *testing.T) {
	s, proxy := throughProxy(t, startS3(t), Options{})
	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 404, Body: testenv.S3Error("XAdminUserNotFound", "No user exists with the provided access key ID.")})
	err := s.List(t.Context(), "x/", nil)
	pin(t, err, "list x/ in s3://bucket/p ("+proxy.URL()+"): No user exists with the provided access key ID (XAdminUserNotFound)", status.ReasonStoreDenied, hintBadKey)
}

func TestS3BucketMissing(t *testing.T) {
	srv := testenv.StartS3(t)
	s := open(t, srv.URL("absent", "p"), Options{Getenv: srv.Getenv})
	in := " in s3://absent/p (" + srv.Endpoint + "): The specified bucket does not exist (NoSuchBucket)"
	hint := "create the bucket absent, or correct backup.store"
	ctx := t.Context()
	for _, size := range []int{1, 20 << 20} {
		_, err := s.Put(ctx, "key", noise(1, size))
		pin(t, err, "put key"+in, status.ReasonStoreMissing, hint)
	}
	_, _, err := s.Get(ctx, "key")
	pin(t, err, "get key"+in, status.ReasonStoreMissing, hint)
	_, err = s.Stat(ctx, "key")
	pin(t, err, "stat key"+in, status.ReasonStoreMissing, hint)
	pin(t, s.List(ctx, "", nil), "list"+in, status.ReasonStoreMissing, hint)
	pin(t, s.Delete(ctx, "key"), "delete key"+in, status.ReasonStoreMissing, hint)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing bucket looks like a missing object")
	}

	srv.CreateBucket(t, "absent")
	put(t, s, "key", strings.NewReader("it is there now"))
}

func TestS3Unreachable(t *testing.T) {
	srv := startS3(t)
	addr := srv.Addr()
	s := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv, Patience: time.Second})
	srv.Stop(t)
	in := " in s3://bucket/p (" + srv.Endpoint + "): dial tcp " + addr + ": connect: connection refused"
	_, err := s.Put(t.Context(), "key", strings.NewReader("x"))
	pin(t, err, "put key"+in, status.ReasonStoreUnreachable, hintNetwork)
	pin(t, s.List(t.Context(), "", nil), "list"+in, status.ReasonStoreUnreachable, hintNetwork)
	_, _, err = s.Get(t.Context(), "key")
	pin(t, err, "get key"+in, status.ReasonStoreUnreachable, hintNetwork)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Stat(ctx, "key")
	if status.ReasonOf(err) != status.ReasonStoreUnreachable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: got %v (%s)", err, status.ReasonOf(err))
	}

	srv.Start(t)
	put(t, s, "key", strings.NewReader("back"))

	s = open(t, "s3://bucket?endpoint=http://no-such-host.invalid", Options{Getenv: srv.Getenv, Patience: time.Second}).(*S3)
	err = s.List(t.Context(), "", nil)
	if status.ReasonOf(err) != status.ReasonStoreUnreachable ||
		status.HintOf(err) != "the name no-such-host.invalid does not resolve: check the endpoint in the store's URL, and the DNS" {
		t.Errorf("unknown host: got %v (hint %s)", err, status.HintOf(err))
	}
}

func TestS3UploadSurvives(t *testing.T) {
	servers := bothS3(t)
	const size = 17 << 20
	want, _ := sum(t, noise(1, size))
	for name, fault := range map[string]testenv.Fault{
		"a cut in the first part":     {Kind: testenv.Cut, AfterUpload: 1 << 20, Once: true},
		"a cut in the last part":      {Kind: testenv.Cut, AfterUpload: 16 << 20, Once: true},
		"a refused first request":     {Kind: testenv.Answer, Status: 503, Body: testenv.S3Error("SlowDown", "Please reduce your request rate."), Once: true},
		"an internal error":           {Kind: testenv.Answer, AfterUpload: 8 << 20, Status: 500, Body: testenv.S3Error("InternalError", "oops"), Once: true},
		"a gateway's HTML in between": {Kind: testenv.Answer, AfterUpload: 8 << 20, Status: 502, Body: "<html>Bad Gateway", Once: true},
		"a refusal at the end":        {Kind: testenv.Answer, AfterUpload: size, Status: 503, Body: testenv.S3Error("SlowDown", "Please reduce your request rate."), Once: true},
		"a silent connection":         {Kind: testenv.Hang, AfterUpload: 8 << 20},
	} {
		for kind, srv := range servers {
			t.Run(name+", "+kind, func(t *testing.T) { uploadSurvives(t, srv, fault, size, want) })
		}
	}
}

// silentStall is Options.Stall of a test in which a connection falls silent: as
// short as a test can wait for, and longer than a server that is at work needs for
// an answer, on a machine that is busy with other tests.
const silentStall = 2 * time.Second

// silence are the options for a fault: only one that hangs needs a short Stall.
func silence(fault testenv.Fault) Options {
	if fault.Kind != testenv.Hang {
		return Options{}
	}
	return Options{Stall: silentStall}
}

// mendSilence makes a fault, and ends one that hangs after some more than silentStall.
// What it returns is to be called in the end.
func mendSilence(proxy *testenv.Proxy, fault testenv.Fault) (stop func()) {
	proxy.Set(fault)
	if fault.Kind != testenv.Hang {
		return func() {}
	}
	mend := time.AfterFunc(silentStall+500*time.Millisecond, func() { proxy.Set(testenv.Fault{}) })
	return func() { mend.Stop() }
}

func uploadSurvives(t *testing.T, srv *testenv.S3, fault testenv.Fault, size int, want string) {
	t.Helper()
	s, proxy := throughProxy(t, srv, silence(fault))
	defer mendSilence(proxy, fault)()
	if n, err := s.Put(t.Context(), "key", noise(1, size)); err != nil || n != int64(size) {
		t.Fatalf("got %d, %v", n, err)
	}
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, n := sum(t, r); got != want {
		t.Errorf("got other %d bytes", n)
	}
	got := uploads(t, s)
	if len(got) > 0 && fault.Kind == testenv.Hang {
		// A part that was given up on can arrive when all is done, and versitygw takes
		// its upload for one that goes on. Sweep removes it.
		if _, err := s.Sweep(t.Context(), 0, anyKey); err != nil {
			t.Error(err)
		}
		got = uploads(t, s)
	}
	if len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

// A part that is altered on its way, or cut short, is refused by the server and
// sent again. Where that is so every time, it is not for long.
func TestS3UploadResent(t *testing.T) {
	srv := startS3(t)
	proxy := testenv.StartHTTPProxy(t, srv.Addr())
	s := open(t, testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "")+"&part-size=5MiB", Options{Getenv: srv.Getenv})
	data := bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)
	for _, kind := range []testenv.FaultKind{testenv.Alter, testenv.Truncate} {
		for _, rule := range []testenv.Rule{{Path: "/parts", Query: "partNumber=2&"}, {Path: "/single"}} {
			rule.Method, rule.At, rule.Kind, rule.Times = http.MethodPut, testenv.InUpload, kind, 2
			sent := data
			if rule.Path == "/single" {
				sent = data[:1000]
			}
			proxy.Set(rule)
			if _, err := s.Put(t.Context(), rule.Path[1:], bytes.NewReader(sent)); err != nil || proxy.Struck() != 2 {
				t.Errorf("%+v, struck %d: %v", rule, proxy.Struck(), err)
			}
			rule.Times = 0
			proxy.Set(rule)
			began := time.Now()
			_, err := s.Put(t.Context(), rule.Path[1:], bytes.NewReader(sent))
			if err == nil || status.ReasonOf(err) != status.ReasonVerify || time.Since(began) > 10*time.Second {
				t.Errorf("%+v: after %s: %v", rule, time.Since(began), err)
			}
		}
	}
}

// The answer to the last request gets lost: the object is there all the same.
func TestS3CompletionAnswerLost(t *testing.T) {
	srv := startS3(t)
	s, proxy := throughProxy(t, srv, Options{})
	u := &upload{s3: s, key: "key", object: s.object("key"), mark: "its own"}
	var err error
	u.id, err = s.core.NewMultipartUpload(t.Context(), "bucket", u.object, minio.PutObjectOptions{UserMetadata: map[string]string{markName: u.mark}})
	if err != nil {
		t.Fatal(err)
	}
	part, err := io.ReadAll(noise(1, testPartSize))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := u.sendPart(t.Context(), u.begin(testPartSize), part); err != nil {
			t.Fatal(err)
		}
	}
	s.transport.CloseIdleConnections()
	proxy.Set(testenv.Fault{Kind: testenv.Cut, AfterDownload: 1, Once: true})
	if err := u.complete(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	if n, err := s.Stat(t.Context(), "key"); err != nil || n != 2*testPartSize {
		t.Errorf("got %d, %v", n, err)
	}

	// A server may not know the upload any more when it is asked again.
	u.id = "unknown"
	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 500, Body: testenv.S3Error("InternalError", "oops"), Once: true})
	if err := u.complete(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	// The object under this key may be another one.
	s.carry = patience{attempts: 1}
	u.mark = "another's"
	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 500, Body: testenv.S3Error("InternalError", "oops"), Once: true})
	s.transport.CloseIdleConnections() // Set reset them
	if err := u.complete(t.Context()); !isCode(err, minio.InternalError) {
		t.Errorf("got %v, want InternalError", err)
	}
}

func TestS3UploadGivesUp(t *testing.T) {
	srv := startS3(t)
	s, proxy := throughProxy(t, srv, Options{Stall: silentStall, Patience: 500 * time.Millisecond})
	in := "put key in s3://bucket/p (" + proxy.URL() + "): "

	// The server goes away in the middle and comes back too late.
	proxy.Set(testenv.Fault{Kind: testenv.Cut, AfterUpload: 8 << 20})
	_, err := s.Put(t.Context(), "key", noise(1, 20<<20))
	if status.ReasonOf(err) != status.ReasonStoreUnreachable || !strings.HasPrefix(err.Error(), in) || !strings.Contains(err.Error(), "(the parts sent so far could not be removed: ") {
		t.Errorf("got %v (%s)", err, status.ReasonOf(err))
	}
	proxy.Set(testenv.Fault{})
	if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	if n, err := s.Sweep(t.Context(), 0, anyKey); n != 1 || err != nil {
		t.Errorf("sweep: got %d, %v", n, err)
	}

	proxy.Set(testenv.Fault{Kind: testenv.Hang})
	_, err = s.Put(t.Context(), "key", strings.NewReader("x"))
	// Either of two timers is the first: that of net/http, or that of the connection.
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) || status.ReasonOf(err) != status.ReasonStoreUnreachable ||
		status.HintOf(err) != "the server does not answer: check that it runs, and that a firewall or NetworkPolicy lets this pod reach it" {
		t.Errorf("got %v (%s, hint %s)", err, status.ReasonOf(err), status.HintOf(err))
	}
	proxy.Set(testenv.Fault{Kind: testenv.Cut}) // what hung must not arrive after all

	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 503, Body: testenv.S3Error("SlowDown", "Please reduce your request rate.")})
	_, err = s.Put(t.Context(), "key", strings.NewReader("x"))
	pin(t, err, in+"Please reduce your request rate (SlowDown)", status.ReasonStore, "the server asks for fewer requests")

	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 503, Body: "<html>no backend"})
	_, err = s.Put(t.Context(), "key", strings.NewReader("x"))
	pin(t, err, in+"503 Service Unavailable: <html>no backend", status.ReasonStoreUnreachable, "the server, or a proxy before it, says that it is not available")

	proxy.Set(testenv.Fault{Kind: testenv.Cut})
	_, err = s.Put(t.Context(), "key", strings.NewReader("x"))
	if status.ReasonOf(err) != status.ReasonStoreUnreachable || !strings.HasPrefix(err.Error(), in) {
		t.Errorf("got %v (%s)", err, status.ReasonOf(err))
	}

	proxy.Set(testenv.Fault{Kind: testenv.Answer, Status: 507, Body: testenv.S3Error("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")})
	_, err = s.Put(t.Context(), "key", noise(1, 20<<20))
	pin(t, err, in+"Storage backend has reached its minimum free drive threshold (XMinioStorageFull)", status.ReasonDiskFull, "the store is full: make room, or lower backup.retention")
	proxy.Set(testenv.Fault{})
	if got := list(t, s, ""); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

// A part that is on its way when the source fails arrives before the upload is
// aborted, not after it, when nobody would remove it.
func TestS3PutFailsWhileAPartIsOnItsWay(t *testing.T) {
	srv := startS3(t)
	proxy := testenv.StartHTTPProxy(t, srv.Addr())
	s := open(t, testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "p"), Options{Getenv: srv.Getenv}).(*S3)
	s.url.PartSize = mib
	const delay = 500 * time.Millisecond
	proxy.Set(testenv.Rule{Method: http.MethodPut, Query: "partNumber=1&", Delay: delay})
	broken := errors.New("source broke")
	began := time.Now()
	_, err := s.Put(t.Context(), "key", &failing{r: noise(1, 3*mib/2), err: broken})
	if took := time.Since(began); !errors.Is(err, broken) || proxy.Struck() != 1 || took < delay {
		t.Errorf("got %v after %s, want the part's answer to be waited for", err, took)
	}
	if got := uploads(t, s); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

// An endpoint that is something else says so.
func TestS3NotS3(t *testing.T) {
	answer := "<!DOCTYPE html><title>Console</title>"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	s := open(t, testenv.StoreURL(srv.URL, "", "bucket", ""), Options{Getenv: env("AWS_ACCESS_KEY_ID", "a", "AWS_SECRET_ACCESS_KEY", "b")})
	in := " in s3://bucket (" + srv.URL + "): "
	err := s.List(t.Context(), "", nil)
	pin(t, err, "list"+in+"the server answers with a web page", status.ReasonStore, hintNotS3)
	_, err = s.Stat(t.Context(), "key")
	pin(t, err, "stat key"+in+"the server answers with a web page", status.ReasonStore, hintNotS3)
	_, err = s.Put(t.Context(), "key", strings.NewReader("x"))
	pin(t, err, "put key"+in+"405 Method Not Allowed: <!DOCTYPE html><title>Console</title>", status.ReasonStore, hintNotS3)

	answer = `{"error": "no"}`
	err = s.List(t.Context(), "", nil)
	pin(t, err, "list"+in+"the answer is not that of an S3 server: EOF", status.ReasonStore, hintNotS3)
}

func TestS3WrongRegion(t *testing.T) {
	srv := startS3(t)
	s := open(t, testenv.StoreURL(srv.Endpoint, "eu-west-1", "bucket", ""), Options{Getenv: srv.Getenv})
	err := s.List(t.Context(), "", nil)
	hint := status.HintOf(err)
	if status.ReasonOf(err) != status.ReasonStore || !strings.Contains(hint, "write region=") {
		t.Errorf("got %v (%s, hint %s)", err, status.ReasonOf(err), hint)
	}
}

func TestS3TLS(t *testing.T) {
	srv := startS3(t)
	target, err := url.Parse(srv.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}})
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // it complains about the handshakes that shall fail
	front.StartTLS()
	defer front.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	base := testenv.StoreURL(front.URL, srv.Region, "bucket", "p")

	for name, s := range map[string]Store{
		"ca-file":       open(t, base+"&ca-file="+ca, Options{Getenv: srv.Getenv}),
		"skip-verify":   open(t, base+"&insecure-skip-verify=true", Options{Getenv: srv.Getenv}),
		"AWS_CA_BUNDLE": open(t, base, Options{Getenv: env("AWS_CA_BUNDLE", ca, "AWS_ACCESS_KEY_ID", srv.AccessKey, "AWS_SECRET_ACCESS_KEY", srv.SecretKey)}),
	} {
		put(t, s, "key", noise(1, 12<<20))
		if n, err := s.Stat(t.Context(), "key"); err != nil || n != 12<<20 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}

	s := open(t, base, Options{Getenv: srv.Getenv})
	err = s.List(t.Context(), "", nil)
	pin(t, err, "list in s3://bucket/p ("+front.URL+"): tls: failed to verify certificate: x509: certificate signed by unknown authority",
		status.ReasonStoreUnreachable, "name the file of the server's certificate authority: ca-file=/path in the store's URL, or AWS_CA_BUNDLE")
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Error("the cause is lost")
	}

	s = open(t, testenv.StoreURL("https://"+srv.Addr(), srv.Region, "bucket", ""), Options{Getenv: srv.Getenv})
	err = s.List(t.Context(), "", nil)
	if status.ReasonOf(err) != status.ReasonStoreUnreachable || status.HintOf(err) != "the server speaks plain HTTP: write endpoint=http://… in the store's URL" {
		t.Errorf("https to http: got %v (hint %s)", err, status.HintOf(err))
	}
	s = open(t, testenv.StoreURL(strings.Replace(front.URL, "https", "http", 1), srv.Region, "bucket", ""), Options{Getenv: srv.Getenv})
	err = s.List(t.Context(), "", nil)
	pin(t, err, "list in s3://bucket ("+strings.Replace(front.URL, "https", "http", 1)+"): 400 Bad Request: Client sent an HTTP request to an HTTPS server", status.ReasonStore, hintNotS3)

	absent := filepath.Join(t.TempDir(), "ca.pem")
	_, err = Open(t.Context(), base+"&ca-file="+absent, Options{Getenv: srv.Getenv})
	pin(t, err, "certificate authorities of the store: open "+absent+": no such file or directory", status.ReasonFile, "check ca-file in the store's URL, or AWS_CA_BUNDLE")
	if err := os.WriteFile(absent, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), base+"&ca-file="+absent, Options{Getenv: srv.Getenv})
	pin(t, err, "certificate authorities of the store: no certificate in "+absent, status.ReasonFile, "it must hold certificates in PEM form")
}

func TestS3PartSize(t *testing.T) {
	const gib = 1024 * mib
	for _, tt := range []struct {
		hint        int64
		first, last int64 // MiB
		small       int   // parts before the larger ones
		memory      int64 // MiB
	}{
		{-1, 8, 24, 7000, 24},
		{0, 8, 24, 7000, 24},
		{1 * gib, 8, 24, 7000, 24},
		{16 * gib, 8, 24, 7000, 24},
		{62 * gib, 8, 24, 7000, 24},
		{64 * gib, 9, 24, 6400, 24},
		{93 * gib, 12, 24, 4000, 24},
		{128 * gib, 17, 34, 4000, 34},
		{187 * gib, 24, 48, 4000, 48},
		{256 * gib, 33, 66, 4000, 66},
		{1024 * gib, 132, 264, 4000, 264},
		{2048 * gib, 263, 526, 4000, 526},
		{4096 * gib, 525, 1050, 4000, 1050},
		{1 << 50, 5120, 5120, maxParts, 5120},
		{1<<63 - 1, 5120, 5120, maxParts, 5120},
	} {
		p := cut(maxParts, defaultPartSize, tt.hint)
		var sum, memory int64
		small := 0
		for n := 1; n <= maxParts; n++ {
			size := p.at(n)
			if size == p.size {
				small++
			}
			sum += size
			memory = max(memory, int64(buffers(size))*size)
		}
		if got, want := []int64{p.at(1) / mib, p.at(maxParts) / mib, int64(small), memory / mib}, []int64{tt.first, tt.last, int64(tt.small), tt.memory}; !slices.Equal(got, want) {
			t.Errorf("hint of %d GiB: first, last, small, memory are %v, want %v", tt.hint/gib, got, want)
		}
		if tt.hint < 5*1024*gib && sum < 2*tt.hint {
			t.Errorf("hint of %d GiB: only %d GiB fit", tt.hint/gib, sum/gib)
		}
	}
	for size, want := range map[int64]int{5 * mib: 3, 8 * mib: 3, 9 * mib: 2, 12 * mib: 2, 13 * mib: 1, 24 * mib: 1, maxPartSize: 1} {
		if got := buffers(size); got != want {
			t.Errorf("%d parts of %d MiB at once, want %d", got, size/mib, want)
		}
	}
}

// An object that is larger than the parts are cut for ends with larger ones, and
// one that is larger still is refused.
func TestS3PartsGrow(t *testing.T) {
	srv := startS3(t)
	s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB", Options{Getenv: srv.Getenv}).(*S3)
	s.maxParts = 4 // three of 5 MiB, one of 24 MiB
	for _, size := range []int{15 << 20, 15<<20 + 1, 30 << 20, 39 << 20} {
		put(t, s, "key", noise(1, size))
		want, err := io.ReadAll(noise(1, size))
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "key"); got != string(want) {
			t.Errorf("%d bytes come back as %d others", size, len(got))
		}
	}
	_, err := s.Put(t.Context(), "more", noise(1, 39<<20+1))
	pin(t, err, "put more in "+s.String()+": the object needs more than 4 parts of 5 to 24 MiB", status.ReasonStore, hintParts)
	if _, err := s.Stat(t.Context(), "more"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is refused is there: %v", err)
	}
}

const hintParts = "raise it with part-size in the store's URL; one part has to fit into memory"

func TestS3TooManyParts(t *testing.T) {
	s := open(t, "s3://bucket", Options{Getenv: env()}).(*S3)
	u := &upload{s3: s, plan: cut(maxParts, 8*mib, 0), key: "key", parts: make([]minio.CompletePart, maxParts)}
	err := u.send(t.Context(), make([]byte, 8*mib), strings.NewReader(""))
	pin(t, err, "put key in s3://bucket: the object needs more than 10000 parts of 8 to 24 MiB", status.ReasonStore, hintParts)
}

// The parts in memory are three, and they are used again.
func TestS3PutMemory(t *testing.T) {
	srv := startS3(t)
	s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB", Options{Getenv: srv.Getenv})
	put(t, s, "warm", noise(1, 1))
	allocated := func(size int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		put(t, s, "key", noise(1, size))
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if got := allocated(40 << 20); got > mostBuffers*testPartSize+5<<20 {
		t.Errorf("an upload of 40 MiB in parts of 5 MiB allocates %d KiB", got>>10)
	}
	if got := allocated(1 << 10); got > 512<<10 {
		t.Errorf("an upload of 1 KiB allocates %d KiB", got>>10)
	}
}

// A connection that stays silent is given up, one that is slow is not.
func TestStallConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		conn := stallConn{client, 100 * time.Millisecond}
		defer conn.Close()
		go func() {
			tick := time.NewTicker(60 * time.Millisecond)
			defer tick.Stop()
			for range 4 {
				<-tick.C
				if _, err := server.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Errorf("slow: %v", err)
		}
		began := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != conn.stall {
			t.Errorf("silent: got %v after %s", err, time.Since(began))
		}
	})
}

func TestS3ListSurvives(t *testing.T) {
	srv := startS3(t)
	const n = 2100
	for i := range n {
		dir := filepath.Join(srv.Root, "bucket", "p", fmt.Sprintf("%04d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "key"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, fault := range map[string]testenv.Fault{
		"a cut":    {Kind: testenv.Cut, AfterDownload: 400 << 10, Once: true},
		"an error": {Kind: testenv.Answer, AfterDownload: 400 << 10, Status: 503, Body: testenv.S3Error("SlowDown", "slow"), Once: true},
	} {
		s, proxy := throughProxy(t, srv, Options{})
		proxy.Set(fault)
		if got := list(t, s, ""); len(got) != n {
			t.Errorf("%s: got %d objects, want %d", name, len(got), n)
		}
		if _, down := proxy.Passed(); down <= fault.AfterDownload {
			t.Errorf("%s: the fault did not strike, the list has %d bytes", name, down)
		}
	}
}
