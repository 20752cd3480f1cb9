package store

import (
	"errors"
	"testing"

	"example.com/orders/internal/pricing"
)

func create(t *testing.T, s *Store) Order {
	t.Helper()
	order, err := s.Create("ada", []pricing.Line{{SKU: "mug", Quantity: 1}}, pricing.Quote{})
	if err != nil {
		t.Fatal(err)
	}
	return order
}

func TestTransition(t *testing.T) {
	tests := []struct {
		name     string
		steps    []Status
		ok       bool // whether the last step is allowed
		refunded bool
	}{
		{"pay", []Status{StatusPaid}, true, false},
		{"cancel", []Status{StatusCancelled}, true, false},
		{"refund", []Status{StatusPaid, StatusCancelled}, true, true},
		{"pay twice", []Status{StatusPaid, StatusPaid}, false, false},
		{"pay a cancelled order", []Status{StatusCancelled, StatusPaid}, false, false},
		{"cancel twice", []Status{StatusCancelled, StatusCancelled}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(10)
			order := create(t, s)
			var err error
			for i, to := range tt.steps {
				if _, err = s.Transition(order.ID, to); err != nil && i < len(tt.steps)-1 {
					t.Fatal(err)
				}
			}
			var refused *TransitionError
			if tt.ok && err != nil || !tt.ok && !errors.As(err, &refused) {
				t.Fatalf("last step: got error %v", err)
			}
			got, err := s.Get(order.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got.Refunded != tt.refunded {
				t.Errorf("refunded = %v, want %v", got.Refunded, tt.refunded)
			}
		})
	}
}

func TestListFiltersByStatus(t *testing.T) {
	s := New(10)
	first, second := create(t, s), create(t, s)
	if _, err := s.Transition(second.ID, StatusPaid); err != nil {
		t.Fatal(err)
	}
	if got := s.List(""); len(got) != 2 || got[0].ID != first.ID {
		t.Errorf("all: got %+v", got)
	}
	if got := s.List(StatusPaid); len(got) != 1 || got[0].ID != second.ID {
		t.Errorf("paid: got %+v", got)
	}
}

func TestCreateStopsAtCapacity(t *testing.T) {
	s := New(1)
	create(t, s)
	if _, err := s.Create("bob", nil, pricing.Quote{}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}
