// Program faults is a service that does what it is asked to, to itself first of all. It speaks just
// enough HTTP: linking takes a third of the time that net/http takes.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		hit(os.Args[1])
		return
	}
	stop := make(chan os.Signal, 1)
	switch os.Getenv("TERM_IS") {
	case "deaf": // ends at once, without writing its counters
	case "ignored":
		signal.Ignore(syscall.SIGTERM)
	default:
		signal.Notify(stop, syscall.SIGTERM)
	}
	if os.Getenv("DIES") != "" {
		fmt.Fprintln(os.Stderr, "cannot open the database")
		os.Exit(3)
	}
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		panic(err)
	}
	go serve(listener)
	<-stop
	listener.Close()
	if os.Getenv("TERM_IS") == "lingering" { // long enough to be met at it
		time.Sleep(2 * time.Second)
	}
	if os.Getenv("TERM_IS") == "slow" {
		hit("late")
		time.Sleep(time.Hour)
	}
	hit("bye")
}

// Without a block that runs only when it is over: whether that is before the program's end is chance.
func serve(listener net.Listener) {
	for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
		go answer(connection)
	}
}

// The first line is such as `GET /hit/oom HTTP/1.1`.
func answer(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	line, err := reader.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		return
	}
	for { // the head's rest, or closing resets the connection
		line, err := reader.ReadString('\n')
		if err != nil || strings.TrimSpace(line) == "" {
			break
		}
	}
	parts := strings.Split(words[1], "/")
	if len(parts) > 2 {
		err = do(parts[1], parts[2])
	}
	status := "200 OK"
	if err != nil {
		status = "500 " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	fmt.Fprintf(connection, "HTTP/1.0 %s\r\n\r\n%s", status, build)
}

var hog [][]byte

func do(what, argument string) error {
	switch what {
	case "hit":
		hit(argument)
	case "panic":
		go panic("asked to")
	case "exit":
		os.Exit(3)
	case "hog":
		go func() {
			for {
				block := make([]byte, 1<<20)
				for i := range block {
					block[i] = 1
				}
				hog = append(hog, block)
			}
		}()
	case "child":
		return exec.Command("/proc/self/exe", argument).Run()
	case "junk":
		return junk(os.Getenv("GOCOVERDIR"), argument)
	}
	return nil
}

// Each has a line of its own, so that the total says how often each was asked for.
func hit(name string) {
	switch name {
	case "oom":
		done++ // mark: oom
	case "killed":
		done++ // mark: killed
	case "panics":
		done++ // mark: panics
	case "deaf":
		done++ // mark: deaf
	case "slow":
		done++ // mark: slow
	case "late":
		done++ // mark: late
	case "deleted":
		done++ // mark: deleted
	case "rolled":
		done++ // mark: rolled
	case "scaled":
		done++ // mark: scaled
	case "vanished":
		done++ // mark: vanished
	case "forked":
		done++ // mark: forked
	case "child":
		done++ // mark: child
	case "a":
		done++ // mark: a
	case "b":
		done++ // mark: b
	case "c":
		done++ // mark: c
	case "d":
		done++ // mark: d
	case "e":
		done++ // mark: e
	case "f":
		done++ // mark: f
	case "g":
		done++ // mark: g
	case "h":
		done++ // mark: h
	case "never":
		done++ // mark: never
	case "bye":
		done++ // mark: bye
	}
}

var done int
