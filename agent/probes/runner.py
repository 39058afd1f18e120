"""Lets the probes look, each at its own interval, and keeps the verdict that follows."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from agent.config import Probe
from agent.probes.http_get import GetError
from agent.probes.looks import Look, look_of
from agent.protocol import Verdict, VerdictState
from agent.protocol.kinds import settle
from agent.state import why
from agent.verdict import Result, Rule, Standing, judge, printable, step

AT_ONCE: Final = 8
FIRST_S: Final = 1.0
MAX_KEPT_BYTES: Final = 1 << 20

log = logging.getLogger("agent")


class KeptProbe(msgspec.Struct, frozen=True):
    """What outlives a restart of the agent."""

    name: str
    kind: str
    state: VerdictState
    detail: str


class Kept(msgspec.Struct, frozen=True):
    """The content of the file: a site that is down must not be called up because its agent was restarted."""

    state: VerdictState
    since: datetime
    probes: tuple[KeptProbe, ...]


@dataclass(slots=True)
class Watched:
    """A probe, what holds of it, and what its last look said."""

    probe: Probe
    look: Look
    standing: Standing = field(default_factory=Standing)
    last: Result | None = None
    last_at: datetime | None = None

    @property
    def kind(self) -> str:
        """The probe's kind, as the configuration names it."""
        return str(self.probe.__struct_config__.tag)


class Prober:
    """The site's judge of itself. Everything happens in the loop's thread; `verdict` may be read at any time."""

    def __init__(
        self,
        probes: Sequence[Probe],
        kept_at: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`kept_at` is the file that holds the standings over a restart. Raises OSError for an unreadable `ca_file`."""
        self._now = now
        self._kept_at = kept_at
        self._random = Random()
        self._tasks: list[asyncio.Task[None]] = []
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.watched = [Watched(probe, look_of(probe)) for probe in probes]
        self.verdict = Verdict("up", now())
        self._remember()

    def start(self) -> None:
        """Look from now on, in the running loop."""
        self._tasks = [asyncio.create_task(self._watch(watched)) for watched in self.watched]

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, watched: Watched) -> None:
        """The first look comes at once, the next ones at the interval, spread a little."""
        pause_s = self._random.uniform(0, min(FIRST_S, watched.probe.interval_s))
        while True:
            await asyncio.sleep(pause_s)
            async with self._slots:
                result = await observe(watched)
            self.take(watched, result)
            pause_s = watched.probe.interval_s * self._random.uniform(0.95, 1.05)

    def take(self, watched: Watched, result: Result) -> None:
        """Reckon with one result, and keep what changed."""
        rule = Rule(watched.probe.name, watched.probe.fall, watched.probe.rise)
        before, verdict = watched.standing, self.verdict
        watched.last, watched.last_at = Result(result.state, printable(result.detail)), self._now()
        watched.standing = step(rule, before, result)
        self.verdict = judge(((w.probe.name, w.standing) for w in self.watched), verdict, watched.last_at)
        if watched.standing.state == before.state:
            return
        log.info("probe %s is %s: %s", rule.name, watched.standing.state, watched.standing.detail or "good")
        if self.verdict.state != verdict.state:
            log.warning("this site is %s: %s", self.verdict.state, "; ".join(self.verdict.reasons) or "all is well")
        self._keep()

    # Over a restart -----------------------------------------------------------------------------------------------
    def _remember(self) -> None:
        """Begin where the agent before has ended. A file that cannot be read is as good as none."""
        if self._kept_at is None:
            return
        try:
            with self._kept_at.open("rb") as file:
                kept = msgspec.json.decode(file.read(MAX_KEPT_BYTES), type=Kept)
        except (OSError, ValueError, RecursionError):
            return
        known = {(probe.name, probe.kind): probe for probe in kept.probes}
        for watched in self.watched:
            found = known.get((watched.probe.name, watched.kind))
            if found is not None and found.state != "up":
                watched.standing = Standing(found.state, found.detail)
        before = self.verdict
        if kept.state != "up" and kept.since.tzinfo is not None:
            before = Verdict(kept.state, min(kept.since, before.since))
        self.verdict = judge(((w.probe.name, w.standing) for w in self.watched), before, self.verdict.since)

    def _keep(self) -> None:
        """Write the standings, whole or not at all."""
        if self._kept_at is None:
            return
        probes = tuple(KeptProbe(w.probe.name, w.kind, w.standing.state, w.standing.detail) for w in self.watched)
        fresh = self._kept_at.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(Kept(self.verdict.state, self.verdict.since, probes)))
            os.replace(fresh, self._kept_at)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._kept_at, why(error))


async def observe(watched: Watched) -> Result:
    """One look, within its timeout. What goes wrong is the probe's severity, and a sentence; nothing is raised."""
    probe = watched.probe
    try:
        async with asyncio.timeout(probe.timeout_s):
            return await watched.look()
    except TimeoutError:
        said = f"no answer within {probe.timeout_s:g} s"
    except GetError as error:
        said = str(error)
    except ssl.SSLCertVerificationError as error:
        said = f"its certificate is refused: {error.verify_message}"
    except (OSError, UnicodeError) as error:  # the latter for a host's name that is none
        said = why(error)
    except Exception as error:  # the top of a probe: a fault of ours must not end the watching
        log.exception("probe %s broke", probe.name)
        said = f"the probe broke: {type(error).__name__}"
    return Result(probe.severity, said)


settle(__name__)
