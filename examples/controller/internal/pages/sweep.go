package pages

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "example.com/pages/api/v1"
)

// Every is how often pages are looked at whose time may be over.
const Every = 500 * time.Millisecond

// Sweeper deletes pages whose time is over: a loop that runs whatever the tests do.
type Sweeper struct {
	client.Client
}

// Start runs until the manager stops.
func (s *Sweeper) Start(ctx context.Context) error {
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if err := s.sweep(ctx, now); err != nil {
				return err
			}
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context, now time.Time) error {
	var list v1.PageList
	if err := s.List(ctx, &list); err != nil {
		return err
	}
	for i := range list.Items {
		page := &list.Items[i]
		if !over(page, now) {
			continue
		}
		if err := s.Delete(ctx, page); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func over(page *v1.Page, now time.Time) bool {
	if page.Spec.TTLSeconds <= 0 {
		return false
	}
	ttl := time.Duration(page.Spec.TTLSeconds) * time.Second
	return now.After(page.CreationTimestamp.Add(ttl))
}
