package vbmap

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// dumbFlow finds the cheapest flow by sending one unit at a time along the shortest way, with Bellman and Ford's
// method.
func dumbFlow(vertices int, edges []edge, source, sink int32) (units int, cost int64) {
	room := make([][2]int32, len(edges))
	for i, e := range edges {
		room[i][0] = e.room
	}
	for {
		distance := make([]int64, vertices)
		by := make([][2]int, vertices) // edge and direction
		for v := range distance {
			distance[v], by[v] = unreached, [2]int{-1, 0}
		}
		distance[source] = 0
		for range vertices {
			for i, e := range edges {
				for direction, way := range [2]edge{e, {from: e.to, to: e.from, cost: -e.cost}} {
					if room[i][direction] > 0 && distance[way.from] < unreached && distance[way.from]+way.cost < distance[way.to] {
						distance[way.to] = distance[way.from] + way.cost
						by[way.to] = [2]int{i, direction}
					}
				}
			}
		}
		if distance[sink] == unreached {
			return units, cost
		}
		for v := sink; v != source; {
			i, direction := by[v][0], by[v][1]
			room[i][direction]--
			room[i][1-direction]++
			if direction == 0 {
				v = edges[i].from
			} else {
				v = edges[i].to
			}
		}
		units++
		cost += distance[sink]
	}
}

func TestFlowIsTheCheapestOfTheLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vertices := rapid.IntRange(2, 8).Draw(t, "vertices")
		f := newFlow(vertices, 0)
		for range rapid.IntRange(0, 20).Draw(t, "edges") {
			from := rapid.IntRange(0, vertices-1).Draw(t, "from")
			to := rapid.IntRange(0, vertices-2).Draw(t, "to")
			if to >= from {
				to++
			}
			f.connect(from, to, rapid.IntRange(0, 3).Draw(t, "room"), int64(rapid.IntRange(0, 5).Draw(t, "cost")))
		}
		units, cost := dumbFlow(vertices, f.edges, 0, int32(vertices-1))
		require.Equal(t, units, f.run(0, vertices-1))
		balance := make([]int, vertices)
		var spent int64
		for number, e := range f.edges {
			used := f.used(number)
			require.GreaterOrEqual(t, used, 0)
			require.Equal(t, int(e.room), used+f.left(number))
			balance[e.from] -= used
			balance[e.to] += used
			spent += int64(used) * e.cost
		}
		require.Equal(t, cost, spent)
		for v, b := range balance {
			switch v {
			case 0:
				require.Equal(t, -units, b)
			case vertices - 1:
				require.Equal(t, units, b)
			default:
				require.Zero(t, b)
			}
		}
	})
}
