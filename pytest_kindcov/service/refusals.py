"""Why Kubernetes refuses the pods of a workload: admission, quotas, missing accounts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.service.faults import Fault, about, by_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.cluster.api import Object

# Seconds for which a refusal is tolerated. Labels and quotas may have been applied a moment ago;
# what others provide may come up a little later.
_AT_ONCE = 2.0
_SOON = 15.0
_LATER = 30.0


@dataclass(frozen=True)
class _Rule:
    """A fault by the text that Kubernetes has for it."""

    slug: str
    pattern: str
    patience: float | None
    remedy: str


_REFUSED = (
    _Rule(
        "pod-security",
        "violates PodSecurity",
        _AT_ONCE,
        "set in the pod's template what the message lists, or relax the namespace's label"
        " pod-security.kubernetes.io/enforce",
    ),
    _Rule(
        "quota-needs-limits",
        "failed quota: .* must specify",
        _AT_ONCE,
        "the namespace has a ResourceQuota: give each container the requests and limits that the"
        " message names",
    ),
    _Rule(
        "quota-exceeded",
        "exceeded quota:",
        _LATER,
        "raise the namespace's ResourceQuota, or ask for less",
    ),
    _Rule(
        "limit-range",
        r"(maximum|minimum) \S+ usage per|limit to request ratio",
        _AT_ONCE,
        "keep within the namespace's LimitRange, or change that",
    ),
    _Rule(
        "webhook-denied",
        "admission webhook .* denied the request",
        _SOON,
        "an admission webhook forbids it: mend what its message says",
    ),
    _Rule(
        "webhook-unreachable",
        "failed calling webhook",
        _LATER,
        "the webhook's server must run before what it judges; is its Service right?",
    ),
    _Rule(
        "service-account-missing",
        r"error looking up service account|serviceaccount .* not found",
        _SOON,
        "add the ServiceAccount to the manifests",
    ),
)


def of_workload(workload: Object, events: Sequence[Object]) -> list[Fault]:
    """Why a workload's controller cannot make its pods.

    Args:
        workload: as the API server shows it.
        events: of its namespace.

    """
    conditions = (workload.get("status") or {}).get("conditions") or []
    told = [
        condition.get("message") or ""
        for condition in conditions
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    if workload["kind"] in ("StatefulSet", "DaemonSet"):  # these have no such condition
        told = [
            event.get("message") or ""
            for event in by_time(events)
            if event.get("reason") == "FailedCreate"
            and about(event, workload["kind"], workload["metadata"])
        ][-1:]
    metadata = workload["metadata"]
    where = f"{workload['kind']} {metadata.get('namespace', 'default')}/{metadata['name']}"
    return [refusal(where, message) for message in told]


def refusal(where: str, message: str) -> Fault:
    """Why the API server refuses a pod."""
    for rule in _REFUSED:
        if re.search(rule.pattern, message, re.DOTALL):
            return Fault(
                rule.slug, where, "its pods are refused", message, rule.remedy, rule.patience
            )
    return Fault(
        "pod-refused", where, "its pods are refused", message, "mend what the message says"
    )
