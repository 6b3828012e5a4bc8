package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
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
		{env("AWS_ACCESS_KEY_ID_FILE", "/x"), in + "only one of AWS_ACCESS_KEY_ID_FILE and AWS_SECRET_ACCESS_KEY_FILE is set", "set both"},
		{env("AWS_ACCESS_KEY_ID_FILE", dir+"/absent", "AWS_SECRET_ACCESS_KEY_FILE", noProfile),
			in + "credentials from AWS_ACCESS_KEY_ID_FILE: open " + dir + "/absent: no such file or directory", "each of the files holds one value and nothing else"},
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

// The file is replaced while a request is on its way that the server refuses then.
func TestCredentialsFileRotatesMidway(t *testing.T) {
	srv := startS3(t)
	proxy := testenv.StartHTTPProxy(t, srv.Addr())
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(access, secret string) {
		text := "[default]\naws_access_key_id = " + access + "\naws_secret_access_key = " + secret + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	srv.CreateAdmin(t, "old", "old-secret")
	write("old", "old-secret")
	s := open(t, testenv.StoreURL(proxy.URL(), srv.Region, "bucket", "p"), Options{Getenv: env("AWS_SHARED_CREDENTIALS_FILE", file)})
	put(t, s, "key", noise(1, 100))
	proxy.Set(testenv.Rule{Method: http.MethodPut, Path: "key", Times: 1, Do: func() {
		srv.DeleteUser(t, "old")
		write(srv.AccessKey, srv.SecretKey)
	}})
	put(t, s, "key", noise(2, 100))
	if proxy.Struck() != 1 {
		t.Error("the credentials were not replaced")
	}
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

// keys are credentials in one of the places where they may be.
type keys struct {
	env   func(string) string
	write func(t *testing.T, access, secret string) // replaces them, whole
}

// mounted writes files as the kubelet mounts a Secret: into a new directory, to
// which a link is turned.
func mounted(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	fresh := filepath.Join(dir, ".."+rand.Text())
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(fresh, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "..tmp")
	if err := os.Symlink(filepath.Base(fresh), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
}

func places(t *testing.T) map[string]keys {
	t.Helper()
	shared, secret := t.TempDir(), t.TempDir()
	var mu sync.Mutex
	vars := map[string]string{}
	return map[string]keys{
		"a shared file": {
			env: env("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(shared, "credentials")),
			write: func(t *testing.T, access, key string) {
				t.Helper()
				mounted(t, shared, map[string]string{"credentials": fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, key)})
			},
		},
		"a file per value": {
			env: env("AWS_ACCESS_KEY_ID_FILE", filepath.Join(secret, "id"), "AWS_SECRET_ACCESS_KEY_FILE", filepath.Join(secret, "key")),
			write: func(t *testing.T, access, key string) {
				t.Helper()
				mounted(t, secret, map[string]string{"id": access + "\n", "key": key})
			},
		},
		"the environment": {
			env: func(name string) string { mu.Lock(); defer mu.Unlock(); return vars[name] },
			write: func(t *testing.T, access, key string) {
				t.Helper()
				mu.Lock()
				defer mu.Unlock()
				vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"] = access, key
			},
		},
	}
}

// Keys are replaced in the middle of an upload and of a download, and the old
// ones are removed from the server: before the new ones arrive, or after.
func TestCredentialsRotateInTransfer(t *testing.T) {
	for place, k := range places(t) {
		for _, late := range []bool{false, true} {
			name := place
			if late {
				name += ", late"
			}
			t.Run(name, func(t *testing.T) {
				srv := startS3(t)
				srv.CreateAdmin(t, "first", "firsts-secret")
				srv.CreateAdmin(t, "second", "seconds-secret")
				k.write(t, "first", "firsts-secret")
				s := open(t, srv.URL("bucket", "p")+"&part-size=5MiB", Options{Getenv: k.env}).(*S3)
				s.rangeSize = 1 << 20
				rotate := func() {
					srv.DeleteUser(t, "first")
					if late {
						timer := time.AfterFunc(300*time.Millisecond, func() { k.write(t, "second", "seconds-secret") })
						t.Cleanup(func() { timer.Stop() })
						return
					}
					k.write(t, "second", "seconds-secret")
				}
				const size = 31 << 20
				want, _ := sum(t, noise(1, size))
				source := io.MultiReader(io.LimitReader(noise(1, size), 12<<20), &hook{do: rotate}, tail(t, 1, size, 12<<20))
				if n, err := s.Put(t.Context(), "key", source); n != size || err != nil {
					t.Fatalf("put: got %d, %v", n, err)
				}

				srv.CreateAdmin(t, "first", "firsts-secret")
				k.write(t, "first", "firsts-secret")
				s = open(t, srv.URL("bucket", "p"), Options{Getenv: k.env}).(*S3)
				s.rangeSize = 1 << 20
				r, _, err := s.Get(t.Context(), "key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				head := make([]byte, 10<<20)
				if _, err := io.ReadFull(r, head); err != nil {
					t.Fatal(err)
				}
				rotate()
				if got, _ := sum(t, io.MultiReader(bytes.NewReader(head), r)); got != want {
					t.Error("got other bytes")
				}
			})
		}
	}
}

// hook is an empty reader that does something when it is read.
type hook struct{ do func() }

func (h *hook) Read([]byte) (int, error) { h.do(); return 0, io.EOF }

// tail returns what noise yields after skip bytes.
func tail(t *testing.T, seed byte, n, skip int) io.Reader {
	t.Helper()
	r := noise(seed, n)
	if _, err := io.CopyN(io.Discard, r, int64(skip)); err != nil {
		t.Fatal(err)
	}
	return r
}

// A new file is read before the old keys are refused, and one that cannot be
// used, half written perhaps, does not replace keys that can.
func TestCredentialsFileChanges(t *testing.T) {
	srv := startS3(t)
	srv.CreateAdmin(t, "first", "firsts-secret")
	k := places(t)["a file per value"]
	k.write(t, "first", "firsts-secret")
	s := open(t, srv.URL("bucket", "p"), Options{Getenv: k.env}).(*S3)
	put(t, s, "key", strings.NewReader("x"))
	k.write(t, "first", "")
	put(t, s, "key", strings.NewReader("x"))
	k.write(t, srv.AccessKey, srv.SecretKey)
	s.creds.Expire() // or ten seconds later
	put(t, s, "key", strings.NewReader("x"))
	if used, err := s.creds.GetWithContext(nil); err != nil || used.AccessKeyID != srv.AccessKey {
		t.Errorf("used %s, %v", used.AccessKeyID, err)
	}
	k.write(t, "first", "firsts-secret")
	if used, err := s.creds.GetWithContext(nil); err != nil || used.AccessKeyID != "first" {
		t.Errorf("used %s, %v", used.AccessKeyID, err)
	}
}

// fakeRole hands out the keys of two real users of the S3 server, those of the
// first for a short time, in the way of one of Amazon's services, none of which is
// at hand.
type fakeRole struct {
	mu    sync.Mutex
	calls int
	fail  bool
}

func roleUser(n int) string { return fmt.Sprintf("user-%d", n) }

// next returns what the services answer.
func (f *fakeRole) next() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	user, life := roleUser(1), 3*time.Second
	if f.calls > 1 {
		user, life = roleUser(2), time.Hour
	}
	return fmt.Sprintf(`{"Code": "Success", "AccessKeyId": %q, "SecretAccessKey": %q, "Token": "", "Expiration": %q}`,
		user, "secret-of-"+user, time.Now().Add(life).UTC().Format(time.RFC3339Nano))
}

// start starts a fake of the container endpoint and of the instance's metadata.
func (f *fakeRole) start(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, allowed bool) {
		if f.mu.Lock(); f.fail || !allowed {
			f.mu.Unlock()
			w.WriteHeader(http.StatusForbidden)
			return
		}
		f.mu.Unlock()
		fmt.Fprint(w, f.next())
	}
	mux.HandleFunc("GET /container", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r.Header.Get("Authorization") == "the-token")
	})
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "session") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the-role") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/the-role", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r.Header.Get("X-Aws-Ec2-Metadata-Token") == "session")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestCredentialsOfRoles(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, vars := range map[string]func(url string) map[string]string{
		"container": func(url string) map[string]string {
			return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": url + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token"}
		},
		"pod identity": func(url string) map[string]string {
			return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": url + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}
		},
		"instance": func(url string) map[string]string { return map[string]string{metadataEndpoint: url} },
	} {
		t.Run(name, func(t *testing.T) {
			srv := startS3(t)
			for n := range 2 {
				srv.CreateAdmin(t, roleUser(n+1), "secret-of-"+roleUser(n+1))
			}
			role := &fakeRole{}
			for k, v := range vars(role.start(t)) {
				t.Setenv(k, v)
			}
			t.Setenv("HOME", t.TempDir())
			s := open(t, srv.URL("bucket", "p"), Options{Getenv: os.Getenv}).(*S3)
			put(t, s, "key", strings.NewReader("x"))
			testenv.Eventually(t, 20*time.Second, func() error {
				put(t, s, "key", strings.NewReader("x"))
				if now, _ := s.creds.GetWithContext(nil); now.AccessKeyID != roleUser(2) {
					return errors.New("they were not renewed")
				}
				return nil
			})
			srv.DeleteUser(t, roleUser(1))
			put(t, s, "key", strings.NewReader("x"))
			// The service is away for a while: what is there is used to its end.
			role.mu.Lock()
			role.fail = true
			role.mu.Unlock()
			s.creds.Expire()
			put(t, s, "key", strings.NewReader("x"))
		})
	}
}
