"""End-to-end tests of a shop: two services of one Helm chart, each deploying what is its own."""

from typing import Any

from pytest_kindcov import go_service

SHOP: dict[str, Any] = {
    "chart": "charts/shop",
    "namespace": "shop",
    "values": {"stock": {"mug": {"price": 900, "count": 3}, "pen": {"price": 150, "count": 1}}},
}

web = go_service("./cmd/web", **SHOP)
inventory = go_service("./cmd/inventory", **SHOP)
