// Package shapes has methods, generics, an empty function, and a name that ends in no ASCII letter.
package shapes

var registered []string

// Register notes a name.
func Register(name string) { registered = append(registered, name) }

// Pair is generic.
type Pair[T any] struct{ A, B T }

// Swap is a method of a generic type.
func (p Pair[T]) Swap() Pair[T] { return Pair[T]{p.B, p.A} }

// Sum counts in a loop: its counters take more than one byte.
func Sum(n int) int {
	total := 0
	for i := 0; i < n; i++ {
		if i%3 == 0 || i%5 == 0 {
			total += i
		}
	}
	return total
}

// Nothing has no statement.
func Nothing() {}

// Größe and the function after it: the string table ends in a byte that looks like a longer number.
func Größe(x float64) float64 {
	if x > 1e9 {
		return mögliché(x)
	}
	return x * 2
}

func mögliché(x float64) float64 { return x }
