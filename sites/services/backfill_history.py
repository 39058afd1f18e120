"""What stands of a site's availability, and outages by it, corrected by what its journal proves."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone

from sites import journal_states, timeline
from sites.models import JournalCursor, Outage, SiteTenure, StateInterval
from sites.states import Axis, Source
from sites.timeline import Evidence, Interval


def ms(at: datetime) -> int:
    """Epoch milliseconds."""
    return round(at.timestamp() * 1000)


def moment(ms: int) -> datetime:
    """The moment, in UTC, of epoch milliseconds."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def floor(cursor: JournalCursor) -> datetime:
    """From when on the journal may correct history: the present provider's time, with these keys."""
    tenure = SiteTenure.objects.get(site_id=cursor.site_id, valid_to=None).valid_from
    return tenure if cursor.since is None else max(tenure, cursor.since)


def proof(cursor: JournalCursor, from_seq: int, to_seq: int, why: str) -> dict[str, Any]:
    """Which entries of which keys prove something, and how."""
    return {"from_seq": from_seq, "to_seq": to_seq, "why": why, "identity": cursor.identity_id}


def correct_availability(cursor: JournalCursor, spans: Sequence[journal_states.Span]) -> bool:
    """Supersede what the spans contradict, back to floor() and not before. Returns whether anything did."""
    site_id, begins = cursor.site_id, floor(cursor)
    proven = [
        Evidence(
            max(begins, moment(span.begin_ms)),
            moment(span.end_ms),
            span.state,
            {"journal": proof(cursor, span.from_seq, span.to_seq, span.why)},
        )
        for span in spans
        if moment(span.end_ms) > begins
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
