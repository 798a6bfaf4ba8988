package proxy

import "strings"

// maxHops is how many gatehouses may stand in a row.
const maxHops = 8

// hopLength is the length of a gatehouse's id: that of crypto/rand.Text.
const hopLength = 26

// via returns the ids of the gatehouses through which a request has come, this
// one's the last, to be sent on. loops says that it has been here already, or in
// too many places: an API server's address that leads back to gatehouse would
// have it go round without an end. The ids are random and say nothing; a caller
// who learned one, and sends it, is refused, and nothing else.
func (p *Proxy) via(lines []string) (via string, loops bool) {
	all := make([]string, 0, 1)
	for _, line := range lines {
		for id := range strings.SplitSeq(line, ",") {
			if id = strings.TrimSpace(id); !isHop(id) {
				continue // no gatehouse wrote it
			}
			if id == p.cfg.ID || len(all) == maxHops-1 {
				return "", true
			}
			all = append(all, id)
		}
	}
	return strings.Join(append(all, p.cfg.ID), ", "), false
}

// isHop reports whether id has the form of crypto/rand.Text.
func isHop(id string) bool {
	return len(id) == hopLength && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
