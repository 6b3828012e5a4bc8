package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// response returns the server's error answer in err's chain, if there is one.
func response(err error) (minio.ErrorResponse, bool) {
	return errors.AsType[minio.ErrorResponse](err)
}

func isCode(err error, code string) bool {
	r, ok := response(err)
	return ok && r.Code == code
}

// unknownUser is how versitygw without users calls an access key it does not know.
const unknownUser = "XAdminUserNotFound"

// denied tells whether the server refused the credentials, or a right.
func denied(err error) bool {
	r, ok := response(err)
	if !ok {
		return false
	}
	switch r.Code {
	case minio.AccessDenied, minio.InvalidAccessKeyID, unknownUser, minio.SignatureDoesNotMatch, minio.AllAccessDisabled,
		minio.RequestTimeTooSkewed, "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "AccountProblem", "InvalidSecurity", "NotSignedUp":
		return true
	}
	return r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden
}

// throttled tells whether the server asks for patience.
func throttled(r minio.ErrorResponse) bool {
	switch r.Code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequests":
		return true
	}
	return r.StatusCode == http.StatusTooManyRequests
}

// altered tells whether the server got another body than was sent, or not all of
// it.
func altered(r minio.ErrorResponse) bool {
	switch r.Code {
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody":
		return true
	}
	return false
}

// transient tells whether the same request may succeed soon.
func transient(err error) bool {
	if r, ok := response(err); ok {
		switch r.StatusCode {
		case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		if r.Code == "ConditionalRequestConflict" || r.Code == "OperationAborted" { // another request for this key was running
			return true
		}
		return throttled(r) || altered(r) || r.Code == "RequestTimeout" || r.Code == minio.InternalError || r.Code == "ServiceUnavailable"
	}
	return unreachable(err) && !wrongTLS(err) && !errors.Is(err, errWebPage)
}

// unreachable tells whether err comes from the network, not from the server.
func unreachable(err error) bool {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // net.Error would match errors of files too
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// wrongTLS tells whether certificate or scheme do not fit, which waiting does
// not mend.
func wrongTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch)
}

// error classifies a cause and says what was done to what.
func (s *S3) error(ctx context.Context, op, key string, cause error) error {
	if err := contextError(ctx); err != nil {
		return status.WithReason(status.ReasonOf(err), opError(op, key, s, err))
	}
	if known, ok := errors.AsType[*status.Error](cause); ok {
		return status.WithHint(known.Reason, known.Hint, opError(op, key, s, cause))
	}
	if r, ok := response(cause); ok {
		return s.answered(op, key, r)
	}
	text := cause
	if u, ok := errors.AsType[*url.Error](cause); ok {
		text = u.Err // the URL is said already
	}
	if errors.Is(cause, errWebPage) {
		return status.WithHint(status.ReasonStore, hintNotS3, opError(op, key, s, text))
	}
	if unreachable(cause) {
		return status.WithHint(status.ReasonStoreUnreachable, s.networkHint(cause), opError(op, key, s, text))
	}
	if notS3(cause) {
		return status.WithHint(status.ReasonStore, hintNotS3, opError(op, key, s, fmt.Errorf("the answer is not that of an S3 server: %w", cause)))
	}
	return status.WithReason(status.ReasonStore, opError(op, key, s, cause))
}

const hintNotS3 = "check the endpoint in the store's URL: host, port (that of the S3 API, not of a console) and http or https"

// notS3 tells whether an answer could not be decoded.
func notS3(err error) bool {
	if _, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[xml.UnmarshalError](err)
	return ok || errors.Is(err, io.EOF)
}

func (s *S3) networkHint(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the name %s does not resolve: check the endpoint in the store's URL, and the DNS", dns.Name)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the file of the server's certificate authority: ca-file=/path in the store's URL, or AWS_CA_BUNDLE"
	}
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the server speaks plain HTTP: write endpoint=http://… in the store's URL"
	case wrongTLS(err):
		return "check the server's certificate and the host in the store's URL"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "the server does not answer: check that it runs, and that a firewall or NetworkPolicy lets this pod reach it"
	}
	return "check the endpoint in the store's URL, that the server runs, and that a NetworkPolicy lets this pod reach it"
}

// answerError is the server's own words, in one line.
type answerError struct{ minio.ErrorResponse }

func (a answerError) Error() string {
	text := strings.TrimRight(strings.Join(strings.Fields(a.ErrorResponse.Error()), " "), ".")
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	if strings.HasPrefix(a.Code, strconv.Itoa(a.StatusCode)) { // no S3 code, minio-go took the status line
		if text == "" || text == a.Code {
			return a.Code
		}
		return a.Code + ": " + text
	}
	return fmt.Sprintf("%s (%s)", text, a.Code)
}

func (a answerError) Unwrap() error { return a.ErrorResponse }

