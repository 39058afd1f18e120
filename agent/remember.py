"""Turns the life of a site, or of many, into entries of a journal. One call of tick() a second drives it."""

import heapq
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from agent import __version__
from agent.journal import Journal, fits
from agent.journal_file import Draft
from agent.protocol import MAX_REASONS, MAX_TEXT_CHARS, Component, Report, Verdict, VerdictState
from agent.protocol.entries import Alive, Body, Components, Start

ALIVE_S: Final = 60.0
PRUNE_S: Final = 3_600.0

log = logging.getLogger("agent")


class Subject(Protocol):
    """Whose life is remembered; every backend is one. `state` and `components_digest` are asked at every tick."""

    @property
    def site(self) -> UUID:
        """The site's id."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it can write at all now."""
        ...

    @property
    def state(self) -> VerdictState:
        """The verdict the site gives of itself now."""
        ...

    @property
    def components_digest(self) -> str:
        """The digest of the components it has now."""
        ...

    def make_now(self, components_digest: str | None = None) -> Report:
        """A report of this moment; components are left out when their digest is the one given."""
        ...


class _Life:
    """What was remembered of one subject last."""

    __slots__ = ("boot", "digest", "polled_s", "state", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.boot: str | None = None
        self.state: VerdictState | None = None
        self.digest: str | None = None
        self.polled_s = float("-inf")


class Recorder:
    """Writes, for each subject: `start`, `verdict` and `components` at the first tick; each change of the latter two at
    the next tick; `alive` every minute, with a `sample` if nobody polled within that minute.

    `start` comes again where one process plays sites that reboot; state and components, if the journal had to begin
    anew. All that one tick finds is one commit.
    """

    def __init__(self, journal: Journal, subjects: Iterable[Subject]) -> None:
        """The subjects' minutes are spread over the minute, so that thousands are a steady trickle."""
        self._journal = journal
        self._lives = {subject.site: _Life(subject) for subject in subjects}
        self._due: list[tuple[float, int, _Life]] = []
        self._prune_s = float("-inf")
        self._renewals = journal.renewals
        self._notes: list[tuple[UUID, Body]] = []

    def note(self, site: UUID, body: Body) -> None:
        """Write an entry at the next tick."""
        self._notes.append((site, body))

    def polled(self, site: UUID, mono_s: float) -> None:
        """The site answered a poll, at `mono_s` on the clock of tick()."""
        life = self._lives.get(site)
        if life is not None:
            life.polled_s = mono_s

    def tick(self, now: datetime, mono_s: float) -> None:
        """Write what there is to write. `now` is the wall clock, for what is old; `mono_s` never goes back."""
        if not self._due:
            self._schedule(mono_s)
        drafts = self._changes() + self._noted() + self._minutes(mono_s)
        self._journal.append_many([draft for draft in drafts if fits(draft)])
        if mono_s - self._prune_s >= PRUNE_S:
            self._prune_s = mono_s
            self._journal.prune(now)

    def _changes(self) -> list[Draft]:
        drafts: list[Draft] = []
        if self._journal.renewals != self._renewals:  # what was told went with the old file: tell it again
            self._renewals = self._journal.renewals
            for life in self._lives.values():
                life.state = life.digest = None
        for life in self._lives.values():
            if not life.subject.is_running:
                life.state = None  # so that it is looked at as soon as it runs again
                continue
            if life.subject.state != life.state or life.subject.components_digest != life.digest:
                self._look(life, life.subject.make_now(life.digest), drafts)
        return drafts

    def _noted(self) -> list[Draft]:
        """After what changed: a new boot has its `start` before anything else."""
        notes, self._notes = self._notes, []
        return [_draft(self._lives[site].subject.make_now(), body) for site, body in notes]

    def _minutes(self, mono_s: float) -> list[Draft]:
        """What is due once a minute."""
        drafts: list[Draft] = []
        while self._due and self._due[0][0] <= mono_s:
            due_s, order, life = self._due[0]
            # A tick that comes late does not shift the minute, but after a pause what was missed stays missed.
            next_s = due_s + ALIVE_S if mono_s < due_s + ALIVE_S else mono_s + ALIVE_S
            heapq.heapreplace(self._due, (next_s, order, life))
            if not life.subject.is_running:
                continue
            report = life.subject.make_now(life.digest)
            self._look(life, report, drafts)
            drafts.append(_draft(report, Alive()))
            if mono_s - life.polled_s >= ALIVE_S:
                drafts.append(_draft(report, report.resources))
        return drafts

    def _schedule(self, mono_s: float) -> None:
        step_s = ALIVE_S / max(1, len(self._lives))
        lives = enumerate(self._lives.values(), start=1)
        self._due = [(mono_s + order * step_s, order, life) for order, life in lives]

    def _look(self, life: _Life, report: Report, drafts: list[Draft]) -> None:
        """Note what changed since the look before."""
        if report.boot != life.boot:
            clean = self._journal.ended_cleanly if life.boot is None else False
            drafts.append(_draft(report, _start(report, clean)))
            life.boot, life.state = report.boot, None  # the first verdict after a start is told even if it is the same
        if report.verdict.state != life.state:
            drafts.append(_draft(report, _verdict(report.verdict)))
            life.state = report.verdict.state
        if report.components_digest != life.digest:
            life.digest = report.components_digest
            drafts.append(_components(report))


def _draft(report: Report, body: Body) -> Draft:
    return Draft(report.site, body, report.boot, report.mono_ms, report.at)


def _start(report: Report, clean: bool | None) -> Start:
    return Start(report.mono_ms, __version__, clean, report.at - timedelta(milliseconds=report.mono_ms))


def _verdict(verdict: Verdict) -> Verdict:
    """With reasons that may stand in an entry, whatever a probe has quoted."""
    reasons = (
        "".join(c if c.isprintable() else "?" for c in r[:MAX_TEXT_CHARS]) for r in verdict.reasons[:MAX_REASONS]
    )
    return Verdict(verdict.state, verdict.since, tuple(reasons))


def _components(report: Report) -> Draft:
    """The full set, or only its digest where it does not fit in an entry."""
    components: tuple[Component, ...] | None = report.components
    draft = _draft(report, Components(report.components_digest, components))
    return draft if fits(draft) else _draft(report, Components(report.components_digest, None))
