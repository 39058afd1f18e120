"""What the PDF says of versions, round trips and maintenance caps, as texts."""

from typing import Any

from slas.exports.words import (
    OUTCOMES,
    OWNERS,
    VERDICTS,
    credit_text,
    duration,
    hours_text,
    moment,
    name_of,
    percent,
    span_text,
    trips_text,
)
from slas.reporting.counted import Cap, Delay, Latency, Offered, Synced
from slas.reporting.paper import Paper


def counted_content(paper: Paper) -> dict[str, Any]:
    """Lists for the template: promises like those of time, then their sites."""
    zone = paper.head.zone
    return {
        "synced": [_synced(one) for one in paper.synced],
        "offered": [_offered(one, zone) for one in paper.offered],
        "latencies": [_latency(one) for one in paper.latencies],
        "delays": [_delay(one) for one in paper.delays],
        "caps": [_cap(one) for one in paper.caps],
    }


def _synced(one: Synced) -> dict[str, Any]:
    deadline = "each standard's own deadline" if one.limit_h is None else f"within {hours_text(one.limit_h)}"
    link = "the network's time is charged" if one.includes_link else "the network's time is not charged"
    owners = [(name, getattr(one, f"{key}_ms")) for key, name in OWNERS.items()]
    charged, elapsed = (" / ".join(map(span_text, found)) for found in (one.charged_ms, one.elapsed_ms))
    return {
        "name": f"Version synchronisation, {one.provider}",
        "terms": f"at least {percent(one.target)} on time, {deadline}, {name_of(one.reach).lower()};"
        f" {one.sites} sites; {link}",
        "verdict": one.verdict or "NONE",
        "figures": [
            ["On time", percent(one.share)],
            ["Proven in time", str(one.on_time)],
            ["Late", str(one.late)],
            ["Pending", str(one.pending)],
        ],
        "times": " · ".join(f"{name.lower()} {duration(ms)}" for name, ms in owners),
        "percentiles": f"Half, 90 and 99 of a hundred were done after (charged) {charged}, by the clock {elapsed}.",
        "credit": credit_text(one.credit, one.fee, one.currency, one.part),
    }


def _offered(one: Offered, zone: str) -> list[str]:
    return [
        one.slug,
        one.standard,
        OUTCOMES[one.outcome],
        "–" if one.sent is None else moment(one.sent, zone),
        "–" if one.proven is None else moment(one.proven, zone),
        duration(one.charged_ms),
        duration(one.elapsed_ms),
    ]


def _latency(one: Latency) -> dict[str, Any]:
    return {
        "name": f"Latency, {one.provider}",
        "terms": f"{one.percentile} of a hundred polls within {one.limit_ms.normalize():f} ms,"
        f" {name_of(one.reach).lower()}; {one.sites} sites",
        "verdict": one.verdict or "NONE",
        "figures": [
            [f"{one.percentile} of 100 within", trips_text(one.figure)],
            ["Median", trips_text(one.rtt_ms[0])],
            ["Polls", str(one.polls)],
            ["Coverage", percent(one.coverage)],
        ],
        "times": f"{one.days} days of sites were counted" + (f", {one.missing} are not kept" if one.missing else ""),
    }


def _delay(one: Delay) -> list[str]:
    trips = [trips_text(one.figure), *map(trips_text, (one.rtt_ms[0], one.rtt_ms[-1]))]
    return [one.slug, *trips, str(one.polls), percent(one.coverage), VERDICTS[one.verdict]]


def _cap(one: Cap) -> list[str]:
    cap = "none" if one.cap_h is None else f"{hours_text(one.cap_h)} a {one.cap_per}"
    return [one.provider, cap, duration(one.honoured_ms), duration(one.excess_ms), str(one.sites_over)]
