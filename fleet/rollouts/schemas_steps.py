"""What the API gives about steps of rollouts, what happened to them, and what gates answered."""

from datetime import datetime
from typing import Any

from ninja import Schema

from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.models import Attempt, GateEvaluation, RolloutEvent, SiteStep
from fleet.rollouts.states import AttemptState, Failure, StepState, Wait


class StepOut(Schema):
    """One site of a rollout. `lane`: it was left behind, and may catch up. `document`: [epoch, version] of the newest.

    `wait` says why it is deferred, `failure` of which class a failure is, `origin` to what it would go back.
    """

    site: str
    provider: str
    region: str
    wave: int
    lane: bool
    state: StepState
    since: datetime
    begun_at: datetime | None
    due_at: datetime | None
    wait: Wait | None
    waits_since: datetime | None
    failure: Failure | None
    reason: str
    tries: int
    frozen: bool
    undoing: bool
    escalated: bool
    origin: Origin
    document: tuple[int, int] | None


class StepPage(Schema):
    """A page of steps; `next` is the cursor of the next one, or null."""

    items: list[StepOut]
    next: str | None


class AttemptOut(Schema):
    """One signed document that a step gave out."""

    kind: str
    lane: bool
    state: AttemptState
    given_at: datetime
    ended_at: datetime | None
    epoch: int
    version: int
    sha256: str
    signed_at: datetime | None
    sent_at: datetime | None
    expires_at: datetime
    refused: str


class StepDetailOut(StepOut):
    """The same with its attempts, oldest first."""

    attempts: list[AttemptOut]


class EventOut(Schema):
    """What happened, to what (rollout, lane, wave, step), and what it led to. `actor` is told to who sees all."""

    at: datetime
    actor: str
    thing: str
    event: str
    state: str
    wave: int | None
    site: str | None
    sentence: str


class EventPage(Schema):
    """A page of events, newest first; `next` is the cursor of the next one, or null."""

    items: list[EventOut]
    next: str | None


class EvaluationOut(Schema):
    """What the gates of a wave answered, with all that they saw."""

    wave: int
    at: datetime
    outcome: str
    sentence: str
    results: list[dict[str, Any]]
    seen: dict[str, Any]


class EvaluationPage(Schema):
    """A page of evaluations, newest first; `next` is the cursor of the next one, or null."""

    items: list[EvaluationOut]
    next: str | None


def step_out(row: SiteStep) -> dict[str, Any]:
    """StepOut of a row."""
    names = ("region", "wave", "lane", "state", "since", "begun_at", "due_at", "waits_since", "reason", "tries")
    return {
        **{name: getattr(row, name) for name in (*names, "frozen", "undoing", "escalated", "origin")},
        "site": row.site.slug,
        "provider": row.provider.slug,
        "wait": row.wait or None,
        "failure": row.failure or None,
        "document": (row.document.epoch, row.document.version) if row.document else None,
    }


def attempt_out(row: Attempt) -> dict[str, Any]:
    """AttemptOut of a row."""
    of_document = ("epoch", "version", "sha256", "signed_at", "sent_at", "expires_at", "refused")
    return {
        **{name: getattr(row, name) for name in ("kind", "lane", "state", "given_at", "ended_at")},
        **{name: getattr(row.document, name) for name in of_document},
    }


def event_out(row: RolloutEvent, *, whole: bool) -> dict[str, Any]:
    """EventOut of a row."""
    return {
        **{name: getattr(row, name) for name in ("at", "thing", "event", "state", "wave", "sentence")},
        "actor": row.actor if whole else "",
        "site": row.step.site.slug if row.step else None,
    }


def evaluation_out(row: GateEvaluation) -> dict[str, Any]:
    """EvaluationOut of a row."""
    found = {name: getattr(row, name) for name in ("wave", "at", "outcome", "sentence")}
    return {**found, "results": row.evaluation["results"], "seen": row.evaluation["seen"]}
