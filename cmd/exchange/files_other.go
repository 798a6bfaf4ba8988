//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package exchange

import (
	"errors"
	"io/fs"
	"os"
)

// tryLock cannot lock on this system, so that there is no cache.
func tryLock(*os.File) error {
	return errors.New("files cannot be locked on this system")
}

// othersCan is not asked where nothing can be locked.
func othersCan(fs.FileInfo) string { return "" }
