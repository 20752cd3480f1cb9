"""The end: harvest and report, save logs, delete the cluster or leave it as it is to be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.session.run import known, relative

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.session.live import Recording
    from pytest_kindcov.session.provision import Provision
    from pytest_kindcov.session.run import Run


class End:
    """The steps of a run's end: the failure of one is reported, and the others are tried.

    Args:
        run: that ends.
        provision: what was made for it.
        recording: what was read.

    """

    def __init__(self, run: Run, provision: Provision, recording: Recording) -> None:
        self._run = run
        self._provision = provision
        self._recording = recording

    def all(self, *, failed: bool, interrupted: bool) -> None:
        """All that has to be done when nothing more is begun.

        Args:
            failed: whether tests did.
            interrupted: whether not all tests ran.

        """
        cluster = self._provision.cluster
        if cluster is not None:
            # The harvest ends pods, and their logs go with them.
            self._step(lambda: self._save_logs(cluster))
            self._step(lambda: self._harvest(cluster, failed, interrupted))
            self._recording.close()
            self._step(lambda: self._save_logs(cluster))
            self._step(lambda: self._leave(cluster))
        if self._run.outcome.skipped and self._run.settings.coverage:
            self._step(self._forget_earlier)

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # what is left of the end must be tried
            self._run.outcome.errors.append(known(error))

    def _harvest(self, cluster: KindCluster, failed: bool, interrupted: bool) -> None:
        """Stop the services, copy their files off all nodes, merge and report."""
        run, settings, outcome = self._run, self._run.settings, self._run.outcome
        nothing_ran = self._provision.wanted and not run.deployed
        if not self._provision.injected or nothing_ran or outcome.skipped:
            return  # nothing ran, or not all of it; the summary says why
        from pytest_kindcov.harvest.run import harvest
        from pytest_kindcov.report import finish, make
        from pytest_kindcov.report.model import Issue

        run.tell("harvesting coverage")
        begin = time.monotonic()
        ready = max((phase.begin + phase.seconds for phase in run.phases), default=0.0)
        run.phase("tests", run.begin + ready)
        recorder, probes = self._recording.recorder, self._recording.probes
        result = harvest(
            self._provision.api(),
            cluster.nodes,
            run.deployed,
            settings.dir,
            own=run.repository,
            live=(recorder, probes) if recorder and probes else None,
            allow=settings.allow,
            append=settings.append,
        )
        run.phase("harvest", begin)
        outcome.errors += result.errors
        outcome.problems += result.problems
        outcome.notes += result.notes
        shown = relative(settings.dir, Path.cwd())
        if failed and not settings.on_fail:
            outcome.notes.append(f"tests failed: no report; for one: kindcov report {shown}")
            return
        if not result.has_data and not settings.append:
            return
        outcome.headline = f"cluster {cluster.name} ({cluster.engine.name}), " + "; ".join(
            [
                *sorted({deployed.title for deployed in run.deployed}),
                result.extent,
                *(["interrupted: not all tests ran"] if interrupted else []),
            ]
        )
        done = finish.finish(
            settings.dir,
            run.repository,
            make.Run(
                time=time.time(),
                title=outcome.headline,
                recorded=self._provision.sources(),
                containers=tuple(result.containers),
                issues=tuple(Issue("", "", problem) for problem in result.problems),
                phases=tuple(sorted(run.phases, key=lambda phase: phase.begin)),
                data=result.data,
            ),
            settings.wanted(),
            append=settings.append,
        )
        outcome.report = done.report
        outcome.errors += done.errors
        outcome.notes += done.notes
        issues = done.issues if done.report is None else map(str, done.report.issues)
        outcome.problems += [issue for issue in issues if issue not in outcome.problems]
        outcome.wrote += [relative(Path(path), Path.cwd()) for path in done.wrote]

    def _forget_earlier(self) -> None:
        """Remove an earlier run's figures: this run fails nowhere, and has none."""
        from pytest_kindcov.harvest.run import forget

        forget(self._run.settings.dir)

    def _save_logs(self, cluster: KindCluster) -> None:
        """Save the logs of a run that failed, once; a failed creation has saved its own."""
        directory = self._run.settings.dir / "logs" / cluster.name
        if not self._run.outcome.errors or directory.exists():
            return
        nodes = cluster.engine.nodes(cluster.name)
        if not nodes:
            return  # it was never made
        from pytest_kindcov.cluster.logs import collect

        collect(cluster.engine, nodes).save(directory)
        shown = relative(directory, self._run.settings.rootdir)
        self._run.outcome.notes.append(f"wrote the cluster's logs to {shown}/")

    def _leave(self, cluster: KindCluster) -> None:
        """Delete the cluster if this run made it; an older one is given back as it was."""
        keep = self._run.settings.keep
        if cluster.created and not keep:
            cluster.delete()
            return
        from pytest_kindcov.cluster import owners

        if self._provision.injected:
            from pytest_kindcov.harvest.inject import remove

            remove(cluster.nodes)
        if keep:
            if cluster.created:
                owners.keep(cluster.name)
            self._run.outcome.notes.append(
                f"cluster {cluster.name} was kept; use it with"
                f" `kind export kubeconfig --name {cluster.name}`, delete it with"
                f" `kind delete cluster --name {cluster.name}`"
            )
