package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// lookEvery is how often the file is looked for at its path.
const lookEvery = time.Second

// output is where lines go: standard output, or a file. A file that was moved
// away, as logrotate does, is made anew.
type output struct {
	path   string
	stdout io.Writer // in place of a file
	file   *os.File
	looked time.Time
	torn   bool // the last line is not whole
}

func (o *output) open(stdout io.Writer) error {
	if o.path == Stdout {
		o.stdout = stdout
		return nil
	}
	file, err := os.OpenFile(o.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	if o.file != nil {
		_ = o.file.Close() // it was moved away, and its lines are written
	}
	o.file, o.looked, o.torn = file, time.Now(), false
	return nil
}

// write writes whole lines. n is how much of them was written.
func (o *output) write(lines []byte) (n int, err error) {
	if o.stdout == nil {
		if err := o.follow(); err != nil {
			return 0, err
		}
	}
	to := o.stdout
	if to == nil {
		to = o.file
	}
	if o.torn { // what follows must not be taken for the rest of that line
		if _, err := to.Write([]byte{'\n'}); err != nil {
			return 0, fmt.Errorf("write the audit log: %w", err)
		}
		o.torn = false
	}
	if n, err = to.Write(lines); err != nil {
		o.torn = n > 0 && lines[n-1] != '\n'
		return n, fmt.Errorf("write the audit log: %w", err)
	}
	return n, nil
}

// follow opens the file anew if another stands at its path, or none does.
func (o *output) follow() error {
	if o.file != nil && time.Since(o.looked) < lookEvery {
		return nil
	}
	if o.file == nil {
		return o.open(nil)
	}
	o.looked = time.Now()
	at, err := os.Stat(o.path)
	if err == nil {
		own, err := o.file.Stat()
		if err != nil {
			return fmt.Errorf("look at the audit log: %w", err)
		}
		if os.SameFile(at, own) {
			return nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for the audit log: %w", err)
	}
	moved := o.file
	if err := o.open(nil); err != nil {
		_ = moved.Close()
		o.file = nil // so that the next lines are not lost in a file that may be deleted
		return err
	}
	return nil
}

func (o *output) close() {
	if o.file != nil {
		_ = o.file.Sync() // a pipe cannot be synced
		_ = o.file.Close()
	}
}
