// Program shapes is run in every way in which a container can run: its markers say what ran.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	switch os.Getenv("ROLE") {
	case "init":
		fmt.Println("init") // mark: init
		return
	case "job":
		fmt.Println("job") // mark: job
		return
	case "sidecar":
		serve(":9090")
	default:
		serve(":8080")
	}
}

func serve(address string) {
	ctx := context.Background()
	if os.Getenv("DEAF") == "" {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
	}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(handle)}
	server.SetKeepAlivesEnabled(false)
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			panic(err)
		}
	}()
	<-ctx.Done()
	if ctx.Err() != nil {
		fmt.Println("bye") // mark: bye
	}
}

var hog [][]byte

func handle(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ready":
		w.WriteHeader(http.StatusOK) // mark: ready
	case "/alpha":
		w.WriteHeader(http.StatusOK) // mark: alpha
	case "/beta":
		w.WriteHeader(http.StatusOK) // mark: beta
	case "/late":
		go func() {
			time.Sleep(50 * time.Millisecond)
			fmt.Println("late") // mark: late
		}()
	case "/exit":
		os.Exit(3) // mark: exit
	case "/panic":
		go panic("asked to") // mark: panic
	case "/hog":
		for { // mark: hog
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			hog = append(hog, block)
		}
	default:
		http.NotFound(w, r) // mark: default
	}
}
