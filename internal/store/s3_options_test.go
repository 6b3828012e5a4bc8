package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// head returns what the server says of an object.
func head(t *testing.T, s *S3, key string) minio.ObjectInfo {
	t.Helper()
	opts := s.readOptions()
	opts.Checksum = true
	info, err := s.core.StatObject(t.Context(), s.url.Bucket, s.object(key), opts)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// sizesOfPuts are those of one request, and of several parts.
func sizesOfPuts() map[string]int {
	return map[string]int{"empty": 0, "one": 100_000, "parts": 6 << 20}
}

func TestS3Checksums(t *testing.T) {
	for kind, srv := range bothS3(t) {
		for _, mode := range []Checksum{ChecksumAuto, ChecksumSHA256, ChecksumCRC32C, ChecksumNone} {
			t.Run(kind+", "+string(mode), func(t *testing.T) {
				s := open(t, srv.URL("bucket", string(mode))+"&part-size=5MiB&checksum="+string(mode), Options{Getenv: srv.Getenv}).(*S3)
				for key, size := range sizesOfPuts() {
					put(t, s, key, noise(1, size))
					want, _ := sum(t, noise(1, size))
					r, _, err := s.Get(t.Context(), key)
					if err != nil {
						t.Fatal(err)
					}
					if got, n := sum(t, r); got != want {
						t.Errorf("%s: got back %d other bytes", key, n)
					}
					r.Close()
					info := head(t, s, key)
					if got, want := info.ChecksumSHA256 != "", mode == ChecksumSHA256; got != want {
						t.Errorf("%s: SHA-256 %q", key, info.ChecksumSHA256)
					}
					if got, want := info.ChecksumCRC32C != "", mode == ChecksumCRC32C; got != want {
						t.Errorf("%s: CRC32C %q", key, info.ChecksumCRC32C)
					}
				}
				if _, err := s.PutIf(t.Context(), "record", []byte("x"), ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// altering returns the address of a front that inverts a byte in the middle of
// the next bodies of PUT, n of them.
func altering(t *testing.T, srv *testenv.S3) (endpoint string, n *atomic.Int64) {
	t.Helper()
	target, err := url.Parse(srv.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	n = &atomic.Int64{}
	front := httptest.NewServer(&httputil.ReverseProxy{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if r.In.Method != http.MethodPut || n.Add(-1) < 0 {
				return
			}
			body, err := io.ReadAll(r.In.Body)
			if err != nil || len(body) == 0 {
				return
			}
			body[len(body)/2] ^= 0xff
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
		},
	})
	t.Cleanup(front.Close)
	return front.URL, n
}

// A byte that changes on its way is noticed by the server, and sent again.
func TestS3UploadAltered(t *testing.T) {
	for kind, srv := range bothS3(t) {
		endpoint, alter := altering(t, srv)
		for _, mode := range []Checksum{ChecksumAuto, ChecksumSHA256, ChecksumCRC32C, ChecksumNone} {
			t.Run(kind+", "+string(mode), func(t *testing.T) {
				at := testenv.StoreURL(endpoint, srv.Region, "bucket", string(mode)) + "&part-size=5MiB&checksum=" + string(mode)
				s := open(t, at, Options{Getenv: srv.Getenv})
				hasty := open(t, at, Options{Getenv: srv.Getenv, Patience: 300 * time.Millisecond})
				for _, size := range []int{100_000, 6 << 20} {
					want, _ := sum(t, noise(1, size))
					alter.Store(1)
					put(t, s, "key", noise(1, size))
					alter.Store(0)
					r, _, err := s.Get(t.Context(), "key")
					if err != nil {
						t.Fatal(err)
					}
					got, _ := sum(t, r)
					r.Close()
					if (got == want) != (mode != ChecksumNone) {
						t.Errorf("%d bytes: the object is as it was sent: %v", size, got == want)
					}
					if mode == ChecksumNone {
						continue
					}
					alter.Store(1 << 30)
					_, err = hasty.Put(t.Context(), "never", noise(1, size))
					alter.Store(0)
					if status.ReasonOf(err) != status.ReasonVerify || !strings.HasPrefix(status.HintOf(err), "something on the way") {
						t.Errorf("%d bytes: got %v (%s)", size, err, status.ReasonOf(err))
					}
				}
				if got := list(t, s, "never"); len(got) > 0 {
					t.Errorf("got %v", got)
				}
			})
		}
	}
}

// ssecFile writes a key for sse=c.
func ssecFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestS3Encryption(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{TLS: true, KMS: "backup-key"})
	srv.CreateBucket(t, "bucket")
	raw := strings.Repeat("k", ssecKeySize)
	coded := base64.StdEncoding.EncodeToString([]byte(raw)) + "\n"
	for options, want := range map[string]string{
		"sse=s3":                            "AES256",
		"sse=kms":                           "aws:kms",
		"sse=kms&sse-kms-key-id=backup-key": "aws:kms",
		"sse=c&sse-c-key-file=" + ssecFile(t, raw):                 "",
		"sse=c&sse-c-key-file=" + ssecFile(t, coded):               "",
		"sse=c&checksum=sha256&sse-c-key-file=" + ssecFile(t, raw): "",
		"sse=kms&checksum=crc32c":                                  "aws:kms",
	} {
		t.Run(strings.SplitN(options, "/", 2)[0], func(t *testing.T) {
			s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB&"+options, Options{Getenv: srv.Getenv}).(*S3)
			for key, size := range sizesOfPuts() {
				put(t, s, key, noise(1, size))
				if n, err := s.Stat(t.Context(), key); err != nil || n != int64(size) {
					t.Errorf("stat: got %d, %v", n, err)
				}
				want1, _ := sum(t, noise(1, size))
				r, _, err := s.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := sum(t, r); got != want1 {
					t.Errorf("%s: got other bytes", key)
				}
				r.Close()
				if got := head(t, s, key).Metadata.Get("X-Amz-Server-Side-Encryption"); got != want {
					t.Errorf("%s: encryption %q, want %q", key, got, want)
				}
			}
			version, err := s.PutIf(t.Context(), "record", []byte("one"), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = s.PutIf(t.Context(), "record", []byte("two"), version); err != nil {
				t.Fatal(err)
			}
			if data, _, err := s.GetVersioned(t.Context(), "record"); err != nil || string(data) != "two" {
				t.Errorf("got %q, %v", data, err)
			}
			if strings.HasPrefix(options, "sse=c") {
				plain := open(t, srv.URL("bucket", "p"), Options{Getenv: srv.Getenv})
				for _, key := range []string{"one", "parts", "record"} {
					if r, _, err := plain.Get(t.Context(), key); err == nil {
						r.Close()
						t.Errorf("%s can be read without the key", key)
					}
				}
			}
			err = s.List(t.Context(), "", func(key string, _ int64, _ time.Time) error { return s.Delete(t.Context(), key) })
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// The lost answer to the completion of an encrypted upload, whose ETag says nothing.
func TestS3EncryptedCompletionAnswerLost(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{KMS: "backup-key"})
	srv.CreateBucket(t, "bucket")
	s, proxy := throughProxy(t, srv, Options{})
	var err error
	if s.sse, err = newSSE(URL{SSE: SSEKMS}); err != nil {
		t.Fatal(err)
	}
	u := &upload{s3: s, key: "key", object: s.object("key"), mark: "its own"}
	opts := s.objectOptions()
	opts.UserMetadata = map[string]string{markName: u.mark}
	if u.id, err = s.core.NewMultipartUpload(t.Context(), "bucket", u.object, opts); err != nil {
		t.Fatal(err)
	}
	if err := u.sendPart(t.Context(), u.begin(testPartSize), make([]byte, testPartSize)); err != nil {
		t.Fatal(err)
	}
	s.transport.CloseIdleConnections()
	proxy.Set(testenv.Fault{Kind: testenv.Cut, AfterDownload: 1, Once: true})
	if err := u.complete(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}

// An object of another key cannot be read, but deleted.
func TestS3EncryptionOtherKey(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{TLS: true})
	srv.CreateBucket(t, "bucket")
	srv.CreateVersionedBucket(t, "versioned")
	for _, bucket := range []string{"bucket", "versioned"} {
		stores := map[string]Store{"plain": open(t, srv.URL(bucket, "p"), Options{Getenv: srv.Getenv})}
		for _, key := range []string{"a", "b"} {
			stores[key] = open(t, srv.URL(bucket, "p")+"&sse=c&sse-c-key-file="+ssecFile(t, strings.Repeat(key, ssecKeySize)), Options{Getenv: srv.Getenv})
		}
		for writer, hints := range map[string]map[string]string{
			"a": {
				"b":     "sse-c-key-file must hold the key that the object was written with; and the credentials need s3:GetObject on",
				"plain": "an object that was written with sse=c is read with it, and with the key of then in sse-c-key-file",
			},
			"plain": {"a": "an object that was not written with sse=c is read without it"},
		} {
			for reader, hint := range hints {
				put(t, stores[writer], "key", strings.NewReader("x"))
				s := stores[reader]
				if _, err := s.Stat(t.Context(), "key"); !strings.HasPrefix(status.HintOf(err), hint) {
					t.Errorf("%s by %s: got %v (hint %s)", writer, reader, err, status.HintOf(err))
				}
				if r, _, err := s.Get(t.Context(), "key"); !strings.HasPrefix(status.HintOf(err), hint) {
					if err == nil {
						r.Close()
					}
					t.Errorf("%s by %s: got %v (hint %s)", writer, reader, err, status.HintOf(err))
				}
				if err := s.Delete(t.Context(), "key"); err != nil {
					t.Errorf("%s by %s: %v", writer, reader, err)
				}
				if got := versions(t, s.(*S3)); len(got) > 0 {
					t.Errorf("%s by %s: left: %q", writer, reader, got)
				}
			}
		}
	}
}

// A server that ignores what was ordered is found out, and what it stored is gone.
func TestS3OrderIgnored(t *testing.T) {
	srv := testenv.StartS3(t)
	srv.CreateBucket(t, "bucket") // versitygw knows no encryption
	srv.CreateVersionedBucket(t, "versioned")
	front := without(t, srv, "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date")
	for name, c := range map[string]struct{ url, err, hint string }{
		"sse=s3": {srv.URL("bucket", "a") + "&sse=s3", "the server has not encrypted the object by sse=s3",
			"leave sse out of the store's URL, and encrypt before the upload: backup.encryption.recipients"},
		"sse=kms": {srv.URL("bucket", "b") + "&sse=kms", "the server has not encrypted the object by sse=kms",
			"leave sse out of the store's URL, and encrypt before the upload: backup.encryption.recipients"},
		"object-lock": {testenv.StoreURL(front, srv.Region, "versioned", "c") + "&object-lock=governance&object-lock-days=1", "the server does not say that it has locked the object",
			"leave object-lock out of the store's URL; or the credentials lack s3:GetObjectRetention"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, c.url+"&part-size=5MiB&checksum=none", Options{Getenv: srv.Getenv}).(*S3)
			for key, size := range sizesOfPuts() {
				_, err := s.Put(t.Context(), key, noise(1, size))
				pin(t, err, "put "+key+" in "+s.String()+": "+c.err, status.ReasonStore, c.hint)
			}
			if got := versions(t, s); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestS3EncryptionKeyFile(t *testing.T) {
	const hint = "make one with: head -c 32 /dev/urandom | base64 > FILE; who loses it loses the snapshots"
	absent, short := filepath.Join(t.TempDir(), "absent"), ssecFile(t, "hunter2")
	for file, text := range map[string]string{
		absent: "key of sse=c: open " + absent + ": no such file or directory",
		short:  "key of sse=c: " + short + " holds neither 32 bytes nor the base64 of 32 bytes",
	} {
		_, err := Open(t.Context(), "s3://bucket?sse=c&sse-c-key-file="+file, Options{Getenv: env()})
		pin(t, err, text, status.ReasonFile, hint)
	}
	_, err := Open(t.Context(), "s3://bucket?endpoint=http://minio:9000&sse=c&sse-c-key-file="+ssecFile(t, strings.Repeat("k", 32)), Options{Getenv: env()})
	pin(t, err, "store URL: sse=c sends the key with each request, which http://minio:9000 must not see in the clear", status.ReasonStore,
		"use an endpoint with https, or another sse")
}

func TestS3StorageClass(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{})
	srv.CreateBucket(t, "bucket")
	s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB&storage-class=REDUCED_REDUNDANCY", Options{Getenv: srv.Getenv}).(*S3)
	for key, size := range sizesOfPuts() {
		put(t, s, key, noise(1, size))
		if got := head(t, s, key).Metadata.Get("X-Amz-Storage-Class"); got != "REDUCED_REDUNDANCY" {
			t.Errorf("%s: class %q", key, got)
		}
	}
	if _, err := s.PutIf(t.Context(), "record", []byte("x"), ""); err != nil {
		t.Fatal(err)
	}
	if got := head(t, s, "record").Metadata.Get("X-Amz-Storage-Class"); got != "" {
		t.Errorf("a record has class %q", got)
	}
}

// The bucket's name goes into the host's.
func TestS3VirtualHost(t *testing.T) {
	srv := testenv.StartMinIO(t, testenv.MinIO{Domain: "s3.test"})
	srv.CreateBucket(t, "bucket")
	_, port, _ := strings.Cut(srv.Addr(), ":")
	s := open(t, "s3://bucket/p?endpoint=http://s3.test:"+port+"&path-style=false&part-size=5MiB", Options{Getenv: srv.Getenv}).(*S3)
	var asked atomic.Value // a connection may be made for a request that another one serves then
	s.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		asked.Store(addr) // there is no DNS for it here
		return (&net.Dialer{}).DialContext(ctx, network, srv.Addr())
	}
	for key, size := range sizesOfPuts() {
		put(t, s, key, noise(1, size))
		if n, err := s.Stat(t.Context(), key); err != nil || n != int64(size) {
			t.Errorf("%s: got %d, %v", key, n, err)
		}
	}
	if got := list(t, s, ""); len(got) != 3 {
		t.Errorf("got %v", got)
	}
	if _, err := s.PutIf(t.Context(), "record", []byte("x"), ""); err != nil {
		t.Error(err)
	}
	if want := "bucket.s3.test:" + port; asked.Load() != want {
		t.Errorf("asked %s, want %s", asked.Load(), want)
	}
}
