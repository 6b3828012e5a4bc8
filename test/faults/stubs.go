package main

func diskRows() []row       { return nil }
func serverRows() []row     { return nil }
func uploaderRows() []row   { return nil }
func credentialRows() []row { return nil }
