package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/cmd/exchange"
)

// holdIn is a variable that makes this test a process that holds the lock of
// aKey in a folder, until it is killed.
const holdIn = "EXCHANGE_TEST_HOLD_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdIn); dir != "" {
		hold(dir)
	}
	os.Exit(m.Run())
}

func hold(dir string) {
	cache, err := exchange.OpenCache(exchange.CacheConfig{Dir: dir})
	if err == nil {
		_, err = cache.Once(context.Background(), aKey(), func(context.Context) (*exchange.Issued, error) {
			fmt.Println("holding")
			_, err := io.Copy(io.Discard, os.Stdin) // until the parent is gone
			return nil, err
		})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func aKey() exchange.Key { return exchange.KeyOf("a") }

// counted is a source of tokens that counts them.
type counted struct {
	mu    sync.Mutex
	count int
	clock *authtest.Clock
	life  time.Duration
}

func (c *counted) exchange(context.Context) (*exchange.Issued, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	now := c.clock.Now()
	return &exchange.Issued{Token: fmt.Sprintf("issued-%d", c.count), Type: "urn:ietf:params:oauth:token-type:access_token", Obtained: now, Expires: now.Add(c.life)}, nil
}

// kept is a cache in a folder of its own.
type kept struct {
	*exchange.Cache
	counted
	dir     string
	notices []string
}

func newCache(t *testing.T, life time.Duration) *kept {
	t.Helper()
	k := &kept{counted: counted{clock: authtest.NewClock(), life: life}, dir: filepath.Join(t.TempDir(), "cache")}
	cache, err := exchange.OpenCache(exchange.CacheConfig{Dir: k.dir, Now: k.clock.Now, Notice: func(err error) { k.notices = append(k.notices, err.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	k.Cache = cache
	return k
}

// get asks for a token, which must be the one of that number.
func (k *kept) get(t *testing.T, key exchange.Key, number int) {
	t.Helper()
	issued, err := k.Once(t.Context(), key, k.exchange)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("issued-%d", number); issued.Token != want {
		t.Errorf("got %s, want %s", issued.Token, want)
	}
}

func (k *kept) file(key exchange.Key) string { return filepath.Join(k.dir, key.String()+".json") }

// Promise: a token is given out again while it has 5 minutes of life left, or half
// of its life, and never later; another key's never.
func TestCacheLifetime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ life, good, over time.Duration }{
		{time.Hour, 54*time.Minute + 59*time.Second, 55*time.Minute + time.Second},
		{10 * time.Minute, 4*time.Minute + 59*time.Second, 5*time.Minute + time.Second},
		{time.Minute, 29 * time.Second, 31 * time.Second},
		{time.Second, 499 * time.Millisecond, 501 * time.Millisecond},
	} {
		k := newCache(t, test.life)
		k.get(t, aKey(), 1)
		k.get(t, exchange.KeyOf("b"), 2)
		k.clock.Advance(test.good)
		k.get(t, aKey(), 1)
		k.clock.Advance(test.over - test.good)
		k.get(t, aKey(), 3)
		k.get(t, aKey(), 3)
	}
}

// Promise: a token that a later clock obtained is not given out.
func TestCacheClockSetBack(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Hour)
	k.get(t, aKey(), 1)
	k.clock.Advance(-2 * time.Minute)
	k.get(t, aKey(), 2)
}

// Promise: folder and files are for their owner alone, and no half-written file
// or token that has ended stays.
func TestCacheFiles(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Minute)
	k.get(t, aKey(), 1)
	for path, want := range map[string]fs.FileMode{k.dir: 0o700 | fs.ModeDir, k.file(aKey()): 0o600} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode(), want)
		}
	}
	leftover, other := filepath.Join(k.dir, "X.new"), filepath.Join(k.dir, "mine.json")
	for _, path := range []string{leftover, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.clock.Advance(2 * time.Hour)
	k.get(t, exchange.KeyOf("b"), 2)
	for path, want := range map[string]bool{k.file(aKey()): false, leftover: false, other: true, k.file(exchange.KeyOf("b")): true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", path, err == nil, want)
		}
	}
}

