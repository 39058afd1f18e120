"""The figures of a bundle's vector, by the names that its `expect` has. Standard library only."""

from typing import Any

from slas.bundle import Availability, Vector
from slas.calendars import open_spans
from slas.engine import classify, figures, totals, verdict
from slas.rounding import percent_4
from slas.version_sync import split


def computed(vector: Vector) -> dict[str, Any]:
    """The figures of a vector, by the names that `expect` has; percentages are Decimals of four places."""
    if not isinstance(vector, Availability):
        found = split(vector.sync)
        names = ("freeze_ms", "operator_ms", "network_ms", "provider_ms", "elapsed_ms", "charged_ms")
        return {**{name: getattr(found, name) for name in names}, "verdict": str(found.verdict)}
    pieces = classify(
        vector.window,
        vector.states,
        calendar=None if vector.calendar is None else open_spans(vector.calendar, vector.window),
        maintenance=vector.maintenance,
        exclusions=[(begin, end) for begin, end, _ in vector.exclusions],
        rules=vector.rules,
    )
    total = totals(pieces)
    shares = figures(total, vector.rules)
    names = ("scheduled_ms", "excluded_ms", "unknown_ms", "down_ms", "degraded_ms", "up_ms")
    answer: dict[str, Any] = {name: getattr(total, name) for name in names}
    for name in ("measured", "floor", "ceiling", "coverage"):
        answer[name] = percent_4(getattr(shares, name))
    if vector.target is not None:
        settled = verdict(shares, vector.target)
        answer["verdict"] = None if settled is None else str(settled)
    return answer
