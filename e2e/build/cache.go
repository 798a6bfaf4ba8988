package build

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// keepFor is how long something stays in the cache without being used: a set of
// binaries takes 300 MB.
const keepFor = 14 * 24 * time.Hour

// CacheDir is where what the end-to-end tests keep between runs lives. It
// exists when CacheDir returns.
func CacheDir() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	dir := filepath.Join(user, "gatehouse", "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	return dir, nil
}

// Touch notes that an entry of the cache is used.
func Touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now) // a cache that is read only serves as well
}

// prune removes what has not been used since then, and what a build that was
// killed at that time left.
func prune(cache string, since time.Time) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return fmt.Errorf("prune the cache: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.ModTime().Before(since) {
			continue // gone meanwhile, or in use
		}
		if err := os.RemoveAll(filepath.Join(cache, entry.Name())); err != nil {
			return fmt.Errorf("prune the cache: %w", err)
		}
	}
	return nil
}
