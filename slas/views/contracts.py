"""Contracts: the list, and one with what was promised, its versions and what each changed."""

from django.http import HttpResponse
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.errors import NotFound
from fleet.kit.http import ScopedRequest
from slas.models import ContractVersion
from slas.present.contracts import bars_of, changes_between, promises_of
from slas.present.editor import capped_words
from slas.present.words import money
from slas.selectors.contracts import contracts_in, get_contract, versions_of
from slas.views.budgets import contract_lines


@require_safe
def contract_list(request: ScopedRequest) -> HttpResponse:
    """Contracts with their newest version; a provider sees those that it is in, and its own segments of them."""
    now = database_now()
    rows = []
    for contract in contracts_in(request.who):
        version = versions_of(contract).first()
        if version is not None:
            segments = list(version.segments.all())
            live = [one for one in segments if one.begins <= now and (one.ends is None or one.ends > now)]
            names = sorted({one.provider.name for one in segments})
            rows.append({"contract": contract, "version": version, "live": live, "providers": names})
    context = {"rows": rows, "may_change": request.rights.may("contract.change"), "narrowed": request.who.narrowed}
    return django_render(request, "slas/contracts.html", context)


@require_safe
def contract_detail(request: ScopedRequest, slug: str) -> HttpResponse:
    """One contract, as of a version; `before` names the version to compare it with. Raises NotFound."""
    contract = get_contract(scope=request.who, slug=slug)
    versions = list(versions_of(contract))
    shown = _version(versions, request.GET.get("version", "")) or versions[0]
    before = _version(versions, request.GET.get("before", ""))
    segments = list(shown.segments.all())
    bars, now_x = bars_of(segments, database_now())
    context = {
        "contract": contract,
        "versions": versions,
        "shown": shown,
        "before": before,
        "changes": changes_between(before, shown) if before else None,
        "segments": [
            {
                "segment": one,
                "fee": money(one.fee, one.currency),
                "promises": promises_of(one),
                "capped": _capped(one.terms),
            }
            for one in segments
        ],
        "bars": bars,
        "lines": contract_lines(request.who, contract=contract.pk),
        "here": reverse("sla_contract_budget", args=[slug]),
        "live": "attention:0",
        "now_x": now_x,
        "may_schedule": request.rights.may("report.schedule"),
        "may_change": request.rights.may("contract.change") and request.who.wide,
    }
    return django_render(request, "slas/contract.html", context)


def _version(versions: list[ContractVersion], text: str) -> ContractVersion | None:
    """The version of that number, None where none is named. Raises NotFound for one that is not there."""
    if not text:
        return None
    found = next((one for one in versions if str(one.number) == text), None)
    if found is None:
        raise NotFound("There is no such version.")
    return found


def _capped(terms: dict[str, object]) -> list[str]:
    objectives = terms.get("objectives")
    listed = objectives if isinstance(objectives, list) else []
    says = [capped_words(str(one.get("target", ""))) for one in listed if not one.get("burn")]
    return [one for one in dict.fromkeys(says) if one]
