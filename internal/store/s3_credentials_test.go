package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func TestCredentialsMissing(t *testing.T) {
	dir := t.TempDir()
	noProfile := filepath.Join(dir, "credentials")
	if err := os.WriteFile(noProfile, []byte("[default]\nregion = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const in = "list in s3://bucket (http://127.0.0.1:1): "
	for _, c := range []struct {
		env       func(string) string
		err, hint string
	}{
		{env("HOME", dir), in + "no credentials: neither AWS_ACCESS_KEY_ID nor AWS_WEB_IDENTITY_TOKEN_FILE is set, and there is no credentials file", hintNoCredentials},
		{env("AWS_ACCESS_KEY_ID", "id"), in + "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "set both"},
		{env("AWS_SHARED_CREDENTIALS_FILE", noProfile), in + "credentials from profile default of " + noProfile + ": no access key in it",
			"the file needs [default] with aws_access_key_id and aws_secret_access_key; AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE choose another"},
		{env("AWS_SHARED_CREDENTIALS_FILE", noProfile, "AWS_PROFILE", "prod"), in + "credentials from profile prod of " + noProfile + `: section "prod" does not exist`,
			"the file needs [prod] with aws_access_key_id and aws_secret_access_key; AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE choose another"},
		{env("AWS_SHARED_CREDENTIALS_FILE", dir+"/absent"), in + "credentials from profile default of " + dir + "/absent: open " + dir + "/absent: no such file or directory",
			"the file needs [default] with aws_access_key_id and aws_secret_access_key; AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE choose another"},
		{env("AWS_WEB_IDENTITY_TOKEN_FILE", dir+"/absent", "AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
			in + "credentials from web identity (" + dir + "/absent at http://127.0.0.1:1): open " + dir + "/absent: no such file or directory",
			"check AWS_ROLE_ARN, the role's trust policy and the service account"},
	} {
		s := open(t, "s3://bucket?endpoint=http://127.0.0.1:1", Options{Getenv: c.env})
		pin(t, s.List(t.Context(), "", nil), c.err, status.ReasonStoreDenied, c.hint)
	}

	// At Amazon the last resort is the instance's role, unless that is switched off.
	s := open(t, "s3://bucket", Options{Getenv: env("HOME", dir)})
	pin(t, s.List(t.Context(), "", nil), "list in s3://bucket: no credentials: neither AWS_ACCESS_KEY_ID nor AWS_WEB_IDENTITY_TOKEN_FILE is set, and there is no credentials file",
		status.ReasonStoreDenied, hintNoCredentials)
}

func TestCredentialsFile(t *testing.T) {
	srv := startS3(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(access, secret string) {
		t.Helper()
		text := fmt.Sprintf("[default]\naws_access_key_id = x\naws_secret_access_key = y\n[backup]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(srv.AccessKey, srv.SecretKey)
	s := open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_SHARED_CREDENTIALS_FILE", file, "AWS_PROFILE", "backup")})
	put(t, s, "key", strings.NewReader("x"))

	// A Secret that is rotated is read again, without a restart.
	write("new-user", "secret")
	err := s.List(t.Context(), "", func(string, int64, time.Time) error { return nil })
	if status.ReasonOf(err) != status.ReasonStoreDenied || status.HintOf(err) != hintBadKey {
		t.Errorf("got %v", err)
	}
	write(srv.AccessKey, srv.SecretKey)
	put(t, s, "key", strings.NewReader("x"))
}

// Credentials that the server does not take any more are replaced in the middle
// of a call, if there are others.
func TestCredentialsRotate(t *testing.T) {
	srv := startS3(t)
	secret := "expired"
	getenv := func(name string) string {
		if name == "AWS_SECRET_ACCESS_KEY" {
			return secret
		}
		return srv.Getenv(name)
	}
	s := open(t, srv.URL("bucket", "p"), Options{Getenv: getenv})
	if _, err := s.Put(t.Context(), "key", strings.NewReader("x")); status.HintOf(err) != hintBadSecret {
		t.Errorf("got %v", err)
	}
	secret = srv.SecretKey
	put(t, s, "key", noise(1, 12<<20))
}

// The service is not at hand: this one speaks the part of STS that is needed.
func TestCredentialsWebIdentity(t *testing.T) {
	srv := startS3(t)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "the-token" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/backup" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
			<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, srv.AccessKey, srv.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()

	s := open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_WEB_IDENTITY_TOKEN_FILE", token, "AWS_ROLE_ARN", "arn:aws:iam::1:role/backup", "AWS_ENDPOINT_URL_STS", sts.URL)})
	put(t, s, "key", strings.NewReader("x"))

	s = open(t, srv.URL("bucket", "p"), Options{Getenv: env("AWS_WEB_IDENTITY_TOKEN_FILE", token, "AWS_ROLE_ARN", "arn:aws:iam::1:role/other", "AWS_ENDPOINT_URL_STS", sts.URL)})
	_, err := s.Put(t.Context(), "key", strings.NewReader("x"))
	pin(t, err, "put key in s3://bucket/p ("+srv.Endpoint+"): credentials from web identity ("+token+" at "+sts.URL+"): Not authorized to perform sts:AssumeRoleWithWebIdentity",
		status.ReasonStoreDenied, "check AWS_ROLE_ARN, the role's trust policy and the service account")

	sts.Close()
	s = open(t, srv.URL("bucket", "p"), Options{Patience: time.Second, Getenv: env("AWS_WEB_IDENTITY_TOKEN_FILE", token, "AWS_ROLE_ARN", "arn:aws:iam::1:role/backup", "AWS_ENDPOINT_URL_STS", sts.URL)})
	if _, err := s.Put(t.Context(), "key", strings.NewReader("x")); status.ReasonOf(err) != status.ReasonStoreUnreachable {
		t.Errorf("got %v (%s)", err, status.ReasonOf(err))
	}
}

// The variables that AWS tools share are understood.
func TestS3Environment(t *testing.T) {
	srv := startS3(t)
	s := open(t, "s3://bucket/p", Options{Getenv: env("AWS_ENDPOINT_URL", srv.Endpoint, "AWS_REGION", srv.Region, "AWS_ACCESS_KEY_ID", srv.AccessKey, "AWS_SECRET_ACCESS_KEY", srv.SecretKey)})
	put(t, s, "key", strings.NewReader("x"))
	if got, want := s.String(), "s3://bucket/p ("+srv.Endpoint+")"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err := Open(t.Context(), "s3://bucket", Options{Getenv: env("AWS_ENDPOINT_URL_S3", "minio:9000")})
	pin(t, err, `AWS_ENDPOINT_URL_S3: "minio:9000" does not start with http:// or https://`, status.ReasonStore, "write http://host:port or https://host:port")
}
