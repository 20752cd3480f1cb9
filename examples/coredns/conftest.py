"""End-to-end tests of CoreDNS: a program that nobody here wrote, covered like one's own."""

from pytest_kindcov import go_service

coredns = go_service(
    ".",
    manifests="deploy/",
    port=53,
    coverpkg="github.com/coredns/coredns/...",
)
