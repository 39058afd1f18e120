"""Reports in words and rows: the list, the page that reads like a document, one site's month."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from slas.exports.words import duration, month_words, period_words
from slas.models import Report
from slas.periods import month_text
from slas.present import report_lines
from slas.present.incidents import CAUSES, CHARGED_TO, KINDS
from slas.present.words import BURDENS, MEASURES, NO_VERDICT, SCOPES, VERDICTS, money, span_words
from slas.reporting.counted import Latency, Synced
from slas.reporting.paper import Promise, Restored
from slas.reporting.saying import owed, sentence_of, verdict_of
from slas.rounding import percent_2
from slas.selectors.reports import Told
from slas.selectors.site_months import Measured, SiteMonth
from slas.services.reports import is_open
from slas.states import Cause, Charged, Kind

Shown = Promise | Synced | Latency
LIVES: Final = {
    "": ("unknown", "Not made yet"),
    "provisional": ("degraded", "Provisional"),
    "final": ("up", "Final"),
    "restated": ("up", "Restated"),
}
CLASSES: Final = {
    "scheduled": "Service time",
    "excluded": "Excluded",
    "unknown": "Unknown",
    "down": "Down",
    "degraded": "Degraded",
    "up": "Up",
}
EXCLUSIONS: Final = {
    "maintenance": "Without maintenance taken out",
    "causes": "Without outages of excluded causes taken out",
    "blind": "Without our own blindness taken out",
    "all": "With nothing taken out",
}
RESTORED: Final = {
    "restoration mttr_h": ("Mean time to restore", "h"),
    "restoration longest_h": ("Longest outage", "h"),
    "restoration count": ("Outages", ""),
    "restoration mtbf_h": ("Mean time between outages", "h"),
    "response": ("Answered in time", "%"),
}
# The classes of the engine as shapes; what is out of service hours is nobody's.
LOOKS: Final = {
    "up": "up",
    "down": "down",
    "degraded": "degraded",
    "unknown": "unknown",
    "excluded": "planned",
    "out_of_calendar": "retired",
}


def suggestions(this: int) -> list[tuple[str, str]]:
    """Periods to choose from: the month that goes on and those before, quarters, years."""
    months = [month_text(this - back) for back in range(13)]
    quarter = this // 3
    quarters = [f"{(quarter - back) // 4:04}-Q{(quarter - back) % 4 + 1}" for back in range(5)]
    years = [f"{this // 12 - back:04}" for back in range(2)]
    return [(one, period_words(one).capitalize()) for one in (*months, *quarters, *years)]


def look_of(verdict: str | None) -> tuple[str, str]:
    """A verdict's shape and word."""
    return VERDICTS.get(verdict or "", NO_VERDICT)


def row_of(report: Report, verdicts: Sequence[str | None]) -> dict[str, Any]:
    """A line of the list."""
    found: Any = report
    worst = next((word for word in ("MISSED", "UNDETERMINED", "MET") if word in verdicts), None)
    return {
        "report": report,
        "period": period_words(report.period),
        "life": LIVES[report.state],
        "verdict": look_of(worst),
        "missed": list(verdicts).count("MISSED"),
        "promises": len(verdicts),
        "newest": found.all_revisions[0] if found.all_revisions else None,
    }


def document_of(told: Told) -> dict[str, Any]:
    """Everything that the page prints of a revision."""
    paper = told.paper
    return {
        "head": paper.head,
        "period": period_words(paper.head.period),
        "verdict": look_of(verdict_of(paper)),
        "sentence": sentence_of(paper),
        "promises": [{**promise_row(one), "slug": _slug_of(one, told)} for one in paper.promises],
        "restored": [restored_row(one) for one in paper.restored],
        "outages": [
            {
                "one": one,
                "kind": KINDS[Kind(one.kind)],
                "cause": CAUSES[Cause(one.cause)],
                "charged": CHARGED_TO[Charged(one.charged_to)],
                "lasted": span_words(one.lasted_ms),
            }
            for one in paper.lost
        ],
        "upkeep": paper.upkeep,
        **report_lines.counted_of(paper),
        "owed": owed(paper),
        "decided": [(MEASURES[one.measure], one, percent_2(one.figure)) for one in paper.decided],
        "made": _made(told.revision.made_by),
    }


