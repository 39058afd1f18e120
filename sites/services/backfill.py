"""What a site has written down becomes history: entries are stored, and better evidence supersedes what stood.

One page, one transaction. A page that was recorded before changes nothing, so a lost reply costs a second reading.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from django.db.models import Q
from django.utils import timezone

from agent.protocol import Resources, Verdict
from agent.protocol.entries import Entry
from agent.protocol.journal import Page
from fleet.kit import audit, live
from fleet.kit.tenancy import job, scope
from sites import journal_states, timeline
from sites.journal_states import Anchor, Note, Tail
from sites.models import (
    JournalCursor,
    JournalEntry,
    JournalEnvelope,
    Outage,
    Site,
    SiteState,
    SiteTenure,
    StateInterval,
)
from sites.services.backfill_samples import store_samples
from sites.services.sites import object_of
from sites.states import Axis, Source
from sites.timeline import Evidence, Interval

BACKFILL = job("backfill")
READ_EVERY = timedelta(minutes=15)
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
            site_id=site_id, defaults={"provider_id": state.provider_id, "next_at": timezone.now()}
        )
        if cursor.seq != page.after or not page.entries:
            return False
        mapped = _mapped(page.entries, anchor, cursor.last_at)
        _store(page, body, mapped, cursor, identity_id)
        tail = _tail(cursor)
        notes = [
            Note(entry.seq, _ms(at), entry.boot, entry.body.state if isinstance(entry.body, Verdict) else None)
            for entry, (at, _) in zip(page.entries, mapped, strict=True)
        ]
        if page.to == anchor.seq:  # nothing was written since, up to that report: it went on as it was
            notes.append(Note(page.to, max(_ms(anchor.at), notes[-1].at_ms), anchor.boot))
        spans, tail = journal_states.read(notes, tail)
        changed = _correct(site_id, spans)
        _advance(cursor, page, tail, more=(state.journal_seq or 0) > page.to)
        _note_holes(site_id, page)
        if changed:
            hints = (("site", site_id), ("timeline", 0), ("figures", 0))
            live.publish(hints=[(hint, cursor.provider_id) for hint in hints])
    return True


def note_acked(site_id: int, upto: int) -> None:
    """The site knows that we hold its entries up to there."""
    with scope(BACKFILL):
        JournalCursor.objects.filter(site_id=site_id, acked__lt=upto).update(acked=upto)


def note_problem(site_id: int, problem: str, *, alarm: bool) -> None:
    """The journal cannot be read on: say so with the site, and try again later. An `alarm` is audited, once."""
    with scope(BACKFILL):
        site = Site.objects.get(pk=site_id)
        cursor, _ = JournalCursor.objects.select_for_update().get_or_create(
            site=site, defaults={"provider_id": site.provider_id, "next_at": timezone.now()}
        )
        new = cursor.problem != problem[:300]
        cursor.problem, cursor.next_at = problem[:300], timezone.now() + AGAIN_AFTER_PROBLEM
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
    now = timezone.now()
    for entry in entries:
        at, uncertainty_ms = anchor.map(entry)
        at = min(at, anchor.at if entry.seq <= anchor.seq else now)
        last_at = at if last_at is None else max(last_at, at)
        moments.append((last_at, uncertainty_ms))
    return moments


def _store(
    page: Page, body: bytes, mapped: Sequence[tuple[datetime, int]], cursor: JournalCursor, identity_id: int
) -> None:
    envelope = JournalEnvelope.objects.create(
        site_id=cursor.site_id,
        provider_id=cursor.provider_id,
        identity_id=identity_id,
        from_seq=page.after + 1,
        to_seq=page.to,
        head=page.head,
        body=body,
    )
    told = [
        JournalEntry(
            site_id=cursor.site_id,
            provider_id=cursor.provider_id,
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
        if isinstance(entry.body, Resources)
    ]
    store_samples(cursor.site_id, cursor.provider_id, samples)


def _tail(cursor: JournalCursor) -> Tail | None:
    if cursor.last_at is None:
        return None
    return Tail(_ms(cursor.last_at), cursor.last_boot, cursor.last_state, cursor.seq)


def _advance(cursor: JournalCursor, page: Page, tail: Tail | None, *, more: bool) -> None:
    now = timezone.now()
    cursor.seq, cursor.head, cursor.read_at, cursor.problem = page.to, page.head, now, ""
    cursor.next_at = now if more else now + READ_EVERY
    if tail is not None:
        cursor.last_at, cursor.last_boot, cursor.last_state = _moment(tail.at_ms), tail.boot, tail.state
    cursor.save(update_fields=["seq", "head", "read_at", "problem", "next_at", "last_at", "last_boot", "last_state"])


def _note_holes(site_id: int, page: Page) -> None:
    """Say with the site which of its entries nobody has any more: they went there before they were read here."""
    if page.holes:
        gone = ", ".join(f"{first} to {last}" for first, last in page.holes[:5])
        more = f" and {len(page.holes) - 5} more holes" if len(page.holes) > 5 else ""
        audit.record(
            BACKFILL, "journal.hole", **object_of(Site.objects.get(pk=site_id)), note=f"entries {gone}{more} are gone"
        )


# History ----------------------------------------------------------------------------------------------------
def _correct(site_id: int, spans: Sequence[journal_states.Span]) -> bool:
    """Supersede what the spans contradict, back to when the present provider took over, and not before.

    Returns whether anything did.
    """
    floor = SiteTenure.objects.get(site_id=site_id, valid_to=None).valid_from
    proven = [
        Evidence(
            max(floor, _moment(span.begin_ms)),
            _moment(span.end_ms),
            span.state,
            {"journal": {"from_seq": span.from_seq, "to_seq": span.to_seq, "why": span.why}},
        )
        for span in spans
        if _moment(span.end_ms) > floor
    ]
    if not proven:
        return False
    rows = {row.pk: row for row in _standing(site_id, proven[0].begin, proven[-1].end)}
    correction = timeline.correct([_interval(row) for row in rows.values()], proven)
    if not correction.superseded:
        return False
    now = timezone.now()
    StateInterval.objects.filter(pk__in=correction.superseded).update(superseded_at=now)
    StateInterval.objects.bulk_create([_row(site_id, new, rows, now) for new in correction.added])
    _correct_outages(site_id, correction.added, now)
    return True


def _standing(site_id: int, begin: datetime, end: datetime) -> list[StateInterval]:
    """Availability that stands and touches the time, its neighbours included, in order."""
    found = StateInterval.objects.filter(site_id=site_id, axis=Axis.AVAILABILITY, superseded_at=None)
    found = found.filter(
        Q(valid_to=None) | Q(valid_to__gte=begin - timeline.GRAIN), valid_from__lte=end + timeline.GRAIN
    )
    return list(found.order_by("valid_from", "pk"))


def _interval(row: StateInterval) -> Interval:
    return Interval(row.valid_from, row.valid_to, row.state, row.provider_id, row.pk, row.evidence)


def _row(site_id: int, new: Interval, rows: dict[int, StateInterval], now: datetime) -> StateInterval:
    """A row for an interval that takes the place of another. What is only a rest keeps its source."""
    origin = rows[new.key] if new.key is not None else None
    ends_with = next((row for row in rows.values() if row.valid_to == new.end), None)
    return StateInterval(
        site_id=site_id,
        provider_id=new.provider_id,
        axis=Axis.AVAILABILITY,
        state=new.state,
        valid_from=new.begin,
        valid_to=new.end,
        recorded_at=now,
        closed_at=None if new.end is None else now,
        source=Source.JOURNAL if new.better or origin is None else origin.source,
        evidence=new.evidence,
        evidence_end=ends_with.evidence_end if ends_with is not None and new.end is not None else None,
    )


def _correct_outages(site_id: int, added: Sequence[Interval], now: datetime) -> None:
    """Outages follow the availability that stands now, from the last good time before the change to the next after."""
    begin, end = added[0].begin, added[-1].end
    standing = StateInterval.objects.filter(site_id=site_id, axis=Axis.AVAILABILITY, superseded_at=None)
    well = standing.filter(state__in=timeline.WELL)
    before = well.filter(valid_to__lte=begin).order_by("-valid_to").values_list("valid_to", flat=True).first()
    after = end and well.filter(valid_from__gte=end).order_by("valid_from").values_list("valid_from", flat=True).first()
    window = standing.filter(valid_from__gte=before) if before else standing
    window = window.filter(valid_from__lte=after) if after else window
    is_journal = {row.pk: row.source == Source.JOURNAL for row in window}
    wanted = timeline.outages([_interval(row) for row in window.order_by("valid_from", "pk")])
    stood = Outage.objects.filter(site_id=site_id, superseded_at=None)
    stood = stood.filter(valid_from__gte=before) if before else stood
    stood = stood.filter(valid_from__lt=after) if after else stood
    known = {(row.valid_from, row.valid_to): row for row in stood}
    gone = [row for key, row in known.items() if key not in {(outage.begin, outage.end) for outage in wanted}]
    Outage.objects.filter(pk__in=[row.pk for row in gone]).update(superseded_at=now)
    Outage.objects.bulk_create(
        [
            _outage(site_id, outage, gone, now, by_journal=any(is_journal.values()))
            for outage in wanted
            if (outage.begin, outage.end) not in known
        ]
    )


def _outage(site_id: int, outage: Interval, gone: Sequence[Outage], now: datetime, *, by_journal: bool) -> Outage:
    """A row for an outage. The cause that somebody gave the one it replaces stays; a dead machine was out of power."""
    replaced = next(
        (row for row in gone if row.valid_from < (outage.end or now) and outage.begin < (row.valid_to or now)),
        None,
    )
    cause = replaced.cause if replaced is not None else "unknown"
    if cause == "unknown" and outage.evidence.get("journal", {}).get("why") == "reboot":
        cause = "power"
    return Outage(
        site_id=site_id,
        provider_id=outage.provider_id,
        valid_from=outage.begin,
        valid_to=outage.end,
        recorded_at=now,
        closed_at=None if outage.end is None else now,
        source=Source.JOURNAL if by_journal else Source.POLL,
        evidence=outage.evidence,
        evidence_end=replaced.evidence_end if replaced is not None and outage.end is not None else None,
        cause=cause,
    )


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
