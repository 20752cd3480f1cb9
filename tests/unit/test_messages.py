"""Every message has a name, and every name is explained in docs/messages.md."""

from __future__ import annotations

import re

import messages
import pytest

from pytest_kindcov.errors import ClusterError, KindCovError


def test_every_error_has_a_slug() -> None:
    """Either its class stands for one thing only and has it, or it is given where it is raised."""
    classes = messages.error_classes()
    missing = [
        f"{where}: {name}(...)"
        for where, name, call in messages.calls()
        if name in classes
        and not classes[name].slug
        and all(keyword.arg != "slug" for keyword in call.keywords)
    ]
    assert not missing, "give these slug=, and explain it in docs/messages.md:\n" + "\n".join(
        missing
    )


def test_every_slug_is_explained() -> None:
    assert messages.used() - set(messages.documented()) == set()


def test_nothing_is_explained_that_is_never_said() -> None:
    assert set(messages.documented()) - messages.used() == set()


def test_each_is_explained_once() -> None:
    documented = messages.documented()
    assert sorted(documented) == sorted(set(documented))


def test_explanations_are_whole() -> None:
    for line in messages.DOCUMENT.read_text().splitlines():
        if line.startswith("| `"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            assert len(cells) == 3, line
            assert all(cell.strip() for cell in cells), line


def test_catalogue_is_the_documents() -> None:
    assert messages.catalogue_table() in messages.DOCUMENT.read_text(), (
        "write it anew: PYTHONPATH=.:tests/support python tests/support/messages.py"
    )


@pytest.mark.parametrize("slug", sorted(messages.used()))
def test_slug_is_a_name(slug: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)


@pytest.mark.parametrize("cls", messages.error_classes().values(), ids=lambda cls: cls.__name__)
def test_slug_is_printed(cls: type[KindCovError]) -> None:
    error = cls("it broke", cause="why", remedy="do that", slug="a-slug")
    assert str(error) == "it broke [a-slug]\n  cause: why\n  remedy: do that"
    assert error.headline == "it broke: why"
    assert cls("it broke").slug == cls.slug


def test_collector_sees_what_it_should() -> None:
    """Slugs by keyword, by position, by default, in a condition, by class, in the catalogue."""
    found = messages.used()
    assert {"no-engine", "crash-loop", "not-in-time", "node-image-unusable"} <= found
    assert {"pod-security", "coverage-file-damaged", "feature-gate-unknown", "disk-low"} <= found
    assert "slug" not in found
    assert not ClusterError("x").slug
