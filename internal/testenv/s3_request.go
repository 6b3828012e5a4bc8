package testenv

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// CreateLockedBucket makes an empty bucket with object lock, and so with
// versions.
func (s *S3) CreateLockedBucket(tb testing.TB, name string) {
	tb.Helper()
	s.request(tb, http.MethodPut, "/"+name, "", http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {"true"}}, "")
}

// CreateVersionedBucket makes an empty bucket that keeps old versions.
func (s *S3) CreateVersionedBucket(tb testing.TB, name string) {
	tb.Helper()
	s.request(tb, http.MethodPut, "/"+name, "", nil, "")
	s.request(tb, http.MethodPut, "/"+name, "versioning=", nil,
		`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
}

// request sends a signed request, which must succeed, and returns the answer's body.
func (s *S3) request(tb testing.TB, method, path, query string, header http.Header, body string) string {
	tb.Helper()
	req, err := s.signed(context.Background(), method, path, query, header, body)
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := s.do(req)
	if err != nil {
		tb.Fatal(err)
	}
	return answer
}

// do sends a request and returns the body of a good answer.
func (s *S3) do(req *http.Request) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return "", err
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return "", errors.New("no certificate in " + s.CAFile)
		}
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", req.Method, req.URL, resp.Status, answer)
	}
	return string(answer), err
}

// signed makes a request with a signature of version 4. The query is encoded and
// sorted already.
func (s *S3) signed(ctx context.Context, method, path, query string, header http.Header, body string) (*http.Request, error) {
	u := s.Endpoint + path
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	day, stamp := now.Format("20060102"), now.Format("20060102T150405Z")
	hash := func(text string) string { h := sha256.Sum256([]byte(text)); return hex.EncodeToString(h[:]) }
	sign := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	lower := map[string]string{"host": req.URL.Host, "x-amz-date": stamp, "x-amz-content-sha256": hash(body)}
	for name, values := range header {
		lower[strings.ToLower(name)] = values[0]
	}
	var names []string
	for name, value := range lower {
		names = append(names, name)
		if name != "host" {
			req.Header.Set(name, value)
		}
	}
	slices.Sort(names)
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", method, (&url.URL{Path: path}).EscapedPath(), query)
	for _, name := range names {
		fmt.Fprintf(&canonical, "%s:%s\n", name, lower[name])
	}
	list := strings.Join(names, ";")
	fmt.Fprintf(&canonical, "\n%s\n%s", list, hash(body))
	scope := day + "/" + s.Region + "/s3/aws4_request"
	key := []byte("AWS4" + s.SecretKey)
	for _, part := range []string{day, s.Region, "s3", "aws4_request"} {
		key = sign(key, part)
	}
	signature := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hash(canonical.String())))
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", s.AccessKey, scope, list, signature))
	return req, nil
}
