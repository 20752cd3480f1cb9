// Package suite tests the orders service from outside, at the URL that its environment names.
package suite

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var url string

func TestOrders(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Orders")
}

var _ = BeforeSuite(func() {
	url = os.Getenv("KINDCOV_ORDERS_URL")
	Expect(url).NotTo(BeEmpty(), "KINDCOV_ORDERS_URL names the service")
})

type order struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Refunded bool   `json:"refunded"`
	Quote    struct {
		Subtotal int `json:"subtotal_cents"`
		Discount int `json:"discount_cents"`
		Total    int `json:"total_cents"`
	} `json:"quote"`
}

type failure struct {
	Error struct {
		Code   string            `json:"code"`
		Fields map[string]string `json:"fields"`
	} `json:"error"`
}

// ask sends a request and decodes the answer, whose status must be the one that is wanted.
func ask[T any](method, path, body string, status int) T {
	GinkgoHelper()
	request, err := http.NewRequest(method, url+path, bytes.NewBufferString(body))
	Expect(err).NotTo(HaveOccurred())
	answer, err := http.DefaultClient.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer answer.Body.Close()
	Expect(answer.StatusCode).To(Equal(status))
	var found T
	Expect(json.NewDecoder(answer.Body).Decode(&found)).To(Succeed())
	return found
}

func place(lines string) order {
	GinkgoHelper()
	return ask[order]("POST", "/orders", `{"customer": "ada", "lines": [`+lines+`]}`, 201)
}

const mug = `{"sku": "mug", "quantity": 2}`
