// Package stock counts what there is.
package stock

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Errors of Take.
var (
	ErrUnknown = errors.New("no such item")
	ErrSoldOut = errors.New("sold out")
)

// Item is one kind of things.
type Item struct {
	Price int `json:"price"` // cents
	Count int `json:"count"`
}

// Stock holds items by name.
type Stock struct {
	mu    sync.Mutex
	items map[string]Item
}

// Load reads a stock from a JSON file, and checks it.
func Load(path string) (*Stock, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	items := map[string]Item{}
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name, item := range items {
		if item.Price <= 0 || item.Count < 0 {
			return nil, fmt.Errorf("%s: %s has price %d and count %d", path, name, item.Price, item.Count)
		}
	}
	return &Stock{items: items}, nil
}

// Len is the number of items.
func (s *Stock) Len() int { return len(s.items) }

// Take takes some of an item, and gives its price.
func (s *Stock) Take(name string, count int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	item, ok := s.items[name]
	if !ok {
		return 0, ErrUnknown
	}
	if item.Count < count {
		return 0, ErrSoldOut
	}
	item.Count -= count
	s.items[name] = item
	return item.Price, nil
}
