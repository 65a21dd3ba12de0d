package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/store"
)

// /dev/null takes every write and refuses to be synced.
func TestAfterAFailedSyncNothingIsWrittenUntilTheFileIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	first := set(t, s, "key", "1")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()
	require.NoError(t, syscall.Dup3(int(null.Fd()), int(store.FileHandle(s).Fd()), syscall.O_CLOEXEC))

	for range 2 {
		_, err = s.CompareAndSet(t.Context(), "key", []byte("2"), first)
		var failed *store.FileError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, path, failed.Path)
		require.ErrorIs(t, err, syscall.EINVAL, "the true cause")
		require.Error(t, s.Delete(t.Context(), "key", first))
	}
	require.ErrorContains(t, err, "opened anew")
	value, _, err := s.Get(t.Context(), "key")
	require.NoError(t, err)
	assert.Equal(t, "1", string(value))
	_ = s.Close()

	set(t, openFile(t, path), "key", "3")
}
