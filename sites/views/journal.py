"""What a site itself has written down: a card on its page, and a page of its own."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from agent.protocol.entries import ENTRY_KINDS
from fleet.kit.htmx import render, wants_fragment
from fleet.kit.http import ScopedRequest
from fleet.kit.templatetags.ui import age_text
from sites.models import JournalCursor, JournalEntry, Site
from sites.present import utc_now
from sites.selectors.access import get_site
from sites.selectors.journal import cursor_of, entries_of, gaps_of, newest_envelopes, waiting_of
from sites.states import Reachability

SHOWN = 12
LISTED = 100
PAGES_LISTED = 50
# They lie in their pages alone.
KINDS = tuple(kind for kind in ENTRY_KINDS if kind not in ("alive", "sample"))


@require_safe
def site_journal(request: ScopedRequest, slug: str) -> HttpResponse:
    """A site's journal: entries, gaps, pages; for htmx the card of the site's page alone. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    context = journal_context(site) | {"site": site}
    if not wants_fragment(request):
        context |= _page_context(request, site)
    return render(request, page="sites/journal.html", fragment="sites/_journal.html", context=context)


def journal_context(site: Site) -> dict[str, Any]:
    """How far the journal was read, what is wrong with it or waited for, and what it said last."""
    cursor = cursor_of(site)
    waiting = waiting_of(site, cursor)
    return {
        "journal": cursor,
        "journal_behind": waiting,
        "journal_behind_text": f"{waiting:,}",
        "journal_next": _next(site, cursor, waiting),
        "journal_entries": _entries(entries_of(site, limit=SHOWN)),
    }


def _page_context(request: ScopedRequest, site: Site) -> dict[str, Any]:
    kind = request.GET.get("kind", "")
    kind = kind if kind in KINDS else ""
    before = request.GET.get("before", "")
    entries = entries_of(
        site,
        kind=kind or None,
        before=int(before) if before.isdecimal() and len(before) < 19 else None,
        limit=LISTED + 1,
    )
    envelopes = newest_envelopes(site, limit=PAGES_LISTED)
    return {
        "kinds": KINDS,
        "kind": kind,
        "entries": _entries(entries[:LISTED]),
        "older": entries[LISTED - 1].pk if len(entries) > LISTED else None,
        "gaps": _entries(gaps_of(site)),
        "holes": [
            {"first": first, "last": last, "count": last - first + 1, "page": page}
            for page in envelopes
            for first, last in reversed(page.holes)
        ],
        "pages": envelopes,
    }


def _next(site: Site, cursor: JournalCursor | None, waiting: int) -> str:
    """What becomes of entries that were not read yet, in words."""
    state = getattr(site, "state", None)
    if not waiting or state is None:
        return ""
    if state.reachability != Reachability.REACHABLE:
        return "they are read as soon as it answers again"
    if cursor is not None and cursor.problem:
        return "it is tried again within a quarter of an hour"
    if cursor is None or cursor.next_at <= utc_now():
        return "reading now"
    left_s = (cursor.next_at - utc_now()).total_seconds()
    return f"they are read in {age_text(left_s)}, or at once after an absence or a restart"


def _entries(rows: list[JournalEntry]) -> list[dict[str, Any]]:
    return [{"row": row, "text": _text(row), "uncertain_s": row.uncertainty_ms / 1000} for row in rows]


def _text(entry: JournalEntry) -> str:
    """An entry in words. All of it is the site's own, hence hostile, text."""
    body: Mapping[str, Any] = entry.body
    if entry.kind == "verdict":
        return ": ".join(filter(None, [body["state"], "; ".join(body.get("reasons") or ())]))
    if entry.kind == "start":
        ending = {True: "after a clean end", False: "after it had been cut off", None: ""}[body.get("clean")]
        return f"agent {body['agent']} began {ending}".strip()
    if entry.kind == "components":
        return f"{len(body.get('components') or ())} components, {body['digest'][:19]}…"
    if entry.kind == "gap":
        lost = ", ".join(f"{count} {kind}" for kind, count in body["lost"].items()) or "nobody can say what"
        if body["to_seq"] < body["from_seq"]:  # they never had a number
            return f"not written ({body['reason']}): {lost}"
        return f"{body['from_seq']} to {body['to_seq']} are gone ({body['reason']}): {lost}"
    return ", ".join(f"{key} {value}" for key, value in body.items())
