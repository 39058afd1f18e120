"""What people do about reports: ask for one, and decide on a figure that the facts leave open."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from fleet.kit import audit
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from slas.models import Contract, ContractVersion, Decision, Report
from slas.periods import PeriodError, span_of
from slas.reporting.paper import Promise
from slas.selectors.contracts import version_as_of
from slas.selectors.reports import revision_of
from slas.services.contracts import reason_of
from slas.settlement import Burden

MAKE: Final = "report.make"
DECIDE: Final = "report.decide"


def ask_for_report(*, actor: Scope, rights: Rights, contract: Contract, period: str) -> Report:
    """Have a report made, or made anew; it is there soon after. Asked for twice at once, it is made once. Audited.

    Raises NotAllowed, NotFound where nothing is agreed, Invalid for a period that cannot be.
    """
    if not rights.may(MAKE):
        raise NotAllowed("Your role does not include having reports made.")
    with scope(actor):
        now = database_now()
        version = version_as_of(contract)
        begins, ends = _span(version, period.strip(), now)
        report, _ = Report.objects.get_or_create(
            contract=contract, period=period.strip(), defaults={"begins": begins, "ends": ends}
        )
        if want(report.pk, actor.name, now):
            _record(actor, "report.make", report, contract, after={"period": report.period})
        report.refresh_from_db()
        return report


def decide_figure(
    *, actor: Scope, rights: Rights, report: Report, provider: str, measure: str, figure: object, reason: str
) -> Decision:
    """Decide on a figure, in per cent, where the burden of proof is open and the facts prove neither. Audited.

    The report is made anew with it. Raises NotAllowed, NotFound, Conflict where nothing is open, Invalid.
    """
    if not rights.may(DECIDE):
        raise NotAllowed("Your role does not include deciding on figures.")
    why, share = reason_of(reason), _figure(figure)
    with scope(actor):
        told = revision_of(report)
        if told is None:
            raise Conflict("It is not made yet.")
        part = next((one for one in told.parts if one.provider.slug == provider), None)
        if part is None:
            raise NotFound("There is no such provider in the report.")
        own = [one for one in told.paper.promises if one.provider == part.provider.name and one.measure == measure]
        if not any(map(is_open, own)):
            raise Conflict("The facts, or the burden of proof, settle it: there is nothing to decide.")
        now = database_now()
        made = Decision.objects.create(
            report=report, provider=part.provider, measure=measure, figure=share, reason=why, made_by=actor.name[:150],
            at=now,
        )  # fmt: skip
        want(report.pk, actor.name, now)
        after = {"provider": provider, "measure": measure, "figure": f"{share:f}"}
        _record(actor, "report.decide", report, report.contract, after=after, note=why)
        return made


def is_open(promise: Promise) -> bool:
    """Whether a manager may decide on it: neither kept nor missed is proven, and nobody bears the burden."""
    shares = promise.shares
    if promise.burden != Burden.OPEN or shares.floor is None or shares.ceiling is None:
        return False
    return promise.verdict == "UNDETERMINED" or shares.floor < promise.target <= shares.ceiling


def want(pk: int, name: str, now: datetime) -> bool:
    """Note that a report is to be made; returns whether nobody had asked yet. Writes within the open scope."""
    found = Report.objects.filter(pk=pk, wanted_at=None)
    return bool(found.update(wanted_at=now, wanted_by=name[:150], started_at=None, problem=""))


# ------------------------------------------------------------------------------------------------------------
def _span(version: ContractVersion, period: str, now: datetime) -> tuple[datetime, datetime]:
    try:
        begins, ends = span_of(period, version.zone)
    except PeriodError as error:
        raise Invalid(str(error), details={"period": str(error)}) from None
    if begins >= now:
        raise Invalid("It has not begun.", details={"period": "It has not begun."})
    if not any(one.touches(begins, ends) for one in version.segments.all()):
        raise Invalid("Nothing is agreed in that time.", details={"period": "Nothing is agreed in that time."})
    return begins, ends


def _figure(value: object) -> Decimal:
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 <= found <= 100 or found != found.quantize(Decimal("0.0001")):
        raise Invalid(
            "A figure is between 0 and 100 per cent, with four decimal places at most.",
            details={"figure": "This is between 0 and 100, with four decimal places at most."},
        )
    return found


def _record(
    actor: Scope, action: str, report: Report, contract: Contract, *, after: dict[str, str], note: str = ""
) -> None:
    audit.record(
        actor,
        action,
        object_type="report",
        object_id=report.pk,
        object_name=f"{contract.name}, {report.period}",
        provider_id=None,
        after=after,
        note=note,
    )
