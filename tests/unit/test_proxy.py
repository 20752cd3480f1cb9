"""Hosts of the cluster are excepted from the user's proxies, and nothing else is changed."""

from __future__ import annotations

import os
import urllib.request

import pytest

from pytest_kindcov._proxy import bypass


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.setenv(each, "")  # put back at the end, whatever the test did
            monkeypatch.delenv(each)


def test_without_a_proxy_nothing_is_set() -> None:
    bypass("10.89.0.2")
    assert not [name for name in os.environ if name.lower() == "no_proxy"]


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy", ""])
def test_hosts_are_added_once(monkeypatch: pytest.MonkeyPatch, proxy: str, name: str) -> None:
    monkeypatch.setenv(proxy, "http://proxy.invalid:3128")
    if name:
        monkeypatch.setenv(name, "example.com")
    bypass("127.0.0.1", "localhost")
    bypass("10.89.0.2", "127.0.0.1")
    wanted = [*(["example.com"] if name else []), "127.0.0.1", "localhost", "10.89.0.2"]
    for each in ("NO_PROXY", "no_proxy"):
        assert os.environ[each].split(",") == wanted
    assert urllib.request.proxy_bypass("10.89.0.2")
    assert not urllib.request.proxy_bypass("10.89.0.3")


def test_what_differs_stays_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "upper.example")
    monkeypatch.setenv("no_proxy", "lower.example")
    bypass("10.89.0.2")
    assert os.environ["NO_PROXY"] == "upper.example,10.89.0.2"
    assert os.environ["no_proxy"] == "lower.example,10.89.0.2"
