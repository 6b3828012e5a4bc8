package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// staticVolumes are directories on one node, for clusters that have nobody
// who provides volumes.
type staticVolumes struct {
	id, class, node, dir, image string
}

// staticCount is how many there are: for the two pods of deploy/redis.yaml, and for
// those of the cluster, which loses all of its volumes once.
const staticCount = 2 + 2*clusterPods

// newStaticVolumes makes the directories, the class and the volumes.
func newStaticVolumes(ctx context.Context, k *kube, image string) (*staticVolumes, error) {
	var nodes struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ Unschedulable bool }
		}
	}
	if err := k.get(ctx, &nodes, "nodes"); err != nil {
		return nil, err
	}
	v := &staticVolumes{id: k.namespace, class: k.namespace, dir: parent + "/" + k.namespace, image: image}
	for _, n := range nodes.Items {
		if !n.Spec.Unschedulable {
			v.node = n.Metadata.Name
			break
		}
	}
	if v.node == "" {
		return nil, errors.New("the cluster has no node that takes pods")
	}
	var dirs []string
	for n := range staticCount {
		dirs = append(dirs, fmt.Sprintf("{{ID}}/%d", n))
	}
	all := strings.Join(dirs, " ")
	if err := v.onNode(ctx, k, "cd /node && mkdir -p "+all+" && chown 999:999 "+all); err != nil {
		return v, err
	}
	text := `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: {{ID}}}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}`
	for n := range staticCount {
		text += strings.ReplaceAll(`
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: "{{ID}}-{{N}}"}
spec:
  storageClassName: {{ID}}
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: "{{DIR}}/{{N}}"}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [{{NODE}}]}]
`, "{{N}}", strconv.Itoa(n))
	}
	text = strings.NewReplacer("{{ID}}", v.id, "{{DIR}}", v.dir, "{{NODE}}", v.node).Replace(text)
	_, err := k.feed(ctx, text, "apply", "-f", "-")
	return v, err
}

// parent is where the directories are made, on the node.
const parent = "/var/tmp"

// onNode runs a script as root on the node, with parent at /node, in a pod of a
// namespace of its own, for it needs what the one under test forbids.
func (v *staticVolumes) onNode(ctx context.Context, k *kube, script string) error {
	namespace := v.id + "-node"
	text := strings.NewReplacer("{{NS}}", namespace, "{{NODE}}", v.node, "{{IMAGE}}", v.image, "{{PARENT}}", parent,
		"{{SCRIPT}}", strings.ReplaceAll(script, "{{ID}}", v.id)).Replace(`
{apiVersion: v1, kind: Namespace, metadata: {name: {{NS}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: script, namespace: {{NS}}}
spec:
  nodeName: {{NODE}}
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
  - name: script
    image: {{IMAGE}}
    command: [sh, -c, "{{SCRIPT}}"]
    securityContext: {runAsUser: 0}
    volumeMounts: [{name: node, mountPath: /node}]
  volumes:
  - {name: node, hostPath: {path: {{PARENT}}, type: Directory}}
`)
	if _, err := k.feed(ctx, text, "apply", "-f", "-"); err != nil {
		return err
	}
	err := eventually(ctx, time.Minute, func(ctx context.Context) error {
		phase, err := k.feed(ctx, "", "-n", namespace, "get", "pod", "script", "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Succeeded" {
			err = fmt.Errorf("the pod that runs %q is %s", script, phase)
		}
		return err
	})
	if _, deleteErr := k.feed(ctx, "", "delete", "namespace", namespace, "--ignore-not-found"); err == nil {
		err = deleteErr
	}
	return err
}

// cleanUp removes volumes, class and directories. Nothing must use them any more.
func (v *staticVolumes) cleanUp(ctx context.Context, k *kube) error {
	args := []string{"delete", "--ignore-not-found", "storageclass/" + v.class}
	for n := range staticCount {
		args = append(args, fmt.Sprintf("pv/%s-%d", v.id, n))
	}
	_, err := k.feed(ctx, "", args...)
	if scriptErr := v.onNode(ctx, k, "rm -rf /node/{{ID}}"); err == nil {
		err = scriptErr
	}
	return err
}
