"""What costs most when misused is marked: each edge, by its address, with the action that the audit names."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from fleet.api import api
from fleet.kit.dangerous import MARK
from tests.meta.routes import ROLLOUT_VERBS

MARKED = {
    "sites/<slug:slug>/desired/apply/": "site.apply",
    "sites/<slug:slug>/desired/freeze/": "site.freeze",
    "sites/<slug:slug>/desired/thaw/": "site.thaw",
    "sites/<slug:slug>/identity/join/": "identity.join_string",
    "sites/<slug:slug>/identity/accept/": "identity.accept",
    "sites/<slug:slug>/identity/revoke/": "identity.revoke",
    "sites/<slug:slug>/identity/freeze/": "identity.freeze",
    "sites/<slug:slug>/identity/thaw/": "identity.thaw",
    "standards/<str:name>/publish/": "standard.publish",
    "standards/<str:name>/withdraw/": "standard.withdraw",
    "standards/<str:name>/give/": "ring.standard",
    "rings/<slug:slug>/release/": "ring.standard",
    "webhooks/new/": "webhook.create",
    "webhooks/<int:pk>/edit/": "webhook.change",
    "webhooks/<int:pk>/rotate/": "webhook.rotate",
    "webhooks/<int:pk>/switch/": "webhook.change",
    **{f"rollouts/<int:pk>/do/{verb}/": f"rollout.{verb}" for verb in ROLLOUT_VERBS if verb not in ("pause", "freeze")},
    "rollouts/<int:pk>/lift/": "rollout.lift",
    "rollouts/holds/<int:pk>/lift/": "rollout.lift",
    "rollouts/holds/<int:pk>/override/": "rollout.override",
    "rollouts/calendars/<slug:slug>/edit/": "provider.calendar",
    "sites/<slug:slug>/lift/": "rollout.lift",
    "slas/outages/<int:pk>/correct/": "incident.correct",
    "slas/reports/<int:pk>/decide/": "report.decide",
    "slas/disputes/<int:pk>/decide/": "dispute.decide",
    "POST /sites/{slug}/desired": "site.apply",
    "POST /sites/{slug}/desired/freeze": "site.freeze",
    "POST /sites/{slug}/desired/thaw": "site.thaw",
    "POST /sites/{slug}/identity/join": "identity.join_string",
    "POST /sites/{slug}/identity/accept": "identity.accept",
    "POST /sites/{slug}/identity/revoke": "identity.revoke",
    "POST /sites/{slug}/identity/freeze": "identity.freeze",
    "POST /sites/{slug}/identity/thaw": "identity.thaw",
    "POST /blobs/wheels": "blob.put",
    "POST /standards/{standard}/publish": "standard.publish",
    "POST /standards/{standard}/withdraw": "standard.withdraw",
    "POST /rings/{ring}/standard": "ring.standard",
    "POST /webhooks": "webhook.create",
    "PATCH /webhooks/{webhook}": "webhook.change",
    "POST /webhooks/{webhook}/rotate": "webhook.rotate",
    **{
        f"POST /rollouts/{{rollout}}/{verb}": f"rollout.{verb.replace('-', '_')}"
        for verb in (
            *("submit", "approve", "reject", "start", "resume", "answer"),
            *("abort", "roll-back-wave", "roll-back", "reopen-lane"),
        )
    },
    "POST /holds/{hold}/override": "rollout.override",
    "POST /outages/{outage}/cause": "incident.correct",
    "POST /disputes/{dispute}/decide": "dispute.decide",
    "POST /reports/{report}/decide": "report.decide",
}


def pages(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in get_resolver().url_patterns if patterns is None else patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from pages(entry.url_patterns, here)
        elif isinstance(entry, URLPattern):
            yield here, entry.callback


def operations() -> Iterator[tuple[str, Any]]:
    for _, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                yield f"{operation.methods[0]} {path}", operation.view_func


def test_what_is_dangerous_is_marked_and_nothing_else():
    found = {where: getattr(edge, MARK, None) for where, edge in (*pages(), *operations())}
    assert {where: action for where, action in found.items() if action} == MARKED
