"""The operations of the API as its own description lists them, so that sweeps include every new one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpResponse
from django.test import Client

from fleet.api import api
from tests.fleet.rollouts.ready import after_tomorrow, plan_hash, tomorrow
from tests.fleet.standards.factories import SHA256
from tests.slas.factories import agreement, segment

_RECIPE = {"name": "sweep", "standard": "2026.11-r1", "select": {"sites": ["some-site"]}}
_AGREED = agreement(segment("ours", fee="7.00"))
_MAILED = {"contract": "shops", "recipients": [{"provider": "ours", "address": "desk@ours.example"}]}
_SAID = {"expect": plan_hash, "reason": "because"}

# Values that are functions are asked when a body is sent.
BODIES: dict[str, dict[str, Any]] = {
    "create": {
        "slug": "brand-new",
        "name": "New",
        "provider": "ours",
        "lat": 1,
        "lon": 2,
        "address": "203.0.113.1:9100",
    },
    "change": {"name": "Renamed"},
    "identity_accept": {"fingerprint": "0123-4567-89ab-cdef-0123-4567-89ab-cdef"},
    **{f"identity_{step}": {"reason": "because"} for step in ("reject", "revoke", "freeze", "thaw")},
    "desired_apply": {"content": {}, "reason": "because"},
    "desired_freeze": {"reason": "because"},
    "desired_thaw": {"reason": "because"},
    "desired_put_config": {"env": {"A": "1"}},
    "create_standard": {"name": "2026.12-r1", "content": {"os": {"kernel": "6.1.0-21-amd64"}}},
    "change_standard": {"expect": SHA256, "notes": "changed"},
    "publish_standard": {"expect": SHA256},
    "withdraw_standard": {"reason": "because"},
    "create_ring": {"name": "Brand new", "slug": "brand-new"},
    "change_ring": {"note": "changed"},
    "order_rings": {"rings": ["canary", "stable"]},
    "give_standard": {"standard": None, "expect": "2026.11-r1", "reason": "because"},
    "create_webhook": {"name": "Brand new", "url": "https://hooks.example.com/in"},
    "change_webhook": {"kinds": ["rollout.started"]},
    "create_rollout": _RECIPE,
    "preview_rollout": _RECIPE,
    "change_plan": {"expect": plan_hash, "recipe": _RECIPE},
    "submit_rollout": {"expect": plan_hash},
    "start_rollout": {"expect": plan_hash},
    "answer_rollout": {"expect": plan_hash, "wave": 0, "yes": True},
    **{f"{verb}_rollout": _SAID for verb in ("approve", "reject", "pause", "freeze", "resume", "abort", "roll_back")},
    "reopen_rollout_lane": _SAID,
    "roll_back_wave_of_rollout": _SAID,
    "create_hold": {"reason": "because", "until": tomorrow},
    "override_hold": {"reason": "because"},
    "set_calendar": {"windows": [{"days": [6], "begin": "22:00:00", "end": "04:00:00"}]},
    "create_contract": {"slug": "brand-new", "name": "New", "agreement": _AGREED, "reason": "agreed"},
    "create_contract_version": {"agreement": _AGREED, "reason": "agreed anew", "expect": 1},
    "validate_contract": {"agreement": _AGREED},
    "preview_contract": {"agreement": _AGREED},
    "request_maintenance": {"sites": ["some-site"], "title": "UPS", "begins": tomorrow, "ends": after_tomorrow},
    "comment_outage": {"text": "a fuse"},
    "correct_outage": {"cause": "power", "reason": "because"},
    "file_dispute": {"cause": "third_party", "text": "a digger"},
    "make_report": {"contract": "shops", "period": "2025-01"},
    "create_report_schedule": _MAILED,
    "change_report_schedule": _MAILED | {"each": "quarter"},
    "decide_report": {"provider": "ours", "measure": "availability", "figure": "97", "reason": "because"},
    "decide_dispute": {"decision": "accepted", "reason": "because"},
    **{f"{verb}_maintenance": {"reason": "because"} for verb in ("approve", "refuse", "cancel")},
}
# Bodies that are no JSON.
OCTETS = {"desired_put_wheel": b"PK wheel", "attach_dispute_file": b"%PDF-1.7 more"}
# What the paths name within a site, as tests/sites/identities.py and tests/sites/told.py make it.
NAMED = {"version": "1.1", "number": "1", "envelope": "1", "standard": "2026.11-r1", "ring": "stable"}
NAMED |= {"webhook": "1", "delivery": "1", "schedule": "1"}
NAMED |= {"window": "1", "contract": "shops", "outage": "1", "dispute": "1", "file": "1", "report": "1", "kind": "pdf"}
NAMED |= {"rollout": "1", "hold": "1", "provider": "ours"}

# Parameters of the query without which they are not asked.
QUERIES = {"diff_standards": "?to=2026.11-r1", "ring_outcome": "?standard=2026.11-r1"}

# Operations that are posted, and only read.
# Operations that a provider's own people alone do.
OF_PROVIDERS = {"file_dispute", "withdraw_dispute", "attach_dispute_file"}
READING = {"preview_rollout", "validate_contract", "preview_contract"}


@dataclass(frozen=True)
class Operation:
    """One method of one path; `name` is its function's name."""

    name: str
    method: str
    path: str
    parameters: frozenset[str] = field(compare=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_safe(self) -> bool:
        """Whether it only reads."""
        return self.method == "GET" or self.name in READING

    def call(self, client: Client, *, slug: str = "some-site", **headers: str) -> HttpResponse:
        """Call it with a body that would do, on a site."""
        assert self.parameters <= {"slug", *NAMED}, f"{self}: the sweep does not know its path parameters"
        octets = OCTETS.get(self.name)
        return client.generic(  # type: ignore[no-any-return]
            self.method,
            self.path.format(slug=slug, **NAMED) + QUERIES.get(self.name, ""),
            data=as_json(body_of(self.name)) if octets is None else octets,
            content_type="application/json" if octets is None else "application/octet-stream",
            headers=headers,
        )


def body_of(name: str) -> dict[str, Any]:
    """A body that would do."""
    return {key: value() if callable(value) else value for key, value in BODIES.get(name, {}).items()}


def as_json(body: Mapping[str, Any]) -> str:
    """A body as sent."""
    import json

    return json.dumps(body)


def operations() -> list[Operation]:
    """All of them, in the order of the description."""
    found = []
    for path, methods in api.get_openapi_schema()["paths"].items():
        for method, description in methods.items():
            parameters = frozenset(row["name"] for row in description.get("parameters", []) if row["in"] == "path")
            name = description["operationId"]
            prefixes = ("sites_api_", "fleet_standards_api_", "fleet_rollouts_api_", "slas_api_")
            prefixes += (
                "webhooks_",
                "commands_",
                "holds_",
                "contracts_",
                "upkeep_",
                "incidents_",
                "disputes_",
                "budgets_",
                "reports_",
                "mailing_",
            )
            for prefix in prefixes:
                name = name.removeprefix(prefix)
            found.append(Operation(name, method.upper(), path, parameters))
    return found


def assert_error(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """The answer has the one error shape. Returns its `error`."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"].startswith("application/json"), response["Content-Type"]
    body = response.json()  # type: ignore[attr-defined]
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"code", "message", "details"}
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    return error
