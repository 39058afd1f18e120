"""When the centre itself could not watch: from its pollers' beats, and from sites that vanished together. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Final

MINUTE: Final = timedelta(minutes=1)
LEAST_SITES: Final = 4
LEAST_PROVIDERS: Final = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """A site fell silent at `begin`, and was heard again at `end` (None: not yet)."""

    site_id: int
    provider_id: int
    begin: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Blind:
    """`[begin, end)`, `end` None while it lasts."""

    begin: datetime
    end: datetime | None


def silences(minutes: Sequence[datetime], now: datetime) -> list[Blind]:
    """Times without a beat of any poller, from the minutes that have one (sorted). Before the first nobody watched yet.

    A minute that has a beat was watched; the present one may still get its beat, and so may the one before it.
    """
    found = [Blind(one + MINUTE, other) for one, other in pairwise(minutes) if other - one > MINUTE]
    if minutes and now - minutes[-1] >= 3 * MINUTE:
        found.append(Blind(minutes[-1] + MINUTE, None))
    return found


def mass_losses(losses: Iterable[Loss], watched: int, least_share: Fraction) -> list[Blind]:
    """Times that began with more than a share of the `watched` sites falling silent within one minute.

    They must be behind uplinks of at least two providers: one provider's own uplink is its own trouble. Such a time
    ends when so many are heard again that those still silent are no longer more than the share.
    """
    listed = sorted(losses, key=lambda loss: loss.begin)
    found: list[Blind] = []
    at = end = 0
    while at < len(listed):
        while end < len(listed) and listed[end].begin - listed[at].begin < MINUTE:
            end += 1
        group = listed[at:end]
        if not _is_mass(group, watched, least_share):
            at += 1
            continue
        found.append(Blind(group[0].begin, _until(group, watched, least_share)))
        at = end
    return found


# ------------------------------------------------------------------------------------------------------------
def _is_mass(group: Sequence[Loss], watched: int, least_share: Fraction) -> bool:
    return (
        len(group) >= LEAST_SITES
        and len(group) > least_share * watched
        and len({loss.provider_id for loss in group}) >= LEAST_PROVIDERS
    )


def _until(group: Sequence[Loss], watched: int, least_share: Fraction) -> datetime | None:
    returned = sorted(loss.end for loss in group if loss.end is not None)
    for count, moment in enumerate(returned, start=1):
        if len(group) - count <= least_share * watched:
            return moment
    return None
