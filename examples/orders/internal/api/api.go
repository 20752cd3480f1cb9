// Package api is the HTTP interface to the orders.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"example.com/orders/internal/pricing"
	"example.com/orders/internal/store"
)

type handler struct {
	store *store.Store
	log   *slog.Logger
}

// New returns the API over this store.
func New(s *store.Store, log *slog.Logger) http.Handler {
	h := &handler{store: s, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", h.create)
	mux.HandleFunc("GET /orders", h.list)
	mux.HandleFunc("GET /orders/{id}", h.get)
	mux.HandleFunc("POST /orders/{id}/pay", h.transition(store.StatusPaid))
	mux.HandleFunc("POST /orders/{id}/cancel", h.transition(store.StatusCancelled))
	return h.logged(h.recovered(mux))
}

func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	var req createRequest
	if err := decode(w, r, &req); err != nil {
		h.fail(w, r, err)
		return
	}
	if err := req.validate(); err != nil {
		h.fail(w, r, err)
		return
	}
	quote, err := pricing.Price(req.Lines, req.Coupon)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	order, err := h.store.Create(req.Customer, req.Lines, quote)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/orders/"+order.ID)
	h.write(w, r, http.StatusCreated, order)
}

func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	var status store.Status
	if s := r.URL.Query().Get("status"); s != "" {
		var err error
		if status, err = store.ParseStatus(s); err != nil {
			h.fail(w, r, &invalidError{Fields: map[string]string{"status": err.Error()}})
			return
		}
	}
	h.write(w, r, http.StatusOK, map[string]any{"orders": h.store.List(status)})
}

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	order, err := h.store.Get(r.PathValue("id"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.write(w, r, http.StatusOK, order)
}

func (h *handler) transition(to store.Status) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order, err := h.store.Transition(r.PathValue("id"), to)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.write(w, r, http.StatusOK, order)
	}
}

// statusRecorder remembers the status code that was sent.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the original writer.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (h *handler) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		h.log.InfoContext(r.Context(), "request",
			"method", r.Method,
			"path", r.URL.Path,
			"status", rec.status,
			"duration", time.Since(start),
		)
	})
}

// recovered answers 500 when a handler panics.
func (h *handler) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			h.log.ErrorContext(r.Context(), "panic", "path", r.URL.Path, "panic", p)
			h.write(w, r, http.StatusInternalServerError, errInternal)
		}()
		next.ServeHTTP(w, r)
	})
}
