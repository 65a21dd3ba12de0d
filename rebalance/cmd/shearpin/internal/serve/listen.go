package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketInUseError says that somebody answers on the socket already.
type SocketInUseError struct{ Path string }

func (e *SocketInUseError) Error() string {
	return fmt.Sprintf("control socket %s: another manager answers on it", e.Path)
}

// socket is a listener on a path that is there for its owner only. Closing it takes the path away, unless that is somebody
// else's by now.
type socket struct {
	net.Listener
	path string
	made os.FileInfo
}

// listenSocket makes a socket that nobody else could open at any moment: it is made in a folder of its own and then put where
// it belongs. A path that a dead manager has left is replaced.
func listenSocket(ctx context.Context, path string) (*socket, error) {
	if err := free(ctx, path); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // empty by now, and nobody else's
	scratch := filepath.Join(folder, "s")
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", scratch)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &socket{Listener: listener, path: path}
	if err := s.put(scratch); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), listener.Close())
	}
	return s, nil
}

func (s *socket) put(scratch string) (err error) {
	if err := os.Chmod(scratch, 0o600); err != nil {
		return err
	}
	if s.made, err = os.Lstat(scratch); err != nil {
		return err
	}
	return os.Rename(scratch, s.path)
}

// free sees that the path may be taken.
func free(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket: %s is there and no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(&SocketInUseError{path}, conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close implements [net.Listener].
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
		_ = os.Remove(s.path) // one that stays is replaced by the next manager
	}
	return s.Listener.Close()
}
