"""The outbox: messages for webhooks, written in the transaction of what they tell. Sending them is the sender's."""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count

from fleet.rollouts.engine.facts import RolloutRow
from fleet.rollouts.hooks import GIVE_UP_AFTER, KINDS, VERSION, wanted_by
from fleet.rollouts.models import (
    GateEvaluation,
    Rollout,
    RolloutEvent,
    SiteStep,
    Wave,
    WebhookDelivery,
    WebhookEndpoint,
)

_MAX_REASON_CHARS = 600


def put_out(
    rollout: Rollout,
    row: RolloutRow,
    events: Sequence[RolloutEvent],
    evaluations: Sequence[GateEvaluation],
    *,
    now: datetime,
) -> int:
    """Write a message for each endpoint that wants to hear of these, whose rows are kept already; how many.

    `rollout` comes with its standard, `row` is how it is now. Within the caller's transaction and wide scope: what is
    rolled back was never told.
    """
    told: list[tuple[str, RolloutEvent | GateEvaluation]] = []
    told += [(KINDS[event.thing, event.event], event) for event in events if _is_told(event)]
    told += [(KINDS["gate", one.outcome], one) for one in evaluations]
    if not told:
        return 0
    endpoints = list(WebhookEndpoint.objects.filter(is_active=True).order_by("pk"))
    wanted = [(kind, about) for kind, about in told if any(wanted_by(one.kinds, kind) for one in endpoints)]
    if not wanted:
        return 0
    writer = _Writer(rollout, row, [about for _, about in wanted])
    made = []
    for kind, about in wanted:
        message, body = new_message(), writer.body(kind, about)
        names = {"event": about} if isinstance(about, RolloutEvent) else {"evaluation": about}
        made += [
            delivery(one, message, kind, body, now=now, rollout_id=rollout.pk, **names)
            for one in endpoints
            if wanted_by(one.kinds, kind)
        ]
    WebhookDelivery.objects.bulk_create(made, batch_size=500)
    return len(made)


def _is_told(event: RolloutEvent) -> bool:
    """An event of many steps at once is none of a site."""
    return (event.thing, event.event) in KINDS and (event.thing != "step" or event.step_id is not None)


def new_message() -> str:
    """An id of a message: the same at each try and for each endpoint, so that receivers know it again."""
    return f"msg_{secrets.token_hex(16)}"


def delivery(
    endpoint: WebhookEndpoint, message: str, kind: str, body: str, *, now: datetime, **names: Any
) -> WebhookDelivery:
    """A message to one endpoint, due at once; not saved. `names` say what it tells of."""
    return WebhookDelivery(
        endpoint=endpoint,
        message=message,
        kind=kind,
        body=body,
        made_at=now,
        next_at=now,
        give_up_at=now + GIVE_UP_AFTER,
        **names,
    )


def text_of(kind: str, at: datetime, data: dict[str, Any]) -> str:
    """A message's body."""
    body = {"type": kind, "version": VERSION, "timestamp": at.isoformat(), "data": data}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


class _Writer:
    """Writes bodies about one rollout; what it names of waves, sites and counts is read once."""

    def __init__(self, rollout: Rollout, row: RolloutRow, told: Sequence[RolloutEvent | GateEvaluation]) -> None:
        self.rollout, self.row = rollout, row
        steps = {one.step_id for one in told if isinstance(one, RolloutEvent) and one.step_id is not None}
        self.waves = {wave.index: wave for wave in Wave.objects.filter(rollout=rollout.pk)}
        self.steps = {step.pk: step for step in SiteStep.objects.filter(pk__in=steps).select_related("site")}
        found = SiteStep.objects.filter(rollout=rollout.pk).order_by().values_list("state").annotate(Count("pk"))
        self.counts = dict(found)

    def body(self, kind: str, about: RolloutEvent | GateEvaluation) -> str:
        data: dict[str, Any] = {"rollout": self._rollout(about), "counts": self.counts}
        wave = self.waves.get(about.wave) if about.wave is not None else None
        if wave is not None:
            is_it = isinstance(about, RolloutEvent) and about.thing == "wave"
            state = about.state if is_it and isinstance(about, RolloutEvent) else wave.state
            data["wave"] = {"index": wave.index, "name": wave.name, "state": state}
        if isinstance(about, GateEvaluation):
            data["gate"] = {"outcome": str(about.outcome)}
        elif about.step_id is not None:
            site = self.steps[about.step_id].site
            data["site"] = {"slug": site.slug, "name": site.name, "state": about.state}
        data["reason"] = about.sentence[:_MAX_REASON_CHARS]
        data["actor"] = about.actor if isinstance(about, RolloutEvent) else ""
        return text_of(kind, about.at, data)

    def _rollout(self, about: RolloutEvent | GateEvaluation) -> dict[str, Any]:
        is_it = isinstance(about, RolloutEvent) and about.thing == "rollout"
        state = about.state if is_it and isinstance(about, RolloutEvent) else str(self.row.state)
        return {
            "id": self.rollout.pk,
            "name": self.rollout.name,
            "state": state,
            "standard": self.rollout.standard.name,
            "sites": self.rollout.sites,
            "link": f"{settings.DASHBOARD_URL}/rollouts/{self.rollout.pk}/",
        }
