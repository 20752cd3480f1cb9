"""Objects that run to an end before the deploy goes on: the Jobs and Pods of Helm's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import title
from pytest_kindcov.errors import DeployError
from pytest_kindcov.service import deploy, hooks, rollout

if TYPE_CHECKING:
    import threading

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.service.spec import ServiceSpec

_ENDING = ("Job", "Pod")  # kinds that Helm waits for


def run(
    api: Api, hook: Object, spec: ServiceSpec, *, cancel: threading.Event | None = None
) -> None:
    """Apply a hook, and wait for its end if it has one.

    Raises:
        DeployError: it failed, or did not end within the service's time; with its log.

    """
    metadata = hook["metadata"]
    namespace = metadata.get("namespace") or spec.home
    address = hook["apiVersion"], hook["kind"], metadata["name"], namespace
    if hook["kind"] not in _ENDING:
        deploy.apply(api, [hook], spec, cancel=cancel)
        return
    if "before-hook-creation" in hooks.policies(hook):  # they cannot be changed
        api.note(hook, namespace)
        api.delete(*address)
        wait_until(
            lambda: api.get(*address) is None,
            what=f"service {spec.title}: end of the earlier {title(hook)}",
            timeout=spec.timeout,
            slug="hook-not-ended",
            cancel=cancel,
            error=DeployError,
        )
    deploy.apply(api, [hook], spec, cancel=cancel)

    def state() -> str:
        if hook["kind"] == "Pod":
            pods = [pod for pod in [api.get(*address)] if pod]
        else:
            label = {"batch.kubernetes.io/job-name": metadata["name"]}
            pods = rollout.select(api, namespace, label)
        return "\n".join(line for pod in pods for line in rollout.describe(api, pod))

    def ended() -> bool:
        verdict = succeeded(api.get(*address))
        if verdict is False:
            raise DeployError(
                f"service {spec.title}: the chart's hook {title(hook)} failed",
                cause=state(),
                remedy="the log above is its own",
                slug="hook-failed",
            )
        return bool(verdict)

    wait_until(
        ended,
        what=f"service {spec.title}: end of the chart's hook {title(hook)}",
        timeout=spec.timeout,
        interval=0.2,
        state=state,
        remedy="go_service(..., timeout=...) gives it longer",
        slug="hook-not-ended",
        cancel=cancel,
        error=DeployError,
    )
    if "hook-succeeded" in hooks.policies(hook):
        api.delete(*address)


def succeeded(obj: Object | None) -> bool | None:
    """Whether a Job or a Pod succeeded; None while it is under way."""
    status = (obj or {}).get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return bool(status["phase"] == "Succeeded")
    for condition in status.get("conditions") or []:
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            return bool(condition["type"] == "Complete")
    return None
