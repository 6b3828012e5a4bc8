package probe

// Permissions returns the commands that the monitor sends, as rules of an ACL
// name them. CLUSTER INFO is asked of a cluster's nodes only.
func Permissions() []string {
	return []string{"cluster|info", "info", "ping"}
}
