"""Contracts as pages show them: promises in words, segments on a line of time, what a version changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from slas.models import ContractVersion, Segment
from slas.present.words import BURDENS, MEASURES, SCOPES, trimmed
from slas.selectors.contracts import terms_of, written
from slas.states import Cause
from slas.terms import EXCLUDED, FROM_STATES, Objective, Terms

WIDTH: Final = 1000
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FIGURES: Final = {
    "mttr_h": "mean time to restore of {} h at most",
    "longest_h": "no outage longer than {} h",
    "count": "{} outages at most",
    "mtbf_h": "{} h between outages at least",
}

# What holds where nothing is written: to write it down changes nothing.
_USUAL: Final = {
    "scope": "each_site",
    "burden": "open",
    "degraded": "up",
    "cap": "100",
    "timezone": "site",
    "counts": "excluded",
    "notice_h": "0",
    "cap_per": "month",
    "includes_link": "False",
    "excluded_causes": ", ".join(EXCLUDED),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A segment on the line of time: x and width of WIDTH."""

    provider: str
    x: float
    width: float
    is_open: bool


def bars_of(segments: Sequence[Segment], now: datetime) -> tuple[list[tuple[str, list[Bar]]], float]:
    """Each provider's bars on one line from the first begin to a while after now or the last end; and where now is."""
    if not segments:
        return [], 0.0
    begin = min(one.begins for one in segments)
    last = max([now, *(one.ends or one.begins for one in segments)])
    end = last + max((last - begin) / 12, timedelta(days=7))
    whole = end - begin

    def place(at: datetime) -> float:
        return round((at - begin) / whole * WIDTH, 1)

    rows: dict[str, list[Bar]] = {}
    for one in segments:
        x = place(one.begins)
        bar = Bar(one.provider.name, x, max(2.0, place(one.ends or end) - x), one.ends is None)
        rows.setdefault(one.provider.name, []).append(bar)
    return list(rows.items()), min(float(WIDTH), max(0.0, place(now)))


def promises_of(segment: Segment) -> list[str]:
    """Everything that a segment promises, a sentence each."""
    terms = terms_of(segment)
    return [*(objective_words(one) for one in terms.objectives), *_rules(terms)]


def objective_words(one: Objective) -> str:
    """A promise as people say it."""
    name, reach = MEASURES[one.measure], SCOPES[one.reach]
    if one.share is not None:
        reach = f"{_percent(one.share)} % of the sites"
    if one.figure is not None:
        what = _FIGURES[one.figure].format(_number(one.limit))
    elif one.measure == "response":
        what = f"{_percent(one.target)} % of outages answered within {_number(one.limit)} min" if one.target else ""
    elif one.measure == "version_sync":
        deadline = f"{_number(one.limit)} h" if one.limit is not None else "the standard's own deadline"
        what = f"at least {_percent(one.target)} % of offered standards run on a site within {deadline}"
    elif one.measure == "latency":
        what = f"{one.percentile} of 100 polls answered within {_number(one.limit)} ms"
    else:
        what = f"at least {_percent(one.target)} %"
    credit = ", ".join(f"below {_percent(tier.below)} %: {_percent(tier.credit)} %" for tier in one.tiers)
    paid = f" Credits of the fee {credit}; at most {_percent(one.cap)} %." if credit else ""
    if one.measure not in FROM_STATES:
        return f"{name}: {what}, for {reach}.{paid}"
    degraded = ", degraded counts as down" if one.degraded == "down" else ""
    return f"{name}: {what}, for {reach}; {BURDENS[one.burden]}{degraded}.{paid}"


def _rules(terms: Terms) -> list[str]:
    upkeep = terms.upkeep
    counts = "does not count" if upkeep.counts == "excluded" else "counts as up"
    cap = "without a cap" if upkeep.cap_h is None else f"up to {_number(upkeep.cap_h)} h a {upkeep.cap_per}"
    notice = f" with {_number(upkeep.notice_h)} h of notice" if upkeep.notice_h else ""
    found = [f"Agreed maintenance {counts}, {cap}{notice}."]
    causes = ", ".join(str(one).replace("_", " ") for one in Cause if one in terms.excluded_causes)
    found.append(f"Outages by {causes} do not count." if causes else "Outages count whatever their cause.")
    if terms.includes_link:
        found.append("The link to the sites is the provider's, too.")
    found += [f"Change freeze, {one.name}: from {one.first} to {one.last}, both included." for one in terms.freezes]
    return [_hours(terms), *found]


def _hours(terms: Terms) -> str:
    hours = terms.hours
    if hours is None:
        return "Service hours: always."
    days = []
    for name, slots in zip(_DAYS, hours.weekly, strict=True):
        if slots:
            days.append(f"{name} {', '.join(f'{_clock(a)} to {_clock(b)}' for a, b in slots)}")
    place = f"; closed on public holidays of {hours.country}{'-' if hours.subdivision else ''}{hours.subdivision}"
    closed = f"; closed on {len(hours.closed)} more days" if hours.closed else ""
    clock = hours.zone or "each site's own clock"
    return f"Service hours on {clock}: {'; '.join(days)}{place if hours.country else ''}{closed}."


def _clock(value: int) -> str:
    minutes = value if value <= 1440 else value // 60_000
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _percent(share: Any) -> str:
    return "—" if share is None else trimmed(f"{float(share) * 100:.4f}")


def _number(value: Any) -> str:
    return "—" if value is None else trimmed(f"{value:f}")


def changes_between(before: ContractVersion, after: ContractVersion) -> list[tuple[str, str, str]]:
    """What differs: where, as it was, as it is; "" where it is not there."""
    old, new = (_flat(written(one), "") for one in (before, after))
    for found in (old, new):
        for path in [one for one, text in found.items() if text == _USUAL.get(one.rpartition(".")[2])]:
            del found[path]
    return [(path, old.get(path, ""), new.get(path, "")) for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]  # noqa: E501  # fmt: skip


def _flat(value: Any, path: str) -> dict[str, str]:
    if isinstance(value, Mapping):
        items = [(f"{path}.{name}" if path else str(name), one) for name, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        items = [(f"{path}.{at + 1}", one) for at, one in enumerate(value)]
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        return {path: text} if text else {}
    return {name: text for where, one in items for name, text in _flat(one, where).items()}
