"""A Ginkgo suite on the orders service: the specs are tests of this run, each with its coverage."""

from pytest_kindcov import go_service

orders = go_service(
    "../orders/cmd/orders",
    manifests="../orders/deploy/",
    image="registry.example/orders:dev",
    port=8080,
)
