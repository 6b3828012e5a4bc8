package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// discoveryLimit is how many nodes the discovery lists at most.
const discoveryLimit = 1000

// NewDiscovery returns the handler of /discover-cluster-nodes: the nodes of the
// cluster that server belongs to, in the form of Prometheus' HTTP service
// discovery. scheme is that of the addresses, redis or rediss. With hostnames the
// name that a node announces is preferred to its address.
func NewDiscovery(server Server, scheme string, hostnames bool, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		nodes, err := discover(ctx, server, hostnames)
		switch {
		case errors.Is(err, errNoCluster):
			http.Error(w, "400: The discovery endpoint is only available on a redis cluster", http.StatusBadRequest)
			return
		case err != nil:
			http.Error(w, "500: "+err.Error(), http.StatusInternalServerError)
			return
		}
		targets := make([]string, len(nodes))
		for i, n := range nodes {
			targets[i] = scheme + "://" + n
		}
		body, err := json.MarshalIndent([]map[string]any{{"targets": targets, "labels": map[string]string{}}}, "", "  ")
		if err != nil {
			http.Error(w, "500: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(body, '\n'))
	})
}

var errNoCluster = errors.New("not in cluster mode")

// discover returns host:port of every node in CLUSTER NODES.
func discover(ctx context.Context, server Server, hostnames bool) ([]string, error) {
	replies, err := server.Pipeline(ctx, []string{"CLUSTER", "NODES"})
	if err != nil {
		return nil, err
	}
	switch reply := replies[0].(type) {
	case error:
		if strings.Contains(reply.Error(), "cluster support disabled") || status.ReasonOf(reply) == status.ReasonUnknownCmd {
			return nil, errNoCluster
		}
		return nil, reply
	case string:
		return nodeAddresses(reply, hostnames), nil
	default:
		return nil, odd("CLUSTER NODES", reply)
	}
}

// nodeAddresses reads the address in each line. A node whose address nobody knows
// yet (":0@0") is left out.
func nodeAddresses(text string, hostnames bool) []string {
	out := []string{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || len(out) == discoveryLimit {
			continue
		}
		host, port, hostname := splitNode(words[1])
		if hostnames && hostname != "" {
			host = hostname
		}
		if host == "" || !isDigits(port) || port == "0" {
			continue
		}
		out = append(out, net.JoinHostPort(host, port))
	}
	return out
}
