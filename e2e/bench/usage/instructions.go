package usage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counter counts the instructions that processes run, in user mode and in the
// kernel. Unlike time, their number hardly depends on who else uses the machine.
type Counter struct{ fds []int }

// CountInstructions begins to count for the threads of pids, and those that
// they start from now on. It fails where the machine has no such counter, or
// does not let us use it.
func CountInstructions(pids ...int) (*Counter, error) {
	c := &Counter{}
	for _, pid := range pids {
		threads, err := Threads(pid)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		for _, tid := range threads {
			attr := unix.PerfEventAttr{
				Type: unix.PERF_TYPE_HARDWARE, Config: unix.PERF_COUNT_HW_INSTRUCTIONS,
				Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Bits: unix.PerfBitInherit,
			}
			fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
			if errors.Is(err, unix.ESRCH) {
				continue // it has ended
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("count instructions of process %d: %w", pid, err), c.Close())
			}
			c.fds = append(c.fds, fd)
		}
	}
	return c, nil
}

// Read returns the instructions counted so far.
func (c *Counter) Read() (int64, error) {
	var sum int64
	var b [8]byte
	for _, fd := range c.fds {
		if _, err := unix.Read(fd, b[:]); err != nil {
			return 0, fmt.Errorf("read the count of instructions: %w", err)
		}
		sum += int64(binary.NativeEndian.Uint64(b[:]))
	}
	return sum, nil
}

// Close ends the counting.
func (c *Counter) Close() error {
	var errs []error
	for _, fd := range c.fds {
		errs = append(errs, unix.Close(fd))
	}
	c.fds = nil
	return errors.Join(errs...)
}
