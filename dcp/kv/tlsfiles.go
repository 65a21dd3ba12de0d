package kv

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxTLSFile bounds, in bytes, what is read of a file.
const maxTLSFile = 1 << 20

// TLSPaths name the files of a [TLSFiles], all of them PEM.
type TLSPaths struct {
	// CA holds the authorities by which the nodes' certificates are verified. Empty means those of the system.
	CA string
	// Certificate and Key are what we show to nodes that ask for a client certificate: the chain, our own first, and its
	// private key, not encrypted. Both or neither.
	Certificate, Key string
	// ServerName is verified in place of the host of an endpoint's address. Usually empty.
	ServerName string
}

// TLSFiles is a TLS configuration that follows files. Whoever renews the certificates replaces the files; every connection
// that is made afterwards uses them, and those that are open stay as they are. Its Config is meant to be the TLSSource of
// endpoints. All methods may be called from any goroutine.
//
// Files that cannot be used, because they are being replaced or somebody made a mistake, do not take effect: the last good
// ones stay in force, and the log has one line about it.
type TLSFiles struct {
	paths TLSPaths
	log   *slog.Logger

	mu     sync.Mutex
	config *tls.Config
	good   tlsDigest // of the contents that config was made of
	// rejected is why the files of now are not in force, the text of what was logged; empty if they are.
	rejected string
}

// tlsDigest tells whether files have changed without keeping a private key twice.
type tlsDigest [3][sha256.Size]byte

// NewTLSFiles reads the files for the first time. Errors are *[TLSFileError]. log gets a line when other files come into
// force or are rejected; it may be nil.
func NewTLSFiles(paths TLSPaths, log *slog.Logger) (*TLSFiles, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &TLSFiles{paths: paths, log: log.With("part", "tls_files")}
	config, digest, err := f.read()
	if err != nil {
		return nil, err
	}
	f.config, f.good = config, digest
	return f, nil
}

// Config reads the files if they have changed, and returns the configuration that is in force; it is the caller's. The
// error is always nil.
func (f *TLSFiles) Config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	config, digest, err := f.read()
	switch {
	case err != nil:
		if text := err.Error(); text != f.rejected {
			f.rejected = text
			f.log.Warn("tls_files_rejected", "err", err)
		}
	case digest != f.good:
		f.config, f.good, f.rejected = config, digest, ""
		f.log.Info("tls_files_changed", "ca", f.paths.CA, "certificate", f.paths.Certificate, "not_after", notAfter(config))
	case f.rejected != "":
		f.rejected = ""
		f.log.Info("tls_files_restored")
	}
	return f.config.Clone(), nil
}

// String names the files.
func (f *TLSFiles) String() string {
	return fmt.Sprintf("tls files ca=%q certificate=%q key=%q", f.paths.CA, f.paths.Certificate, f.paths.Key)
}

// read makes a configuration of what the files hold now. If that is what is in force, it makes none.
func (f *TLSFiles) read() (*tls.Config, tlsDigest, error) {
	var digest tlsDigest
	var contents [3][]byte
	if (f.paths.Certificate == "") != (f.paths.Key == "") {
		return nil, digest, &TLSFileError{File: f.paths.Certificate + f.paths.Key, Err: errors.New("a certificate and its key go together")}
	}
	for i, path := range []string{f.paths.CA, f.paths.Certificate, f.paths.Key} {
		if path == "" {
			continue
		}
		content, err := readTLSFile(path)
		if err != nil {
			return nil, digest, &TLSFileError{File: path, Err: err}
		}
		contents[i], digest[i] = content, sha256.Sum256(content)
	}
	if f.config != nil && digest == f.good {
		return nil, digest, nil
	}
	config := &tls.Config{MinVersion: minTLS, ServerName: f.paths.ServerName}
	if f.paths.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(contents[0]) {
			return nil, digest, &TLSFileError{File: f.paths.CA, Err: errors.New("no certificate in it")}
		}
	}
	if f.paths.Certificate != "" {
		pair, err := tls.X509KeyPair(contents[1], contents[2])
		if err != nil {
			return nil, digest, &TLSFileError{File: f.paths.Certificate, Err: err}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, digest, nil
}

func readTLSFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // reading another thing might not come to an end
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(file, maxTLSFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxTLSFile {
		return nil, fmt.Errorf("longer than %d bytes", maxTLSFile)
	}
	return content, nil
}

// notAfter is when our own certificate expires; the zero time without one.
func notAfter(config *tls.Config) time.Time {
	if len(config.Certificates) == 0 || config.Certificates[0].Leaf == nil {
		return time.Time{}
	}
	return config.Certificates[0].Leaf.NotAfter
}
