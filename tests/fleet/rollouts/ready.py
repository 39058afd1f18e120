"""A rollout and a hold where the sweeps of the API may say something to them; both have the number 1."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from fleet.rollouts.models import Hold
from fleet.rollouts.services import control, planning
from fleet.rollouts.services.ticking import tick
from sites.models import Site
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.standards.factories import make_standard

HUMAN = {"type": "human", "question": "Do the tills work?"}
WITHOUT = ("list_rollouts", "create_rollout", "preview_rollout", "list_holds", "create_hold")
RUNNING = ("pause", "freeze", "resume", "answer", "abort", "roll_back_wave", "roll_back", "reopen")


def plan_hash() -> str:
    """That of the rollout; some other where there is none."""
    found = rows("SELECT plan_hash FROM rollouts_rollout WHERE id = 1", using=OWNER)
    return str(found[0][0]) if found else "sha256:" + "0" * 64


def tomorrow() -> str:
    """A moment that a hold may end at, as sent."""
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def after_tomorrow() -> str:
    """A day later."""
    return (datetime.now(UTC) + timedelta(days=2)).isoformat()


def ready_for(operation: str, site: Site, make_person: Callable[..., Any]) -> None:
    """Make them where this operation may be done to them."""
    make_standard()
    if "hold" in operation:
        _hold(site)
    if operation not in WITHOUT and "hold" not in operation:
        _rollout(operation, site, make_person)


def _hold(site: Site) -> None:
    with scope(TEST):
        until = datetime.now(UTC) + timedelta(hours=1)
        Hold.objects.create(site=site, provider=site.provider, reason="stocktaking", until=until, made_by="test")


def _rollout(operation: str, site: Site, make_person: Callable[..., Any]) -> None:
    author, approver = access_of(make_person("operator")), access_of(make_person("manager"))
    values = {
        "name": "sweep",
        "standard": "2026.11-r1",
        "waves": [{"name": "all", "sites": [site.pk], "gates": [HUMAN]}],
        "start_at": None if operation.startswith(RUNNING) else tomorrow(),
    }
    row = planning.plan_rollout(actor=author[0], rights=author[1], values=values)

    def say(command: Callable[..., Any], who: tuple[Any, Any] = author, **options: Any) -> None:
        command(actor=who[0], rights=who[1], rollout=row, expect=row.plan_hash, **options)

    if operation.startswith(("approve", "reject", "start", *RUNNING)):
        say(control.submit)
    if operation.startswith(("start", *RUNNING)):
        say(control.approve, approver)
        tick()
    if operation.startswith("resume"):
        say(control.pause, reason="wait")
    if operation.startswith("answer"):
        rows("UPDATE rollouts_rollout SET state = 'paused', pause = 'held' WHERE id = %s", [row.pk], using=OWNER)
        rows("UPDATE rollouts_wave SET state = 'held' WHERE rollout_id = %s", [row.pk], using=OWNER)
    if operation.startswith("reopen"):
        rows("UPDATE rollouts_rollout SET lane = 'halted' WHERE id = %s", [row.pk], using=OWNER)
