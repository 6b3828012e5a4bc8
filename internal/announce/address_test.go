package announce

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestOwnAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		setting, pod string
		interfaces   []netip.Addr
		route        string
		v6           bool
		want         Own
		wantErr      string
	}{
		"setting wins":             {setting: "10.9.9.9", pod: "10.1.1.1", interfaces: addrs("10.2.2.2"), want: Own{"10.9.9.9", SourceSetting}},
		"setting may be loopback":  {setting: "127.0.0.1", want: Own{"127.0.0.1", SourceSetting}},
		"setting may be a name":    {setting: "redis-0.redis", want: Own{"redis-0.redis", SourceSetting}},
		"setting is made short":    {setting: "FD00:0:0::1", want: Own{"fd00::1", SourceSetting}},
		"pod before interface":     {pod: "10.1.1.1", interfaces: addrs("10.2.2.2"), want: Own{"10.1.1.1", SourcePod}},
		"pod, both families":       {pod: "fd00::1,10.1.1.1", want: Own{"10.1.1.1", SourcePod}},
		"pod, IPv6 preferred":      {pod: "10.1.1.1, fd00::1", v6: true, want: Own{"fd00::1", SourcePod}},
		"pod, only the other":      {pod: "10.1.1.1", v6: true, want: Own{"10.1.1.1", SourcePod}},
		"pod, no address":          {pod: "redis-0", wantErr: `POD_IP "redis-0" is not an IP address`},
		"pod, loopback":            {pod: "127.0.0.6", wantErr: `POD_IP "127.0.0.6" is not an address that others could reach`},
		"interface":                {interfaces: addrs("10.2.2.2"), want: Own{"10.2.2.2", SourceInterface}},
		"interface, IPv4 first":    {interfaces: addrs("fe80::1", "fd00::2", "10.2.2.2"), want: Own{"10.2.2.2", SourceInterface}},
		"interface, IPv6 only":     {interfaces: addrs("fe80::1", "fd00::2"), want: Own{"fd00::2", SourceInterface}},
		"interface, several":       {interfaces: addrs("172.17.0.1", "10.2.2.2"), route: "10.2.2.2", want: Own{"10.2.2.2", SourceRoute}},
		"several, no route":        {interfaces: addrs("172.17.0.1", "10.2.2.2"), want: Own{"172.17.0.1", SourceInterface}},
		"several, foreign route":   {interfaces: addrs("172.17.0.1", "10.2.2.2"), route: "10.3.3.3", want: Own{"172.17.0.1", SourceInterface}},
		"nothing that others know": {interfaces: addrs("127.0.0.1", "169.254.1.1", "fe80::1", "::"), wantErr: "no network interface has an address that others could reach"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := finder{
				setting: tt.setting, pod: tt.pod,
				interfaces: func() ([]netip.Addr, error) { return tt.interfaces, nil },
				route: func(bool) (netip.Addr, error) {
					if tt.route == "" {
						return netip.Addr{}, errors.New("network is unreachable")
					}
					return netip.MustParseAddr(tt.route), nil
				},
			}
			got, err := f.own(tt.v6)
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr || status.ReasonOf(err) != status.ReasonAddress || status.HintOf(err) == "" {
					t.Errorf("got %v (%s, hint %q), want %s", err, status.ReasonOf(err), status.HintOf(err), tt.wantErr)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// The machine's own functions agree with each other, whatever machine it is.
func TestMachine(t *testing.T) {
	t.Parallel()
	list, err := interfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IsLoopback() || a.Zone() != "" || a.Is4In6() {
			t.Errorf("interfaceAddrs gave %s", a)
		}
	}
	for _, v6 := range []bool{false, true} {
		if a, err := routeAddr(v6); err == nil && (!a.IsValid() || a.Is6() != v6) {
			t.Errorf("routeAddr(%v) gave %s", v6, a)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode    Mode
		address string
		want    string
	}{
		{Auto, "", ""},
		{Off, "", ""},
		{Auto, "10.0.0.1", ""},
		{Cluster, "fd00::1", ""},
		{Cluster, "127.0.0.1", ""},
		{Replication, "redis-0.redis.default.svc", ""},
		{"sometimes", "", `mode "sometimes" is none of auto, replication, cluster, off`},
		{Auto, "0.0.0.0", "0.0.0.0 is not the address of one host"},
		{Auto, "::", ":: is not the address of one host"},
		{Auto, "224.0.0.1", "224.0.0.1 is not the address of one host"},
		{Auto, "fe80::1%eth0", "fe80::1%eth0 has a zone, which means nothing to other hosts"},
		{Auto, "10.0.0.256", `"10.0.0.256" is neither an IP address nor a host name`},
		{Auto, "10.0.0.1:6379", `"10.0.0.1:6379" is neither an IP address nor a host name`},
		{Auto, "redis 0", `"redis 0" is neither an IP address nor a host name`},
		{Cluster, "redis-0", `"redis-0" is a name; the cluster bus knows only IP addresses (names belong in cluster-announce-hostname)`},
	}
	for _, tt := range tests {
		got := ""
		if err := Validate(tt.mode, tt.address); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("Validate(%q, %q): got %q, want %q", tt.mode, tt.address, got, tt.want)
		}
	}
}
