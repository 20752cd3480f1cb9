// Command load asks an URL, and prints in seconds how long each answer took.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	url := flag.String("url", "", "what to ask")
	clients := flag.Int("clients", 2, "how many at once")
	every := flag.Duration("every", 4*time.Millisecond, "between two questions of a client; 0: none waits")
	length := flag.Duration("for", 2*time.Second, "how long")
	flag.Parse()

	var mutex sync.Mutex
	var group sync.WaitGroup
	out := bufio.NewWriter(os.Stdout)
	begin := time.Now()
	for range *clients {
		group.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			var own []time.Duration
			wait := func() {}
			if *every > 0 {
				ticks := time.NewTicker(*every)
				defer ticks.Stop()
				wait = func() { <-ticks.C }
			}
			for time.Since(begin) < *length {
				wait()
				start := time.Now()
				answer, err := client.Get(*url)
				if err != nil {
					log.Fatal(err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				own = append(own, time.Since(start))
			}
			mutex.Lock()
			defer mutex.Unlock()
			for _, each := range own {
				fmt.Fprintln(out, each.Seconds())
			}
		})
	}
	group.Wait()
	out.Flush()
}
