"""Versions, round trips and maintenance caps of a report in words and rows; its sites, a page at a time."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from slas.models import ReportLine
from slas.present.words import MEASURES, NO_VERDICT, SCOPES, VERDICTS, money, span_words
from slas.reporting.counted import Cap, Delay, Latency, Offered, Synced
from slas.reporting.paper import Line, Paper, Place, Promise, load_line
from slas.reporting.saying import Credited, credited_of
from slas.rounding import percent_2

OUTCOMES: Final = {"late": ("down", "Late"), "pending": ("degraded", "Pending"), "on_time": ("up", "On time")}
OWNERS: Final = {
    "freeze_ms": "Change freeze",
    "operator_ms": "Operator",
    "network_ms": "Network",
    "provider_ms": "Provider",
}
# How promises are named where hours, outages or round trips are counted.
COUNTED: Final = {
    "restoration mttr_h": "Mean time to restore",
    "restoration longest_h": "Longest outage",
    "restoration count": "Outages",
    "restoration mtbf_h": "Mean time between outages",
}
FIGURES: Final = {
    "figure": "figure",
    "count": "outages",
    "share": "share",
    "on_time": "on time",
    "late": "late",
    "pending": "pending",
    "polls": "polls",
}


def measure_words(measure: str) -> str:
    """A promise as people name it."""
    return COUNTED.get(measure) or MEASURES[measure]


def counted_of(paper: Paper) -> dict[str, Any]:
    """What the page prints of promises that are not shares of time, of caps and of credits."""
    return {
        "synced": [synced_row(one) for one in paper.synced],
        "latencies": [latency_row(one) for one in paper.latencies],
        "caps": [_cap(one) for one in paper.caps],
        "credits": [_credit(one) for one in credited_of(paper) if one.credit],
    }


def measures_of(paper: Paper) -> list[tuple[str, str]]:
    """The promises of which there is a list of sites, in the order in which they were made."""
    every: list[Promise | Synced | Latency] = [*paper.promises, *paper.synced, *paper.latencies]
    return [(one, MEASURES[one]) for one in dict.fromkeys(each.measure for each in every)]


def rows_of(lines: Iterable[ReportLine]) -> list[dict[str, Any]]:
    """A line a site and promise, or a site and standard."""
    return [row_of(load_line(line.kind, line.data)) for line in lines]


def row_of(one: Line) -> dict[str, Any]:
    """The same of one line."""
    if isinstance(one, Offered):
        return _offered(one)
    return _delay(one) if isinstance(one, Delay) else _place(one)


def places_of(paper: Paper) -> list[dict[str, Any]]:
    """A line a site and share of time, the worst first."""
    ordered = sorted(paper.places, key=lambda one: (one.shares.floor is None, one.shares.floor or 0, one.slug))
    return [_place(one) for one in ordered]


def counted_changes(diffs: Sequence[Any]) -> list[dict[str, Any]]:
    """What differs from the revision before of promises that are not shares of time."""
    return [
        {
            "provider": one["provider"],
            "measure": measure_words(one["measure"]),
            "figures": [(FIGURES[name], was, is_) for name, (was, is_) in one["figures"].items()],
            "verdict": [VERDICTS.get(word or "", NO_VERDICT) for word in one["verdict"]],
            "credit": one["credit"],
        }
        for diff in diffs
        for one in (diff or {}).get("counted", ())
    ]


def offer_changes(diffs: Sequence[Any]) -> list[dict[str, Any]]:
    """The sites and standards of which something else became."""
    return [
        {**one, "looks": [OUTCOMES.get(word or "", ("unknown", "Not offered")) for word in one["outcome"]]}
        for diff in diffs
        for one in (diff or {}).get("offers", ())
    ]


def synced_row(one: Synced) -> dict[str, Any]:
    """A promise of version synchronisation with what became of it."""
    limit = "each standard's own deadline" if one.limit_h is None else f"within {_plain(one.limit_h)} h"
    link = "charged" if one.includes_link else "not charged"
    return {
        "one": one,
        "target": percent_2(one.target),
        "terms": f"{limit}, {SCOPES[one.reach]}; time that the network takes is {link}",
        "share": percent_2(one.share),
        "verdict": VERDICTS.get(one.verdict or "", NO_VERDICT),
        "percentiles": [
            {"share": share, "charged": _span(charged), "elapsed": _span(elapsed)}
            for share, charged, elapsed in zip((50, 90, 99), one.charged_ms, one.elapsed_ms, strict=True)
        ],
        "owners": _owners(one),
    }


def latency_row(one: Latency) -> dict[str, Any]:
    """A promise of latency with what was found."""
    return {
        "one": one,
        "limit": _plain(one.limit_ms),
        "scope": SCOPES[one.reach],
        "verdict": VERDICTS.get(one.verdict or "", NO_VERDICT),
        "coverage": percent_2(one.coverage),
        "trips": list(zip((50, 90, 95, 99), one.rtt_ms, strict=True)),
    }


# ------------------------------------------------------------------------------------------------------------
def _owners(one: Synced | Offered) -> list[tuple[str, str, int]]:
    found = [(label, getattr(one, name)) for name, label in OWNERS.items()]
    return [(label, span_words(ms), ms) for label, ms in found]


def _cap(one: Cap) -> dict[str, Any]:
    return {
        "one": one,
        "cap": None if one.cap_h is None else f"{_plain(one.cap_h)} h a {one.cap_per}",
        "honoured": span_words(one.honoured_ms),
        "excess": span_words(one.excess_ms) if one.excess_ms else "",
    }


def _credit(one: Credited) -> dict[str, Any]:
    return {
        "one": one,
        "label": measure_words(one.measure),
        "fee": money(one.fee, one.currency),
        "part": percent_2(one.part),
    }


def _place(one: Place) -> dict[str, Any]:
    shares = {name: percent_2(getattr(one.shares, name)) for name in ("measured", "floor", "ceiling", "coverage")}
    return {
        "one": one,
        "label": MEASURES[one.measure],
        "verdict": VERDICTS.get(one.verdict or "", NO_VERDICT),
        "down": span_words(one.totals.down_ms),
        "unknown": span_words(one.totals.unknown_ms),
        "excluded": span_words(one.totals.excluded_ms),
        **shares,
    }


def _offered(one: Offered) -> dict[str, Any]:
    return {
        "one": one,
        "verdict": OUTCOMES[one.outcome],
        "deadline": _plain(one.deadline_h),
        "charged": span_words(one.charged_ms),
        "elapsed": span_words(one.elapsed_ms),
        "owners": _owners(one),
        "spans": [(begin, end, OWNERS[f"{whose}_ms"]) for begin, end, whose in one.spans],
    }


def _delay(one: Delay) -> dict[str, Any]:
    return {
        "one": one,
        "verdict": VERDICTS.get(one.verdict or "", NO_VERDICT),
        "coverage": percent_2(one.coverage),
        "median": one.rtt_ms[0],
        "worst": one.rtt_ms[-1],
        "trips": list(zip((50, 90, 95, 99), one.rtt_ms, strict=True)),
    }


def _span(ms: int | None) -> str | None:
    return None if ms is None else span_words(ms) if ms >= 1000 else f"{ms} ms"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
