// Command live is what the tests of the live reader run: it does what its input says, a word a line,
// and answers each when it is done.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func even() int { return 2 }

func odd() int { return 1 }

func main() {
	fmt.Println("ready")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch word := input.Text(); word {
		case "even":
			even()
		case "odd":
			odd()
		case "again": // as its own successor
			syscall.Exec("/proc/self/exe", os.Args, os.Environ())
		default: // as another program, which reads the same input
			path, _ := exec.LookPath(word)
			syscall.Exec(path, []string{word}, os.Environ())
		}
		fmt.Println("done")
	}
}
