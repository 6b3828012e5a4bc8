package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
)

// options come from the environment.
type options struct {
	kubectl      string
	id           string // names everything in the cluster, the namespace first
	redisImage   string
	sidecarImage string
	s3Image      string
	load         []string // command that takes the path of an image archive; empty: images are pulled
	storageClass string   // empty: the cluster's default or, without one, directories of a node
	keep         bool

	buildSidecar, buildS3 bool // from this tree
}

const usage = `the environment says where and with what:
  KUBECONFIG          the cluster (required)
  KUBECTL             kubectl
  E2E_LOAD            command that loads an image archive into the cluster's nodes; its path
                      is appended: "kind load image-archive", "minikube image load",
                      "k3s ctr images import"
  E2E_SIDECAR_IMAGE   the sidecar's image, if it is not to be built and loaded
  E2E_S3_IMAGE        an image whose entrypoint is versitygw, likewise
  E2E_REDIS_IMAGE     docker.io/library/redis:7.0
  E2E_STORAGE_CLASS   the cluster's default or, without one, directories on a node
  E2E_KEEP            keep the namespace`

func readOptions(getenv func(string) string) (options, error) {
	or := func(name, def string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return def
	}
	tag := strings.ToLower(rand.Text()[:6])
	o := options{
		kubectl:      or("KUBECTL", "kubectl"),
		id:           "redis-sidecar-e2e-" + tag,
		redisImage:   or("E2E_REDIS_IMAGE", "docker.io/library/redis:7.0"),
		sidecarImage: getenv("E2E_SIDECAR_IMAGE"),
		s3Image:      getenv("E2E_S3_IMAGE"),
		load:         strings.Fields(getenv("E2E_LOAD")),
		storageClass: getenv("E2E_STORAGE_CLASS"),
		keep:         getenv("E2E_KEEP") != "",
	}
	if getenv("KUBECONFIG") == "" {
		return o, errors.New("KUBECONFIG is not set: no cluster is taken by accident\n" + usage)
	}
	if len(o.load) == 0 && (o.sidecarImage == "" || o.s3Image == "") {
		return o, errors.New("set E2E_LOAD, or both E2E_SIDECAR_IMAGE and E2E_S3_IMAGE\n" + usage)
	}
	// A tag of its own: an older image of the same name on the node is not taken for it.
	if o.sidecarImage == "" {
		o.sidecarImage, o.buildSidecar = "localhost/redis-sidecar:e2e-"+tag, true
	}
	if o.s3Image == "" {
		o.s3Image, o.buildS3 = "localhost/versitygw:e2e", true
	}
	if _, err := os.Stat(manifest); err != nil {
		return o, fmt.Errorf("run it in the root of the repository: %w", err)
	}
	return o, nil
}

// manifest is what is tested.
const manifest = "deploy/redis.yaml"
