package reload

// Look is one round of Run.
func (w *Watcher) Look() {
	for _, one := range w.watched {
		w.look(one)
	}
}
