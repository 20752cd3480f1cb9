"""What can go wrong, as one tree: every error names the thing, the cause and the remedy."""

from __future__ import annotations


class KindCovError(Exception):
    """Base of all errors of the plugin.

    Args:
        what: the thing that failed, one line.
        cause: why, as far as known; may span lines (compiler output, last log lines).
        remedy: what the user can do about it.
        slug: its name in `docs/messages.md`; default: the one of its class.

    """

    slug = ""

    def __init__(self, what: str, *, cause: str = "", remedy: str = "", slug: str = "") -> None:
        self.what = what
        self.cause = cause.strip("\n")
        self.remedy = remedy.strip("\n")
        self.slug = slug or type(self).slug
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [f"{self.what} [{self.slug}]" if self.slug else self.what]
        if self.cause:
            parts.append(_labelled("cause", self.cause))
        if self.remedy:
            parts.append(_labelled("remedy", self.remedy))
        return "\n".join(parts)

    @property
    def headline(self) -> str:
        """The error in one line: the thing and the first line of its cause."""
        first = self.cause.partition("\n")[0]
        return f"{self.what}: {first}" if first else self.what


def _labelled(label: str, text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([f"  {label}: {first}", *(f"    {line}" for line in rest)])


class Cancelled(KindCovError):
    """The run was interrupted while this was under way."""

    slug = "interrupted"


class ToolNotFound(KindCovError):
    """A program that is needed (kind, go, docker or podman) is missing or does not answer."""


class CommandError(KindCovError):
    """An external command failed or ran over its deadline.

    Args:
        what: the command and how it ended.
        cause: the last lines of its output.
        remedy: what the user can do about it.
        output: all that it wrote to standard error (or else to standard output).
        code: its exit code; None if it did not end by itself.
        slug: its name in `docs/messages.md`.

    """

    slug = "command-failed"

    def __init__(
        self,
        what: str,
        *,
        cause: str = "",
        remedy: str = "",
        output: str = "",
        code: int | None = None,
        slug: str = "",
    ) -> None:
        self.output = output
        self.code = code
        super().__init__(what, cause=cause, remedy=remedy, slug=slug)


class ClusterError(KindCovError):
    """The Kind cluster could not be created, reached or deleted."""


class Unfit(ClusterError):
    """A cluster cannot be made on this machine, whatever the tests are."""


class BuildError(KindCovError):
    """The service's program or image could not be built."""


class ManifestError(KindCovError):
    """The manifests are missing, are not valid, or do not fit the service."""


class DeployError(KindCovError):
    """The service was applied but did not come up."""


class SuiteError(KindCovError):
    """A Go test package could not be compiled, listed or run."""


class HarvestError(KindCovError):
    """Coverage data is missing, or could not be read or merged."""


class CoverageDataError(KindCovError):
    """A coverage file is not what it should be: truncated, damaged, or of an unknown version."""

    slug = "coverage-file-damaged"
