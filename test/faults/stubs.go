package main
func killDirRows() []row { return nil }
func killRestoreRows() []row { return nil }
func storeRows() []row { return nil }
func diskRows() []row { return nil }
func serverRows() []row { return nil }
func uploaderRows() []row { return nil }
func credentialRows() []row { return nil }
