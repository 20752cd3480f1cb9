// Package store keeps orders in memory and guards their state machine.
package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/orders/internal/pricing"
)

var (
	// ErrNotFound is returned for an id the store does not hold.
	ErrNotFound = errors.New("order not found")
	// ErrFull is returned once the store holds as many orders as it may.
	ErrFull = errors.New("store is full")
)

// TransitionError is a step the state machine does not allow.
type TransitionError struct {
	ID       string
	From, To Status
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("order %s is %s and cannot become %s", e.ID, e.From, e.To)
}

// Status is where an order stands.
type Status string

// The states of an order.
const (
	StatusNew       Status = "new"
	StatusPaid      Status = "paid"
	StatusCancelled Status = "cancelled"
)

// transitions lists the states that may follow each state.
var transitions = map[Status][]Status{
	StatusNew:       {StatusPaid, StatusCancelled},
	StatusPaid:      {StatusCancelled},
	StatusCancelled: nil,
}

// ParseStatus checks that s names a state.
func ParseStatus(s string) (Status, error) {
	status := Status(s)
	if _, ok := transitions[status]; !ok {
		return "", fmt.Errorf("unknown status %q", s)
	}
	return status, nil
}

// Order is one customer's order.
type Order struct {
	ID        string         `json:"id"`
	Customer  string         `json:"customer"`
	Lines     []pricing.Line `json:"lines"`
	Quote     pricing.Quote  `json:"quote"`
	Status    Status         `json:"status"`
	Refunded  bool           `json:"refunded"`
	CreatedAt time.Time      `json:"created_at"`
	UpdatedAt time.Time      `json:"updated_at"`
}

// clone detaches an order from the store's own memory.
func (o *Order) clone() Order {
	c := *o
	c.Lines = slices.Clone(o.Lines)
	return c
}

// Store holds orders; it is safe for concurrent use.
type Store struct {
	capacity int

	mu     sync.RWMutex
	byID   map[string]*Order
	placed []*Order // in order of creation
}

// New returns an empty store for up to capacity orders.
func New(capacity int) *Store {
	return &Store{capacity: capacity, byID: make(map[string]*Order)}
}

// Create adds a new order.
func (s *Store) Create(customer string, lines []pricing.Line, quote pricing.Quote) (Order, error) {
	id, err := newID()
	if err != nil {
		return Order{}, err
	}
	now := time.Now().UTC()
	order := &Order{
		ID:        id,
		Customer:  customer,
		Lines:     slices.Clone(lines),
		Quote:     quote,
		Status:    StatusNew,
		CreatedAt: now,
		UpdatedAt: now,
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.placed) >= s.capacity {
		return Order{}, ErrFull
	}
	s.byID[id] = order
	s.placed = append(s.placed, order)
	return order.clone(), nil
}

// Get returns the order with this id.
func (s *Store) Get(id string) (Order, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	order, ok := s.byID[id]
	if !ok {
		return Order{}, ErrNotFound
	}
	return order.clone(), nil
}

// List returns the orders in this status, oldest first; an empty status means all.
func (s *Store) List(status Status) []Order {
	s.mu.RLock()
	defer s.mu.RUnlock()
	orders := []Order{}
	for _, order := range s.placed {
		if status == "" || order.Status == status {
			orders = append(orders, order.clone())
		}
	}
	return orders
}

// Transition moves an order to another state. A paid order that is cancelled is refunded.
func (s *Store) Transition(id string, to Status) (Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	order, ok := s.byID[id]
	if !ok {
		return Order{}, ErrNotFound
	}
	if !slices.Contains(transitions[order.Status], to) {
		return Order{}, &TransitionError{ID: id, From: order.Status, To: to}
	}
	order.Refunded = order.Status == StatusPaid && to == StatusCancelled
	order.Status = to
	order.UpdatedAt = time.Now().UTC()
	return order.clone(), nil
}

func newID() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	return "ord_" + hex.EncodeToString(b[:]), nil
}
