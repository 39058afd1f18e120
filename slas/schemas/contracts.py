"""What the API takes and gives about contracts."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema

from slas.faults import Fault
from slas.models import Contract, ContractVersion
from slas.selectors.contracts import written

Agreement = Annotated[
    dict[str, Any], Field(description="`zone`, `labels`, `regions`, `segments`: as docs/slas.md writes it.")
]


class AgreementIn(Schema):
    """What is to be agreed on."""

    agreement: Agreement


class ContractIn(AgreementIn):
    """A new contract; `reason` has 3 to 300 characters."""

    slug: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=120)]
    reason: Annotated[str, Field(max_length=300)]


class VersionIn(AgreementIn):
    """The next version; `expect` is the number of the one that it follows."""

    reason: Annotated[str, Field(max_length=300)]
    expect: int


class FaultOut(Schema):
    """Where something is wrong, like `segments.0.objectives.1.target`, and what."""

    path: str
    text: str


class CheckOut(Schema):
    """Every fault; none: it can be agreed on."""

    items: list[FaultOut]


class LineOut(Schema):
    """An objective over the month before, had the terms been in force; percentages, rounded down."""

    provider: str
    measure: str
    target: str
    sites: int
    met: int
    missed: int
    measured: str | None
    floor: str | None
    ceiling: str | None
    verdict: str | None
    credit: str
    currency: str


class PreviewOut(Schema):
    """What terms would have meant in a month; nothing is kept."""

    month: str
    items: list[LineOut]


class VersionOut(Schema):
    """A version: who agreed on it, when and why."""

    number: int
    made_by: str
    made_at: datetime
    reason: str


class VersionDetailOut(VersionOut):
    """A version with what it says; a provider sees its own segments."""

    contract: str
    agreement: dict[str, Any]


class VersionPage(Schema):
    """A page of versions, newest first; `next` is the cursor of the next one, or null."""

    items: list[VersionOut]
    next: str | None


class ContractOut(Schema):
    """A contract."""

    slug: str
    name: str
    made_by: str
    made_at: datetime


class ContractDetailOut(ContractOut):
    """A contract with its newest version."""

    version: VersionDetailOut


class ContractPage(Schema):
    """A page of contracts; `next` is the cursor of the next one, or null."""

    items: list[ContractOut]
    next: str | None


def contract_out(row: Contract) -> dict[str, Any]:
    """A contract as ContractOut has it."""
    return {name: getattr(row, name) for name in ContractOut.model_fields}


def version_out(row: ContractVersion) -> dict[str, Any]:
    """A version as VersionOut has it."""
    return {name: getattr(row, name) for name in VersionOut.model_fields}


def version_detail(row: ContractVersion) -> dict[str, Any]:
    """A version as VersionDetailOut has it."""
    return version_out(row) | {"contract": row.contract.slug, "agreement": written(row)}


def faults_out(faults: list[Fault]) -> dict[str, Any]:
    """Faults as CheckOut has them."""
    return {"items": [one._asdict() for one in faults]}
