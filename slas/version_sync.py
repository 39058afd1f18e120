"""Version synchronisation: how long a site took to run a standard, and whose time that was. Pure, no Django.

From `start` (published, or the site eligible, whichever is later) to the proof every millisecond falls in one class, by
precedence: FREEZE > OPERATOR > NETWORK > PROVIDER. Charged is the provider's, and the network's where the contract
includes the link. Unfinished sites are `late` once what is charged passes the deadline, else `pending`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal

from slas.spans import Span, length, meet, union, without

HOUR_MS = 3_600_000


class Owner(StrEnum):
    """Whose time a span is."""

    FREEZE = "freeze"
    OPERATOR = "operator"
    NETWORK = "network"


class Outcome(StrEnum):
    """What became of it."""

    ON_TIME = "on_time"
    LATE = "late"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Sync:
    """One site and one standard, all times in milliseconds. `sent` and `proven` are None where that has not been."""

    published: int
    eligible: int
    sent: int | None
    proven: int | None
    as_of: int
    deadline_h: Fraction
    spans: tuple[tuple[int, int, Owner], ...] = ()
    network: Literal["not_charged", "charged"] = "not_charged"


@dataclass(frozen=True, slots=True)
class Split:
    """Milliseconds by owner, and the outcome."""

    freeze_ms: int
    operator_ms: int
    network_ms: int
    provider_ms: int
    elapsed_ms: int
    charged_ms: int
    verdict: Outcome


def split(sync: Sync) -> Split:
    """Who had the time between the start and the proof, or `as_of`: a later proof is not one yet."""
    start = max(sync.published, sync.eligible)
    is_proven = sync.proven is not None and sync.proven <= sync.as_of
    end = sync.proven if sync.proven is not None and is_proven else sync.as_of
    if end <= start:
        return Split(0, 0, 0, 0, 0, 0, Outcome.ON_TIME if is_proven else Outcome.PENDING)
    whole = [(start, end)]
    unsent = (start, end if sync.sent is None else min(end, max(start, sync.sent)))
    freeze = meet(_of(sync.spans, Owner.FREEZE), whole)
    operator = without(meet(union([*_of(sync.spans, Owner.OPERATOR), unsent]), whole), freeze)
    taken = union([*freeze, *operator])
    network = without(meet(_of(sync.spans, Owner.NETWORK), whole), taken)
    provider = without(whole, union([*taken, *network]))
    charged = length(provider) + (length(network) if sync.network == "charged" else 0)
    return Split(
        length(freeze),
        length(operator),
        length(network),
        length(provider),
        end - start,
        charged,
        _outcome(charged, sync.deadline_h, is_proven=is_proven),
    )


def _of(spans: Iterable[tuple[int, int, Owner]], owner: Owner) -> list[Span]:
    return union((begin, end) for begin, end, whose in spans if whose is owner)


def _outcome(charged_ms: int, deadline_h: Fraction, *, is_proven: bool) -> Outcome:
    if charged_ms > deadline_h * HOUR_MS:
        return Outcome.LATE
    return Outcome.ON_TIME if is_proven else Outcome.PENDING
