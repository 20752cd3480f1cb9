"""A small service, for tests that are about the cluster around it."""

from __future__ import annotations

WEB = """package main

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func asked(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("yes"))
}

func never(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("no"))
}

func main() {
	http.HandleFunc("/asked", asked)
	http.HandleFunc("/never", never)
	go http.ListenAndServe(":8080", nil)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
"""
