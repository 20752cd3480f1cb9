// Package pricing turns order lines into amounts, in integer cents throughout.
package pricing

import (
	"errors"
	"fmt"
)

// ErrUnknownCoupon is returned for a coupon code that is not on offer.
var ErrUnknownCoupon = errors.New("unknown coupon")

// UnknownSKUError names an article that is not in the catalogue.
type UnknownSKUError struct{ SKU string }

func (e *UnknownSKUError) Error() string { return fmt.Sprintf("unknown sku %q", e.SKU) }

// Line is a quantity of one article.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Quote is what the lines cost.
type Quote struct {
	SubtotalCents int64 `json:"subtotal_cents"`
	DiscountCents int64 `json:"discount_cents"`
	TotalCents    int64 `json:"total_cents"`
}

// basisPoints is a rate in hundredths of a percent.
type basisPoints int64

// unitCents is the catalogue.
var unitCents = map[string]int64{
	"sticker": 99,
	"mug":     1_250,
	"tshirt":  1_999,
	"hoodie":  4_995,
	"desk":    64_900,
}

// volumeDiscounts is ordered from the largest subtotal down; the first match applies.
var volumeDiscounts = []struct {
	fromCents int64
	rate      basisPoints
}{
	{500_000, 1_250},
	{100_000, 750},
	{20_000, 250},
}

var coupons = map[string]basisPoints{
	"WELCOME5": 500,
	"STAFF30":  3_000,
}

// Price quotes the lines. A coupon and the volume discount do not add up: the better one applies.
func Price(lines []Line, coupon string) (Quote, error) {
	var subtotal int64
	for _, line := range lines {
		cents, ok := unitCents[line.SKU]
		if !ok {
			return Quote{}, &UnknownSKUError{SKU: line.SKU}
		}
		subtotal += cents * line.Quantity
	}

	rate := volumeRate(subtotal)
	if coupon != "" {
		couponRate, ok := coupons[coupon]
		if !ok {
			return Quote{}, ErrUnknownCoupon
		}
		rate = max(rate, couponRate)
	}

	discount := share(subtotal, rate)
	return Quote{
		SubtotalCents: subtotal,
		DiscountCents: discount,
		TotalCents:    subtotal - discount,
	}, nil
}

func volumeRate(subtotal int64) basisPoints {
	for _, tier := range volumeDiscounts {
		if subtotal >= tier.fromCents {
			return tier.rate
		}
	}
	return 0
}

// share is rate of cents, rounded half up to a whole cent.
func share(cents int64, rate basisPoints) int64 {
	const whole = 10_000
	return (cents*int64(rate) + whole/2) / whole
}
