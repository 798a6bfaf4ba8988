package oidc

// Forget empties the cache.
func (s *Issuers) Forget() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	clear(s.cache.entries)
	clear(s.cache.holders)
	s.cache.units = 0
}
