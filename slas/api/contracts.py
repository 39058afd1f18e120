"""API operations on contracts."""

from typing import Any

from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.errors import NotFound
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.schemas import contracts as schemas
from slas.selectors.contracts import contracts_in, get_contract, version_as_of, versions_of
from slas.services import contracts
from slas.services.preview import preview

router = Router()


@router.get("/contracts", response=schemas.ContractPage, summary="List contracts")
def list_contracts(request: ScopedRequest, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """By short name; a provider sees those that it is in."""
    return page_of(contracts_in(request.who), key="slug", limit=limit, cursor=cursor, out=schemas.contract_out)


@router.post("/contracts", response={201: schemas.ContractDetailOut}, summary="Make a contract")
@idempotent
def create_contract(request: ScopedRequest, body: schemas.ContractIn) -> Status[dict[str, Any]]:
    """Make a contract and its first version; every fault at once in `details`. Heeds Idempotency-Key."""
    made = contracts.create_contract(actor=request.who, rights=request.rights, **body.dict())
    return Status(201, schemas.contract_out(made.contract) | {"version": schemas.version_detail(made)})


@router.post("/contracts/validate", response=schemas.CheckOut, summary="Check an agreement")
def validate_contract(request: ScopedRequest, body: schemas.AgreementIn) -> dict[str, Any]:
    """Every fault with its path; nothing is kept."""
    found = contracts.check_agreement(actor=request.who, rights=request.rights, agreement=body.agreement)
    return schemas.faults_out(found)


@router.post("/contracts/preview", response=schemas.PreviewOut, summary="What terms would have meant last month")
def preview_contract(request: ScopedRequest, body: schemas.AgreementIn) -> dict[str, Any]:
    """The figures of last month by these terms; nothing is kept."""
    month, lines = preview(actor=request.who, rights=request.rights, agreement=body.agreement)
    return {"month": month, "items": lines}


@router.get("/contracts/{contract}", response=schemas.ContractDetailOut, summary="One contract")
def one_contract(request: ScopedRequest, contract: str) -> dict[str, Any]:
    """A contract with its newest version."""
    row = get_contract(scope=request.who, slug=contract)
    return schemas.contract_out(row) | {"version": schemas.version_detail(version_as_of(row))}


@router.get("/contracts/{contract}/versions", response=schemas.VersionPage, summary="Versions of a contract")
def list_contract_versions(
    request: ScopedRequest, contract: str, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first: who, when, why."""
    found = versions_of(get_contract(scope=request.who, slug=contract)).prefetch_related(None)
    return page_of(found, key="-number", limit=limit, cursor=cursor, out=schemas.version_out)


@router.post("/contracts/{contract}/versions", response={201: schemas.VersionDetailOut}, summary="The next version")
@idempotent
def create_contract_version(request: ScopedRequest, contract: str, body: schemas.VersionIn) -> Status[dict[str, Any]]:
    """Agree on something else; 409 for another than `expect`. Heeds Idempotency-Key."""
    row = get_contract(scope=request.who, slug=contract)
    made = contracts.change_contract(actor=request.who, rights=request.rights, contract=row, **body.dict())
    return Status(201, schemas.version_detail(made))


@router.get("/contracts/{contract}/versions/{number}", response=schemas.VersionDetailOut, summary="One version")
def one_contract_version(request: ScopedRequest, contract: str, number: int) -> dict[str, Any]:
    """A version with what it says."""
    found = versions_of(get_contract(scope=request.who, slug=contract)).filter(number=min(number, 2**31 - 1)).first()
    if found is None:
        raise NotFound("There is no such version.")
    return schemas.version_detail(found)
