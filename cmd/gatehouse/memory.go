package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector runs when there is as much garbage as memory in use. A
// proxy uses little: it would run hundreds of times a second. And one that holds
// ten thousand watches would keep twice what they need. So what may be garbage
// is bounded from both sides (docs/decisions/0022).
const (
	leastGarbage = 32 << 20 // bytes that may be garbage in any case
	mostGarbage  = 3        // one in so many bytes in use may be garbage, beyond that
	memoryEvery  = time.Second
	// quietAllocation is what is allocated in memoryEvery when little happens.
	quietAllocation = 2 << 20
	// worthReturning is how much unused memory goes back to the system then.
	worthReturning = 16 << 20
)

// garbagePercent returns what debug.SetGCPercent is to be set to when so many
// bytes are in use.
func garbagePercent(inUse uint64) int {
	garbage := max(leastGarbage, inUse/mostGarbage)
	return int(min(800, 100*garbage/max(inUse, 1)))
}

// tuneMemory bounds the garbage until ctx ends, and gives unused memory back to
// the system when little happens. The operator's own GOGC counts instead.
func tuneMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := garbagePercent(leastGarbage / 4)
	debug.SetGCPercent(percent)
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	var before memory
	var returned uint64 // memory.allocated when memory last went back
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := readMemory()
		// To set it stops the world for a moment.
		if next := garbagePercent(now.live + now.stacks); next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
		quiet := now.allocated-before.allocated < quietAllocation
		if quiet && now.unused > worthReturning+now.live/8 && now.allocated-returned > worthReturning {
			debug.FreeOSMemory()
			returned = now.allocated
		}
		before = now
	}
}

// memory is how much of it the process has, in bytes.
type memory struct {
	live, stacks uint64 // in use: what the last collection left, and stacks
	unused       uint64 // of the heap: free, or garbage by now
	allocated    uint64 // ever
}

func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	live, objects := value(0), value(3)
	return memory{
		live: live, stacks: value(1), allocated: value(2),
		unused: objects - min(live, objects) + value(4) + value(5),
	}
}
