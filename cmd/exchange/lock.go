package exchange

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"
)

// lockPoll is how often a process asks whether another one is done: a lock that
// can be given up on cannot be waited for otherwise.
const lockPoll = 20 * time.Millisecond

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// lock waits until no other process exchanges for key. The operating system ends
// a lock with the process that holds it, however that dies. There are 256 lock
// files, so that they need not be removed, which could not be done safely.
func (c *Cache) lock(ctx context.Context, key Key) (release func(), err error) {
	name := key.String()[:2] + lockEnding
	file, err := c.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	err = tryLock(file)
	if errors.Is(err, errLocked) {
		c.config.Waiting(func() { err = c.await(ctx, file) })
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, fmt.Errorf("lock %s: %w", c.path(name), err)
	}
	return func() { _ = file.Close() }, nil // which unlocks it
}

// await returns nil once file is locked by us.
func (c *Cache) await(ctx context.Context, file *os.File) error {
	limit := time.NewTimer(c.config.LockTimeout)
	defer limit.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return fmt.Errorf("another process has exchanged a token for longer than %s: try again", c.config.LockTimeout)
		case <-poll.C:
		}
		if err := tryLock(file); !errors.Is(err, errLocked) {
			return err
		}
	}
}

// parse reads what String writes.
func (k *Key) parse(text string) bool {
	content, err := hex.DecodeString(text)
	return err == nil && copy(k[:], content) == len(k) && k.String() == text
}
