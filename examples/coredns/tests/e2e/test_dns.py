"""What CoreDNS answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.message
import dns.query
import pytest
from dns.rcode import NOERROR, NXDOMAIN, REFUSED
from dns.rdatatype import ANY, SOA

if TYPE_CHECKING:
    from pytest_kindcov import GoService


def ask(
    service: GoService, name: str, kind: str = "A", protocol: str = "UDP"
) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    send = dns.query.udp if protocol == "UDP" else dns.query.tcp
    return send(query, service.host, port=service.port, timeout=5)


def answers(message: dns.message.Message) -> list[str]:
    return sorted(str(data) for rrset in message.answer for data in rrset)


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_address(coredns: GoService, protocol: str) -> None:
    assert protocol in coredns.protocols
    message = ask(coredns, "www.shop.example", protocol=protocol)
    assert answers(message) == ["192.0.2.2", "192.0.2.3"]


def test_alias_is_followed(coredns: GoService) -> None:
    message = ask(coredns, "cart.shop.example")
    assert answers(message) == ["192.0.2.2", "192.0.2.3", "www.shop.example."]


def test_wildcard(coredns: GoService) -> None:
    assert answers(ask(coredns, "anything.try.shop.example")) == ["192.0.2.9"]


def test_renamed_host_is_still_found(coredns: GoService) -> None:
    message = ask(coredns, "old.shop.example")
    assert answers(message) == ["192.0.2.2", "192.0.2.3"]
    assert str(message.question[0].name) == "old.shop.example."


def test_unknown_name_gives_the_zones_authority(coredns: GoService) -> None:
    message = ask(coredns, "nothing.shop.example")
    assert message.rcode() == NXDOMAIN
    assert [rrset.rdtype for rrset in message.authority] == [SOA]


def test_any_is_blocked(coredns: GoService) -> None:
    assert ask(coredns, "www.shop.example", ANY).rcode() == REFUSED


def test_other_zones_are_refused(coredns: GoService) -> None:
    assert ask(coredns, "www.elsewhere.example").rcode() == REFUSED


def test_address_in_a_name(coredns: GoService) -> None:
    message = ask(coredns, "ip-10-0-0-7.ip.example")
    assert message.rcode() == NOERROR
    assert answers(message) == ["10.0.0.7"]
    assert ask(coredns, "ip-what.ip.example").rcode() == NXDOMAIN
