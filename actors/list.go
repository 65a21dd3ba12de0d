package actors

// list is a doubly linked list whose nodes are part of the items, so that entering and leaving it costs neither an
// allocation nor a search. A process keeps what others know of it in such lists: they stay in the order of insertion,
// which a map would not, and a simulation has to be repeatable. The zero list is empty. The owner's lock guards it.
type list[T any] struct {
	first, last *node[T]
	n           int
}

// node is an item's place in one list; the item embeds it.
type node[T any] struct {
	prev, next *node[T]
	in         *list[T]
	item       T
}

// push appends item, whose node is n; n must not be in a list.
func (l *list[T]) push(n *node[T], item T) {
	n.item, n.in = item, l
	n.prev, n.next = l.last, nil
	if l.last != nil {
		l.last.next = n
	} else {
		l.first = n
	}
	l.last = n
	l.n++
}

// remove takes n out and reports whether it was in.
func (l *list[T]) remove(n *node[T]) bool {
	if n.in != l {
		return false
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.last = n.prev
	}
	n.prev, n.next, n.in = nil, nil, nil
	l.n--
	return true
}

// pop takes the first item out; ok is false if there is none.
func (l *list[T]) pop() (item T, ok bool) {
	n := l.first
	if n == nil {
		return item, false
	}
	l.remove(n)
	return n.item, true
}
