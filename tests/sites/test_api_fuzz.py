"""Row 27 of the matrix: whatever is sent to the API, as whatever role, the answer is no fault of ours."""

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet.api import api
from tests.openapi import NAMED, Operation, operations
from tests.sites.identities import keys
from tests.sites.told import told_for

OPERATIONS = operations()
SCHEMAS = api.get_openapi_schema()["components"]["schemas"]
FIELDS = sorted(
    {*SCHEMAS["SiteIn"]["properties"], *("fingerprint", "reason", "pre_authorised"), *("content", "expect", "env")}
)
QUERY = sorted(
    {
        row["name"]
        for methods in api.get_openapi_schema()["paths"].values()
        for description in methods.values()
        for row in description.get("parameters", [])
        if row["in"] == "query"
    }
    | set(NAMED)
)
text = st.text(max_size=40) | st.sampled_from(
    ["some-site", "ours", "active", "Europe/Berlin", "203.0.113.1:9100", "\x00"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6) | values
queries = st.dictionaries(st.sampled_from(QUERY), text | st.integers().map(str) | st.datetimes().map(str), max_size=4)


def never_a_fault(client: Any, operation: Operation, slug: str, query: dict[str, str], body: Any) -> None:
    # Whatever else the path takes is the same text, or what it takes it for.
    path = re.sub(r"\{[^}]*\}", quote(slug, safe="") or "x", operation.path)
    address = f"{path}?{urlencode(query, errors='replace')}"
    response = client.generic(operation.method, address, json.dumps(body), content_type="application/json")
    assert response.status_code < 500, (str(operation), slug, query, body)
    if response.status_code >= 400:
        assert response.json().keys() == {"error"}


def fuzz(role: str, make_provider: Any, make_site: Any, api_client: Any, examples: int) -> None:
    provider = make_provider("ours")
    site = make_site("some-site", provider)
    keys(site)
    told_for("freeze", site)
    client = api_client(role, provider=provider if role.startswith("provider") else None)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        operation=st.sampled_from(OPERATIONS),
        slug=st.just("some-site")
        | st.integers(min_value=0).map(str)
        | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
        query=queries,
        body=bodies,
    )
    @example(operation=OPERATIONS[0], slug="some-site", query={"limit": "9" * 400}, body=None)
    def run(operation: Operation, slug: str, query: dict[str, str], body: Any) -> None:
        never_a_fault(client, operation, slug, query, body)

    run()


@pytest.mark.parametrize("role", ["admin", "provider_operator"])
def test_nothing_that_is_sent_is_a_fault_of_ours(make_provider, make_site, api_client, signer, role):
    fuzz(role, make_provider, make_site, api_client, 150)


@pytest.mark.full
@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "admin", "provider_viewer", "provider_operator"])
def test_nothing_that_is_sent_is_a_fault_of_ours_at_length(make_provider, make_site, api_client, signer, role):
    fuzz(role, make_provider, make_site, api_client, 5000)
