package suite

import (
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("A placed order", Label("happy"), func() {
	var placed order

	BeforeEach(func() { placed = place(mug) })

	It("is new", func() { Expect(placed.Status).To(Equal("new")) })

	It("has an id", func() { Expect(placed.ID).NotTo(BeEmpty()) })

	It("can be read back", func() {
		Expect(ask[order]("GET", "/orders/"+placed.ID, "", 200)).To(Equal(placed))
	})

	It("can be paid", func() {
		paid := ask[order]("POST", "/orders/"+placed.ID+"/pay", "", 200)
		Expect(paid.Status).To(Equal("paid"))
	})

	It("can be cancelled", func() {
		cancelled := ask[order]("POST", "/orders/"+placed.ID+"/cancel", "", 200)
		Expect(cancelled.Status).To(Equal("cancelled"))
		Expect(cancelled.Refunded).To(BeFalse())
	})

	Context("that is paid", func() {
		BeforeEach(func() { ask[order]("POST", "/orders/"+placed.ID+"/pay", "", 200) })

		It("is refunded when it is cancelled", func() {
			Expect(ask[order]("POST", "/orders/"+placed.ID+"/cancel", "", 200).Refunded).To(BeTrue())
		})

		It("is listed among the paid ones", func() {
			var ids []string
			for _, one := range ask[struct{ Orders []order }]("GET", "/orders?status=paid", "", 200).Orders {
				ids = append(ids, one.ID)
			}
			Expect(ids).To(ContainElement(placed.ID))
		})
	})

	Context("that is cancelled", func() {
		BeforeEach(func() { ask[order]("POST", "/orders/"+placed.ID+"/cancel", "", 200) })

		It("cannot be paid", Label("conflict"), func() {
			Expect(ask[failure]("POST", "/orders/"+placed.ID+"/pay", "", 409).Error.Code).To(Equal("conflict"))
		})
	})
})

var _ = DescribeTable("The price of",
	func(lines string, subtotal, discount int) {
		quote := place(lines).Quote
		Expect(quote.Subtotal).To(Equal(subtotal))
		Expect(quote.Discount).To(Equal(discount))
		Expect(quote.Total).To(Equal(subtotal - discount))
	},
	Entry("two mugs", mug, 2500, 0),
	Entry("a sticker", `{"sku": "sticker", "quantity": 1}`, 99, 0),
	Entry("mugs and a sticker", mug+`, {"sku": "sticker", "quantity": 1}`, 2599, 0),
	Entry("five hoodies (2.5 % off)", `{"sku": "hoodie", "quantity": 5}`, 24975, 624),
)

var _ = DescribeTable("A bad order is refused:", Label("unhappy"),
	func(body, code string) {
		Expect(ask[failure]("POST", "/orders", body, 400).Error.Code).To(Equal(code))
	},
	Entry("not JSON", "{", "malformed"),
	Entry("no customer", `{"customer": " ", "lines": [`+mug+`]}`, "invalid"),
	Entry("no lines", `{"customer": "ada", "lines": []}`, "invalid"),
	Entry("no quantity", `{"customer": "ada", "lines": [{"sku": "mug", "quantity": 0}]}`, "invalid"),
	Entry("unknown", `{"customer": "ada", "lines": [{"sku": "yacht", "quantity": 1}]}`, "unknown_sku"),
)

var _ = Describe("An order that nobody placed", Label("unhappy"), func() {
	for _, step := range []struct{ method, path string }{
		{"GET", "/orders/ord_none"},
		{"POST", "/orders/ord_none/pay"},
		{"POST", "/orders/ord_none/cancel"},
	} {
		It("is not found by "+step.method+" "+step.path, func() {
			Expect(ask[failure](step.method, step.path, "", 404).Error.Code).To(Equal("not_found"))
		})
	}
})

var _ = Describe("The life of an order", Ordered, func() {
	var id string

	It("begins", func() { id = place(mug).ID })
	It("goes on", func() { ask[order]("POST", "/orders/"+id+"/pay", "", 200) })
	It("ends", func() { ask[order]("POST", "/orders/"+id+"/cancel", "", 200) })
})

var _ = Describe("The service", func() {
	It("is alive", func() {
		answer, err := http.Get(url + "/healthz")
		Expect(err).NotTo(HaveOccurred())
		defer answer.Body.Close()
		Expect(answer.StatusCode).To(Equal(200))
	})

	It("is asked about the weather", func() { Skip("it does not know") })

	PIt("ships orders")
})
