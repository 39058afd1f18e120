"""Trends for charts, and as tables for who does not see them."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from slas.exports.words import MONTHS, month_words
from slas.present.reports import look_of
from slas.present.words import MEASURES, trimmed
from slas.selectors.trends import Point, Trend


def rows_of(trends: Sequence[Trend], months: Sequence[str]) -> list[dict[str, Any]]:
    """A chart an objective: what it draws as JSON, what it says in words, and its table."""
    return [_row(one, months) for one in trends]


def _row(trend: Trend, months: Sequence[str]) -> dict[str, Any]:
    points = [trend.points.get(month) for month in months]
    known = [(month, point) for month, point in zip(months, points, strict=True) if point is not None]
    draws = {
        "months": [f"{MONTHS[int(month[5:7]) - 1][:3]} {month[:4]}" for month in months],
        **{name: [_number(point, name) for point in points] for name in ("measured", "floor", "target")},
    }
    month, newest = known[-1]
    found = "nothing measured" if newest.measured is None else f"{newest.measured} % measured"
    promised = "" if newest.target is None else f", at least {trimmed(f'{newest.target:f}')} % promised"
    return {
        "trend": trend,
        "label": MEASURES[trend.measure],
        "draws": json.dumps(draws) if len(known) > 1 else "",  # one month is no line
        "says": f"{month_words(month)}: {found}{promised}",
        "cells": [
            {
                "month": month_words(month),
                "point": point,
                "verdict": look_of(point.verdict),
                "source": f"report, revision {point.revision}" if point.revision else "scorecard",
            }
            for month, point in reversed(known)
        ],
    }


def _number(point: Point | None, name: str) -> float | None:
    value: Decimal | None = None if point is None else getattr(point, name)
    return None if value is None else float(value)
