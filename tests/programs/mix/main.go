// Command mix is what the tests of coverage data run: a bit of everything that has units.
package main

import (
	"fmt"
	"os"
	"strconv"

	"example.com/mix/shapes"
)

func init() { shapes.Register("square") }

func init() {
	if len(os.Args) > 5 {
		shapes.Register("many")
	}
}

// Map is generic.
func Map[T, U any](in []T, f func(T) U) []U {
	var out []U
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

func main() {
	numbers := Map(os.Args[1:], func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return -1
		}
		return n
	})
	for _, n := range numbers {
		switch {
		case n < 0:
			fmt.Println("not a number")
		case n == 0, n == 1 && len(os.Args) > 2:
			defer func() { fmt.Println("späť") }()
		default:
			fmt.Println(shapes.Sum(n), shapes.Größe(float64(n)), shapes.Pair[int]{A: n}.Swap())
		}
	}
}

func unused() {
	for {
		_ = func() int { return 1 }
	}
}
