"""What a site itself has written down: a card on its page."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from fleet.kit.http import ScopedRequest
from sites.models import JournalEntry, Site
from sites.selectors.access import get_site
from sites.selectors.journal import cursor_of, entries_of

SHOWN = 12


@require_safe
def site_journal(request: ScopedRequest, slug: str) -> HttpResponse:
    """The card of a site's journal, a fragment that keeps itself fresh. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    return render(request, "sites/_journal.html", journal_context(site) | {"site": site})


def journal_context(site: Site) -> dict[str, Any]:
    """How far the journal was read, what is wrong with it, and what it said last."""
    cursor, state = cursor_of(site), getattr(site, "state", None)
    written = (state.journal_seq or 0) if state is not None else 0
    return {
        "journal": cursor,
        "journal_behind": max(0, written - (cursor.seq if cursor is not None else 0)),
        "journal_entries": [
            {"row": entry, "text": _text(entry), "uncertain_s": entry.uncertainty_ms / 1000}
            for entry in entries_of(site, limit=SHOWN)
        ],
    }


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
