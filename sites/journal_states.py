"""A site's own states, read from its journal. Pure: no Django, no I/O; entries come in, spans of time go out.

A site writes `alive` once a minute. So silence of up to SILENCE_MS proves nothing, and a longer one ends either in the
same boot, when only the agent was away and nobody knows how the site was (`unknown`); or in another boot, when the
machine itself had stopped: then it was `down`, from ALIVE_MS after the last that it wrote until its first verdict that
is up or degraded, and unknown for those first ALIVE_MS (docs on SLA: a dead machine writes nothing, and is down).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.protocol.entries import Entry

UP, DEGRADED, DOWN, UNKNOWN = "up", "degraded", "down", "unknown"
ALIVE_MS = 60_000
SILENCE_MS = 90_000
WELL = frozenset({UP, DEGRADED})


@dataclass(frozen=True, slots=True)
class Anchor:
    """A moment known by both clocks: a report of `boot` at its `mono_ms` was received at `at`; the clocks' difference.

    `offset_ms` is the site's clock minus ours; `rtt_ms` bounds the error within that boot; `seq` is the last entry that
    had been written by then.
    """

    at: datetime
    boot: str
    mono_ms: int
    offset_ms: int
    rtt_ms: int
    seq: int

    def map(self, entry: Entry) -> tuple[datetime, int]:
        """The moment of an entry by our clock, and how wrong that may be, in milliseconds.

        Within the anchor's boot by the monotonic clock; across boots by the site's wall clock, corrected by the offset
        that was measured last: that clock may have been set since, so all of the offset is uncertain.
        """
        if entry.boot == self.boot:
            return self.at - timedelta(milliseconds=self.mono_ms - entry.mono_ms), self.rtt_ms
        return entry.at - timedelta(milliseconds=self.offset_ms), abs(self.offset_ms) + 1_000


@dataclass(frozen=True, slots=True)
class Note:
    """One entry: its number, when it was written (epoch ms, our clock), in which boot, and the state of a verdict."""

    seq: int
    at_ms: int
    boot: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the reading stands: the newest note, and the state since then. `state` is "" before the first verdict."""

    at_ms: int
    boot: str
    state: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """`[begin_ms, end_ms)` in `state`, by entries `from_seq` to `to_seq`; `why` is verdict, silence or reboot."""

    begin_ms: int
    end_ms: int
    state: str
    from_seq: int
    to_seq: int
    why: str


def read(notes: Iterable[Note], tail: Tail | None) -> tuple[list[Span], Tail | None]:
    """The spans that these notes prove, from the tail on, adjoining and in order; and the new tail.

    Notes come in the order of their numbers; a clock that stepped back within them is held still.
    """
    spans: list[Span] = []
    for note in notes:
        if tail is None:
            tail = Tail(note.at_ms, note.boot, note.state or "", note.seq)
            continue
        if note.at_ms < tail.at_ms:
            note = replace(note, at_ms=tail.at_ms)
        spans += _between(tail, note)
        tail = Tail(note.at_ms, note.boot, _state_after(tail, note), note.seq)
    return list(_joined(spans)), tail


def spoken(spans: Iterable[Span], since_ms: int) -> list[list[int]]:
    """When these spans, in order, say how the site was, from a moment on: `[[begin_ms, end_ms], ...]`, apart."""
    found: list[list[int]] = []
    for span in spans:
        begin = max(span.begin_ms, since_ms)
        if span.state == UNKNOWN or begin >= span.end_ms:
            continue
        if found and found[-1][1] == begin:
            found[-1][1] = span.end_ms
        else:
            found.append([begin, span.end_ms])
    return found


def _between(tail: Tail, note: Note) -> Iterator[Span]:
    """What was between two entries that follow each other."""
    begin, end = tail.at_ms, note.at_ms
    if note.boot != tail.boot:
        dead_from = min(end, begin + ALIVE_MS)
        yield Span(begin, dead_from, UNKNOWN, tail.seq, note.seq, "reboot")
        yield Span(dead_from, end, DOWN, tail.seq, note.seq, "reboot")
    elif end - begin > SILENCE_MS:
        yield Span(begin, end, UNKNOWN, tail.seq, note.seq, "silence")
    else:
        yield Span(begin, end, tail.state or UNKNOWN, tail.seq, note.seq, "verdict")


def _state_after(tail: Tail, note: Note) -> str:
    if note.state is not None:
        return note.state
    return DOWN if note.boot != tail.boot else tail.state


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    """Without empty spans; those of one state that adjoin become one."""
    last: Span | None = None
    for span in spans:
        if span.begin_ms == span.end_ms:
            continue
        if last is not None and (last.state, last.why) == (span.state, span.why) and last.end_ms == span.begin_ms:
            last = replace(last, end_ms=span.end_ms, to_seq=span.to_seq)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
