"""End-to-end tests of the orders service: one line gives a cluster, service and coverage."""

from pytest_kindcov import go_service

orders = go_service(
    "./cmd/orders", manifests="deploy/", image="registry.example/orders:dev", port=8080
)