// Promise: a cache file that is damaged, open to others, a link or somebody
// else's is not used but replaced, with a notice that names it and quotes nothing.
func TestCacheFileAttacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attack func(t *testing.T, k *kept)
		want   string
	}{
		"open to others": {func(t *testing.T, k *kept) { check(t, os.Chmod(k.file(aKey()), 0o604)) }, "is open to others"},
		"open to a group": {func(t *testing.T, k *kept) {
			check(t, os.Chmod(k.file(aKey()), 0o620))
		}, "is open to others"},
		"a link to a good file": {func(t *testing.T, k *kept) {
			check(t, os.Rename(k.file(aKey()), k.file(aKey())+".moved"))
			check(t, os.Symlink(filepath.Base(k.file(aKey()))+".moved", k.file(aKey())))
		}, "no regular file"},
		"a link to elsewhere": {func(t *testing.T, k *kept) {
			elsewhere := filepath.Join(filepath.Dir(k.dir), "elsewhere")
			check(t, os.Rename(k.file(aKey()), elsewhere))
			check(t, os.Symlink(elsewhere, k.file(aKey())))
		}, "no regular file"},
		"a pipe": {func(t *testing.T, k *kept) {
			check(t, os.Remove(k.file(aKey())))
			check(t, exec.Command("mkfifo", k.file(aKey())).Run())
		}, "no regular file"},
		"another key's": {func(t *testing.T, k *kept) {
			k.get(t, exchange.KeyOf("b"), 2)
			check(t, os.Rename(k.file(exchange.KeyOf("b")), k.file(aKey())))
			k.count = 1
		}, "damaged"},
		"cut off":          {edit(func(s string) string { return s[:len(s)/2] }), "damaged"},
		"empty":            {edit(func(string) string { return "" }), "damaged"},
		"more":             {edit(func(s string) string { return s + s }), "damaged"},
		"huge":             {edit(func(s string) string { return s + strings.Repeat(" ", 70<<10) }), "damaged"},
		"another version":  {edit(func(s string) string { return strings.Replace(s, `"version":1`, `"version":2`, 1) }), "damaged"},
		"a header in it":   {edit(func(s string) string { return strings.Replace(s, "issued-1", `s3cret\r\nX: y`, 1) }), "damaged"},
		"no token":         {edit(func(s string) string { return strings.Replace(s, "issued-1", "", 1) }), "damaged"},
		"two tokens":       {edit(func(s string) string { return strings.Replace(s, "{", `{"access_token":"s3cret",`, 1) }), "damaged"},
		"for a long time":  {edit(func(s string) string { return strings.Replace(s, `"expires":"2`, `"expires":"3`, 1) }), "damaged"},
		"no time":          {edit(func(s string) string { return strings.Replace(s, `"expires"`, `"ends"`, 1) }), "damaged"},
		"lines in a scope": {edit(func(s string) string { return strings.Replace(s, `"obtained"`, `"scope":"a\nb","obtained"`, 1) }), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCache(t, time.Hour)
			k.get(t, aKey(), 1)
			test.attack(t, k)
			k.get(t, aKey(), 2)
			k.get(t, aKey(), 2)
			if info, err := os.Lstat(k.file(aKey())); err != nil || info.Mode() != 0o600 {
				t.Errorf("the file was not replaced: %v", err)
			}
			if len(k.notices) != 1 || !strings.Contains(k.notices[0], test.want) || strings.Contains(k.notices[0], "s3cret") {
				t.Errorf("notices %q, want %q", k.notices, test.want)
			}
		})
	}
}

