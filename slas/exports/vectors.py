"""From what the engine was told of a report to the vectors of its evidence bundle. Pure.

A vector says a site under an objective in the form that slas.bundle reads, with every figure that comes of it as
`expect`. Its window is the time from the site's first to its last active moment: what lies outside was never promised.
A time within it in which the site was not active is an exclusion, which changes no share.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from slas.bundle import read_json, read_vectors
from slas.calendars import DAYS, Calendar
from slas.engine import Change
from slas.measuring import Inputs
from slas.recomputing import computed
from slas.reporting.counted import Offered
from slas.spans import Span, Spans, meet, union, without
from slas.states import Measure
from slas.terms import Objective, Terms, calendar_of
from slas.upkeep import moment_of, ms

_DAY = timedelta(days=1)


def vectors_of(terms: Terms, objective: Objective, inputs: Iterable[Inputs], of: str) -> Iterator[dict[str, Any]]:
    """A vector a site that was active at all; `of` says of which contract and provider, for its name."""
    for one in inputs:
        active = meet(list(one.active), [one.window])
        if not active:
            continue
        yield _expecting(_vector(terms, objective, one, active, f"{of} {objective.measure} {one.slug}"))


def sync_vectors_of(offered: Iterable[Offered], of: str) -> Iterator[dict[str, Any]]:
    """A vector of version synchronisation for each site and standard; `of` says of which contract and provider."""
    for one in offered:
        vector = {
            "name": f"{of} {one.measure} {one.slug} {one.standard}",
            "kind": one.measure,
            "published": _time(ms(one.published)),
            "eligible": _time(ms(one.eligible)),
            "sent": None if one.sent is None else _time(ms(one.sent)),
            "proven": None if one.proven is None else _time(ms(one.proven)),
            "as_of": _time(ms(one.until)),
            "deadline_h": _plain_number(*one.deadline_h.as_integer_ratio()),
            "spans": [[_time(ms(begin)), _time(ms(end)), whose] for begin, end, whose in one.spans],
            "rules": {"network": "charged" if one.includes_link else "not_charged"},
        }
        yield _expecting(vector)


def _expecting(vector: dict[str, Any]) -> dict[str, Any]:
    """With its figures, computed from what whoever verifies it reads."""
    (read,) = read_vectors(read_json(json.dumps({"vectors": [vector]}).encode()))
    return {**vector, "expect": {name: _plain(value) for name, value in computed(read).items()}}


def _vector(terms: Terms, objective: Objective, one: Inputs, active: Spans, name: str) -> dict[str, Any]:
    window = (active[0][0], active[-1][1])
    rules = terms.rules(objective)
    assert objective.target is not None
    target = objective.target * 100
    return {
        "name": name,
        "window": _span(window),
        "states": [[_time(at), str(state)] for at, state in _within(one.history.changes(), window)],
        "maintenance": [_span(span) for span in meet(one.maintenance, [window])],
        "exclusions": [[*_span(span), reason] for reason, span in _exclusions(objective, one, active, window)],
        "calendar": _calendar(calendar_of(terms.hours, one.zone, (moment_of(window[0]), moment_of(window[1]))), window),
        "rules": {"maintenance": rules.maintenance, "degraded": rules.degraded},
        "target": _plain_number(target.numerator, target.denominator),
    }


def _within(changes: Sequence[Change], window: Span) -> list[Change]:
    """The changes within a window, and the last one before it."""
    first = 0
    while first + 1 < len(changes) and changes[first + 1][0] <= window[0]:
        first += 1
    return [change for change in changes[first:] if change[0] < window[1]]


def _exclusions(objective: Objective, one: Inputs, active: Spans, window: Span) -> list[tuple[str, Span]]:
    """Why what is excluded. All of it together is what the engine was told."""
    told = [(f"cause: {cause}", span) for cause, outage in one.reasons for span in meet([outage], [window])]
    causes = union(span for _, span in told)
    blind = without(meet(one.exclusions(Measure(objective.measure)), [window]), causes)
    told += [("the centre was blind", span) for span in blind]
    told += [("the site was not active", span) for span in without([window], active)]
    return sorted(told, key=lambda found: (found[1], found[0]))


def _calendar(calendar: Calendar | None, window: Span) -> dict[str, Any] | None:
    if calendar is None:
        return None
    first, last = moment_of(window[0]).date() - _DAY, moment_of(window[1]).date() + _DAY
    weekly = {
        day: [[_clock(begin), _clock(end)] for begin, end in slots]
        for day, slots in zip(DAYS, calendar.weekly, strict=True)
        if slots
    }
    holidays = sorted(day.isoformat() for day in calendar.holidays if first <= day <= last)
    return {"timezone": calendar.zone, "weekly": weekly, "holidays": holidays}


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _span(span: Span) -> list[int | float]:
    return [_time(span[0]), _time(span[1])]


def _time(at: int) -> int | float:
    """Unix seconds. A double writes a millisecond of any year that counts exactly as it was."""
    return at // 1000 if at % 1000 == 0 else at / 1000


def _plain(value: Any) -> Any:
    """A figure as JSON has it: a percentage of four places is written with them by a double."""
    return value if value is None or isinstance(value, int | str) else float(value)


def _plain_number(numerator: int, denominator: int) -> int | float:
    return numerator // denominator if numerator % denominator == 0 else numerator / denominator
