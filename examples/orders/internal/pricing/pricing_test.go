package pricing

import (
	"errors"
	"testing"
)

func TestPrice(t *testing.T) {
	tests := []struct {
		name   string
		lines  []Line
		coupon string
		want   Quote
	}{
		{"no discount", []Line{{"mug", 2}, {"sticker", 1}}, "", Quote{2_599, 0, 2_599}},
		{"just below a tier", []Line{{"tshirt", 10}}, "", Quote{19_990, 0, 19_990}},
		{"first tier", []Line{{"mug", 16}}, "", Quote{20_000, 500, 19_500}},
		{"coupon rounds down", []Line{{"tshirt", 1}, {"sticker", 10}}, "WELCOME5", Quote{2_989, 149, 2_840}},
		{"coupon rounds half up", []Line{{"mug", 1}}, "WELCOME5", Quote{1_250, 63, 1_187}},
		{"volume beats coupon", []Line{{"desk", 2}}, "WELCOME5", Quote{129_800, 9_735, 120_065}},
		{"coupon beats volume", []Line{{"desk", 2}}, "STAFF30", Quote{129_800, 38_940, 90_860}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Price(tt.lines, tt.coupon)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestPriceRejects(t *testing.T) {
	_, err := Price([]Line{{"yacht", 1}}, "")
	var unknown *UnknownSKUError
	if !errors.As(err, &unknown) || unknown.SKU != "yacht" {
		t.Errorf("unknown sku: got %v", err)
	}
	if _, err := Price([]Line{{"mug", 1}}, "NOPE"); !errors.Is(err, ErrUnknownCoupon) {
		t.Errorf("unknown coupon: got %v", err)
	}
}
