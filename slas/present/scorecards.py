"""Scorecards as a page shows them: one card a provider, the worst first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sites.models import Provider
from slas.models import Scorecard, Window
from slas.present.budgets import Line as BudgetLine
from slas.present.report_lines import measure_words
from slas.present.words import BURDENS, NO_VERDICT, SCOPES, VERDICTS, span_words, trimmed

_RANK = {"MISSED": 0, "UNDETERMINED": 1, "MET": 2, None: 3}
WORST = 5


@dataclass(frozen=True)
class Line:
    """One objective of a contract, this month beside the last."""

    contract: Any
    label: str
    now: Mapping[str, Any]
    before: Mapping[str, Any] | None

    @property
    def promise(self) -> str:
        """What must be reached."""
        found: str | None = self.now.get("promise")
        return found or f"≥ {trimmed(self.now['target'])} %"

    @property
    def figure(self) -> str | None:
        """What was found, in its unit."""
        return _figure(self.now)

    @property
    def figure_before(self) -> str | None:
        """The same of the month before."""
        return _figure(self.before) if self.before else None

    @property
    def verdict(self) -> tuple[str, str]:
        """Its shape and its word."""
        return VERDICTS.get(self.now["verdict"], NO_VERDICT)

    @property
    def verdict_before(self) -> tuple[str, str]:
        """Those of the month before."""
        return VERDICTS.get(self.before["verdict"], NO_VERDICT) if self.before else NO_VERDICT

    @property
    def says(self) -> str:
        """What the promise is of, and who bears what nobody knows."""
        scope = SCOPES.get(self.now["scope"], "")
        rest = self.now["says"] if "says" in self.now else BURDENS[self.now["burden"]]
        return "; ".join(filter(None, (scope, rest)))

    @property
    def lost(self) -> str:
        """Time that was lost, over all sites."""
        return span_words(self.now["down_ms"])

    @property
    def rank(self) -> tuple[int, Decimal]:
        """What to sort by: the verdict, then how far the floor lies above the target."""
        floor = Decimal(self.now["floor_4"] or "100")
        return _RANK[self.now["verdict"]], floor - Decimal(self.now["target"] or "100")


@dataclass
class Card:
    """A provider with its objectives of a month."""

    provider: Provider
    lines: list[Line] = field(default_factory=list)
    as_of: datetime | None = None
    outages: int = 0
    windows: Sequence[Window] = ()
    budgets: Sequence[BudgetLine] = ()

    @property
    def verdict(self) -> tuple[str, str]:
        """That of the worst line."""
        return self.lines[0].verdict if self.lines else NO_VERDICT

    @property
    def rank(self) -> tuple[int, Decimal]:
        """That of the worst line; a provider of whom nothing is promised stands last."""
        return self.lines[0].rank if self.lines else (4, Decimal(0))

    @property
    def credits(self) -> list[tuple[str, str]]:
        """Amounts by currency, those that are not nothing."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            if not line.now["currency"]:
                continue
            found[line.now["currency"]] = found.get(line.now["currency"], Decimal(0)) + Decimal(line.now["credit"])
        return [(f"{amount:f}", currency) for currency, amount in sorted(found.items()) if amount]

    @property
    def worst(self) -> list[dict[str, Any]]:
        """The sites that lost most, of all lines, each once."""
        found: dict[str, dict[str, Any]] = {}
        for line in self.lines:
            for site in line.now["worst"]:
                row = {**site, "label": line.label, "look": VERDICTS.get(site["verdict"], NO_VERDICT)}
                row["lost"] = span_words(site["down_ms"])
                if site["slug"] not in found or _low(row) < _low(found[site["slug"]]):
                    found[site["slug"]] = row
        return sorted(found.values(), key=lambda row: (_low(row), row["name"]))[:WORST]


def _figure(line: Mapping[str, Any]) -> str | None:
    if "figure" in line:
        found: str | None = line["figure"]
        return found
    return f"{line['measured']} %" if line["measured"] else None


def _low(row: Mapping[str, Any]) -> Decimal:
    return Decimal(row["floor_4"] or "100")


def cards_of(
    rows: Iterable[Scorecard],
    month: str,
    *,
    providers: Iterable[Provider],
    outages: Mapping[int, int],
    windows: Mapping[int, Sequence[Window]],
    budgets: Mapping[int, Sequence[BudgetLine]] | None = None,
) -> list[Card]:
    """A card for each provider that a contract names in the month, or the month before; the worst first."""
    kept = {(row.contract_id, row.provider_id, row.month): row for row in rows}
    by_id = {provider.pk: provider for provider in providers}
    cards: dict[int, Card] = {}
    for (contract, provider, of), row in kept.items():
        if of != month or provider not in by_id:
            continue
        before = next((kept[key] for key in kept if key[:2] == (contract, provider) and key[2] != month), None)
        card = cards.setdefault(provider, Card(by_id[provider]))
        card.as_of = min(card.as_of or row.as_of, row.as_of)
        card.lines += [
            Line(row.contract, measure_words(one["measure"]), one, _same(one, before.lines if before else []))
            for one in row.lines
        ]
    for card in cards.values():
        card.lines.sort(key=lambda line: line.rank)
        card.outages = outages.get(card.provider.pk, 0)
        card.windows = windows.get(card.provider.pk, ())
        card.budgets = (budgets or {}).get(card.provider.pk, ())
    return sorted(cards.values(), key=lambda card: (card.rank, card.provider.name))


def _same(line: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The same objective of the month before: its last segment's."""
    return next((one for one in reversed(before) if one["measure"] == line["measure"]), None)
