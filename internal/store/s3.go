package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// S3 is a store in a bucket of an S3 server. It keeps at most a few idle
// connections.
type S3 struct {
	url       URL
	name      string // for errors: with the endpoint that is really used
	core      minio.Core
	creds     *credentials.Credentials
	transport *http.Transport
	sse       encrypt.ServerSide // nil: the bucket's own

	conditions   conditions
	rangeSize    int64
	rangeBuffers int
	maxParts     int

	call  patience // a request that moves little and can be repeated soon by the caller
	begin patience // the first request of a Put
	carry patience // a request in the middle of a transfer
}

var _ Store = (*S3)(nil)

const (
	dialTimeout = 10 * time.Second
	awsEndpoint = "https://s3.amazonaws.com"
)

func newS3(u URL, opts Options) (*S3, error) {
	if u.Endpoint == "" {
		name, value := firstEnv(opts.Getenv, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
		if value != "" {
			endpoint, err := parseEndpoint(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			u.Endpoint = endpoint
		}
	}
	if u.Region == "" {
		_, u.Region = firstEnv(opts.Getenv, "AWS_REGION", "AWS_DEFAULT_REGION")
	}
	if u.Region == "" {
		u.Region = "us-east-1"
	}
	if u.CAFile == "" {
		u.CAFile = opts.Getenv("AWS_CA_BUNDLE")
	}
	name := u.String()
	amazon := u.Endpoint == "" || strings.HasSuffix(u.Endpoint, ".amazonaws.com")
	if u.Endpoint == "" {
		u.Endpoint = awsEndpoint
	}

	sse, err := newSSE(u)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(u, opts.Stall)
	if err != nil {
		return nil, err
	}
	creds := newCredentials(opts.Getenv, u.Region, transport, amazon)
	scheme, host, _ := strings.Cut(u.Endpoint, "://")
	client, err := minio.New(host, &minio.Options{
		Creds:        creds,
		Secure:       scheme == "https",
		Transport:    checked{transport},
		Region:       u.Region,
		BucketLookup: [...]minio.BucketLookupType{minio.BucketLookupAuto, minio.BucketLookupPath, minio.BucketLookupDNS}[u.PathStyle],
		MaxRetries:   1, // retry has limits in time, minio-go only in attempts
	})
	if err != nil {
		return nil, status.WithReason(status.ReasonStore, fmt.Errorf("%s: %w", name, err))
	}
	client.SetAppInfo("redis-sidecar", opts.Version)
	return &S3{
		url:       u,
		name:      name,
		core:      minio.Core{Client: client},
		creds:     creds,
		transport: transport,
		sse:       sse,

		rangeSize:    rangeSize,
		rangeBuffers: rangeBuffers,
		maxParts:     maxParts,

		call:  patience{attempts: 3, within: min(opts.Patience, 30*time.Second)},
		begin: patience{within: min(opts.Patience, 10*time.Second)},
		carry: patience{within: opts.Patience, denials: true},
	}, nil
}

// firstEnv returns the first of the variables that is not empty.
func firstEnv(getenv func(string) string, names ...string) (name, value string) {
	for _, name := range names {
		if value := getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

func newTransport(u URL, stall time.Duration) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: u.InsecureSkipVerify} //nolint:gosec // only when the URL says so
	if u.CAFile != "" && !strings.HasPrefix(u.Endpoint, "http://") {                              // reading the system's own set takes 4 MB
		pem, err := os.ReadFile(u.CAFile)
		if err != nil {
			return nil, status.WithHint(status.ReasonFile, "check ca-file in the store's URL, or AWS_CA_BUNDLE", fmt.Errorf("certificate authorities of the store: %w", err))
		}
		config.RootCAs, err = x509.SystemCertPool()
		if err != nil {
			config.RootCAs = x509.NewCertPool() // an image without any
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, status.WithHint(status.ReasonFile, "it must hold certificates in PEM form", fmt.Errorf("certificate authorities of the store: no certificate in %s", u.CAFile))
		}
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return stallConn{conn, stall}, nil
		},
		TLSClientConfig: config,
		// A bit before stallConn: a GET that ends there on a connection that was used
		// before is tried again by net/http on each of the others that are idle.
		ResponseHeaderTimeout: stall * 9 / 10,
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConns:          rangeBuffers,
		MaxIdleConnsPerHost:   rangeBuffers,
		IdleConnTimeout:       30 * time.Second,
		DisableCompression:    true, // the bytes of an object are its own
	}, nil
}

// stallConn fails when no byte passed in either direction for a while, which
// bounds every request without bounding the size of what it carries.
type stallConn struct {
	net.Conn
	stall time.Duration
}

func (c stallConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c stallConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// checked gives names to two things that minio-go would hide: a connection that
// was closed becomes an untyped text in it, and a web page (of a console, of a
// captive portal) an empty list of objects.
type checked struct{ http.RoundTripper }

var (
	errClosed  = errors.New("the server closed the connection")
	errWebPage = errors.New("the server answers with a web page")
)

func (t checked) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errClosed
	case err == nil && resp.StatusCode < 300 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		_ = resp.Body.Close()
		return nil, errWebPage
	}
	return resp, err
}

// String implements Store.
func (s *S3) String() string { return s.name }

