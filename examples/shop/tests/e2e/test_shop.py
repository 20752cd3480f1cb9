"""What customers of the shop see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from pytest_kindcov import GoService


@pytest.fixture
def shop(web: GoService, inventory: GoService) -> GoService:
    """The shop, as it is when it opens; web needs the inventory, so it is asked for here."""
    inventory.restart()
    # A node's kube-proxy follows within a second: until then web may not reach the new pod.
    web.wait(lambda: buy(web, "nothing")[0] == 404, what="the inventory being reached")
    return web


def buy(shop: GoService, name: str, **form: Any) -> tuple[int, Any]:
    answer = httpx.post(f"{shop.url}/buy/{name}", data=form)
    return answer.status_code, answer.json()


def test_buy(shop: GoService) -> None:
    assert buy(shop, "mug", count=2) == (200, {"total": 1800})


def test_sold_out(shop: GoService) -> None:
    assert buy(shop, "pen") == (200, {"total": 150})
    assert buy(shop, "pen") == (409, {"error": "sold out"})


def test_unknown(shop: GoService) -> None:
    assert buy(shop, "car") == (404, {"error": "no such item"})


def test_nothing(shop: GoService) -> None:
    assert buy(shop, "mug", count=0)[0] == 400


def test_inventory_away(shop: GoService, inventory: GoService) -> None:
    inventory.scale(0)
    assert buy(shop, "mug")[0] == 503
    assert "inventory:" in shop.logs()
    inventory.scale(1)
    shop.wait(lambda: buy(shop, "mug")[0] == 200)