def changes_of(told: Told) -> list[dict[str, Any]]:
    """What differs from the revision before, a line an objective: seconds by class, figures, verdict, credit."""
    return [
        {
            "provider": one["provider"],
            "measure": MEASURES[one["measure"]],
            "gained": [(CLASSES[name], _signed(ms)) for name, ms in one["ms"].items()],
            "floor": one["floor"],
            "ceiling": one["ceiling"],
            "verdict": [look_of(word) for word in one["verdict"]],
            "credit": one["credit"],
        }
        for part in told.parts
        for one in (part.diff or {}).get("promises", ())
    ]


def site_changes_of(told: Told) -> list[dict[str, Any]]:
    """The sites that changed, each with seconds by class."""
    return [
        {
            "slug": one["slug"],
            "measure": MEASURES[one["measure"]],
            "gained": [(CLASSES[name], _signed(ms)) for name, ms in one["ms"].items()],
        }
        for part in told.parts
        for one in (part.diff or {}).get("sites", ())
    ]


def trend_rows(months: Iterable[tuple[str, Sequence[Shown]]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Months and, a line a provider and objective, what was measured in each: the chart is a table as well."""
    listed = list(months)
    keys = dict.fromkeys((one.provider, one.measure) for _, found in listed for one in found)
    rows = [
        {
            "provider": provider,
            "measure": MEASURES[measure],
            "cells": [
                next((_cell(one) for one in found if (one.provider, one.measure) == (provider, measure)), None)
                for _, found in listed
            ],
        }
        for provider, measure in keys
    ]
    return [month_words(period) for period, _ in listed], rows


# One site ---------------------------------------------------------------------------------------------------
def measured_rows(found: SiteMonth) -> list[dict[str, Any]]:
    """Each objective of the site with its figures, and its time in pieces with what proves each."""
    return [
        {
            "provider": one.provider,
            "measure": MEASURES[one.objective.measure],
            "target": percent_2(one.objective.target),
            **_shares(one.figures),
            "verdict": look_of(one.figures.settled.verdict),
            "classes": _classes(one.figures),
            "excess": span_words(one.excess_ms) if one.excess_ms else "",
            "pieces": [_piece(piece, found.facts, one) for piece in one.pieces],
        }
        for one in found.measured
    ]


def counted_rows(found: SiteMonth) -> list[dict[str, Any]]:
    """Versions and round trips of the site, as the revision says."""
    return [{**report_lines.row_of(one), "kind": one.measure} for one in found.counted]


def _piece(piece: Any, facts: Sequence[Mapping[str, Any]], one: Measured) -> dict[str, Any]:
    begin, end, part = piece
    axis = "availability" if one.objective.measure == "availability" else "reachability"
    first, last = _moment(begin), _moment(end)
    wanted = {"excluded": {"maintenance", "outage", "adjustment", "centre_blind"}}.get(part.value, {"interval"})
    proofs = [
        _proof(fact)
        for fact in facts
        if (fact["type"] in wanted and _touches(fact, first, last))
        and (fact["type"] != "interval" or fact["axis"] == axis)
        and (fact["type"] != "maintenance" or fact["decided_at"])
    ]
    return {
        "begin": first,
        "end": last,
        "look": LOOKS.get(part.value, "unknown"),
        "name": part.value.replace("_", " ").capitalize(),
        "lasted": duration(end - begin),
        "proofs": proofs[:20],
        "more": max(0, len(proofs) - 20),
    }


def _touches(fact: Mapping[str, Any], first: datetime, last: datetime) -> bool:
    begins, ends = datetime.fromisoformat(fact["from"]), fact["to"]
    return begins < last and (ends is None or datetime.fromisoformat(ends) > first)


def _proof(fact: Mapping[str, Any]) -> dict[str, Any]:
    """A sentence, and the number of the outage or window to look at."""
    kind = fact["type"]
    if kind == "maintenance":
        return {"says": f"“{fact['title']}”, agreed to by {fact['decided_by']}", "window": fact["id"]}
    if kind == "outage":
        newest = next((one for one in reversed(fact["findings"]) if one["is_correction"]), None)
        newest = newest or (fact["findings"][-1] if fact["findings"] else None)
        says = CAUSES[Cause(newest["cause"])] if newest else "no cause found"
        return {"says": f"outage: {says.lower()}", "outage": fact["incident"]}
    if kind == "adjustment":
        return {"says": f"granted. {fact['reason']}", "outage": fact["incident"]}
    if kind == "centre_blind":
        return {"says": f"the centre could not watch ({fact['rule']})"}
    proof = fact.get("proof") or {}
    journal = proof.get("journal") if isinstance(proof, Mapping) else None
    if isinstance(journal, Mapping) and "from_seq" in journal:
        return {"says": f"signed journal, entries {journal['from_seq']} to {journal.get('to_seq')}"}
    where = f"poll {proof['poll']}" if "poll" in proof else f"fact {fact['id']}"
    return {"says": f"{fact['source']}: {fact['state'].replace('_', ' ')}, {where}"}


def _slug_of(one: Promise, told: Told) -> str:
    return next((part.provider.slug for part in told.parts if part.provider.name == one.provider), "")


def promise_row(one: Promise) -> dict[str, Any]:
    """A promise with what became of it."""
    return {
        "one": one,
        "label": MEASURES[one.measure],
        "target": percent_2(one.target),
        "terms": f"{SCOPES[one.reach]}; {BURDENS[one.burden]}",
        "verdict": look_of(one.verdict),
        "classes": _classes(one),
        "without": [
            {"label": EXCLUSIONS[bare.kind], "measured": percent_2(bare.shares.measured)} for bare in one.without
        ],
        "fee": money(one.fee, one.currency),
        "part": percent_2(one.part),
        "is_open": is_open(one),
        **_shares(one),
    }


def _made(name: str) -> str:
    return "made by itself" if name.startswith("job:") else f"made for {name}"


def restored_row(one: Restored) -> dict[str, Any]:
    """A promise of restoration or response with what was found."""
    label, unit = RESTORED[one.measure]
    figure = None
    if one.figure is not None:
        figure = f"{percent_2(one.figure)} %" if unit == "%" else f"{float(one.figure):.2f} {unit}".strip()
    limit = None if one.limit is None else f"{one.limit.normalize():f} {unit}".strip()
    if one.target is not None and one.limit is not None:
        limit = f"{percent_2(one.target)} % within {one.limit.normalize():f} min"
    return {"one": one, "label": label, "figure": figure, "limit": limit, "verdict": look_of(one.verdict)}


def _cell(one: Shown) -> dict[str, Any]:
    if isinstance(one, Latency):
        figure = None if one.figure is None else f"{one.figure} ms"
    else:
        share = percent_2(one.share if isinstance(one, Synced) else one.shares.measured)
        figure = None if share is None else f"{share} %"
    return {"figure": figure, "verdict": look_of(one.verdict)}


def _shares(one: Any) -> dict[str, Any]:
    return {name: percent_2(getattr(one.shares, name)) for name in ("measured", "floor", "ceiling", "coverage")}


def _classes(one: Any) -> list[tuple[str, str, int]]:
    """The classes of time with their length in words and in milliseconds."""
    found = [(label, getattr(one.totals, f"{name}_ms")) for name, label in CLASSES.items()]
    return [(label, span_words(ms), ms) for label, ms in found]


def _signed(ms: int) -> str:
    """Milliseconds gained or lost, as seconds."""
    return f"{'+' if ms > 0 else '−'}{abs(ms) / 1000:,.3f}".rstrip("0").rstrip(".") + " s"


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
