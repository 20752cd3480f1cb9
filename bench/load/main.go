// Command load asks an URL as often as it can, and prints how often it did and how long answers took.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"sync"
	"time"
)

func main() {
	url := flag.String("url", "", "what to ask")
	clients := flag.Int("clients", 2, "how many at once")
	length := flag.Duration("for", 2*time.Second, "how long")
	flag.Parse()

	var mutex sync.Mutex
	var group sync.WaitGroup
	var took []time.Duration
	begin := time.Now()
	for range *clients {
		group.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			var own []time.Duration
			for time.Since(begin) < *length {
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
			took = append(took, own...)
		})
	}
	group.Wait()
	slices.Sort(took)
	rate := float64(len(took)) / time.Since(begin).Seconds()
	fmt.Println(rate, took[len(took)/2].Seconds(), took[len(took)*99/100].Seconds())
}
