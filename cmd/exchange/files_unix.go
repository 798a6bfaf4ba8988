//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package exchange

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// tryLock locks file for this process until it is closed, or returns errLocked.
func tryLock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		default:
			return err
		}
	}
}

// othersCan says why others can read or change what info is about, or "".
func othersCan(info fs.FileInfo) string {
	if info.Mode().Perm()&0o077 != 0 {
		return "is open to others"
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int64(stat.Uid) != int64(os.Geteuid()) {
		return "belongs to somebody else"
	}
	return ""
}
