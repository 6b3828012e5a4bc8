package web

func Validate(string) error { return nil }
func UsesTLS(string) bool   { return false }