// Close implements Store.
func (s *S3) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// object returns the name of a key's object in the bucket.
func (s *S3) object(key string) string {
	if s.url.Prefix == "" {
		return key
	}
	return s.url.Prefix + "/" + key
}

// try is retry with the store's idea of transient errors. When the server
// refuses the credentials, they are read again: a Secret may have been rotated.
// In the middle of a transfer, which went well with them, others may come a bit
// later than the old ones end. What was altered on its way is sent again twice:
// more often, and it is not chance but the checksums that do not go together.
func (s *S3) try(ctx context.Context, p patience, fn func() error) error {
	fresh, resent := false, 0
	var used credentials.Value
	return retry(ctx, p, func(err error) bool {
		if r, ok := response(err); ok && altered(r) {
			resent++
			return resent <= 2
		}
		if !denied(err) {
			return transient(err)
		}
		if s.rotated(used) && !fresh {
			fresh = true
			return true
		}
		return p.denials
	}, func() error {
		used = credentials.Value{}
		if !s.creds.IsExpired() {
			used, _ = s.creds.GetWithContext(s.core.CredContext())
		}
		return fn()
	})
}

// rotated reads the credentials again, unless there are others already than
// those that were used, and tells whether they are others now.
func (s *S3) rotated(used credentials.Value) bool {
	cc := s.core.CredContext()
	now, err := s.creds.GetWithContext(cc)
	if err == nil && now != used {
		return true
	}
	s.creds.Expire()
	now, err = s.creds.GetWithContext(cc)
	return err == nil && now != used
}

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, key string) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, s.error(ctx, "stat", key, err)
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return 0, s.error(ctx, "stat", key, err)
	}
	return info.Size, nil
}

func (s *S3) stat(ctx context.Context, key string) (info minio.ObjectInfo, err error) {
	err = s.try(ctx, s.call, func() error {
		info, err = s.core.StatObject(ctx, s.url.Bucket, s.object(key), s.readOptions())
		return err
	})
	if isCode(err, minio.NoSuchKey) {
		// The answer to HEAD has no body: it may be the bucket that is missing.
		exists, bucketErr := s.core.BucketExists(ctx, s.url.Bucket)
		if bucketErr == nil && !exists {
			return info, minio.ErrorResponse{Code: minio.NoSuchBucket, StatusCode: http.StatusNotFound}
		}
	}
	return info, err
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix string, fn func(string, int64, time.Time) error) error {
	if err := checkPrefix(prefix); err != nil {
		return s.error(ctx, "list", prefix, err)
	}
	var fnErr error
	after := "" // the last object that was handed to fn
	for {
		began := after
		err := s.try(ctx, s.call, func() error {
			return s.listFrom(ctx, prefix, &after, func(key string, size int64, modified time.Time) bool {
				fnErr = fn(key, size, modified)
				return fnErr == nil
			})
		})
		switch {
		case fnErr != nil:
			return fnErr
		case err == nil:
			return nil
		case ctx.Err() != nil || !transient(err) || after == began:
			return s.error(ctx, "list", prefix, err)
		}
	}
}

// listFrom lists the objects that come after *after, which it moves on, until
// yield returns false.
func (s *S3) listFrom(ctx context.Context, prefix string, after *string, yield func(string, int64, time.Time) bool) error {
	root := s.object("")
	owner := false
	for o := range s.core.ListObjectsIter(ctx, s.url.Bucket, minio.ListObjectsOptions{
		Prefix:     root + prefix,
		Recursive:  true,
		StartAfter: *after,
		FetchOwner: &owner,
	}) {
		if o.Err != nil {
			return o.Err
		}
		*after = o.Key
		key, ok := strings.CutPrefix(o.Key, root)
		if !ok || checkKey(key) != nil {
			continue // a "folder" that a console made, or not ours
		}
		if !yield(key, o.Size, o.LastModified) {
			return nil
		}
	}
	return ctx.Err() // the iterator ends silently with ctx
}

// Sweep implements Store. It goes through the unfinished uploads of the whole
// bucket, because MinIO finds none by a prefix that is not an object's name.
func (s *S3) Sweep(ctx context.Context, olderThan time.Duration, own func(key string) bool) (removed int, err error) {
	limit := time.Now().Add(-olderThan)
	keyMarker, idMarker := "", ""
	for {
		var page minio.ListMultipartUploadsResult
		err := s.try(ctx, s.call, func() (err error) {
			page, err = s.core.ListMultipartUploads(ctx, s.url.Bucket, "", keyMarker, idMarker, "", 1000)
			return err
		})
		if err != nil {
			return removed, s.error(ctx, "sweep", "", err)
		}
		for _, up := range page.Uploads {
			key, ours := strings.CutPrefix(up.Key, s.object(""))
			if !ours || !own(key) || up.Initiated.After(limit) || up.Initiated.IsZero() { // no time: maybe just begun
				continue
			}
			if err := s.abort(ctx, up.Key, up.UploadID); err != nil {
				return removed, s.error(ctx, "sweep", key, err)
			}
			removed++
		}
		if !page.IsTruncated || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
			return removed, nil
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

// abort removes the parts of an unfinished upload.
func (s *S3) abort(ctx context.Context, object, uploadID string) error {
	err := s.try(ctx, s.call, func() error {
		return s.core.AbortMultipartUpload(ctx, s.url.Bucket, object, uploadID)
	})
	if isCode(err, minio.NoSuchUpload) {
		return nil
	}
	return err
}
