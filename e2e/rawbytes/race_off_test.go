//go:build !race

package rawbytes

const raceEnabled = false
