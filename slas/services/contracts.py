"""Making contracts, and agreeing on something else: every change is a new version, and nothing half-saved."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from fleet.kit import audit
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import Provider
from slas.agreements import Agreement, read_agreement
from slas.faults import Fault
from slas.models import Contract, ContractVersion, Segment
from slas.selectors.contracts import written

RIGHT: Final = "contract.change"


def create_contract(
    *, actor: Scope, rights: Rights, slug: str, name: str, agreement: object, reason: str
) -> ContractVersion:
    """Make a contract and its first version; `agreement` is as slas.agreements reads it. Audited.

    Raises NotAllowed, Invalid (every fault in `details`, by its path).
    """
    allow(rights)
    why = reason_of(reason)
    with scope(actor):
        read = read_or_refuse(agreement)
        row = Contract(slug=slug, name=name, made_by=actor.name[:150])
        try:
            row.full_clean(validate_unique=False, validate_constraints=False, exclude=["made_at"])
        except ValidationError as error:
            details = {field: " ".join(messages) for field, messages in error.message_dict.items()}
            raise Invalid("Some values cannot be taken.", details=details) from None
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            field = "slug" if "slug" in str(error) else "name"
            raise Invalid("That is taken.", details={field: "Another contract has this."}) from None
        made = add_version(actor, row, 1, read, why)
        _record(actor, "contract.create", row, before=None, after=written(made), note=why)
    return made


def change_contract(
    *, actor: Scope, rights: Rights, contract: Contract, agreement: object, reason: str, expect: int
) -> ContractVersion:
    """Agree on something else: the next version. `expect` is the number that the person began from. Audited.

    Raises NotAllowed, Invalid (every fault in `details`), Conflict (somebody else changed it, or nothing changes).
    """
    allow(rights)
    why = reason_of(reason)
    with scope(actor):
        newest = ContractVersion.objects.filter(contract=contract).order_by("-number").first()
        if newest is None or newest.number != expect:
            raise Conflict("Somebody else changed it meanwhile; look at it first.")
        read = read_or_refuse(agreement)
        try:
            with transaction.atomic():
                made = add_version(actor, contract, expect + 1, read, why)
        except IntegrityError as error:
            if "contract_version_once" not in str(error):
                raise
            raise Conflict("Somebody else changed it meanwhile; look at it first.") from None
        before, after = written(newest), written(made)
        if before == after:
            raise Conflict("Nothing differs from what is agreed already.")
        _record(actor, "contract.change", contract, before=before, after=after, note=why)
    return made


def check_agreement(*, actor: Scope, rights: Rights, agreement: object) -> list[Fault]:
    """Every fault of what somebody is about to agree on; changes nothing. Raises NotAllowed."""
    allow(rights)
    with scope(actor):
        return read_agreement(agreement, _providers())[1]


def reason_of(text: str) -> str:
    """Why, as people say it. Raises Invalid."""
    reason = text.strip()
    if not 3 <= len(reason) <= 300 or not reason.isprintable():
        raise Invalid("Say why, in 3 to 300 characters on one line.", details={"reason": "missing"})
    return reason


def details_of(faults: Sequence[Fault]) -> dict[str, str]:
    """Faults by their path, as `details` of an error; what is wrong with the whole stands under `agreement`."""
    found: dict[str, str] = {}
    for fault in faults:
        path = fault.path or "agreement"
        found[path] = f"{found[path]} {fault.text}" if path in found else fault.text
    return found


def allow(rights: Rights) -> None:
    """Raises NotAllowed for whoever may not change contracts."""
    if not rights.may(RIGHT):
        raise NotAllowed("Contracts are the managers' to change.")


def read_or_refuse(agreement: object) -> Agreement:
    """What was written. Raises Invalid, with every fault in `details`. Within the scope."""
    read, faults = read_agreement(agreement, _providers())
    if read is None:
        raise Invalid("This cannot be agreed on.", details=details_of(faults))
    return read


def add_version(actor: Scope, contract: Contract, number: int, read: Agreement, why: str) -> ContractVersion:
    """Write a version as read; audits nothing. Within the scope."""
    now: datetime = database_now()
    version = ContractVersion.objects.create(
        contract=contract,
        number=number,
        zone=read.zone,
        labels=dict(read.labels),
        regions=list(read.regions),
        made_by=actor.name[:150],
        made_at=now,
        reason=why,
    )
    Segment.objects.bulk_create(
        [
            Segment(
                version=version,
                contract=contract,
                provider_id=one.provider_id,
                begins=one.begins,
                ends=one.ends,
                gap_reason=one.gap_reason,
                fee=one.fee,
                currency=one.currency,
                rule_version=one.rule_version,
                terms=dict(one.written),
            )
            for one in read.segments
        ]
    )
    return ContractVersion.objects.select_related("contract").prefetch_related("segments__provider").get(pk=version.pk)


# ------------------------------------------------------------------------------------------------------------
def _providers() -> dict[str, int]:
    return dict(Provider.objects.values_list("slug", "pk"))


def _record(
    actor: Scope, action: str, row: Contract, *, before: dict[str, Any] | None, after: dict[str, Any], note: str
) -> None:
    audit.record(
        actor,
        action,
        object_type="contract",
        object_id=row.pk,
        object_name=row.name,
        provider_id=None,
        before=before,
        after=after,
        note=note,
    )
