//go:build !linux

package backup

func thisProcess() *process { return nil }

func processStart(int) (start string, gone bool) { return "", false }
