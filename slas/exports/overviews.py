"""Providers side by side, and a group of sites, as tables for workbooks and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from sites.models import Provider
from slas.exports.tables import Table
from slas.exports.words import VERDICTS, name_of
from slas.reporting.paper import Line, Paper, Place, joined
from slas.reporting.pooling import Outages, Pooled, Versions, outages_of, pooled, versions_of
from slas.reporting.saying import owed
from slas.rounding import percent_2
from slas.selectors.summaries import Said

MEASURED: Final = ("availability", "reachability")
_FIGURES: Final = ("measured", "floor", "ceiling")
_WORDS: Final = ("promises", "met", "missed", "undetermined")


@dataclass(frozen=True, slots=True)
class Compared:
    """A provider in a period: each measure over all its promises, its outages, what it owes."""

    provider: Provider
    said: Sequence[Said]
    measures: Mapping[str, Pooled]
    versions: Versions
    outages: Outages
    credits: Sequence[tuple[Decimal, str]]

    @property
    def sites(self) -> int:
        """How many sites were under its promises."""
        lines: list[Line] = []
        for one in self.said:
            lines += [*one.paper.places, *one.paper.offered, *one.paper.delays]
        return len({line.slug for line in lines})

    @property
    def lives(self) -> list[str]:
        """The states of its reports."""
        return list(dict.fromkeys(one.revision.state for one in self.said))


def compared(said: Sequence[Said]) -> list[Compared]:
    """A row a provider, by name."""
    by_provider: dict[int, list[Said]] = {}
    for one in said:
        by_provider.setdefault(one.provider.pk, []).append(one)
    found = []
    for own in by_provider.values():
        paper = joined([one.paper for one in own])
        measures = {measure: pooled(measure, paper.promises) for measure in MEASURED}
        outages, credits = outages_of(_once(paper)), owed(paper)
        found.append(Compared(own[0].provider, own, measures, versions_of(paper.synced), outages, credits))
    return sorted(found, key=lambda row: row.provider.name)


def comparison_table(rows: Sequence[Compared]) -> Table:
    """Providers side by side: a row each."""
    columns = ["provider", "contracts", "sites", "reports"]
    for measure in MEASURED:
        columns += [f"{measure} {name} %" for name in _FIGURES]
        columns += [f"{measure} target from %", f"{measure} target to %"]
        columns += [f"{measure} {name}" for name in _WORDS]
    columns += ["version sync on time %", "version sync target from %", "version sync target to %"]
    columns += [f"version sync {name}" for name in ("on time", "late", "pending", *_WORDS)]
    columns += ["outages", "mean outage h", "longest outage h", "outages that last", "credits"]
    return "Comparison", columns, [_comparison_row(row) for row in rows]


def group_tables(measures: Sequence[Pooled], places: Sequence[Place]) -> list[Table]:
    """A group's figures, and its sites."""
    shares = [f"{name} %" for name in (*_FIGURES, "coverage")]
    summary = [
        [
            name_of(one.measure),
            *(percent_2(getattr(one.shares, name)) for name in (*_FIGURES, "coverage")),
            *(one.met, one.missed, one.open, one.totals.down_ms, one.totals.unknown_ms, one.totals.excluded_ms),
        ]
        for one in measures
    ]
    sites = [
        [
            one.provider,
            name_of(one.measure),
            one.slug,
            one.name,
            *(percent_2(getattr(one.shares, name)) for name in (*_FIGURES, "coverage")),
            VERDICTS[one.verdict],
            *(one.totals.down_ms, one.totals.unknown_ms, one.totals.excluded_ms),
        ]
        for one in places
    ]
    ends = ("down_ms", "unknown_ms", "excluded_ms")
    return [
        ("Group", ("objective", *shares, "met", "missed", "undetermined", *ends), summary),
        ("Sites", ("provider", "objective", "site", "name", *shares, "verdict", *ends), sites),
    ]


# ------------------------------------------------------------------------------------------------------------
def _once(paper: Paper) -> list[Any]:
    """Its outages, each once: two contracts may be about one site."""
    return list({(one.number, one.provider): one for one in paper.lost}.values())


def _comparison_row(row: Compared) -> list[Any]:
    found: list[Any] = [row.provider.name, len(row.said), row.sites, ", ".join(row.lives)]
    for one in row.measures.values():
        least, most = one.targets or (None, None)
        found += [percent_2(getattr(one.shares, name)) for name in _FIGURES]
        found += [percent_2(least), percent_2(most), one.count, one.met, one.missed, one.open]
    synced, outages = row.versions, row.outages
    found += [percent_2(synced.share), *(percent_2(one) for one in synced.targets or (None, None))]
    found += [synced.on_time, synced.late, synced.pending, synced.count, synced.met, synced.missed, synced.open]
    found += [outages.count, _hours(outages.mean_h), _hours(outages.longest_h), outages.lasting]
    return [*found, ", ".join(f"{amount} {currency}" for amount, currency in row.credits)]


def _hours(value: Fraction | None) -> Decimal | None:
    return percent_2(None if value is None else value / 100)
