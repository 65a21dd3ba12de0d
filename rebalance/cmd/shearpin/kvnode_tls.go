package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// tlsFlags name the PEM files of a node that speaks TLS.
type tlsFlags struct {
	Certificate string `name:"tls-cert" placeholder:"FILE" help:"Speak TLS and nothing else, with the certificate in FILE."`
	Key         string `name:"tls-key" placeholder:"FILE" help:"The private key of --tls-cert."`
	CA          string `name:"tls-ca" placeholder:"FILE" help:"Take only clients that have a certificate of an authority in FILE, besides the account."`
}

func (f *tlsFlags) validate() error {
	if err := cmp.Or(checkPath("--tls-cert", f.Certificate), checkPath("--tls-key", f.Key), checkPath("--tls-ca", f.CA)); err != nil {
		return err
	}
	switch {
	case (f.Certificate == "") != (f.Key == ""):
		return &demo.FlagError{Flag: "--tls-cert", Value: strconv.Quote(f.Certificate), Why: "and --tls-key: both or neither"}
	case f.CA != "" && f.Certificate == "":
		return &demo.FlagError{Flag: "--tls-ca", Value: f.CA, Why: "is of use with --tls-cert only"}
	}
	return nil
}

// config is nil for a node that does not speak TLS.
func (f *tlsFlags) config() (*tls.Config, error) {
	if f.Certificate == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if f.CA == "" {
		return config, nil
	}
	authorities, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, &demo.FlagError{Flag: "--tls-ca", Value: f.CA, Why: "has no certificate in it"}
	}
	return config, nil
}
