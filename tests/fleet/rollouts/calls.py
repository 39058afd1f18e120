"""Calls of the API about rollouts, as the tests make them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.database import OWNER, rows
from tests.fleet.rollouts.played import Played

TABLES = (
    *("rollouts_rollout", "rollouts_wave", "rollouts_sitestep", "rollouts_approval", "rollouts_rolloutevent"),
    *("rollouts_hold", "rollouts_providercalendar", "rollouts_attempt", "kit_auditentry"),
)


def post(client: Any, path: str, body: Any, **headers: str) -> Any:
    """POST a JSON body."""
    return client.post(f"/api/v1{path}", body, content_type="application/json", headers=headers)


def put(client: Any, path: str, body: Any) -> Any:
    """PUT a JSON body."""
    return client.put(f"/api/v1{path}", body, content_type="application/json")


def get(client: Any, path: str, **query: Any) -> Any:
    """What a GET answers, which is 200."""
    answer = client.get(f"/api/v1{path}", query)
    assert answer.status_code == 200, (path, answer.content)
    return answer.json()


def say(client: Any, it: Played, verb: str, **body: Any) -> Any:
    """Say something to a rollout, of the plan as the test knows it."""
    return post(client, f"/rollouts/{it.rollout.pk}/{verb}", {"expect": it.rollout.plan_hash} | body)


def contents() -> list[Any]:
    """All that a call could change."""
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in TABLES]


def recipe_for(it: Played, **changes: Any) -> dict[str, Any]:
    """A recipe for its sites: one, then the rest."""
    slugs = [site.slug for site in it.sites]
    value = {"name": "summer", "standard": it.standard.name, "select": {"sites": slugs}}
    return value | {"waves": [{"name": "one", "count": 1}, {"name": "rest"}]} | changes


def forget() -> None:
    """There are no rollouts any more."""
    rows("TRUNCATE rollouts_rollout CASCADE", using=OWNER)


def tomorrow() -> str:
    """A moment that a hold may end at, as sent."""
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()
