"""Why a service gave no coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov.errors import HarvestError

if TYPE_CHECKING:
    from pytest_kindcov.harvest.files import Container


def explain(
    service: str,
    image: str,
    containers: list[Container],
    said: dict[str, str],
    ended: dict[str, str],
) -> HarvestError | None:
    """Why a service's containers gave no coverage; None when they gave some.

    Args:
        service: its name.
        image: full name of its image.
        containers: all containers of all nodes.
        said: by container id, what the program said of its coverage.
        ended: by container id, how it ended.

    """
    own = [container for container in containers if container.image == image]
    if any(container.has_counters for container in own):
        return None
    what = f"service {service} gave no coverage data"
    if not own:
        return HarvestError(
            what,
            cause=f"no container of its image {image} was started",
            remedy="do its workloads have replicas, and is that the image they run?",
        )
    for container in own:
        if container.has_meta:
            return HarvestError(
                what,
                cause=f"{container.title} started with coverage but did not write its counters: "
                + ended.get(container.id, "it was killed, or ended without running its exit code"),
                remedy="the program must return from main or call os.Exit on SIGTERM, within its"
                " grace period",
            )
        if said.get(container.id):
            return HarvestError(what, cause=f"{container.title} said: {said[container.id]}")
    return HarvestError(
        what,
        cause=f"{own[0].title} runs a program that was not built with -cover, or whose main package"
        " is not among -coverpkg",
        remedy="build it with `go build -cover`, or let go_service build it from its package",
    )
