"""The demo's contracts: agreed by its manager, once, and never beside those of others."""

import pytest

from fleet.kit.tenancy import job, scope
from fleet.people.services import make_user
from fleet.stack.demo.company import PROVIDERS
from fleet.stack.demo.contracts import make_contracts
from slas.models import ContractVersion, Segment
from slas.services.scorecards import keep_scorecards

DEMO = job("demo")


@pytest.mark.usefixtures("database")
def test_every_provider_of_the_demo_promises_something_from_this_month_on(make_provider):
    for provider in PROVIDERS:
        make_provider(provider.slug)
    make_user(actor=DEMO, username="manager", password="x" * 16, role="manager")
    assert make_contracts(DEMO) == len(PROVIDERS)
    assert make_contracts(DEMO) == 0
    with scope(DEMO):
        assert set(ContractVersion.objects.values_list("made_by", "number")) == {("manager", 1)}
        assert set(Segment.objects.values_list("provider__slug", flat=True)) == {one.slug for one in PROVIDERS}
    assert keep_scorecards() == len(PROVIDERS)  # this month, and none before it