// answered classifies an error answer of the server.
func (s *S3) answered(op, key string, r minio.ErrorResponse) error {
	reason, hint := s.judge(op, r)
	if r.Code == minio.NoSuchKey {
		return status.WithHint(reason, hint, opError(op, key, s, absent{}))
	}
	return status.WithHint(reason, hint, opError(op, key, s, answerError{r}))
}

func (s *S3) judge(op string, r minio.ErrorResponse) (status.Reason, string) {
	if r.Region != "" && r.Region != s.url.Region {
		return status.ReasonStore, fmt.Sprintf("the bucket is in region %s: write region=%s in the store's URL", r.Region, r.Region)
	}
	switch r.Code {
	case minio.NoSuchKey:
		return status.ReasonStore, ""
	case minio.NoSuchBucket:
		return status.ReasonStoreMissing, fmt.Sprintf("create the bucket %s, or correct backup.store", s.url.Bucket)
	case minio.InvalidAccessKeyID, unknownUser:
		return status.ReasonStoreDenied, "the server does not know this access key: check AWS_ACCESS_KEY_ID, or the credentials file"
	case minio.SignatureDoesNotMatch:
		return status.ReasonStoreDenied, "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY, or the credentials file"
	case minio.RequestTimeTooSkewed:
		return status.ReasonStoreDenied, "the clocks of this host and of the server differ: set them"
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired":
		return status.ReasonStoreDenied, "the session token is not valid any more: renew the credentials"
	case minio.AuthorizationHeaderMalformed, minio.InvalidRegion, "PermanentRedirect", "IllegalLocationConstraintException":
		return status.ReasonStore, fmt.Sprintf("region %s seems to be wrong: write region=… in the store's URL", s.url.Region)
	case minio.PreconditionFailed:
		return status.ReasonStore, "the object was replaced while it was read: try again"
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded":
		return status.ReasonDiskFull, "the store is full: make room, or lower backup.retention"
	}
	switch {
	case op == "put" && s.url.LockMode != "" && (r.Code == "InvalidRequest" || r.Code == "InvalidBucketObjectLockConfiguration"):
		return status.ReasonStore, "the bucket needs object lock, which is chosen when it is made; or leave object-lock out of the store's URL"
	case r.Code == "InvalidRequest" && (op == "get" || op == "stat") && s.url.SSE == SSEC:
		return status.ReasonStore, "an object that was not written with sse=c is read without it"
	case r.Code == "InvalidRequest" && (op == "get" || op == "stat"):
		return status.ReasonStore, "an object that was written with sse=c is read with it, and with the key of then in sse-c-key-file"
	case denied(r) && (op == "get" || op == "stat") && s.url.SSE == SSEC:
		return status.ReasonStoreDenied, "sse-c-key-file must hold the key that the object was written with; and " + s.rightsHint(op)
	case denied(r):
		return status.ReasonStoreDenied, s.rightsHint(op)
	case altered(r):
		return status.ReasonVerify, "something on the way to the server alters bytes: look at proxies, or try another checksum in the store's URL"
	case throttled(r):
		return status.ReasonStore, "the server asks for fewer requests"
	case r.StatusCode == http.StatusInsufficientStorage:
		return status.ReasonDiskFull, "the store is full: make room, or lower backup.retention"
	case r.StatusCode == http.StatusBadGateway, r.StatusCode == http.StatusServiceUnavailable, r.StatusCode == http.StatusGatewayTimeout:
		return status.ReasonStoreUnreachable, "the server, or a proxy before it, says that it is not available"
	case strings.HasPrefix(r.Code, strconv.Itoa(r.StatusCode)):
		return status.ReasonStore, hintNotS3
	}
	return status.ReasonStore, ""
}

// rightsHint names the rights that an operation needs.
func (s *S3) rightsHint(op string) string {
	objects, bucket := "arn:aws:s3:::"+s.url.Bucket+"/"+s.object("*"), "arn:aws:s3:::"+s.url.Bucket
	if s.url.LockMode != "" {
		switch op {
		case "put":
			return "the credentials need s3:PutObject, s3:PutObjectRetention and s3:AbortMultipartUpload on " + objects
		case "delete":
			return "the credentials need s3:ListBucketVersions on " + bucket + ", and s3:GetObject, s3:GetObjectRetention, s3:DeleteObject and s3:DeleteObjectVersion on " + objects
		}
	}
	right := map[string]string{
		"put":    "s3:PutObject and s3:AbortMultipartUpload on " + objects,
		"get":    "s3:GetObject on " + objects + " (and s3:ListBucket on " + bucket + ", without which an absent object looks forbidden)",
		"stat":   "s3:GetObject on " + objects + " (and s3:ListBucket on " + bucket + ", without which an absent object looks forbidden)",
		"list":   "s3:ListBucket on " + bucket,
		"delete": "s3:GetObject and s3:DeleteObject on " + objects,
		"sweep":  "s3:ListBucketMultipartUploads on " + bucket + " and s3:AbortMultipartUpload on " + objects,
	}[op]
	return "the credentials need " + right
}
