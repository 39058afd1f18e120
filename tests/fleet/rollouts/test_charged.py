"""The pass over outages finds those that a rollout caused, links them to its step, and charges them to the operator."""

from datetime import timedelta
from typing import Any

import pytest

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from slas.models import Finding
from slas.services.deriving import derive_due
from tests.conftest import TEST
from tests.fleet.rollouts.played import Played
from tests.fleet.rollouts.test_causes import goes_down
from tests.slas.factories import states


@pytest.mark.usefixtures("database")
def test_an_outage_under_a_step_is_the_operators(make_site: Any, make_person: Any) -> None:
    it = Played(make_site, make_person, (2,)).run()
    it.says(0, 1, state="applying")
    goes_down(it, 0)
    derive_due()
    with scope(TEST):
        (found,) = Finding.objects.select_related("incident")
        assert (found.cause, found.charged_to) == ("operator_rollout", "operator")
        assert (found.incident.site_id, found.incident.kind) == (it.sites[0].pk, "down")
        assert (found.proof["step"], found.proof["rollout"]) == (it.step(0).pk, it.rollout.pk)


@pytest.mark.usefixtures("database")
def test_a_way_that_is_cut_under_a_step_is_the_operators_too(make_site: Any, make_person: Any) -> None:
    it = Played(make_site, make_person, (2,)).run()
    it.says(0, 1, state="applying")
    cut = database_now()
    states(it.sites[0], "reachability", (cut - timedelta(hours=1), "reachable"), (cut, "unreachable"))
    states(it.sites[0], "availability", (cut - timedelta(hours=1), "up"))
    derive_due()
    with scope(TEST):
        (found,) = Finding.objects.select_related("incident")
        assert (found.cause, found.incident.kind) == ("operator_rollout", "unreachable")
        assert found.proof["step"] == it.step(0).pk
