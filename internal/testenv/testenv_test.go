package testenv

import (
	"net"
	"strconv"
	"testing"
)

// A port is one test's until that ends, whether or not anybody listens on it.
func TestFreePortIsKept(t *testing.T) {
	var port int
	t.Run("first", func(t *testing.T) {
		port = FreePort(t)
		if err := claimPort(t, port); err == nil {
			t.Errorf("%d was given twice", port)
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	})
	if err := claimPort(t, port); err != nil {
		t.Errorf("%d is still kept: %v", port, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := claimPort(t, l.Addr().(*net.TCPAddr).Port); err == nil {
		t.Errorf("%s is given while somebody listens on it", l.Addr())
	}
}
