"""Making reports: whatever is wanted is made, one worker a report, in the order in which it was asked for.

A pass begins with what it finds: a report whose worker was killed is still wanted, and made anew; one that two people
ask for at once is wanted once. What a revision says is a function of (period, as of, rule version) over facts; where
that is what the newest revision says already, there is no other.
"""

import logging
from datetime import datetime, timedelta
from importlib.metadata import version as version_of
from typing import Final

from django.conf import settings
from django.db import connections
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from fleet.kit import live
from fleet.kit.clock import database_now
from fleet.kit.errors import NotFound
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.mails import EachPeriod, ScheduleState
from slas.models import (
    Adjustment,
    Contract,
    ContractVersion,
    Finding,
    IncidentSpan,
    MailSchedule,
    Report,
    ReportFile,
    ReportLine,
    ReportPart,
    ReportRevision,
    Segment,
)
from slas.periods import begin_of, month_of, month_text, quarter_text
from slas.reporting.counted import Offered
from slas.reporting.diffing import difference
from slas.reporting.paper import LINES, Paper, digest, dump, parts_of, says_the_same
from slas.selectors.contracts import versions_of
from slas.selectors.papers import paper_of
from slas.selectors.reports import decisions_of, whole
from slas.services.events import note_report
from slas.services.mail_log import write_mails
from slas.services.reports import want
from slas.states import FileKind, Life, Measure, Told
from slas.version_sync import Outcome

logger = logging.getLogger(__name__)
MAKER: Final = job("reports")
MOST: Final = 4
# Months back of which a report is made by itself.
BACK: Final = 3
# Facts are recorded a little before they are noted: what changed shortly before a look is looked at again.
OVERLAP: Final = timedelta(seconds=90)
# A settled report in which a standard is not proven yet is looked at again after this.
AGAIN: Final = timedelta(days=1)
_LOCK: Final = 0x534C_5250
SETTLED: Final = (Life.FINAL, Life.RESTATED)


def grace() -> timedelta:
    """How long after its end a report waits for late facts before it is final."""
    return timedelta(hours=settings.REPORT_GRACE_H)


def make_wanted(most: int = MOST) -> int:
    """Make what is wanted, at most so many; returns how many were looked at. Opens its own scopes.

    Those that were begun before come last: one that kills its worker each time holds up no other.
    """
    with scope(MAKER):
        found = Report.objects.exclude(wanted_at=None).order_by(F("started_at").asc(nulls_first=True), "wanted_at")
        wanted = list(found.values_list("pk", flat=True)[:most])
    return sum(make_one(pk) for pk in wanted)


def make_one(pk: int) -> bool:
    """Make one report, if it is wanted and no other worker makes it. Whatever fails is said on the report."""
    with scope(MAKER):
        Report.objects.filter(pk=pk, started_at=None).exclude(wanted_at=None).update(started_at=database_now())
        _tell(pk)
    try:
        with scope(MAKER):
            return _make(pk)
    except NotFound as error:
        problem = error.message
    except Exception:  # whatever it is, the next in line must be made, and who asked be told
        logger.exception("report %s was not made", pk)
        problem = "It could not be made; what went wrong is in the log of the worker."
    with scope(MAKER):
        Report.objects.filter(pk=pk).update(wanted_at=None, started_at=None, problem=problem[:300])
        _tell(pk)
    return True


def keep_reports() -> int:
    """Want what is due: months that ended, reports whose grace is over, those whose facts changed. Returns how many."""
    with scope(MAKER):
        now = database_now()
        _begin_months(now)
        return sum(want(pk, MAKER.name, now) for pk in _due(now).values_list("pk", flat=True))


# ------------------------------------------------------------------------------------------------------------
def _begin_months(now: datetime) -> None:
    for contract in Contract.objects.all():
        version = versions_of(contract).first()
        if version is None:
            continue
        this = month_of(now, version.zone)
        for month in range(this - BACK, this):
            _begin(contract, version, month_text(month), month, 1)
        first = this - this % 3 - 3
        if _is_quarterly(contract, version):
            _begin(contract, version, quarter_text(first), first, 3)


def _begin(contract: Contract, version: ContractVersion, period: str, month: int, months: int) -> None:
    begins, ends = begin_of(month, version.zone), begin_of(month + months, version.zone)
    if any(one.touches(begins, ends) for one in version.segments.all()):
        Report.objects.get_or_create(contract=contract, period=period, defaults={"begins": begins, "ends": ends})


def _is_quarterly(contract: Contract, version: ContractVersion) -> bool:
    """Whether anybody is mailed its quarters: those are made by themselves for that."""
    whose = Q(contract=contract) | Q(contract=None, provider__in=version.segments.values("provider"))
    return MailSchedule.objects.filter(whose, state=ScheduleState.ACTIVE, each=EachPeriod.QUARTER).exists()


def _due(now: datetime) -> QuerySet[Report]:
    """Those that were never made, whose grace is over, or that rest on what has changed since they were computed."""
    first = Q(state="", problem="", ends__lte=now)
    final = Q(state=Life.PROVISIONAL, ends__lte=now - grace())
    versions = ContractVersion.objects.filter(contract=OuterRef("contract"), made_at__gt=OuterRef("looked_at"))
    changed = Q(due_at__gt=F("looked_at") - OVERLAP) | Q(Exists(versions)) | _corrected() | _pending(now)
    return Report.objects.filter(first | final | Q(state__in=SETTLED) & changed, wanted_at=None)


