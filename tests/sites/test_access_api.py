"""What is a provider's own and what is not, through every operation of the API."""

from typing import Any

import pytest

from sites.services.reports import record_reports
from tests.database import OWNER, rows
from tests.openapi import Operation, assert_error, operations
from tests.sites.builders import polled
from tests.sites.identities import keys
from tests.sites.told import told_for

FOREIGN_WORDS = (b"foreign", b"Foreign", b"Zanzibar", b"9.9.9")
# Blobs are the fleet's: tests/sites/test_api_desired.py. The others have their own sweeps: tests/fleet/.
APART = tuple(
    f"/api/v1/{name}"
    for name in (
        "standards",
        "rings",
        "compliance",
        "rollouts",
        "holds",
        "webhooks",
        "maintenance",
        "contracts",
        "reports",
        "report-schedules",
        *("outages", "disputes", "budgets", "burn-alerts"),
    )
)
OF_A_SITE = [
    operation for operation in operations() if "{slug}" in operation.path and not operation.path.startswith(APART)
]
WITHOUT_SITE = [
    operation
    for operation in operations()
    if "{slug}" not in operation.path
    and operation.is_safe
    and operation.name != "desired_blobs"
    and "{provider}" not in operation.path
    and not operation.path.startswith(APART)
]

MEMBERSHIPS: dict[str, dict[str, Any]] = {
    "provider_viewer": {"role": "provider_viewer", "provider": True},
    "provider_operator": {"role": "provider_operator", "provider": True},
    "viewer of a provider": {"role": "viewer", "provider": True},
    "operator of a provider": {"role": "operator", "provider": True},
    "manager of a provider": {"role": "manager", "provider": True},
    "admin of a provider": {"role": "admin", "provider": True},
    "admin of a region": {"role": "admin", "regions": ["DACH"]},
    "operator of a label": {"role": "operator", "labels": {"tier": "1"}},
}
each_member = pytest.mark.parametrize("member", MEMBERSHIPS)


@pytest.fixture
def fleet(make_provider: Any, make_site: Any) -> Any:
    """An own site, and a foreign one that differs in provider, region and labels. Returns the own provider."""
    from agent.protocol import Component

    own, foreign = make_provider("own", name="Own"), make_provider("foreign", name="Foreign Ltd")
    ours = make_site("own-site", own, region="DACH", labels={"tier": "1"})
    theirs = make_site(
        *("foreign-site", foreign),
        name="Foreign Site",
        place="Zanzibar",
        region="Foreign region",
        ring="foreign-ring",
        labels={"owner": "foreign"},
    )
    keys(ours)
    told_for("thaw", theirs)
    keys(theirs, host="foreign.example", agent="9.9.9", remote="Zanzibar", fingerprint="Foreign")
    record_reports([polled(ours)], poller="test")
    record_reports([polled(theirs, "down", components=(Component("kernel", "linux", "9.9.9"),))], poller="test")
    return own


@pytest.fixture
def client_of(fleet: Any, api_client: Any) -> Any:
    """API clients by the names of MEMBERSHIPS."""

    def make(member: str) -> Any:
        membership = dict(MEMBERSHIPS[member])
        if membership.get("provider"):
            membership["provider"] = fleet
        return api_client(membership.pop("role"), **membership)

    return make


def contents() -> list[Any]:
    tables = (
        *("edge_sites_site", "edge_sites_sitetenure", "edge_sites_pollschedule", "kit_auditentry"),
        *("edge_sites_jointoken", "edge_sites_siteidentity", "edge_sites_sitecertificate"),
        *("edge_sites_desireddocument", "edge_sites_sitedesired"),
    )
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


@each_member
@pytest.mark.parametrize("operation", OF_A_SITE, ids=str)
def test_a_foreign_site_is_answered_exactly_as_one_that_is_not(client_of, member, operation: Operation):
    client = client_of(member)
    before = contents()
    foreign = operation.call(client, slug="foreign-site")
    missing = operation.call(client, slug="no-such-site")
    assert_error(foreign, 404, "not_found")
    assert foreign.content == missing.content
    assert contents() == before


@each_member
@pytest.mark.parametrize("operation", WITHOUT_SITE, ids=str)
def test_lists_and_counts_hold_not_one_foreign_byte(client_of, member, operation: Operation):
    response = operation.call(client_of(member))
    assert response.status_code == 200
    for word in FOREIGN_WORDS:
        assert word not in response.content
    if operation.name == "summary":
        assert response.json()["sites"] == 1
        assert response.json()["down"] == 0
    else:
        assert len(response.json()["items"]) == 1


@each_member
@pytest.mark.parametrize(
    "query", ["q=foreign", "q=zanzibar", "provider=foreign", "region=Foreign+region", "ring=foreign-ring", "state=down"]
)
def test_filters_find_nothing_foreign(client_of, member, query):
    response = client_of(member).get(f"/api/v1/sites?{query}")
    assert (response.status_code, response.json()) == (200, {"items": [], "next": None})


@each_member
def test_a_cursor_from_somebody_who_sees_more_shows_no_more(client_of, api_client, member, make_site, fleet):
    make_site("zz-own", fleet, region="DACH", labels={"tier": "1"})
    cursor = api_client("viewer").get("/api/v1/sites?limit=1").json()["next"]
    items = client_of(member).get("/api/v1/sites", {"cursor": cursor}).json()["items"]
    assert [item["slug"] for item in items] == ["own-site", "zz-own"]


@each_member
def test_the_own_site_is_there(client_of, member):
    body = client_of(member).get("/api/v1/sites/own-site").json()
    assert (body["slug"], body["provider"], body["state"]) == ("own-site", "own", "up")
    assert [component["name"] for component in body["components"]] == ["linux", "pos"]
