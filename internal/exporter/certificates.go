package exporter

// certificates is the collector of INFO tls: the certificates that the server
// has loaded. Valkey tells of them since 9.1, whether TLS is on or not.
type certificates struct {
	infoOnly
	info    *family
	expires map[string]*family // by what the certificate is for
}

func newCertificates(c *catalog) *certificates {
	expires := func(of, help string) *family {
		return c.add(typeGauge, "tls_"+of+"_cert_expires_in_seconds", "INFO tls_"+of+"_cert_expires_in_seconds", help)
	}
	return &certificates{
		info: c.add(typeGauge, "tls_certificate_info", "INFO tls",
			"1 for each certificate the server has loaded, with its serial number (since Valkey 9.1).", "certificate", "serial"),
		expires: map[string]*family{
			"server": expires("server", "Seconds until the server's certificate expires (since Valkey 9.1)."),
			"client": expires("client", "Seconds until the certificate expires that the server shows to other servers (since Valkey 9.1)."),
			"ca":     expires("ca", "Seconds until the certificate of the authority expires that the server trusts (since Valkey 9.1)."),
		},
	}
}

func (c *certificates) name() string { return "certificates" }

func (c *certificates) collect(r *reading, _ []any, out *sink) error {
	for of, f := range c.expires {
		serial := r.info.Get("tls_" + of + "_cert_serial")
		if serial == "" || serial == "none" {
			// Without a certificate the server says 0 seconds, which is no expiry.
			continue
		}
		out.set(c.info, 1, of, serial)
		if v, ok := number(r.info.Get("tls_" + of + "_cert_expires_in_seconds")); ok {
			out.set(f, v)
		}
	}
	return nil
}
