"""Documents that are taken back before they were sent."""

from typing import Any

import pytest
from django.utils import timezone

from fleet.kit.errors import Conflict
from fleet.kit.tenancy import scope
from sites.models import DesiredDocument, SiteDesired
from sites.selectors.desired import was_refused
from sites.services.delivery import note_sending, withdraw
from sites.services.desired import Order, give_out
from tests.conftest import TEST
from tests.sites.told import document, document_to_sign

pytestmark = pytest.mark.usefixtures("database")


def test_a_document_that_was_not_sent_can_be_taken_back_and_is_never_sent(make_site: Any) -> None:
    site = make_site()
    row = document(site)
    with scope(TEST):
        assert withdraw([row.pk]) == {row.pk}
        assert withdraw([row.pk]) == {row.pk}
        assert was_refused(SiteDesired.objects.select_related("document").get(site=site))
    assert note_sending([row.pk]) == set()
    with scope(TEST):
        assert DesiredDocument.objects.get(pk=row.pk).sent_at is None


def test_a_document_that_was_sent_cannot_be_taken_back(make_site: Any) -> None:
    row = document(make_site())
    assert note_sending([row.pk]) == {row.pk}
    with scope(TEST):
        at = DesiredDocument.objects.get(pk=row.pk).sent_at
    assert note_sending([row.pk]) == {row.pk}
    with scope(TEST):
        assert withdraw([row.pk]) == set()
        found = DesiredDocument.objects.get(pk=row.pk)
    assert (found.sent_at, found.withdrawn_at) == (at, None)


def test_a_document_that_was_taken_back_is_not_signed_and_lets_the_next_one_through(make_site: Any) -> None:
    site = make_site()
    row = document(site, envelope=None)
    with scope(TEST):
        withdraw([row.pk])
        with pytest.raises(Conflict, match="withdrawn"):
            document_to_sign(row.pk)
        (made,) = give_out([Order(site, {"workloads": []})], made_by="nina", reason="next", now=timezone.now())
    assert (made.epoch, made.version) == (1, 2)
