package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Status is the credential that a plugin returns: a token, or a client certificate and
// its key in PEM form, or both.
type Status struct {
	Token                 string     `json:"token,omitempty"`
	ClientCertificateData string     `json:"clientCertificateData,omitempty"`
	ClientKeyData         string     `json:"clientKeyData,omitempty"`
	Expires               *time.Time `json:"expires,omitempty"` // nil if the plugin doesn't say when
}

// String returns a description without the credential.
func (Status) String() string { return "(credential)" }

// GoString returns String.
func (s Status) GoString() string { return s.String() }

// credential is a checked Status.
type credential struct {
	status      Status
	certificate *tls.Certificate // nil if there is only a token
}

// newCredential checks a status. Its errors don't quote it.
func newCredential(status Status) (*credential, error) {
	c := &credential{status: status}
	switch {
	case status.Token == "" && status.ClientCertificateData == "" && status.ClientKeyData == "":
		return nil, errors.New("it returned neither a token nor a certificate")
	case (status.ClientCertificateData == "") != (status.ClientKeyData == ""):
		return nil, errors.New("it returned only one of certificate and key")
	case status.ClientCertificateData == "":
		return c, nil
	}
	certificate, err := tls.X509KeyPair([]byte(status.ClientCertificateData), []byte(status.ClientKeyData))
	if err != nil {
		return nil, fmt.Errorf("it returned an invalid certificate or key: %w", err)
	}
	if certificate.Leaf, err = x509.ParseCertificate(certificate.Certificate[0]); err != nil {
		return nil, fmt.Errorf("it returned an invalid certificate: %w", err)
	}
	c.certificate = &certificate
	return c, nil
}

// expired reports whether the credential has expired, as far as the plugin said
// when it does.
func (c *credential) expired() bool {
	return c.status.Expires != nil && time.Now().After(*c.status.Expires)
}
