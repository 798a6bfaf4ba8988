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
	memoryEvery  = 5 * time.Second
	// quietAllocation is what is allocated in memoryEvery when little happens.
	quietAllocation = 8 << 20
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
	debug.SetGCPercent(garbagePercent(leastGarbage / 4))
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
	}
	var allocated, returned uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		live, allocs, stacks := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
		unused := samples[3].Value.Uint64() + samples[4].Value.Uint64() + samples[5].Value.Uint64() - min(live, samples[5].Value.Uint64())
		debug.SetGCPercent(garbagePercent(live + stacks))
		quiet := allocs-allocated < quietAllocation
		if quiet && unused > worthReturning+live/8 && allocs-returned > worthReturning {
			debug.FreeOSMemory()
			returned = allocs
		}
		allocated = allocs
	}
}
