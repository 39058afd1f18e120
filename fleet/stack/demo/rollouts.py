"""The demo's rollout: November's kernel for the shops, wave by wave, planned and approved by the demo's own people."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from fleet.kit.clock import database_now
from fleet.kit.tenancy import Limit, Rights, Scope, scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.rollouts.models import Rollout
from fleet.rollouts.services import control, planning
from fleet.standards.models import Standard
from fleet.standards.selectors.standards import content_for
from sites.models import Site
from sites.services.desired import apply
from sites.states import Life

NAME, STANDARD, BEFORE = "November's kernel", "shops-2026.11-r3", "shops-2026.11-r2"
RIGHTS = Rights({"site.apply": (Limit(),)})
AUTHOR, APPROVERS = "noc", ("manager", "admin")
# By then the agents have joined, and have said what they run: that is what a rollback would lead to.
STARTS_IN = timedelta(seconds=75)
CANARIES, FIRST_SHARE = 3, 5
TOLD = 10  # sites that are told first what they run, so that they can go back to it
QUESTION = {"type": "human", "question": "Do the tills of the first shops print? Ask two of them before the rest."}
TIMES = {"soak_s": 60, "reboot_s": 300}


def begin_rollout(actor: Scope) -> Rollout | None:
    """Plan the demo's rollout and have it approved, unless there was ever one. It starts by itself, a little later.

    Opens its own scopes. Returns None where there is nothing to do.
    """
    with scope(actor):
        shops = list(
            Site.objects.filter(life=Life.ACTIVE, labels__kind="shop")
            .order_by("pk")
            .only("pk", "ring", "name", "labels")
        )
        if Rollout.objects.exists() or len(shops) <= CANARIES or not Standard.objects.filter(name=STANDARD).exists():
            return None
        _tell(actor, _canaries_first(shops)[:TOLD])
    author, *approvers = [access_of(User.objects.get(username=name)) for name in (AUTHOR, *APPROVERS)]
    made = planning.plan_rollout(actor=author[0], rights=author[1], values=plan_of(shops))
    control.submit(actor=author[0], rights=author[1], rollout=made, expect=made.plan_hash)
    for who, rights in approvers:
        control.approve(actor=who, rights=rights, rollout=made, expect=made.plan_hash, reason="as discussed on Monday")
    return made


def _canaries_first(shops: Sequence[Site]) -> list[Site]:
    return sorted(shops, key=lambda site: site.ring != "canary")


def _tell(actor: Scope, shops: Sequence[Site]) -> None:
    standard = Standard.objects.get(name=BEFORE)
    for site in shops:
        content = content_for(standard, site)
        apply(actor=actor, rights=RIGHTS, site=site, content=content, reason="the demo's beginning")


def plan_of(shops: Sequence[Site]) -> dict[str, Any]:
    """A plan for these sites: canaries, a fifth of the others with a question at its end, the rest."""
    first = _canaries_first(shops)
    canaries, others = first[:CANARIES], first[CANARIES:]
    cut = max(1, len(others) // FIRST_SHARE)
    waves = [
        ("Canaries", canaries, "the canary ring of the shops", [{"type": "soak", "seconds": 30}], True),
        ("First shops", others[:cut], "a fifth of the others", [{"type": "soak", "seconds": 60}, QUESTION], False),
        ("All other shops", others[cut:], "what is left", [], False),
    ]
    return {
        "name": NAME,
        "standard": STANDARD,
        "severity": "security",
        "reboots": True,
        "start_at": (database_now() + STARTS_IN).isoformat(),
        "times": TIMES,
        "caps": {"in_flight": max(2, len(shops) // 50), "starts_per_minute": max(4, len(shops) // 20)},
        "waves": [
            {"name": name, "sites": [site.pk for site in sites], "why": why, "gates": gates, "canary": canary}
            for name, sites, why, gates, canary in waves
            if sites
        ],
    }
