"""Providers side by side, one provider over its contracts, and a group of sites, in words and rows."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from slas.exports.overviews import Compared
from slas.present.report_lines import latency_row, places_of, synced_row
from slas.present.reports import LIVES, look_of, promise_row, restored_row
from slas.present.words import MEASURES, span_words
from slas.reporting.paper import Paper
from slas.reporting.pooling import Outages, Pooled, Versions
from slas.reporting.saying import sentence_of, verdict_of
from slas.rounding import percent_2
from slas.selectors.summaries import Said


def comparison_rows(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    """A row a provider."""
    return [
        {
            "one": row,
            "measures": [pooled_row(one) for one in row.measures.values()],
            "versions": versions_row(row.versions),
            "outages": outages_row(row.outages),
            "life": ", ".join(LIVES[life][1].lower() for life in row.lives),
        }
        for row in rows
    ]


def pooled_row(one: Pooled) -> dict[str, Any]:
    """Figures of several as one."""
    return {
        "one": one,
        "label": MEASURES[one.measure],
        "verdict": look_of(one.verdict),
        "promised": _promised(one),
        "down": span_words(one.totals.down_ms),
        "unknown": span_words(one.totals.unknown_ms),
        "excluded": span_words(one.totals.excluded_ms),
        **{name: percent_2(getattr(one.shares, name)) for name in ("measured", "floor", "ceiling", "coverage")},
    }


def versions_row(one: Versions) -> dict[str, Any]:
    """How much of what was sent came in time."""
    return {"one": one, "verdict": look_of(one.verdict), "share": percent_2(one.share), "promised": _promised(one)}


def outages_row(one: Outages) -> dict[str, Any]:
    """How many, and how long in hours."""
    return {"one": one, "mean": _hours(one.mean_h), "longest": _hours(one.longest_h)}


def provider_document(said: Sequence[Said], paper: Paper) -> dict[str, Any]:
    """A provider over all its contracts: one part after the other, then all its sites."""
    return {
        "verdict": look_of(verdict_of(paper)),
        "sentence": sentence_of(paper),
        "contracts": [
            {
                "report": one.report,
                "revision": one.revision,
                "life": LIVES[one.revision.state][1],
                "verdict": look_of(verdict_of(one.paper)),
                "sentence": sentence_of(one.paper),
                "promises": [promise_row(row) for row in one.paper.promises],
                "synced": [synced_row(row) for row in one.paper.synced],
                "latencies": [latency_row(row) for row in one.paper.latencies],
                "restored": [restored_row(row) for row in one.paper.restored],
                "outages": len(one.paper.lost),
            }
            for one in said
        ],
        "places": places_of(paper),
    }


def _promised(one: Pooled | Versions) -> str:
    """The targets, from the least to the most; empty where none is named."""
    if one.targets is None:
        return ""
    least, most = (percent_2(share) for share in one.targets)
    return f"{least} %" if least == most else f"{least} to {most} %"


def _hours(value: Fraction | None) -> Decimal | None:
    """Hours as people read them, rounded down at two places."""
    return percent_2(None if value is None else value / 100)
