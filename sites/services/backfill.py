"""What a site has written down becomes history: entries are stored, and better evidence supersedes what stood.

One page, one transaction. A page that was recorded before changes nothing, so a lost reply costs a second reading.
"""

import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from django.utils import timezone

from agent.protocol import Resources, Verdict
from agent.protocol.entries import Components, Entry
from agent.protocol.journal import Page
from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.tenancy import job, scope
from sites import journal_states
from sites.journal_states import Anchor, Note, Tail
from sites.models import JournalCursor, JournalEntry, JournalEnvelope, Site, SiteState
from sites.services.backfill_components import correct_components, keep_sets
from sites.services.backfill_history import correct_availability, floor, moment, ms
from sites.services.backfill_samples import store_samples
from sites.services.sites import object_of

BACKFILL = job("backfill")
# Where nothing happened there is nothing to tell but signs of life; an absence or a boot has the journal read at once.
READ_EVERY = timedelta(hours=2)
AGAIN_AFTER_PROBLEM = timedelta(minutes=15)
_IN_ENVELOPE_ALONE = frozenset({"alive", "sample"})


def record_page(page: Page, body: bytes, *, site_id: int, identity_id: int, anchor: Anchor) -> bool:
    """Store a checked page and correct history by it. False when it does not continue what was read so far.

    Changes cursor, envelopes, entries, samples, availability intervals and outages. Publishes hints. Raises
    OverflowError, DataError or IntegrityError, having changed nothing, for what cannot be stored.
    """
    with scope(BACKFILL):
        # Locked as record_reports() locks it: polls of this site wait meanwhile.
        state = SiteState.objects.select_for_update().get(site_id=site_id)
        cursor, _ = JournalCursor.objects.select_for_update().get_or_create(
            site_id=site_id,
            defaults={"provider_id": state.provider_id, "identity_id": identity_id, "next_at": database_now()},
        )
        if (cursor.identity_id, cursor.seq) != (identity_id, page.after) or not page.entries:
            return False
        mapped = _mapped(page.entries, anchor, cursor.last_at)
        states, tail = journal_states.read(_notes(page, mapped, anchor, _verdict), _tail(cursor, cursor.last_state))
        _store(page, body, mapped, cursor, states)
        sets, components = journal_states.read(_notes(page, mapped, anchor, _digest), _tail(cursor, cursor.last_digest))
        changed = correct_availability(cursor, states)
        changed = correct_components(cursor, sets) or changed
        if components is not None:
            cursor.last_digest = components.state
        _advance(cursor, page, tail, more=(state.journal_seq or 0) > page.to)
        _note_holes(site_id, page)
        if changed:
            hints = (("site", site_id), ("timeline", 0), ("figures", 0))
            live.publish(hints=[(hint, cursor.provider_id) for hint in hints])
    return True


def note_acked(site_id: int, upto: int, *, identity_id: int) -> None:
    """The site knows that we hold its entries up to there."""
    with scope(BACKFILL):
        JournalCursor.objects.filter(site_id=site_id, identity_id=identity_id, acked__lt=upto).update(acked=upto)


def note_problem(site_id: int, problem: str, *, identity_id: int, alarm: bool) -> None:
    """The journal of these keys cannot be read on: say so with the site, and try again later.

    An `alarm` is audited, once. Changes nothing when the site has other keys by now.
    """
    with scope(BACKFILL):
        site = Site.objects.get(pk=site_id)
        cursor, _ = JournalCursor.objects.select_for_update().get_or_create(
            site=site,
            defaults={"provider_id": site.provider_id, "identity_id": identity_id, "next_at": database_now()},
        )
        if cursor.identity_id != identity_id:
            return
        new = cursor.problem != problem[:300]
        cursor.problem, cursor.next_at = problem[:300], database_now() + AGAIN_AFTER_PROBLEM
        cursor.save(update_fields=["problem", "next_at"])
        if new:
            if alarm:
                audit.record(BACKFILL, "journal.alarm", **object_of(site), note=problem[:300])
            live.publish(hints=[((topic, pk), site.provider_id) for topic, pk in (("attention", 0), ("site", site_id))])


