package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The S3 server: a bucket is a directory of its root, so a volume mounted there
// makes the bucket.
const s3Manifest = `
apiVersion: v1
kind: Pod
metadata:
  name: s3
  labels: {app: s3}
spec:
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
  - name: s3
    image: {{S3_IMAGE}}
    args: [--quiet, --port, ":9000", --health, /health, posix, /objects]
    env:
    - {name: ROOT_ACCESS_KEY, value: "{{ACCESS_KEY}}"}
    - {name: ROOT_SECRET_KEY, value: "{{SECRET_KEY}}"}
    ports: [{name: s3, containerPort: 9000}]
    readinessProbe: {httpGet: {path: /health, port: s3}, periodSeconds: 1}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
    - {name: objects, mountPath: /objects}
    - {name: bucket, mountPath: /objects/e2e}
  volumes:
  - {name: objects, emptyDir: {}}
  - {name: bucket, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: s3}
spec:
  selector: {app: s3}
  ports: [{port: 9000, targetPort: s3}]
`

// The overlay changes in deploy/redis.yaml what a user would change, and shares
// the process namespace, so that one container can kill the process of another.
const overlay = `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {{NAMESPACE}}
resources: [redis.yaml]
images:
- {name: docker.io/library/redis, {{REDIS_IMAGE}}}
- {name: localhost/redis-sidecar, {{SIDECAR_IMAGE}}}
patches:
- target: {kind: StatefulSet, name: redis}
  patch: |
    - {op: add, path: /spec/template/spec/shareProcessNamespace, value: true}
    - {op: add, path: /spec/template/spec/initContainers/0/env/-, value: {name: REDIS_SIDECAR_BACKUP_STORE, value: "{{STORE}}"}}
    - {op: add, path: /spec/template/spec/initContainers/0/env/-, value: {name: REDIS_SIDECAR_RESTORE_REDIS_VERSION, value: "{{REDIS_VERSION}}"}}
    - {op: add, path: /spec/template/spec/initContainers/1/env/-, value: {name: REDIS_SIDECAR_BACKUP_STORE, value: "{{STORE}}"}}
    {{STORAGE_CLASS}}
- target: {kind: Secret, name: redis-auth}
  patch: |
    - {op: replace, path: /stringData/password, value: "{{PASSWORD}}"}
    - {op: replace, path: /stringData/auth.conf, value: "requirepass {{PASSWORD}}\nmasterauth {{PASSWORD}}\n"}
- target: {kind: Secret, name: redis-backup}
  patch: |
    - {op: replace, path: /stringData/credentials, value: "[default]\naws_access_key_id = {{ACCESS_KEY}}\naws_secret_access_key = {{SECRET_KEY}}\n"}
`

// storeURL returns the bucket's URL as seen from endpoint's side.
func storeURL(endpoint string) string {
	return "s3://e2e/redis?path-style=true&region=us-east-1&endpoint=" + endpoint
}

// deploy makes the namespace, the S3 server, volumes if need be, and applies the
// manifest under test.
func (s *scenario) deploy(ctx context.Context) (string, error) {
	s.password, s.accessKey, s.secretKey = rand.Text(), rand.Text(), rand.Text()
	s.deployed = true

	// The strictest profile: deploy/ has to pass it.
	namespace := fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: restricted}}}`, s.namespace)
	if _, err := s.feed(ctx, namespace, "apply", "-f", "-"); err != nil {
		return "", err
	}
	volumes := "volumes of the cluster's default class"
	switch {
	case s.storageClass != "":
		volumes = "volumes of class " + s.storageClass
	default:
		has, err := s.hasDefaultClass(ctx)
		if err != nil {
			return "", err
		}
		if !has {
			if s.static, err = newStaticVolumes(ctx, s.kube, s.redisImage); err != nil {
				return "", err
			}
			s.storageClass = s.static.class
			volumes = "directories on node " + s.static.node + " as volumes"
		}
	}
	if err := s.apply(ctx, s.fill(s3Manifest)); err != nil {
		return "", err
	}
	// The S3 server first: without it the restore container would fail and be
	// started again after a pause.
	if _, err := s.waitReady(ctx, "s3", "", 2*time.Minute); err != nil {
		return "", err
	}
	if err := s.applyOverlay(ctx, manifest, overlay); err != nil {
		return "", err
	}
	var where []string
	for _, name := range []string{"redis-0", "redis-1"} {
		p, err := s.waitReady(ctx, name, "", 4*time.Minute)
		if err != nil {
			return "", err
		}
		where = append(where, name+" "+p.Status.PodIP)
	}
	return strings.Join(where, ", ") + "; " + volumes, nil
}

// applyOverlay applies a manifest of deploy/ with an overlay over it.
func (s *scenario) applyOverlay(ctx context.Context, manifest, overlay string) error {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	name := filepath.Base(manifest)
	dir := filepath.Join(s.work, "overlay-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(s.fill(overlay)), 0o600); err != nil {
		return err
	}
	_, err = s.do(ctx, "apply", "-k", dir)
	return err
}

func (s *scenario) fill(text string) string {
	class := ""
	if s.storageClass != "" {
		class = fmt.Sprintf("- {op: add, path: /spec/volumeClaimTemplates/0/spec/storageClassName, value: %s}", s.storageClass)
	}
	return strings.NewReplacer(
		"{{NAMESPACE}}", s.namespace,
		"{{REDIS_IMAGE}}", kustomizeImage(s.redisImage),
		"{{REDIS_VERSION}}", imageVersion(s.redisImage),
		"{{SIDECAR_IMAGE}}", kustomizeImage(s.sidecarImage),
		"{{S3_IMAGE}}", s.s3Image,
		"{{STORE}}", storeURL("http://s3:9000"),
		"{{STORAGE_CLASS}}", class,
		"{{PASSWORD}}", s.password,
		"{{ACCESS_KEY}}", s.accessKey,
		"{{SECRET_KEY}}", s.secretKey,
	).Replace(text)
}

// imageVersion returns the version in the tag of an image of Redis or Valkey, as
// restore.redis-version wants it, and nothing when there is none in it: then that
// of deploy/ stands.
func imageVersion(image string) string {
	name, _, _ := strings.Cut(image, "@")
	tag := ""
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag = name[:i], name[i+1:]
	}
	version := regexp.MustCompile(`^[0-9]+(\.[0-9]+){1,2}`).FindString(tag)
	if version != "" && strings.HasSuffix(name, "valkey") {
		return "valkey " + version
	}
	return version
}

// kustomizeImage writes an image's name as kustomize wants it: the registry may
// have a port, and the name a digest instead of a tag.
func kustomizeImage(image string) string {
	if name, digest, ok := strings.Cut(image, "@"); ok {
		return fmt.Sprintf("newName: %s, digest: %q", name, digest)
	}
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return fmt.Sprintf("newName: %s, newTag: %q", image[:i], image[i+1:])
	}
	return fmt.Sprintf("newName: %s, newTag: latest", image)
}

func (s *scenario) hasDefaultClass(ctx context.Context) (bool, error) {
	var classes struct {
		Items []struct {
			Metadata struct{ Annotations map[string]string }
		}
	}
	if err := s.get(ctx, &classes, "storageclasses"); err != nil {
		return false, err
	}
	for _, c := range classes.Items {
		if c.Metadata.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return true, nil
		}
	}
	return false, nil
}
