package kv_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
)

// tlsFolder is a folder with the three files.
type tlsFolder struct {
	t     testing.TB
	paths kv.TLSPaths
}

func newTLSFolder(t testing.TB) *tlsFolder {
	dir := t.TempDir()
	return &tlsFolder{t: t, paths: kv.TLSPaths{
		CA: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}}
}

func (f *tlsFolder) write(path string, content []byte) {
	require.NoError(f.t, os.WriteFile(path, content, 0o600))
}

// fill writes the authority and a client certificate of it.
func (f *tlsFolder) fill(ca *authority, name string) {
	cert, key := pair(f.t, ca.node(name))
	f.write(f.paths.CA, ca.pem())
	f.write(f.paths.Certificate, cert)
	f.write(f.paths.Key, key)
}

// mutual makes the server one that trusts clients of ca only, and tells who they are.
func (s *server) mutual(ca *authority, shown chan<- string) {
	s.wrap = func(near, far net.Conn) (net.Conn, net.Conn) {
		return farAway{near}, tls.Server(far, &tls.Config{
			Certificates: []tls.Certificate{ca.node("n0.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
			VerifyConnection: func(c tls.ConnectionState) error {
				shown <- c.PeerCertificates[0].Subject.CommonName
				return nil
			},
		})
	}
}

func TestReplacedFilesTakeEffectForTheNextConnection(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	folder := newTLSFolder(t)
	folder.fill(before, "manager")
	var out bytes.Buffer
	files, err := kv.NewTLSFiles(folder.paths, slog.New(slog.NewTextHandler(&out, nil)))
	require.NoError(t, err)

	shown := make(chan string, 10)
	s := newServer(t)
	s.listen()
	s.mutual(before, shown)
	ep := s.endpoint()
	ep.TLSSource = files.Config
	open, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	defer open.Close()
	assert.Equal(t, "manager", <-shown)

	folder.fill(before, "manager, renewed")
	renewed, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, renewed.Close())
	assert.Equal(t, "manager, renewed", <-shown)

	folder.fill(after, "manager of another authority")
	_, err = kv.Connect(t.Context(), ep, "orders")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown, "the node is not yet of the new authority")
	s.mutual(after, shown)
	other, err := kv.Connect(t.Context(), ep, "orders")
	require.NoError(t, err)
	require.NoError(t, other.Close())
	assert.Equal(t, "manager of another authority", <-shown)
	assert.NoError(t, open.Err(), "the first one is still open")

	_, err = files.Config()
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(out.String(), "\n"), "one line per change: %s", out.String())
	assert.Equal(t, 2, strings.Count(out.String(), "tls_files_changed"))
}

func TestFilesThatCannotBeUsedLeaveTheLastGoodOnesInForce(t *testing.T) {
	ca := newAuthority(t)
	cert, _ := pair(t, ca.node("manager"))
	spoil := map[string]func(f *tlsFolder){
		"authority gone":            func(f *tlsFolder) { require.NoError(t, os.Remove(f.paths.CA)) },
		"authority empty":           func(f *tlsFolder) { f.write(f.paths.CA, nil) },
		"authority no certificate":  func(f *tlsFolder) { f.write(f.paths.CA, []byte("-----BEGIN NONSENSE-----")) },
		"authority endless":         func(f *tlsFolder) { f.write(f.paths.CA, append(ca.pem(), bytes.Repeat([]byte("\n"), 1<<20)...)) },
		"certificate gone":          func(f *tlsFolder) { require.NoError(t, os.Remove(f.paths.Certificate)) },
		"certificate half written":  func(f *tlsFolder) { f.write(f.paths.Certificate, cert[:len(cert)/2]) },
		"key of another":            func(f *tlsFolder) { f.write(f.paths.Certificate, cert) },
		"key gone":                  func(f *tlsFolder) { require.NoError(t, os.Remove(f.paths.Key)) },
		"key endless":               func(f *tlsFolder) { f.write(f.paths.Key, bytes.Repeat([]byte("x"), 1<<20+1)) },
		"key a folder":              func(f *tlsFolder) { f.replace(f.paths.Key, func(p string) error { return os.Mkdir(p, 0o700) }) },
		"key a pipe that says none": func(f *tlsFolder) { f.replace(f.paths.Key, func(p string) error { return syscall.Mkfifo(p, 0o600) }) },
	}
	for name, f := range spoil {
		t.Run(name, func(t *testing.T) {
			folder := newTLSFolder(t)
			folder.fill(ca, "manager")
			_, key := folder.read()
			var out bytes.Buffer
			files, err := kv.NewTLSFiles(folder.paths, slog.New(slog.NewTextHandler(&out, nil)))
			require.NoError(t, err)
			good, err := files.Config()
			require.NoError(t, err)

			kept := folder.keep()
			f(folder)
			for range 3 {
				config, err := files.Config()
				require.NoError(t, err)
				assert.Equal(t, good.Certificates, config.Certificates)
				assert.True(t, good.RootCAs.Equal(config.RootCAs))
			}
			assert.Equal(t, 1, strings.Count(out.String(), "tls_files_rejected"), "said once: %s", out.String())

			_, err = kv.NewTLSFiles(folder.paths, nil)
			var bad *kv.TLSFileError
			require.ErrorAs(t, err, &bad, "but nobody starts with them")
			assert.NotEmpty(t, bad.File)

			kept()
			_, err = files.Config()
			require.NoError(t, err)
			assert.Equal(t, 1, strings.Count(out.String(), "tls_files_restored"))
			assert.Equal(t, 2, strings.Count(out.String(), "\n"), out.String())
			for _, line := range strings.Fields(string(key)) {
				assert.NotContains(t, out.String()+err2text(bad), line)
			}
		})
	}
}

