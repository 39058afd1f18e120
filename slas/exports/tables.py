"""Tables of versions, round trips and maintenance caps. Only reports that say anything of them have these tables."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from slas.exports.words import OUTCOMES, VERDICTS, name_of
from slas.reporting.counted import Delay, Latency
from slas.reporting.paper import Paper
from slas.rounding import percent_2

Table = tuple[str, Sequence[str], Sequence[Sequence[Any]]]
_OWNERS: Final = ("freeze_ms", "operator_ms", "network_ms", "provider_ms")
_SYNC: Final = (
    *("provider", "scope", "target %", "deadline h", "on time %", "verdict", "sites", "on time", "late", "pending"),
    *(f"{name}_{share}_ms" for name in ("charged", "elapsed") for share in ("p50", "p90", "p99")),
    *_OWNERS,
)
_OFFERS: Final = (
    *(
        "provider",
        "site",
        "name",
        "standard",
        "outcome",
        "published",
        "under contract since",
        "sent",
        "proven",
        "until",
    ),
    *("deadline h", "charged_ms", "elapsed_ms", *_OWNERS),
    *("rollout", "step", "document", "receipt", "proof: event", "proof: components"),
)
_TRIPS: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "polls", "days", "days missing", "coverage %", "verdict")


def counted_tables(paper: Paper) -> Iterator[Table]:
    """Each of them with its columns and rows."""
    if paper.synced:
        yield "Version synchronisation", _SYNC, [_synced(one) for one in paper.synced]
        yield "Versions by site", _OFFERS, [_offered(one) for one in paper.offered]
    if paper.latencies:
        columns = ("provider", "scope", "percentile", "limit_ms", "figure_ms", "sites", *_TRIPS)
        yield (
            "Latency",
            columns,
            [
                [one.provider, name_of(one.reach), one.percentile, one.limit_ms, one.figure, one.sites, *_trips(one)]
                for one in paper.latencies
            ],
        )
        yield (
            "Latency by site",
            ("provider", "site", "name", "figure_ms", *_TRIPS),
            [[one.provider, one.slug, one.name, one.figure, *_trips(one)] for one in paper.delays],
        )
    if paper.caps:
        caps = ("provider", "cap h", "cap for each", "counted as maintenance_ms", "over the cap_ms", "sites over it")
        yield (
            "Maintenance caps",
            caps,
            [
                [one.provider, one.cap_h, one.cap_per, one.honoured_ms, one.excess_ms, one.sites_over]
                for one in paper.caps
            ],
        )


# ------------------------------------------------------------------------------------------------------------
def _synced(one: Any) -> list[Any]:
    return [
        *(one.provider, name_of(one.reach), percent_2(one.target), one.limit_h, percent_2(one.share)),
        *(VERDICTS[one.verdict], one.sites, one.on_time, one.late, one.pending, *one.charged_ms, *one.elapsed_ms),
        *(getattr(one, name) for name in _OWNERS),
    ]


def _offered(one: Any) -> list[Any]:
    return [
        *(one.provider, one.slug, one.name, one.standard, OUTCOMES[one.outcome]),
        *(one.published, one.eligible, one.sent, one.proven, one.until),
        *(one.deadline_h, one.charged_ms, one.elapsed_ms, *(getattr(one, name) for name in _OWNERS)),
        *(one.rollout, one.step, one.document, one.receipt, one.event, one.components),
    ]


def _trips(one: Latency | Delay) -> list[Any]:
    return [*one.rtt_ms, one.polls, one.days, one.missing, percent_2(one.coverage), VERDICTS[one.verdict]]
