package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/orders/internal/store"
)

func TestCreate(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		status int
		code   string // of the error
	}{
		{"created", `{"customer":"ada","lines":[{"sku":"mug","quantity":2}]}`, http.StatusCreated, ""},
		{"not JSON", `{`, http.StatusBadRequest, "malformed"},
		{"unknown field", `{"client":"ada"}`, http.StatusBadRequest, "malformed"},
		{"two objects", `{"customer":"ada"} {}`, http.StatusBadRequest, "malformed"},
		{"too large", `{"customer":"` + strings.Repeat("a", maxBodyBytes) + `"}`, http.StatusRequestEntityTooLarge, "too_large"},
		{"no lines", `{"customer":"ada"}`, http.StatusBadRequest, "invalid"},
		{"unknown sku", `{"customer":"ada","lines":[{"sku":"yacht","quantity":1}]}`, http.StatusBadRequest, "unknown_sku"},
	}
	api := New(store.New(10), slog.New(slog.NewTextHandler(io.Discard, nil)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			api.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(tt.body)))
			if rec.Code != tt.status {
				t.Fatalf("status %d, want %d: %s", rec.Code, tt.status, rec.Body)
			}
			var got errorBody
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Error.Code != tt.code {
				t.Errorf("code %q, want %q", got.Error.Code, tt.code)
			}
		})
	}
}

func TestFullStoreAnswers503(t *testing.T) {
	api := New(store.New(0), slog.New(slog.NewTextHandler(io.Discard, nil)))
	body := strings.NewReader(`{"customer":"ada","lines":[{"sku":"mug","quantity":1}]}`)
	rec := httptest.NewRecorder()
	api.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/orders", body))
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
		t.Errorf("got %d with headers %v", rec.Code, rec.Header())
	}
}
