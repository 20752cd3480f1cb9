// Command inventory knows what the shop has. `inventory check` only checks its file.
package main

import (
	"errors"
	"log"
	"net/http"
	"os"
	"strconv"

	"example.com/shop/internal/serve"
	"example.com/shop/internal/stock"
)

func main() {
	items, err := stock.Load(os.Getenv("STOCK"))
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "check" {
		log.Printf("%d items, all well", items.Len())
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /take/{name}", func(w http.ResponseWriter, r *http.Request) {
		take(w, r, items)
	})
	if err := serve.Run(":8081", mux); err != nil {
		log.Fatal(err)
	}
}

func take(w http.ResponseWriter, r *http.Request, items *stock.Stock) {
	count, err := strconv.Atoi(r.FormValue("count"))
	if err != nil || count < 1 {
		serve.Error(w, http.StatusBadRequest, "count must be a positive number")
		return
	}
	price, err := items.Take(r.PathValue("name"), count)
	switch {
	case errors.Is(err, stock.ErrUnknown):
		serve.Error(w, http.StatusNotFound, err.Error())
	case errors.Is(err, stock.ErrSoldOut):
		serve.Error(w, http.StatusConflict, err.Error())
	default:
		serve.JSON(w, http.StatusOK, map[string]int{"price": price, "count": count})
	}
}
