"""How a site was, by whose word, and what was on record before: a page for a dispute."""

from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from fleet.kit.http import ScopedRequest
from sites.models import Site, StateInterval
from sites.present import AXES, evidence_text, lane, utc_now
from sites.present_history import changes_of, first_recorded, fix_of, proof_text
from sites.selectors.access import get_site
from sites.selectors.one_site import RANGES, component_spans_of, timeline_rows
from sites.states import Axis

LISTED = 500
SPANS = {"24h": "24 h", "7d": "7 d", "30d": "30 d"}


@require_safe
def site_timeline(request: ScopedRequest, slug: str) -> HttpResponse:
    """Both axes over a span, with sources and evidence; `before=1` adds what was superseded. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    chosen = request.GET.get("range", "7d")
    chosen = chosen if chosen in SPANS else "7d"
    return render(request, "sites/timeline.html", _context(site, chosen, with_before=request.GET.get("before") == "1"))


def _context(site: Site, chosen: str, *, with_before: bool) -> dict[str, Any]:
    until = utc_now()
    since = until - timedelta(seconds=RANGES[chosen])
    rows = timeline_rows(site, since=since, until=until, superseded=True, limit=4 * LISTED)
    standing = [row for row in rows if row.superseded_at is None]
    lanes = [{"label": label, "bars": lane(standing, axis, since=since, until=until)} for axis, label in AXES]
    fallen = len(rows) - len(standing)
    if with_before and fallen:
        first = lane(first_recorded(rows), Axis.AVAILABILITY, since=since, until=until)
        lanes.insert(1, {"label": "As first recorded", "bars": first})
    shown = rows if with_before else standing
    return {
        "site": site,
        "range": chosen,
        "ranges": [{"name": name, "label": label, "is_on": name == chosen} for name, label in SPANS.items()],
        "range_label": SPANS[chosen],
        "before": with_before,
        "fallen": fallen,
        "lanes": lanes,
        "lane_since": since,
        "tables": [{"label": label, "rows": _listed(shown, rows, axis, until)} for axis, label in AXES],
        "listed": LISTED,
        "changes": changes_of(component_spans_of(site, since=since)),
    }


def _listed(shown: list[StateInterval], rows: list[StateInterval], axis: str, until: Any) -> list[dict[str, Any]]:
    """The newest of one axis, newest first, with what became of them."""
    chosen = [row for row in shown if row.axis == axis][-LISTED:]
    return [
        {
            "row": row,
            "lasted_s": row.lasted_s(until),
            "evidence": proof_text(row.evidence),
            "raw": evidence_text(row.evidence),
            "fix": fix_of(row, rows),
        }
        for row in reversed(chosen)
    ]
