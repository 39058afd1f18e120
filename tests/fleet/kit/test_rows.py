"""Many rows in one statement."""

from datetime import UTC, datetime

import pytest
from django.db import DataError, IntegrityError, connections
from django.test.utils import CaptureQueriesContext

from fleet.kit.rows import write_back, write_new
from fleet.kit.tenancy import scope
from sites.models import DesiredDocument, Site, SiteDesired
from tests.conftest import TEST

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def sites(make_site):
    provider = make_site().provider
    return [make_site(provider=provider) for _ in range(3)]


def test_every_kind_of_value_is_written_to_its_own_row_and_nothing_else(sites):
    with scope(TEST):
        rows = [
            DesiredDocument(
                site=site,
                provider_id=site.provider_id,
                epoch=1,
                version=1,
                content={"n": 0},
                issued_at=AT,
                expires_at=AT.replace(day=2),
                reason="before",
                made_by="x",
            )
            for site in sites
        ]
        DesiredDocument.objects.bulk_create(rows)
        for number, row in enumerate(rows[:2]):
            row.content, row.hold, row.version = {"n": [number, None, "ä\n"]}, number == 1, number + 7
            row.envelope, row.sha256, row.signed_at = bytes([0, number, 255]), f"sha256:{number}", AT
            row.reason = "not written"
        write_back(rows[:2], ["content", "hold", "version", "envelope", "sha256", "signed_at"])
        found = list(
            DesiredDocument.objects.order_by("pk").values_list(
                "content", "hold", "version", "envelope", "sha256", "signed_at", "reason"
            )
        )
    assert [(*row[:3], row[3] and bytes(row[3]), *row[4:]) for row in found] == [
        ({"n": [0, None, "ä\n"]}, False, 7, b"\0\0\xff", "sha256:0", AT, "before"),
        ({"n": [1, None, "ä\n"]}, True, 8, b"\0\x01\xff", "sha256:1", AT, "before"),
        ({"n": 0}, False, 1, None, "", None, "before"),
    ]


def test_foreign_keys_and_nulls_are_written_and_one_statement_does_it(sites):
    with scope(TEST):
        rows = [SiteDesired(site=site, provider_id=site.provider_id, due_at=AT) for site in sites]
        SiteDesired.objects.bulk_create(rows)
        for row in rows:
            row.due_at, row.tries = None, 4
        with CaptureQueriesContext(connections["default"]) as queries:
            write_back(rows, ["due_at", "tries", "document"])
        assert len(queries) == 1
        assert set(SiteDesired.objects.values_list("due_at", "tries", "document")) == {(None, 4, None)}


def _document(site, number):
    return DesiredDocument(
        site=site,
        provider_id=site.provider_id,
        epoch=1,
        version=number,
        content={"n": [number, None, "ä\n"]},
        issued_at=AT,
        expires_at=AT.replace(day=2),
        reason=f"number {number}",
        made_by="x",
    )


NEW = ("site", "provider", "epoch", "version", "content", "hold", "issued_at", "expires_at", "reason", "made_by")
NEW += ("prev_sha256", "refused")


def test_new_rows_are_inserted_by_one_statement_and_get_their_keys(sites):
    with scope(TEST):
        made = [_document(site, number) for number, site in enumerate(sites, 1)]
        with CaptureQueriesContext(connections["default"]) as queries:
            write_new(made, [*NEW, "sha256"])
        assert len(queries) == 1
        found = DesiredDocument.objects.in_bulk([row.pk for row in made])
        assert [(found[row.pk].site_id, found[row.pk].version, found[row.pk].content) for row in made] == [
            (site.pk, number, {"n": [number, None, "ä\n"]}) for number, site in enumerate(sites, 1)
        ]
        assert {(row.envelope, row.sent_at, row.made_at is None) for row in found.values()} == {(None, None, False)}
        made[0].reason = "written again"
        made[0].save(update_fields=["reason"])  # it is known to be there


def test_new_rows_that_are_refused_are_not_there(sites):
    rows = [_document(sites[0], 1), _document(sites[0], 1)]
    with pytest.raises(IntegrityError), scope(TEST):
        write_new(rows, [*NEW, "sha256"])
    with scope(TEST):
        assert not DesiredDocument.objects.exists()


def test_nothing_costs_nothing(database):
    with CaptureQueriesContext(connections["default"]) as queries:
        write_back([], ["name"])
        write_new([], ["name"])
    assert len(queries) == 0


def test_what_is_too_long_is_refused_and_not_cut(sites):
    with pytest.raises(DataError), scope(TEST):
        sites[0].slug = "x" * 500
        write_back(sites, ["slug"])
    with scope(TEST):
        assert not Site.objects.filter(slug__startswith="xxx").exists()
