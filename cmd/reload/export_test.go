package reload

import "context"

// Look is one round of Run.
func (w *Watcher) Look() {
	for _, one := range w.watched {
		w.look(context.Background(), one)
	}
}
