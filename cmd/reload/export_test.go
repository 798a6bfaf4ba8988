package reload

// Look is two rounds of Run: the first sees a change, the second that it stays.
func (w *Watcher) Look() {
	w.LookOnce()
	w.LookOnce()
}

// LookOnce is one round.
func (w *Watcher) LookOnce() {
	for _, one := range w.watched {
		w.look(one)
	}
}
