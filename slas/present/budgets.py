"""Error budgets as pages show them: what is left, signed, and which promises lose theirs too fast."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from slas.models import Budget, BurnAlert
from slas.present.words import MEASURES, SCOPES, span_words
from slas.selectors.budgets import Spread
from slas.states import Reach

MINUTE_MS: Final = 60_000
_MINUS: Final = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Burn:
    """A promise that loses its budget too fast: all its open alerts as one, since the first of them."""

    alert: BurnAlert
    since: datetime
    fastest: float
    windows: str

    @property
    def label(self) -> str:
        """What is measured."""
        return MEASURES[self.alert.measure]

    @property
    def rate(self) -> str:
        """How many times as fast as allowed, when it began."""
        return f"{self.fastest:.1f}"


@dataclass
class Line:
    """A budget with the sites of its segment that have least left, and what burns."""

    budget: Budget
    spread: Spread | None = None
    worst: Sequence[Budget] = ()
    burns: list[Burn] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What is measured."""
        return MEASURES[self.budget.measure]

    @property
    def scope(self) -> str:
        """For whom it is promised."""
        return SCOPES[self.budget.reach]

    @property
    def is_pooled(self) -> bool:
        """Whether the promise is of all sites together, so that their sum is what counts."""
        return self.budget.reach == Reach.POOLED

    @property
    def minutes(self) -> str:
        """What is left, in minutes."""
        return minutes_words(self.budget.left_ms)

    @property
    def percent(self) -> str:
        """The same, of what the period allows."""
        return percent_words(self.budget.left_ms, self.budget.allowed_ms)

    @property
    def lost(self) -> str:
        """What is spent."""
        return span_words(self.budget.spent_ms)

    @property
    def spent(self) -> float | None:
        """The share that is spent, for a bar."""
        return self.budget.spent_ms / self.budget.allowed_ms if self.budget.allowed_ms > 0 else None

    @property
    def look(self) -> tuple[str, str]:
        """Shape and word: used up, going too fast, or fine. A site's part of a promise of all together breaks none."""
        if self.is_gone and self.is_pooled and self.budget.site_id is not None:
            return "degraded", "Beyond its part"
        if self.is_gone:
            return "down", "Used up"
        if self.burns:
            return "degraded", "Going too fast"
        return "up", "On track"

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left: of the promise itself, which is each site's where it is not of all together."""
        if self.budget.site_id is None and not self.is_pooled:
            return self.spread is not None and self.spread.gone > 0
        return self.budget.left_ms < 0

    @property
    def rows(self) -> list[tuple[Any, str, str, str]]:
        """Those with least left: site, shape, minutes, per cent."""
        return [
            (
                one.site,
                "down" if one.left_ms < 0 else "up",
                minutes_words(one.left_ms),
                percent_words(one.left_ms, one.allowed_ms),
            )
            for one in self.worst
        ]


def minutes_words(ms: int) -> str:
    """Milliseconds as signed minutes, never more than there are: tenths below 100 minutes."""
    tenths = ms * 10 // MINUTE_MS
    text = f"{abs(tenths) // 10:,}" if abs(tenths) >= 1000 else f"{abs(tenths) // 10}.{abs(tenths) % 10}"
    return f"{_MINUS if tenths < 0 else ''}{text} min"


def percent_words(left_ms: int, allowed_ms: int) -> str:
    """A signed share in per cent, never more than it is; a dash where nothing is allowed."""
    if allowed_ms <= 0:
        return "—"
    tenths = left_ms * 1000 // allowed_ms
    return f"{_MINUS if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


def burns_of(alerts: Iterable[BurnAlert]) -> list[Burn]:
    """Open alerts as one of each promise, the fastest first; the windows are those of the fastest."""
    found: dict[tuple[int, int, str, int | None], list[BurnAlert]] = {}
    for one in alerts:
        found.setdefault((one.contract_id, one.provider_id, one.measure, one.site_id), []).append(one)
    burns = []
    for same in found.values():
        fastest = max(same, key=lambda one: one.rate_long)
        windows = f"{_window(fastest.short_ms)} and {_window(fastest.long_ms)}"
        burns.append(Burn(fastest, min(one.began_at for one in same), fastest.rate_long, windows))
    return sorted(burns, key=lambda burn: (-burn.fastest, burn.since))


def lines_of(
    budgets: Iterable[Budget],
    alerts: Iterable[BurnAlert],
    spreads: Mapping[tuple[int, str], Spread],
    worst: Mapping[tuple[int, str], Sequence[Budget]],
) -> list[Line]:
    """Each budget with what burns of it: a whole segment's has the burns of all its sites, a site's its own."""
    burns = burns_of(alerts)
    lines = []
    for one in budgets:
        key = (one.segment_id, one.measure)
        mine = [burn for burn in burns if _is_of(burn.alert, one)]
        whole = one.site_id is None
        lines.append(Line(one, spreads.get(key) if whole else None, worst.get(key, ()) if whole else (), mine))
    return lines


def _window(ms: int) -> str:
    return span_words(ms).removesuffix(" 00 s").removesuffix(" 00 min")


def _is_of(alert: BurnAlert, budget: Budget) -> bool:
    same = (alert.contract_id, alert.provider_id, alert.measure)
    if same != (budget.contract_id, budget.provider_id, budget.measure):
        return False
    return budget.site_id is None or alert.site_id in (None, budget.site_id)
