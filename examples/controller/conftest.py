"""End-to-end tests of a controller: the cluster is what it works on, not only where it runs."""

from pytest_kindcov import go_service

controller = go_service(".", name="pages", manifests="deploy/")