func err2text(err error) string { return fmt.Sprintf("%v %+v %#v", err, err, err) }

// replace puts another thing where a file was.
func (f *tlsFolder) replace(path string, by func(path string) error) {
	require.NoError(f.t, os.Remove(path))
	require.NoError(f.t, by(path))
}

func (f *tlsFolder) read() (cert, key []byte) {
	cert, err := os.ReadFile(f.paths.Certificate)
	require.NoError(f.t, err)
	key, err = os.ReadFile(f.paths.Key)
	require.NoError(f.t, err)
	return cert, key
}

// keep returns what puts the files back as they are now.
func (f *tlsFolder) keep() (restore func()) {
	ca, err := os.ReadFile(f.paths.CA)
	require.NoError(f.t, err)
	cert, key := f.read()
	return func() {
		for path, content := range map[string][]byte{f.paths.CA: ca, f.paths.Certificate: cert, f.paths.Key: key} {
			require.NoError(f.t, os.RemoveAll(path))
			f.write(path, content)
		}
	}
}

func TestACertificateWithoutItsKeyIsRefused(t *testing.T) {
	folder := newTLSFolder(t)
	folder.fill(newAuthority(t), "manager")
	for _, paths := range []kv.TLSPaths{{Certificate: folder.paths.Certificate}, {Key: folder.paths.Key}} {
		_, err := kv.NewTLSFiles(paths, nil)
		var bad *kv.TLSFileError
		require.ErrorAs(t, err, &bad)
	}
}

// An authority alone is enough to talk to nodes that know us by a password; nothing at all means the system's authorities.
func TestEveryFileIsOptional(t *testing.T) {
	folder := newTLSFolder(t)
	ca := newAuthority(t)
	folder.fill(ca, "manager")
	files, err := kv.NewTLSFiles(kv.TLSPaths{CA: folder.paths.CA, ServerName: "n0.example"}, nil)
	require.NoError(t, err)
	config, err := files.Config()
	require.NoError(t, err)
	assert.Empty(t, config.Certificates)
	assert.Equal(t, "n0.example", config.ServerName)
	assert.True(t, ca.pool().Equal(config.RootCAs))

	files, err = kv.NewTLSFiles(kv.TLSPaths{}, nil)
	require.NoError(t, err)
	config, err = files.Config()
	require.NoError(t, err)
	assert.Nil(t, config.RootCAs)
	assert.EqualValues(t, tls.VersionTLS12, config.MinVersion)
}

// The caller may do with a configuration what it likes.
func TestAConfigurationIsTheCallers(t *testing.T) {
	files, err := kv.NewTLSFiles(kv.TLSPaths{}, nil)
	require.NoError(t, err)
	config, err := files.Config()
	require.NoError(t, err)
	config.InsecureSkipVerify = true
	next, err := files.Config()
	require.NoError(t, err)
	assert.False(t, next.InsecureSkipVerify)
}

func TestTLSFilesGiveNothingAway(t *testing.T) {
	folder := newTLSFolder(t)
	folder.fill(newAuthority(t), "manager")
	_, key := folder.read()
	var out bytes.Buffer
	files, err := kv.NewTLSFiles(folder.paths, slog.New(slog.NewTextHandler(&out, nil)))
	require.NoError(t, err)
	config, err := files.Config()
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		fmt.Fprintf(&out, verb+"\n", files)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "files", files)
	for _, line := range strings.Fields(string(key)) {
		assert.NotContains(t, out.String(), line)
	}
	secret := fmt.Sprintf("%v", config.Certificates[0].PrivateKey)
	assert.NotContains(t, out.String(), secret)
	assert.Contains(t, out.String(), folder.paths.Key)
}
