// Command web is what the shop's customers see.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"example.com/shop/internal/serve"
)

var client = &http.Client{Timeout: 2 * time.Second}

func main() {
	inventory := os.Getenv("INVENTORY")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /buy/{name}", func(w http.ResponseWriter, r *http.Request) {
		buy(w, r, inventory)
	})
	if err := serve.Run(":8080", mux); err != nil {
		log.Fatal(err)
	}
}

func buy(w http.ResponseWriter, r *http.Request, inventory string) {
	count := r.FormValue("count")
	if count == "" {
		count = "1"
	}
	target := inventory + "/take/" + url.PathEscape(r.PathValue("name"))
	answer, err := client.PostForm(target, url.Values{"count": {count}})
	if err != nil {
		log.Printf("inventory: %v", err)
		serve.Error(w, http.StatusServiceUnavailable, "come back later")
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
		return
	}
	var taken struct{ Price, Count int }
	if err := json.NewDecoder(answer.Body).Decode(&taken); err != nil {
		serve.Error(w, http.StatusBadGateway, err.Error())
		return
	}
	serve.JSON(w, http.StatusOK, map[string]int{"total": taken.Price * taken.Count})
}
