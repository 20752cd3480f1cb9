"""The end: harvest and report, save logs, delete the cluster or leave it as it is to be."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import Cancelled
from pytest_kindcov.session.run import known, relative

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.report.wanted import Wanted
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
        self._is_over = True  # whether nothing is left on the machine
        self._has_harvest = False

    def all(self, *, failed: bool, interrupted: bool, tests_failed: bool) -> None:
        """All that has to be done when nothing more is begun.

        Args:
            failed: whether the run did, for whatever reason.
            interrupted: whether not all tests ran.
            tests_failed: whether tests did.

        """
        self._step(self._provision.end)
        cluster = self._provision.cluster
        if cluster is not None:
            # The harvest ends pods, and their logs go with them.
            self._step(lambda: self._save_logs(cluster))
            if self._provision.injected and self._may_stay(cluster):
                self._step(lambda: self._withdraw(cluster))
            if not self._run.outcome.interrupted:
                self._step(lambda: self._harvest(cluster, failed, interrupted))
            self._recording.close()
            if self._provision.files is not None:
                self._provision.files.close()
            self._step(lambda: self._save_logs(cluster))
            self._is_over = False
            self._step(lambda: self._let_go(cluster, tests_failed))
        if self._run.outcome.skipped and self._run.settings.coverage:
            self._step(self._forget_earlier)
        if self._run.settings.coverage and not self._has_harvest:
            self._step(self._name_earlier)
        self._step(self._provision.close)
        if self._run.outcome.interrupted:
            self._say_what_is_missing()

    def _step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except KeyboardInterrupt:
            self._run.outcome.interrupted = True
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
        pods = self._provision.files
        result = harvest(
            self._provision.api(),
            cluster.nodes,
            run.deployed,
            run.directory,
            own=run.repository,
            live=(recorder, probes) if recorder and probes else None,
            allow=settings.allow,
            collect=pods.collect if pods is not None else None,
            append=settings.append,
        )
        self._has_harvest = True
        run.phase("harvest", begin)
        outcome.errors += result.errors
        if cluster.refusal:
            result.problems.append(
                "nothing is known of which test ran what, and of what a killed container ran:"
                f" the nodes cannot be reached ({cluster.refusal})"
            )
        outcome.problems += result.problems
        outcome.notes += result.notes
        shown = relative(run.directory, Path.cwd())
        if failed and not settings.on_fail:
            outcome.notes.append(f"tests failed: no report; for one: kindcov report {shown}")
            return
        if not result.has_data and not settings.append:
            return
        outcome.headline = f"cluster {cluster.name} ({cluster.engine.name}), " + "; ".join(
            [
                *sorted({deployed.title for deployed in run.deployed}),
                result.extent,
                *([outcome.subset] if outcome.subset else []),
                *(["stopped early: not all tests ran"] if interrupted else []),
            ]
        )
        recorded, tree = self._provision.sources()
        done = finish.finish(
            run.directory,
            run.repository,
            make.Run(
                time=time.time(),
                title=outcome.headline,
                recorded=recorded,
                containers=tuple(result.containers),
                issues=tuple(Issue("", "", problem) for problem in result.problems),
                phases=tuple(sorted(run.phases, key=lambda phase: phase.begin)),
                data=result.data,
                tests=outcome.tests,
                tree=tree,
            ),
            self._wanted(),
            append=settings.append,
        )
        outcome.report = done.report
        outcome.errors += done.errors
        outcome.notes += done.notes
        issues = done.issues if done.report is None else map(str, done.report.issues)
        outcome.problems += [issue for issue in issues if issue not in outcome.problems]
        outcome.wrote += [relative(Path(path), Path.cwd()) for path in done.wrote]

    def _wanted(self) -> Wanted:
        """Of selected tests no reports and no limits: they would be taken for those of all."""
        outcome, wanted = self._run.outcome, self._run.settings.wanted()
        if not outcome.subset:
            return wanted
        shown = relative(self._run.directory, Path.cwd())
        outcome.notes.append(
            f"{outcome.subset}: no total, no reports and no limits; what these covered:"
            f" kindcov report {shown}"
        )
        return replace(wanted, reports=(), rules=(), compare="")

    def _say_what_is_missing(self) -> None:
        """The end was cut short: of what was skipped, each thing has its remedy."""
        cluster, outcome = self._provision.cluster, self._run.outcome
        cause = f"its coverage is {'' if outcome.report else 'not '}saved"
        if cluster is not None and not self._is_over:
            state = "left" if cluster.created else "not given back as it was"
            cause += f", and cluster {cluster.name} is {state}"
        outcome.errors.append(
            Cancelled(
                "the end of the run was interrupted",
                cause=cause,
                remedy="" if self._is_over else "`kindcov doctor --remove` sees to it",
            )
        )

    def _forget_earlier(self) -> None:
        """Remove an earlier run's figures: this run fails nowhere, and has none."""
        from pytest_kindcov.harvest.run import forget

        forget(self._run.directory)

    def _name_earlier(self) -> None:
        """Figures of an earlier run stay, as does what selects tests: not taken for this run's."""
        from pytest_kindcov.report import runfile

        directory = self._run.directory
        if (directory / runfile.NAME).exists():
            shown = relative(directory, Path.cwd())
            self._run.outcome.notes.append(
                f"nothing was harvested: the figures in {shown}/ are of an earlier run"
            )

    def _save_logs(self, cluster: KindCluster) -> None:
        """Save the logs of a run that failed, once; a failed creation has saved its own."""
        directory = self._run.settings.dir / "logs" / cluster.name
        if not self._run.outcome.errors or directory.exists() or cluster.engine.external:
            return
        nodes = cluster.engine.nodes(cluster.name)
        if not nodes:
            return  # it was never made
        from pytest_kindcov.cluster.logs import collect

        collect(cluster.engine, nodes).save(directory)
        shown = relative(directory, self._run.settings.rootdir)
        self._run.outcome.notes.append(f"wrote the cluster's logs to {shown}/")

    def _may_stay(self, cluster: KindCluster) -> bool:
        return cluster.ledger is not None or self._run.settings.keep != "never"

    def _withdraw(self, cluster: KindCluster) -> None:
        from pytest_kindcov.harvest.inject import withdraw

        withdraw(cluster.nodes)

    def _let_go(self, cluster: KindCluster, tests_failed: bool) -> None:
        self._leave(cluster, tests_failed)
        self._is_over = True

    def _leave(self, cluster: KindCluster, tests_failed: bool) -> None:
        """Give the cluster back, keep it, or delete it."""
        if cluster.ledger is not None:
            self._give_back(cluster)
            return
        if not (cluster.created or cluster.whole):
            return  # it was not begun; who has the name now is somebody else
        why = self._why_kept(tests_failed) if cluster.whole else ""
        if not why:
            cluster.delete()
            return
        from pytest_kindcov.cluster import owners
        from pytest_kindcov.harvest.inject import remove

        if self._provision.injected:
            remove(cluster.nodes)
        owners.keep(cluster.name, cluster.engine)
        command = cluster.engine.kind_command
        self._run.outcome.notes.append(
            f"cluster {cluster.name} was kept ({why}); use it with"
            f" `{command('export kubeconfig', cluster.name)}`, delete it with"
            f" `{command('delete cluster', cluster.name)}`"
        )

    def _why_kept(self, tests_failed: bool) -> str:
        """Why the cluster stays; empty when it does not."""
        keep, outcome = self._run.settings.keep, self._run.outcome
        if keep == "always":
            return "--kind-coverage-keep=always"
        if keep == "on-failure" and tests_failed:
            return "tests failed"
        if keep == "on-failure" and outcome.errors:
            return f"the run failed: {outcome.errors[0].what}"
        return ""

    def _give_back(self, cluster: KindCluster) -> None:
        """Undo what was changed on a cluster that was there before."""
        from pytest_kindcov.cluster import owners
        from pytest_kindcov.session.borrowed import restore

        if cluster.client is not None:
            self._run.tell(f"giving cluster {cluster.name} back as it was")
            self._run.outcome.problems += restore(cluster, cluster.client)
            cluster.let_go()
        owners.give_back(cluster.name, cluster.engine)
