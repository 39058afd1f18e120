"""The demo's contracts: what each provider promises from this month on, agreed by the demo's own manager."""

from collections.abc import Mapping
from typing import Any, Final

from fleet.kit.clock import database_now
from fleet.kit.tenancy import Scope, scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.stack.demo.company import PROVIDERS
from slas.models import Contract
from slas.services.contracts import create_contract

AUTHOR: Final = "manager"
CREDITS: Final = {
    "tiers": [{"below": "99.5", "credit": "5"}, {"below": "99", "credit": "10"}, {"below": "97", "credit": "25"}],
    "cap": "25",
}
# Who bears the time before the first poll, and every other of which nothing is known: not agreed alike with all.
BURDENS: Final = {"nordgrid": "provider", "straits-edge": "operator"}
OBJECTIVES: Final = [
    {"measure": "reachability", "target": "99", "scope": "pooled", "burden": "open"},
    {"measure": "version_sync", "target": "95", "limit": "24", "scope": "pooled", "burden": "provider"},
    {"measure": "restoration", "figure": "mttr_h", "limit": "4"},
    {"measure": "latency", "percentile": 95, "limit": "500", "scope": "pooled"},
]


def make_contracts(actor: Scope) -> int:
    """Agree on a contract with each of the demo's providers, unless there was ever one; returns how many.

    Opens its own scopes.
    """
    with scope(actor):
        if Contract.objects.exists():
            return 0
    who, rights = access_of(User.objects.get(username=AUTHOR))
    begins = database_now().replace(day=1, hour=0, minute=0)
    for provider in PROVIDERS:
        create_contract(
            actor=who,
            rights=rights,
            slug=provider.slug,
            name=f"{provider.name}, micro-clouds",
            agreement=agreement_with(provider.slug, f"{begins:%Y-%m-%dT%H:%M}"),
            reason="the demo's beginning",
        )
    return len(PROVIDERS)


def agreement_with(provider: str, begins: str) -> Mapping[str, Any]:
    """What is agreed with a provider, as slas.agreements reads it; `begins` in UTC."""
    burden = BURDENS.get(provider, "open")
    available = {"measure": "availability", "target": "99.5", "scope": "pooled", "burden": burden, "credits": CREDITS}
    segment = {
        "provider": provider,
        "begins": begins,
        "ends": None,
        "fee": "12000.00",
        "currency": "EUR",
        "objectives": [available, *OBJECTIVES],
        "maintenance": {"counts": "excluded", "notice_h": "72", "cap_h": "8", "cap_per": "month"},
        "excluded_causes": ["operator_rollout", "operator_change", "workload"],
        "includes_link": False,
    }
    return {"zone": "UTC", "labels": {}, "regions": [], "segments": [segment]}