def _corrected() -> Q:
    """Whether anybody corrected a cause, or granted a dispute, of an outage within the report since then."""
    since = OuterRef("looked_at") - OVERLAP
    providers = Segment.objects.filter(contract=OuterRef(OuterRef("contract"))).values("provider")
    spans = IncidentSpan.objects.filter(
        Q(valid_to=None) | Q(valid_to__gt=OuterRef(OuterRef("begins"))),
        incident=OuterRef("incident"),
        valid_from__lt=OuterRef(OuterRef("ends")),
        superseded_at=None,
    )
    corrections = Finding.objects.filter(Exists(spans), is_correction=True, at__gt=since, provider__in=providers)
    granted = Adjustment.objects.filter(
        recorded_at__gt=since, provider__in=providers, valid_from__lt=OuterRef("ends"), valid_to__gt=OuterRef("begins")
    )
    return Q(Exists(corrections)) | Q(Exists(granted))


def _pending(now: datetime) -> Q:
    """Whether its newest revision leaves open what becomes of a standard: that is looked at again each day."""
    newest = ReportRevision.objects.filter(report=OuterRef("part__revision__report")).order_by("-number")
    lines = ReportLine.objects.filter(
        part__revision__report=OuterRef("pk"),
        part__revision=Subquery(newest.values("pk")[:1]),
        measure=Measure.VERSION_SYNC,
        verdict=Outcome.PENDING,
    )
    return Q(looked_at__lt=now - AGAIN) & Q(Exists(lines))


def _make(pk: int) -> bool:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK, pk])
        if not cursor.fetchone()[0]:
            return False
    report = Report.objects.select_related("contract").filter(pk=pk).exclude(wanted_at=None).first()
    if report is None:
        return False
    now = database_now()
    before = ReportRevision.objects.filter(report=report).order_by("-number").first()
    is_settled = report.state in SETTLED
    state = Life.RESTATED if is_settled else Life.FINAL if report.ends + grace() <= now else Life.PROVISIONAL
    number = before.number + 1 if before else 1
    paper = paper_of(
        MAKER,
        report.contract,
        report.begins,
        report.ends,
        now,
        decisions=decisions_of(report, now),
        period=report.period,
        revision=f"Revision {number}, {state}",
    )
    providers = _providers_of(report, paper.head.version)
    parts, old = parts_of(paper, providers), _parts_of(before)
    says_more = old.keys() != parts.keys() or any(not says_the_same(old[name], parts[name]) for name in parts)
    if says_more or (not is_settled and state != report.state):
        made = ReportRevision.objects.create(
            report=report,
            number=number,
            state=state,
            as_of=now,
            made_at=now,
            made_by=report.wanted_by,
            version=paper.head.version,
            tzdata=version_of("tzdata"),
        )
        kept = [keep_part(made, providers[name], part, old.get(name)) for name, part in parts.items()]
        ReportFile.objects.bulk_create(
            ReportFile(part=part, provider_id=part.provider_id, kind=kind, due_at=now)
            for part in kept
            for kind in FileKind
        )
        write_mails(made, now)
        _note(made, now)
        report.state = state
    report.looked_at, report.wanted_at, report.started_at, report.problem = now, None, None, ""
    report.save(update_fields=["state", "looked_at", "wanted_at", "started_at", "problem"])
    _tell(pk)
    return True


def _note(revision: ReportRevision, now: datetime) -> None:
    """Webhooks hear of final reports, and of restated ones."""
    kind = {Life.FINAL: Told.REPORT_FINAL, Life.RESTATED: Told.REPORT_RESTATED}.get(Life(revision.state))
    if kind is not None:
        parts = ReportPart.objects.filter(revision=revision).select_related("revision__report__contract")
        note_report(kind, parts.order_by("pk"), now)


def _providers_of(report: Report, version: int) -> dict[str, int]:
    segments = Segment.objects.filter(contract=report.contract_id, version__number=version).select_related("provider")
    return {one.provider.name: one.provider_id for one in segments if one.touches(report.begins, report.ends)}


def _parts_of(revision: ReportRevision | None) -> dict[str, Paper]:
    if revision is None:
        return {}
    found = ReportPart.objects.filter(revision=revision).select_related("provider")
    return {part.provider.name: paper for part, paper in whole(found)}


def keep_part(revision: ReportRevision, provider_id: int, paper: Paper, before: Paper | None) -> ReportPart:
    """Keep what a revision says of a provider, its lists of sites line by line. Writes within the open scope."""
    data = dump(paper)
    lines = {kind: data[kind] for kind in LINES}
    part = ReportPart.objects.create(
        revision=revision,
        provider_id=provider_id,
        data=data | {kind: [] for kind in LINES},
        sha256=digest(data),
        diff=None if before is None else difference(before, paper).as_json(),
    )
    ReportLine.objects.bulk_create(
        (
            ReportLine(
                part=part,
                provider_id=provider_id,
                kind=kind,
                number=number,
                measure=one.measure,
                slug=one.slug,
                name=one.name,
                verdict=(one.outcome if isinstance(one, Offered) else one.verdict) or "",
                rank=one.rank,
                data=lines[kind][number],
            )
            for kind in LINES
            for number, one in enumerate(getattr(paper, kind))
        ),
        batch_size=1000,
    )
    return part


def _tell(pk: int) -> None:
    """Open pages of the report look again."""
    providers = Segment.objects.filter(contract__reports=pk).values_list("provider", flat=True).distinct()
    live.publish(hints=[(hint, provider) for provider in providers for hint in (("report", pk), ("reports", 0))])
