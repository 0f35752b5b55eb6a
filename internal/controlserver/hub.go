package controlserver

import "sync"

// hub gives what it is given to all who listen. Who doesn't take it in time is dropped,
// and not waited for.
type hub[T any] struct {
	mu        sync.Mutex
	listeners map[chan T]struct{}
}

// listen returns a channel that receives what is sent from now on, with room for that
// many; it is closed when there was no room for one more. leave is to be called in the
// end.
func (h *hub[T]) listen(room int) (heard <-chan T, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan T, room)
	if h.listeners == nil {
		h.listeners = make(map[chan T]struct{})
	}
	h.listeners[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(c)
	}
}

func (h *hub[T]) send(value T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners {
		select {
		case c <- value:
		default:
			h.drop(c)
		}
	}
}

// drop must be called with mu held.
func (h *hub[T]) drop(c chan T) {
	if _, listens := h.listeners[c]; listens {
		delete(h.listeners, c)
		close(c)
	}
}
