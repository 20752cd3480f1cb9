"""What a client of the orders service can rely on."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pytest_kindcov import GoService

MUG = {"sku": "mug", "quantity": 2}


@pytest.fixture
def api(orders: GoService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=orders.url, timeout=10) as client:
        yield client


def place(api: httpx.Client, *lines: dict[str, Any], **fields: str) -> dict[str, Any]:
    """Place an order of these lines and return it."""
    response = api.post("/orders", json={"customer": "ada", "lines": lines, **fields})
    assert response.status_code == 201, response.text
    order: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/orders/{order['id']}"
    return order


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that the response is an error with this status and return its detail."""
    assert response.status_code == status, response.text
    detail: dict[str, Any] = response.json()["error"]
    return detail


def test_service_is_ready(api: httpx.Client) -> None:
    assert api.get("/healthz").status_code == 200
    assert api.get("/readyz").status_code == 200


def test_placed_order_can_be_read_back(api: httpx.Client) -> None:
    placed = place(api, MUG, {"sku": "sticker", "quantity": 1})

    assert placed["status"] == "new"
    assert placed["quote"] == {
        "subtotal_cents": 2599,
        "discount_cents": 0,
        "total_cents": 2599,
    }
    assert api.get(f"/orders/{placed['id']}").json() == placed


def test_volume_discount_is_rounded_to_the_cent(api: httpx.Client) -> None:
    quote = place(api, {"sku": "hoodie", "quantity": 5})["quote"]

    # 2.5 % of 249.75 is 6.24375
    assert quote == {"subtotal_cents": 24975, "discount_cents": 624, "total_cents": 24351}


def test_paid_order_is_refunded_when_cancelled(api: httpx.Client) -> None:
    path = f"/orders/{place(api, MUG)['id']}"

    paid = api.post(f"{path}/pay")
    assert paid.status_code == 200
    assert (paid.json()["status"], paid.json()["refunded"]) == ("paid", False)

    cancelled = api.post(f"{path}/cancel")
    assert cancelled.status_code == 200
    assert (cancelled.json()["status"], cancelled.json()["refunded"]) == ("cancelled", True)


def test_cancelled_order_cannot_be_paid(api: httpx.Client) -> None:
    path = f"/orders/{place(api, MUG)['id']}"
    assert api.post(f"{path}/cancel").status_code == 200

    assert error(api.post(f"{path}/pay"), 409)["code"] == "conflict"
    assert api.get(path).json()["status"] == "cancelled"


def test_orders_are_listed_by_status(api: httpx.Client) -> None:
    new, paid = place(api, MUG)["id"], place(api, MUG)["id"]
    assert api.post(f"/orders/{paid}/pay").status_code == 200

    response = api.get("/orders", params={"status": "paid"})
    assert response.status_code == 200
    listed = {order["id"] for order in response.json()["orders"]}
    assert paid in listed
    assert new not in listed

    assert "status" in error(api.get("/orders", params={"status": "lost"}), 400)["fields"]


def test_unknown_order_is_not_found(api: httpx.Client) -> None:
    assert error(api.get("/orders/ord_none"), 404)["code"] == "not_found"
    assert error(api.post("/orders/ord_none/pay"), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("{", "malformed", id="not-json"),
        pytest.param('{"customer": " ", "lines": []}', "invalid", id="empty"),
        pytest.param(
            '{"customer": "ada", "lines": [{"sku": "mug", "quantity": 0}]}',
            "invalid",
            id="no-quantity",
        ),
        pytest.param(
            '{"customer": "ada", "lines": [{"sku": "yacht", "quantity": 1}]}',
            "unknown_sku",
            id="unknown-sku",
        ),
    ],
)
def test_bad_order_is_refused(api: httpx.Client, body: str, code: str) -> None:
    response = api.post("/orders", content=body, headers={"content-type": "application/json"})

    assert error(response, 400)["code"] == code
