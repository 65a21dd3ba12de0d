package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A new file is made under another name and gets its own in one step, so that a kill in between leaves either no store
// or a whole one.

// unfinished is between the name of a store's file and the number of one that is being made.
const unfinished = ".new-"

// makeFile makes the file of an empty store, unless there is a file. Of several that do so at once one succeeds, and all
// find its file.
func makeFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever is the matter with it is told when it is opened
	}
	failed := func(err error) error { return &FileError{Path: path, Err: fmt.Errorf("store: not created: %w", err)} }
	made, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+unfinished+"*")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.Remove(made.Name()) }()
	if err := made.Close(); err != nil {
		return failed(err)
	}
	d := &fileDisk{path: made.Name()}
	if err := d.open(made.Name(), fileTuning{}); err != nil {
		return failed(err)
	}
	if err := errors.Join(d.initialise(), d.close()); err != nil {
		return failed(err)
	}
	// A link, and not a new name: that would take the place of a file which somebody else has made meanwhile.
	err = os.Link(made.Name(), path)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else was first, and may have removed ours as unfinished
	}
	if err != nil {
		return nil // a file system without links: the file is made where it shall be
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes the name of a new file survive the loss of power.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it cannot, and need not
	}
	opened, err := os.Open(dir)
	if err == nil {
		err = errors.Join(opened.Sync(), opened.Close())
	}
	if err != nil {
		return &FileError{Path: dir, Err: fmt.Errorf("store: %w", err)}
	}
	return nil
}

// removeUnfinished removes what makers that were killed have left. Who calls has the file open: nobody else who makes one
// now will succeed.
func removeUnfinished(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		number, ok := strings.CutPrefix(entry.Name(), filepath.Base(path)+unfinished)
		if ok && number != "" && strings.Trim(number, "0123456789") == "" {
			_ = os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
}
