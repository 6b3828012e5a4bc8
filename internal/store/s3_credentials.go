package store

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// newCredentials returns the usual chain, in the order of the AWS SDKs: the
// environment, files of one value each, web identity (IRSA), the shared credentials file, the container
// endpoint (ECS, EKS Pod Identity), the instance's role. The last is asked only
// for a bucket at Amazon: elsewhere its address leads nowhere, slowly.
//
// The first source that is configured is used; one that is configured and does
// not work is an error, not a reason to go on to the next.
func newCredentials(getenv func(string) string, region string, transport *http.Transport, amazon bool) *credentials.Credentials {
	return credentials.New(&chain{getenv: getenv, region: region, transport: transport, amazon: amazon})
}

type chain struct {
	getenv    func(string) string
	region    string
	transport *http.Transport
	amazon    bool

	current credentials.Provider // that gave the last value
	value   credentials.Value
	files   []fileState // that value was read from
	again   time.Time   // when a renewal that failed is tried again
}

// fileState tells one content of a file from the next.
type fileState struct {
	name string
	info os.FileInfo // nil: absent
}

func stateOf(name string) fileState {
	info, err := os.Stat(name)
	if err != nil {
		info = nil
	}
	return fileState{name, info}
}

// changed tells whether the file is another now. That of a mounted Secret is
// another file after each change.
func (f fileState) changed() bool {
	now := stateOf(f.name).info
	if f.info == nil || now == nil {
		return f.info != now
	}
	return !os.SameFile(f.info, now) || !f.info.ModTime().Equal(now.ModTime()) || f.info.Size() != now.Size()
}

var _ credentials.Provider = (*chain)(nil)

// stsTimeout bounds a request for temporary credentials; imdsTimeout one to the
// instance's metadata, which is next door or nowhere.
const (
	stsTimeout  = 15 * time.Second
	imdsTimeout = 2 * time.Second
)

// renewalPause is how long the old credentials are used after a renewal failed.
const renewalPause = 10 * time.Second

// IsExpired implements credentials.Provider. Credentials whose file has changed
// are expired, too.
func (c *chain) IsExpired() bool {
	if c.current == nil {
		return true
	}
	if time.Now().Before(c.again) && c.usable() {
		return false
	}
	return c.current.IsExpired() || slices.ContainsFunc(c.files, fileState.changed)
}

// usable tells whether the last value has not ended yet.
func (c *chain) usable() bool {
	return c.current != nil && (c.value.Expiration.IsZero() || time.Now().Before(c.value.Expiration))
}

// Retrieve implements credentials.Provider.
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider. When it fails, those
// that are there are used as long as they last: most are renewed before they end.
func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	err := c.renew(cc)
	if err != nil && c.usable() {
		c.again = time.Now().Add(renewalPause)
		return c.value, nil
	}
	return c.value, err
}

func (c *chain) renew(cc *credentials.CredContext) error {
	source, provider, err := c.choose()
	if err != nil {
		return err
	}
	var files []fileState // from before they are read
	for _, name := range source.files {
		files = append(files, stateOf(name))
	}
	value, err := provider.RetrieveWithCredContext(cc)
	if err == nil && (value.AccessKeyID == "" || value.SecretAccessKey == "") {
		err = errors.New("no access key in it")
	}
	if err != nil {
		reason := status.ReasonStoreDenied
		if source.remote && unreachable(err) {
			reason = status.ReasonStoreUnreachable
		}
		return status.WithHint(reason, source.hint, fmt.Errorf("credentials from %s: %w", source.name, err))
	}
	c.current, c.value, c.files, c.again = provider, value, files, time.Time{}
	return nil
}

// source is where credentials come from, for errors.
type source struct {
	name, hint string
	remote     bool     // a server has to be reached for it
	files      []string // that hold the credentials themselves
}

