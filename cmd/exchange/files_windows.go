package exchange

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// Of LockFileEx: fileapi.h and winerror.h of the Windows SDK.
const (
	failImmediately = 1
	exclusive       = 2
	lockViolation   = syscall.Errno(33)
	allBytes        = ^uint32(0)
)

// tryLock locks file for this process until it is closed, or returns errLocked.
func tryLock(file *os.File) error {
	lock := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	if err := lock.Find(); err != nil {
		return err
	}
	var from syscall.Overlapped // the beginning of the file
	locked, _, err := lock.Call(file.Fd(), exclusive|failImmediately, 0, uintptr(allBytes), uintptr(allBytes), uintptr(unsafe.Pointer(&from)))
	switch {
	case locked != 0:
		return nil
	case errors.Is(err, lockViolation) || errors.Is(err, syscall.ERROR_IO_PENDING):
		return errLocked
	}
	return err
}

// othersCan finds nothing here: Windows keeps a person's profile, where the cache
// is, from others by its access control lists, which file modes do not show.
func othersCan(fs.FileInfo) string { return "" }
