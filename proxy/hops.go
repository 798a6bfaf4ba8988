package proxy

import "strings"

// maxHops is how many gatehouses may stand in a row.
const maxHops = 8

// A gatehouse's id has the form of crypto/rand.Text.
const (
	hopLength  = 26
	hopLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// via returns the ids of the gatehouses through which a request has come, this
// one's the last, to be sent on. loops says that it has been here already, or in
// too many places: an API server's address that leads back to gatehouse would
// have it go round without an end. The ids are random and say nothing; a caller
// who learned one, and sends it, is refused, and nothing else.
func (p *Proxy) via(lines []string) (via string, loops bool) {
	hops := 1
	for _, line := range lines {
		for more := true; more; {
			var id string
			id, line, more = strings.Cut(line, ",")
			if id = strings.Trim(id, " \t"); len(id) != hopLength || strings.Trim(id, hopLetters) != "" {
				continue // no gatehouse wrote it
			}
			if hops++; id == p.cfg.ID || hops > maxHops {
				return "", true
			}
			via += id + ", "
		}
	}
	return via + p.cfg.ID, false
}
