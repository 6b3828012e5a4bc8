package backup

// Permissions returns the commands that taking a snapshot sends, as rules of an
// ACL name them. CLUSTER NODES is asked of a cluster's nodes only.
func Permissions() []string {
	return []string{"bgsave", "cluster|nodes", "config|get", "info"}
}
