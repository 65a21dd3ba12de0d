package vbmap

// flow is a network in which a minimum-cost maximum flow is sought. Both halves of a map are one: vbuckets are the
// supply, nodes the demand, and costs say what is worth more than what.
//
// Costs must not be negative. Vertices are small integers, from 0.
type flow struct {
	vertices int
	edges    []edge

	// The arcs of vertex v are those from begin[v] to begin[v+1].
	begin []int32
	arcs  []arc
	// place is, by edge, its arc.
	place []int32

	potential []int64
	distance  []int64
	level     []int32
	current   []int32
	queue     []int32
	heap      []reached
}

// edge is what was connected.
type edge struct {
	from, to, room int32
	cost           int64
}

// arc carries up to room more units to a vertex. Each has an arc in return, which takes units back.
type arc struct {
	to, room, back int32
	cost           int64
}

const unreached = int64(1) << 62

func newFlow(vertices, edges int) *flow {
	return &flow{vertices: vertices, edges: make([]edge, 0, edges)}
}

// connect adds an edge between two different vertices and returns its number, for [flow.used].
func (f *flow) connect(from, to, room int, cost int64) int {
	f.edges = append(f.edges, edge{int32(from), int32(to), int32(room), cost})
	return len(f.edges) - 1
}

// used is how many units the numbered edge carries.
func (f *flow) used(number int) int { return int(f.arcs[f.arcs[f.place[number]].back].room) }

// left is how many more units the numbered edge could carry.
func (f *flow) left(number int) int { return int(f.arcs[f.place[number]].room) }

// run sends as much as possible from source to sink, as cheaply as that can be done, and returns how much. It is called
// once, when everything is connected.
//
// It is the primal-dual method: as long as the sink can be reached, find the cheapest ways, then fill all of these at
// once. There are few different costs, so there are few rounds.
func (f *flow) run(source, sink int) int {
	f.prepare()
	total := 0
	for f.cheapest(int32(source), int32(sink)) {
		for f.layer(int32(source), int32(sink)) {
			copy(f.current, f.begin)
			total += int(f.push(int32(source), int32(sink), 1<<30))
		}
	}
	return total
}

// prepare lays the arcs of each vertex side by side.
func (f *flow) prepare() {
	f.begin = make([]int32, f.vertices+1)
	for _, e := range f.edges {
		f.begin[e.from+1]++
		f.begin[e.to+1]++
	}
	for v := range f.vertices {
		f.begin[v+1] += f.begin[v]
	}
	next := make([]int32, f.vertices)
	copy(next, f.begin)
	f.arcs = make([]arc, 2*len(f.edges))
	f.place = make([]int32, len(f.edges))
	for number, e := range f.edges {
		there, back := next[e.from], next[e.to]
		next[e.from]++
		next[e.to]++
		f.arcs[there] = arc{to: e.to, room: e.room, back: back, cost: e.cost}
		f.arcs[back] = arc{to: e.from, back: there, cost: -e.cost}
		f.place[number] = there
	}
	f.potential = make([]int64, f.vertices)
	f.distance = make([]int64, f.vertices)
	f.level = make([]int32, f.vertices)
	f.current = make([]int32, f.vertices)
}

// reduced is what an arc costs beyond the cheapest known way to its end.
func (f *flow) reduced(from int32, a *arc) int64 {
	return a.cost + f.potential[from] - f.potential[a.to]
}

// cheapest raises the potentials so that the cheapest ways from source to sink are those whose arcs have no reduced
// cost; false if there is no way.
func (f *flow) cheapest(source, sink int32) bool {
	for v := range f.distance {
		f.distance[v] = unreached
	}
	f.distance[source] = 0
	f.heap = append(f.heap[:0], reached{vertex: source})
	for len(f.heap) > 0 {
		here := f.pop()
		if here.distance > f.distance[here.vertex] {
			continue
		}
		if here.vertex == sink {
			break
		}
		for n := f.begin[here.vertex]; n < f.begin[here.vertex+1]; n++ {
			a := &f.arcs[n]
			if a.room == 0 {
				continue
			}
			if d := here.distance + f.reduced(here.vertex, a); d < f.distance[a.to] && d < f.distance[sink] {
				f.distance[a.to] = d
				f.add(reached{distance: d, vertex: a.to})
			}
		}
	}
	limit := f.distance[sink]
	if limit == unreached {
		return false
	}
	for v, d := range f.distance {
		f.potential[v] += min(d, limit)
	}
	return true
}

// layer numbers the vertices by their number of arcs from source, along cheapest ways only; false if none leads to
// sink.
func (f *flow) layer(source, sink int32) bool {
	for v := range f.level {
		f.level[v] = -1
	}
	f.level[source] = 0
	f.queue = append(f.queue[:0], source)
	for i := 0; i < len(f.queue); i++ {
		v := f.queue[i]
		for n := f.begin[v]; n < f.begin[v+1]; n++ {
			a := &f.arcs[n]
			if a.room > 0 && f.level[a.to] < 0 && f.reduced(v, a) == 0 {
				f.level[a.to] = f.level[v] + 1
				if a.to == sink {
					return true
				}
				f.queue = append(f.queue, a.to)
			}
		}
	}
	return false
}

// push sends up to most units from v to sink along layers, and returns how many. Arcs that lead nowhere are not tried
// again within the layer.
func (f *flow) push(v, sink, most int32) int32 {
	if v == sink {
		return most
	}
	sent := int32(0)
	for ; f.current[v] < f.begin[v+1]; f.current[v]++ {
		a := &f.arcs[f.current[v]]
		if a.room == 0 || f.level[a.to] != f.level[v]+1 || f.reduced(v, a) != 0 {
			continue
		}
		passed := f.push(a.to, sink, min(most-sent, a.room))
		a.room -= passed
		f.arcs[a.back].room += passed
		if sent += passed; sent == most {
			return sent
		}
	}
	return sent
}

// reached is a vertex to which a way has been found.
type reached struct {
	distance int64
	vertex   int32
}

// add and pop keep the heap, nearest vertex first.
func (f *flow) add(r reached) {
	f.heap = append(f.heap, r)
	i := len(f.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if f.heap[parent].distance <= r.distance {
			break
		}
		f.heap[i] = f.heap[parent]
		i = parent
	}
	f.heap[i] = r
}

func (f *flow) pop() reached {
	top := f.heap[0]
	last := f.heap[len(f.heap)-1]
	f.heap = f.heap[:len(f.heap)-1]
	n := len(f.heap)
	i := 0
	for 2*i+1 < n {
		child := 2*i + 1
		if child+1 < n && f.heap[child+1].distance < f.heap[child].distance {
			child++
		}
		if last.distance <= f.heap[child].distance {
			break
		}
		f.heap[i] = f.heap[child]
		i = child
	}
	if n > 0 {
		f.heap[i] = last
	}
	return top
}
