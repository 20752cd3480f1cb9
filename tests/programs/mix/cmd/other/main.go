// Command other shares a package with mix.
package main

import (
	"fmt"
	"os"

	"example.com/mix/shapes"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
	}
	fmt.Println(shapes.Sum(30))
}
