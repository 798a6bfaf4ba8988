package exchange

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CacheConfig says where tokens are kept, and who is told of it.
type CacheConfig struct {
	// Dir is the folder, made with mode 0700 if it is missing.
	Dir string
	// LockTimeout bounds the wait for another process. 0: 30 seconds.
	LockTimeout time.Duration
	// Waiting is called around the wait for another process. Nil: nothing is.
	Waiting func(wait func())
	// Notice is told of cache files that are not trusted, or cannot be written.
	// Nil: nobody is.
	Notice func(err error)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Cache keeps tokens in files that their owner alone can read, for many processes
// at a time. It keeps apart what must not be mixed up; against the owner of the
// folder, who could read it anyway, it does not defend.
type Cache struct {
	config CacheConfig
	root   *os.Root
}

// UnsafeError is about a folder in which others could read or put tokens.
type UnsafeError struct{ fault string }

// Error says what is wrong and what to do.
func (e *UnsafeError) Error() string { return e.fault }

// OpenCache makes the folder if need be, and opens it. It is an [*UnsafeError] if
// it is a symbolic link, is somebody else's, or is open to others. Everything that
// follows happens in the folder that was looked at, whatever takes its name.
func OpenCache(config CacheConfig) (*Cache, error) {
	if config.LockTimeout == 0 {
		config.LockTimeout = 30 * time.Second
	}
	if config.Waiting == nil {
		config.Waiting = func(wait func()) { wait() }
	}
	if config.Notice == nil {
		config.Notice = func(error) {}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	named, err := os.Lstat(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the cache folder: %w", err)
	}
	if !named.IsDir() {
		return nil, &UnsafeError{fmt.Sprintf("the cache folder %s is a symbolic link: use the folder itself", config.Dir)}
	}
	root, err := os.OpenRoot(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the cache folder: %w", err)
	}
	opened, err := root.Stat(".")
	if err == nil {
		if fault := othersCan(opened); fault != "" {
			err = &UnsafeError{fmt.Sprintf("the cache folder %s %s: take it away, or give it to yourself alone (chmod 700)", config.Dir, fault)}
		} else if !os.SameFile(named, opened) {
			err = &UnsafeError{fmt.Sprintf("the cache folder %s was swapped while it was opened", config.Dir)}
		}
	}
	if err != nil {
		_ = root.Close() // the fault is said already
		return nil, err
	}
	return &Cache{config: config, root: root}, nil
}

// Close lets go of the folder.
func (c *Cache) Close() error { return c.root.Close() }

// Once returns the cached token of key, or the one that exchange returns. Of all
// processes that ask for the same key at the same time, one calls exchange.
// Where that fails, the next tries.
func (c *Cache) Once(ctx context.Context, key Key, exchange func(context.Context) (*Issued, error)) (*Issued, error) {
	if issued, err := c.read(key); err == nil && issued.usable(c.config.Now()) {
		return issued, nil
	}
	release, err := c.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer release()
	issued, err := c.read(key)
	switch {
	case err == nil && issued.usable(c.config.Now()):
		return issued, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		c.config.Notice(fmt.Errorf("the cache file %s is not used and replaced: %w", c.path(fileOf(key)), err))
	}
	if issued, err = exchange(ctx); err != nil {
		return nil, err
	}
	if err := c.write(key, issued); err != nil {
		c.config.Notice(fmt.Errorf("the token could not be kept in the cache: %w", err))
	}
	return issued, nil
}

const (
	recordEnding = ".json"
	newEnding    = ".new"
	lockEnding   = ".lock"
)

func fileOf(key Key) string { return key.String() + recordEnding }

func (c *Cache) path(name string) string { return filepath.Join(c.config.Dir, name) }

// read returns what the file of key holds, if it is one that we alone can have
// written.
func (c *Cache) read(key Key) (*Issued, error) {
	content, err := c.readFile(fileOf(key))
	if err != nil {
		return nil, err
	}
	return parseRecord(content, key)
}

func (c *Cache) readFile(name string) ([]byte, error) {
	named, err := c.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	file, err := c.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	opened, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if fault := othersCan(opened); fault != "" {
		return nil, errors.New("it " + fault)
	}
	if !os.SameFile(named, opened) || opened.Size() > maxRecord {
		return nil, errDamaged
	}
	return io.ReadAll(io.LimitReader(file, maxRecord+1))
}

// write puts the file of key in place in one step, and takes away what has ended.
func (c *Cache) write(key Key, issued *Issued) error {
	content, err := writeRecord(key, issued)
	if err != nil {
		return err
	}
	name := rand.Text() + newEnding
	file, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = c.root.Rename(name, fileOf(key))
	}
	if err != nil {
		return errors.Join(err, c.root.Remove(name))
	}
	c.sweep()
	return nil
}

// sweep takes away tokens that have ended, and what a process that died left half
// written. What it cannot read or remove stays: that is no fault of the exchange.
func (c *Cache) sweep() {
	const most = 1000
	dir, err := c.root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(most)
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		idle := c.config.Now().Sub(info.ModTime())
		name := entry.Name()
		switch {
		case strings.HasSuffix(name, newEnding) && idle > time.Hour, strings.HasSuffix(name, recordEnding) && idle > time.Hour && c.ended(name):
			_ = c.root.Remove(name)
		}
	}
}

// ended reports whether the token in a file is of no use to anybody.
func (c *Cache) ended(name string) bool {
	content, err := c.readFile(name)
	if err != nil {
		return false
	}
	var key Key
	if text := strings.TrimSuffix(name, recordEnding); len(text) != 2*len(key) || !key.parse(text) {
		return false // nothing of ours
	}
	issued, err := parseRecord(content, key)
	return err != nil || !c.config.Now().Before(issued.Expires)
}
