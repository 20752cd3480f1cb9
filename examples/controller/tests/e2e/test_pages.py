"""What the controller does for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client, config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kind import KindCluster

    from pytest_kindcov import GoService

API = {"group": "web.example.com", "version": "v1", "namespace": "default", "plural": "pages"}


@pytest.fixture(scope="session")
def api(kind_cluster: KindCluster) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(kind_cluster.kubeconfig_path)) as api:
        yield api


class Pages:
    """Pages of a cluster, and the ConfigMaps that the controller makes of them."""

    def __init__(self, api: client.ApiClient, controller: GoService) -> None:
        self.pages = client.CustomObjectsApi(api)
        self.core = client.CoreV1Api(api)
        self.controller = controller

    def create(self, name: str, **spec: Any) -> None:
        body = {"apiVersion": "web.example.com/v1", "kind": "Page"}
        body |= {"metadata": {"name": name}, "spec": spec}
        self.pages.create_namespaced_custom_object(**API, body=body)

    def change(self, name: str, **spec: Any) -> None:
        self.pages.patch_namespaced_custom_object(**API, name=name, body={"spec": spec})

    def delete(self, name: str) -> None:
        self.pages.delete_namespaced_custom_object(**API, name=name)

    def phase(self, name: str, phase: str) -> dict[str, Any]:
        """Wait until a page is in a phase, and give its status."""

        def status() -> dict[str, Any] | None:
            page = self.pages.get_namespaced_custom_object(**API, name=name)
            found = page.get("status") or {}
            seen = found.get("observedGeneration") == page["metadata"]["generation"]
            return found if seen and found["phase"] == phase else None

        return self.controller.wait(status, what=f"page {name} being {phase}")

    def html(self, name: str) -> str:
        """What is to be served."""
        return self.core.read_namespaced_config_map(f"{name}-page", "default").data["index.html"]

    def gone(self, name: str) -> bool:
        found = self.pages.list_namespaced_custom_object(**API)["items"]
        return all(page["metadata"]["name"] != name for page in found)


@pytest.fixture
def pages(api: client.ApiClient, controller: GoService) -> Pages:
    return Pages(api, controller)


def test_page_is_rendered(pages: Pages) -> None:
    pages.create("plain", title="Hello", text="to <all>")
    pages.phase("plain", "Ready")
    assert pages.html("plain") == "<h1>Hello</h1>\n<p>to &lt;all&gt;</p>\n"
    pages.delete("plain")


def test_change_is_followed(pages: Pages) -> None:
    pages.create("changing", title="Before")
    pages.phase("changing", "Ready")
    assert "Nothing here yet." in pages.html("changing")
    pages.change("changing", text="after")
    pages.phase("changing", "Ready")
    assert "after" in pages.html("changing")
    pages.delete("changing")


def test_long_title_is_invalid(pages: Pages) -> None:
    pages.create("long", title="x" * 61)
    assert pages.phase("long", "Invalid")["reason"] == "the title has 61 characters, more than 60"
    pages.delete("long")


def test_page_ends_by_itself(pages: Pages, controller: GoService) -> None:
    pages.create("short", title="Soon gone", ttlSeconds=1)
    controller.wait(lambda: pages.gone("short"), what="the end of the page")


def test_restart_finds_what_was_made(pages: Pages, controller: GoService) -> None:
    pages.create("lasting", title="Lasting")
    pages.phase("lasting", "Ready")
    controller.restart()
    pages.change("lasting", title="Changed")
    pages.phase("lasting", "Ready")
    assert "Changed" in pages.html("lasting")
    pages.delete("lasting")
