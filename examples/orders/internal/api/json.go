package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/orders/internal/pricing"
	"example.com/orders/internal/store"
)

const (
	maxBodyBytes = 64 << 10
	maxLines     = 50
	maxQuantity  = 1_000
)

type createRequest struct {
	Customer string         `json:"customer"`
	Lines    []pricing.Line `json:"lines"`
	Coupon   string         `json:"coupon"`
}

// validate reports every field that is wrong, not the first only.
func (r *createRequest) validate() error {
	fields := map[string]string{}
	if strings.TrimSpace(r.Customer) == "" {
		fields["customer"] = "is required"
	}
	switch n := len(r.Lines); {
	case n == 0:
		fields["lines"] = "needs at least one line"
	case n > maxLines:
		fields["lines"] = fmt.Sprintf("has more than %d lines", maxLines)
	}
	for i, line := range r.Lines {
		if line.SKU == "" {
			fields[fmt.Sprintf("lines[%d].sku", i)] = "is required"
		}
		if line.Quantity < 1 || line.Quantity > maxQuantity {
			fields[fmt.Sprintf("lines[%d].quantity", i)] = fmt.Sprintf("must be from 1 to %d", maxQuantity)
		}
	}
	if len(fields) > 0 {
		return &invalidError{Fields: fields}
	}
	return nil
}

// invalidError lists what is wrong with a well-formed request, by field.
type invalidError struct{ Fields map[string]string }

func (e *invalidError) Error() string { return "the request is not valid" }

// malformedError is a body that is not the JSON object expected.
type malformedError struct{ cause error }

func (e *malformedError) Error() string { return "the body is not valid JSON: " + e.cause.Error() }
func (e *malformedError) Unwrap() error { return e.cause }

// decode reads exactly one JSON object into v.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &malformedError{err}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &malformedError{errors.New("data after the object")}
	}
	return nil
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
}

var errInternal = errorBody{errorDetail{Code: "internal", Message: "internal error"}}

// fail maps an error to its status and body.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var (
		tooLarge   *http.MaxBytesError
		malformed  *malformedError
		invalid    *invalidError
		unknownSKU *pricing.UnknownSKUError
		refused    *store.TransitionError
	)
	status, detail := 0, errorDetail{Message: err.Error()}
	switch {
	case errors.As(err, &tooLarge):
		status, detail.Code = http.StatusRequestEntityTooLarge, "too_large"
		detail.Message = fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
	case errors.As(err, &malformed):
		status, detail.Code = http.StatusBadRequest, "malformed"
	case errors.As(err, &invalid):
		status, detail.Code = http.StatusBadRequest, "invalid"
		detail.Fields = invalid.Fields
	case errors.As(err, &unknownSKU):
		status, detail.Code = http.StatusBadRequest, "unknown_sku"
	case errors.Is(err, pricing.ErrUnknownCoupon):
		status, detail.Code = http.StatusBadRequest, "unknown_coupon"
	case errors.Is(err, store.ErrNotFound):
		status, detail.Code = http.StatusNotFound, "not_found"
	case errors.As(err, &refused):
		status, detail.Code = http.StatusConflict, "conflict"
	case errors.Is(err, store.ErrFull):
		w.Header().Set("Retry-After", "60")
		status, detail.Code = http.StatusServiceUnavailable, "full"
	default:
		h.log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "err", err)
		status, detail = http.StatusInternalServerError, errInternal.Error
	}
	h.write(w, r, status, errorBody{detail})
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.WarnContext(r.Context(), "response not written", "path", r.URL.Path, "err", err)
	}
}