# Entries ----------------------------------------------------------------------------------------------------
def _mapped(entries: Sequence[Entry], anchor: Anchor, last_at: datetime | None) -> list[tuple[datetime, int]]:
    """The entries' moments by our clock, never going back, and none after it was told of: whatever a site claims.

    Raises OverflowError for a clock beyond all years.
    """
    moments = []
    now = timezone.now()  # as the anchor was made
    for entry in entries:
        at, uncertainty_ms = anchor.map(entry)
        at = min(at, anchor.at if entry.seq <= anchor.seq else now)
        last_at = at if last_at is None else max(last_at, at)
        moments.append((last_at, uncertainty_ms))
    return moments


def _store(
    page: Page,
    body: bytes,
    mapped: Sequence[tuple[datetime, int]],
    cursor: JournalCursor,
    states: Sequence[journal_states.Span],
) -> None:
    begins = floor(cursor)  # what is from before is another provider's, or another machine's
    spoke = journal_states.spoken(states, ms(begins))
    envelope = JournalEnvelope.objects.create(
        site_id=cursor.site_id,
        provider_id=cursor.provider_id,
        identity_id=cursor.identity_id,
        from_seq=page.after + 1,
        to_seq=page.to,
        head=page.head,
        holes=[list(hole) for hole in page.holes],
        body=body,
        spoke=spoke,
        spoke_until=moment(spoke[-1][1]) if spoke else None,
    )
    told = [
        JournalEntry(
            site_id=cursor.site_id,
            provider_id=cursor.provider_id,
            identity_id=cursor.identity_id,
            envelope=envelope,
            seq=entry.seq,
            digest=digest,
            kind=entry.kind,
            boot=entry.boot,
            mono_ms=entry.mono_ms,
            at=entry.at,
            mapped_at=at,
            uncertainty_ms=uncertainty_ms,
            body=json.loads(msgspec.json.encode(entry.body)),
        )
        for entry, digest, (at, uncertainty_ms) in zip(page.entries, page.digests, mapped, strict=True)
        if entry.kind not in _IN_ENVELOPE_ALONE
    ]
    JournalEntry.objects.bulk_create(told, batch_size=500)
    samples = [
        (at, entry.body)
        for entry, (at, _) in zip(page.entries, mapped, strict=True)
        if isinstance(entry.body, Resources) and at >= begins
    ]
    keep_sets(entry.body for entry in page.entries if isinstance(entry.body, Components))
    store_samples(cursor.site_id, cursor.provider_id, samples)


def _notes(
    page: Page, mapped: Sequence[tuple[datetime, int]], anchor: Anchor, told: Callable[[Entry], str | None]
) -> list[Note]:
    """The page's entries on the line of time; `told` says which state an entry tells of, if any."""
    notes = [
        Note(entry.seq, ms(at), entry.boot, told(entry)) for entry, (at, _) in zip(page.entries, mapped, strict=True)
    ]
    if page.to == anchor.seq:  # nothing was written since, up to that report: it went on as it was
        notes.append(Note(page.to, max(ms(anchor.at), notes[-1].at_ms), anchor.boot))
    return notes


def _verdict(entry: Entry) -> str | None:
    return entry.body.state if isinstance(entry.body, Verdict) else None


def _digest(entry: Entry) -> str | None:
    return entry.body.digest if isinstance(entry.body, Components) else None


def _tail(cursor: JournalCursor, state: str) -> Tail | None:
    if cursor.last_at is None:
        return None
    return Tail(ms(cursor.last_at), cursor.last_boot, state, cursor.seq)


def _advance(cursor: JournalCursor, page: Page, tail: Tail | None, *, more: bool) -> None:
    now = database_now()
    cursor.seq, cursor.head, cursor.read_at, cursor.problem = page.to, page.head, now, ""
    cursor.next_at = now if more else now + READ_EVERY * random.uniform(0.75, 1.25)  # else all come at once, for ever
    if tail is not None:
        cursor.last_at, cursor.last_boot, cursor.last_state = moment(tail.at_ms), tail.boot, tail.state
    told = ["last_at", "last_boot", "last_state", "last_digest"]
    cursor.save(update_fields=["seq", "head", "read_at", "problem", "next_at", *told])


def _note_holes(site_id: int, page: Page) -> None:
    """Say with the site which of its entries nobody has any more: they went there before they were read here."""
    if page.holes:
        gone = ", ".join(f"{first} to {last}" for first, last in page.holes[:5])
        more = f" and {len(page.holes) - 5} more holes" if len(page.holes) > 5 else ""
        audit.record(
            BACKFILL, "journal.hole", **object_of(Site.objects.get(pk=site_id)), note=f"entries {gone}{more} are gone"
        )