// choose returns the first source that is configured.
func (c *chain) choose() (source, credentials.Provider, error) {
	id, secret := c.getenv("AWS_ACCESS_KEY_ID"), c.getenv("AWS_SECRET_ACCESS_KEY")
	if id != "" && secret != "" {
		return source{name: "AWS_ACCESS_KEY_ID"}, &credentials.Static{Value: credentials.Value{
			AccessKeyID:     id,
			SecretAccessKey: secret,
			SessionToken:    c.getenv("AWS_SESSION_TOKEN"),
			SignerType:      credentials.SignatureV4,
		}}, nil
	}
	if id != "" || secret != "" {
		return source{}, nil, status.WithHint(status.ReasonStoreDenied, "set both", errors.New("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"))
	}
	if id, secret := c.getenv(keyFiles[0]), c.getenv(keyFiles[1]); id != "" && secret != "" {
		files := []string{id, secret}
		if token := c.getenv(keyFiles[2]); token != "" {
			files = append(files, token)
		}
		return source{
			name:  keyFiles[0],
			hint:  "each of the files holds one value and nothing else",
			files: files,
		}, &filesProvider{files: files}, nil
	} else if id != "" || secret != "" {
		return source{}, nil, status.WithHint(status.ReasonStoreDenied, "set both", fmt.Errorf("only one of %s and %s is set", keyFiles[0], keyFiles[1]))
	}
	if file := c.getenv("AWS_WEB_IDENTITY_TOKEN_FILE"); file != "" {
		return c.webIdentity(file)
	}
	file, profile, explicit := c.sharedFile()
	if _, err := os.Stat(file); err == nil || explicit {
		return source{
			name:  fmt.Sprintf("profile %s of %s", profile, file),
			hint:  fmt.Sprintf("the file needs [%s] with aws_access_key_id and aws_secret_access_key; AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE choose another", profile),
			files: []string{file},
		}, &credentials.FileAWSCredentials{Filename: file, Profile: profile}, nil
	}
	if name, _ := firstEnv(c.getenv, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"); name != "" {
		return source{name: "the container endpoint (" + name + ")", hint: "check the task's role, or the pod identity association", remote: true},
			c.iam("", stsTimeout), nil
	}
	if (c.amazon || c.getenv(metadataEndpoint) != "") && !strings.EqualFold(c.getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return source{
			name: "the instance's role, as no other source is configured",
			hint: hintNoCredentials + "; or give the instance a role",
		}, c.iam(c.getenv(metadataEndpoint), imdsTimeout), nil
	}
	return source{}, nil, status.WithHint(status.ReasonStoreDenied, hintNoCredentials, errors.New("no credentials: neither AWS_ACCESS_KEY_ID nor AWS_WEB_IDENTITY_TOKEN_FILE is set, and there is no credentials file"))
}

// metadataEndpoint is an address of the instance's metadata other than the usual.
const metadataEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

// keyFiles name files that hold one value each, as a Secret is mounted.
var keyFiles = [...]string{"AWS_ACCESS_KEY_ID_FILE", "AWS_SECRET_ACCESS_KEY_FILE", "AWS_SESSION_TOKEN_FILE"}

// filesProvider reads keyFiles.
type filesProvider struct {
	credentials.Static // never expires by itself

	files []string
}

// Retrieve implements credentials.Provider.
func (p *filesProvider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (p *filesProvider) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	var values [len(keyFiles)]string
	for i, name := range p.files {
		b, err := os.ReadFile(name)
		if err != nil {
			return credentials.Value{}, err
		}
		values[i] = strings.TrimSpace(string(b))
		if values[i] == "" {
			return credentials.Value{}, fmt.Errorf("%s is empty", name)
		}
	}
	return credentials.Value{
		AccessKeyID:     values[0],
		SecretAccessKey: values[1],
		SessionToken:    values[2],
		SignerType:      credentials.SignatureV4,
	}, nil
}

const hintNoCredentials = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_ACCESS_KEY_ID_FILE and AWS_SECRET_ACCESS_KEY_FILE, or AWS_SHARED_CREDENTIALS_FILE, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE"

func (c *chain) webIdentity(file string) (source, credentials.Provider, error) {
	endpoint := c.getenv("AWS_ENDPOINT_URL_STS")
	if endpoint == "" {
		endpoint = "https://sts." + c.region + ".amazonaws.com"
		if strings.HasPrefix(c.region, "cn-") {
			endpoint += ".cn"
		}
	}
	return source{
			name:   fmt.Sprintf("web identity (%s at %s)", file, endpoint),
			hint:   "check AWS_ROLE_ARN, the role's trust policy and the service account",
			remote: true,
		}, &credentials.STSWebIdentity{
			Client:      &http.Client{Transport: c.transport, Timeout: stsTimeout},
			STSEndpoint: endpoint,
			RoleARN:     c.getenv("AWS_ROLE_ARN"),
			GetWebIDTokenExpiry: func() (*credentials.WebIdentityToken, error) {
				token, err := os.ReadFile(file)
				return &credentials.WebIdentityToken{Token: string(token)}, err
			},
		}, nil
}

// sharedFile returns the credentials file and the profile in it; explicit means
// that the environment names one of them.
func (c *chain) sharedFile() (file, profile string, explicit bool) {
	file, profile = c.getenv("AWS_SHARED_CREDENTIALS_FILE"), c.getenv("AWS_PROFILE")
	explicit = file != "" || profile != ""
	if file == "" {
		file = filepath.Join(c.getenv("HOME"), ".aws", "credentials")
	}
	if profile == "" {
		profile = "default"
	}
	return file, profile, explicit
}

// iam asks the container's or the instance's endpoint. minio-go reads the
// variables that say which from the process environment.
func (c *chain) iam(endpoint string, timeout time.Duration) credentials.Provider {
	return &credentials.IAM{Endpoint: endpoint, Region: c.region, Client: &http.Client{Transport: c.transport, Timeout: timeout}}
}
