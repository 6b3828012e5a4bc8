package settings

import "time"

// clusterTable are the settings for the restore of a whole cluster.
func clusterTable() []entry {
	return []entry{
		{
			name: "restore.shard",
			value: str(func(s *Settings) *string { return &s.Restore.Shard }).
				withHint("auto; or the name of a shard, such as 05461, with /1 after it for its first replica"),
			help: "The pod is a node of a cluster that is restored as a whole, and what it is there. auto: with n shards in the store, pods 0 to n-1 of the StatefulSet are their primaries, the others replicas in turn. Empty: no cluster.",
		},
		{
			name: "restore.cluster-peers",
			value: str(func(s *Settings) *string { return &s.Restore.ClusterPeers }).
				withHint("for example redis-{0..5}.redis-pods:6379"),
			help: "All nodes of that cluster, this one too, in the order of their numbers, by names of their own: host:port, with @port after it where the bus is not at port + 10000. {0..5} stands for each number.",
		},
		{
			name:  "restore.cluster-name",
			value: str(func(s *Settings) *string { return &s.Restore.ClusterName }),
			help:  "Tells this cluster apart from others restored from the same snapshots: new node ids follow from it. The same for all its pods. Empty: from instance, namespace and restore.cluster-peers.",
		},
		{
			name: "restore.cluster-wait", def: "1m",
			value: duration(func(s *Settings) *time.Duration { return &s.Restore.ClusterWait }, 0, time.Hour),
			help:  "How long the names of restore.cluster-peers may take to lead to addresses. Those that do not are left open, and learnt by the servers later.",
		},
	}
}