func edit(change func(string) string) func(*testing.T, *kept) {
	return func(t *testing.T, k *kept) {
		t.Helper()
		content, err := os.ReadFile(k.file(aKey()))
		check(t, err)
		check(t, os.WriteFile(k.file(aKey()), []byte(change(string(content))), 0o600))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Promise: a file of another user is not used, nor a folder. Who is not root
// cannot make one, so that it runs as root alone.
func TestCacheOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	k := newCache(t, time.Hour)
	k.get(t, aKey(), 1)
	check(t, os.Chown(k.file(aKey()), 65534, -1))
	k.get(t, aKey(), 2)
	if len(k.notices) != 1 || !strings.Contains(k.notices[0], "belongs to somebody else") {
		t.Errorf("notices: %q", k.notices)
	}
	check(t, os.Chown(k.dir, 65534, -1))
	if _, err := exchange.OpenCache(exchange.CacheConfig{Dir: k.dir}); err == nil || !strings.Contains(err.Error(), "belongs to somebody else") {
		t.Errorf("%v", err)
	}
}

// Promise: a folder that others could read or write, or that is a link, is refused.
func TestCacheFolderAttacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attack func(t *testing.T, dir string)
		want   string
		unsafe bool
	}{
		"open":      {func(t *testing.T, dir string) { check(t, os.Mkdir(dir, 0o755)); check(t, os.Chmod(dir, 0o755)) }, "is open to others", true},
		"for all":   {func(t *testing.T, dir string) { check(t, os.Mkdir(dir, 0o700)); check(t, os.Chmod(dir, 0o777)) }, "is open to others", true},
		"a link":    {func(t *testing.T, dir string) { check(t, os.Symlink(t.TempDir(), dir)) }, "is a symbolic link", true},
		"a file":    {func(t *testing.T, dir string) { check(t, os.WriteFile(dir, nil, 0o600)) }, "make the cache folder", false},
		"good":      {func(t *testing.T, dir string) { check(t, os.Mkdir(dir, 0o700)) }, "", false},
		"not there": {func(*testing.T, string) {}, "", false},
	} {
		dir := filepath.Join(t.TempDir(), "cache")
		test.attack(t, dir)
		cache, err := exchange.OpenCache(exchange.CacheConfig{Dir: dir})
		if test.want == "" {
			check(t, err)
			check(t, cache.Close())
			continue
		}
		if _, unsafe := errors.AsType[*exchange.UnsafeError](err); err == nil || unsafe != test.unsafe || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// Promise: a folder that is swapped after it was opened gets nothing.
func TestCacheFolderSwapped(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Hour)
	check(t, os.Rename(k.dir, k.dir+".moved"))
	check(t, os.Mkdir(k.dir, 0o777))
	k.get(t, aKey(), 1)
	if entries, err := os.ReadDir(k.dir); err != nil || len(entries) > 0 {
		t.Errorf("%v %v", entries, err)
	}
	if _, err := os.Lstat(filepath.Join(k.dir+".moved", aKey().String()+".json")); err != nil {
		t.Error(err)
	}
}

// Promise: what cannot be kept is given out all the same, with a notice.
func TestCacheCannotBeWritten(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Hour)
	check(t, os.MkdirAll(filepath.Join(k.file(aKey()), "full"), 0o700))
	k.get(t, aKey(), 1)
	k.get(t, aKey(), 2)
	if len(k.notices) != 4 || !strings.Contains(k.notices[1], "could not be kept") {
		t.Errorf("notices: %q", k.notices)
	}
	if names, err := filepath.Glob(k.dir + "/*.new"); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

// Promise: a failed exchange leaves nothing behind, and the next one tries.
func TestCacheFailedExchange(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Hour)
	fault := errors.New("down")
	if _, err := k.Once(t.Context(), aKey(), func(context.Context) (*exchange.Issued, error) { return nil, fault }); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
	k.get(t, aKey(), 1)
}

// Promise: of many that ask at the same time for the same key, one exchanges.
func TestCacheAtOnce(t *testing.T) {
	t.Parallel()
	k := newCache(t, time.Hour)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if issued, err := k.Once(t.Context(), aKey(), k.exchange); err != nil || issued.Token != "issued-1" {
				t.Errorf("%v, %v", issued, err)
			}
		})
	}
	group.Wait()
	if k.count != 1 {
		t.Errorf("%d exchanges", k.count)
	}
}

// Promise: the lock of a process that is killed does not hold anybody up; until
// then, the wait is bounded, ends with the context, and is told of.
func TestLockHolderKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), holdIn+"="+dir)
	holder.Stderr = os.Stderr
	_, err := holder.StdinPipe()
	check(t, err)
	out, err := holder.StdoutPipe()
	check(t, err)
	check(t, holder.Start())
	if line := make([]byte, len("holding\n")); true {
		_, err := io.ReadFull(out, line)
		check(t, err)
	}
	waits := make(chan struct{}, 3)
	open := func(timeout time.Duration) *exchange.Cache {
		cache, err := exchange.OpenCache(exchange.CacheConfig{Dir: dir, LockTimeout: timeout, Waiting: func(wait func()) {
			waits <- struct{}{}
			wait()
		}})
		check(t, err)
		t.Cleanup(func() { _ = cache.Close() })
		return cache
	}
	c := counted{clock: authtest.NewClock(), life: time.Hour}
	if _, err := open(50*time.Millisecond).Once(t.Context(), aKey(), c.exchange); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(time.Hour).Once(ctx, aKey(), c.exchange); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if c.count > 0 {
		t.Error("the lock was not kept")
	}
	go func() {
		for range 3 {
			<-waits
		}
		_ = holder.Process.Kill()
	}()
	issued, err := open(time.Minute).Once(t.Context(), aKey(), c.exchange)
	if err != nil || issued.Token != "issued-1" {
		t.Errorf("%v, %v", issued, err)
	}
	_ = holder.Wait() // it was killed
}
