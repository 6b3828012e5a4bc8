package config

// Permissions returns the commands that the job sends, as rules of an ACL name
// them.
func Permissions() []string {
	return []string{"config|get", "config|set", "info"}
}
