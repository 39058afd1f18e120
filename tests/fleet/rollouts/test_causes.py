"""Outages that a rollout caused are linked to its step, so that they are the operator's and not the provider's."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from fleet.rollouts.models import Attempt
from fleet.rollouts.selectors.causes import caused_by_rollouts
from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick
from sites.models import Outage
from tests.conftest import TEST
from tests.fleet.rollouts.played import NEW_POS, Played
from tests.fleet.standards.factories import report
from tests.sites.builders import KERNEL, POS

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def goes_down(it: Played, number: int, pos: Any = POS) -> Outage:
    """The site is down by its own verdict, from now on."""
    for _ in range(3):
        report(it.sites[number], KERNEL, pos, state="down")
    with scope(TEST):
        return Outage.objects.filter(site=it.sites[number]).latest("pk")


def begun(outage: Outage) -> tuple[int, int, datetime]:
    """As it is asked about."""
    return outage.pk, outage.site_id, outage.valid_from


def gets_well(it: Played, number: int, pos: Any) -> None:
    for _ in range(3):
        report(it.sites[number], KERNEL, pos)


def test_an_outage_that_begins_while_a_step_is_at_work_is_that_steps(play: Play) -> None:
    it = play(2)
    before = goes_down(it, 0)
    gets_well(it, 0, POS)
    it.run()
    unsent = goes_down(it, 1)
    gets_well(it, 1, POS)
    it.says(0, 1, state="applying")
    during = goes_down(it, 0)
    with scope(TEST):
        found = caused_by_rollouts([begun(before), begun(unsent), begun(during)])
        attempt = Attempt.objects.get(step__site=it.sites[0])
    assert set(found) == {during.pk}
    one = found[during.pk]
    assert (one.step_id, one.rollout_id, one.wave, one.attempt_id, one.kind) == (
        it.step(0).pk,
        it.rollout.pk,
        0,
        attempt.pk,
        "apply",
    )
    assert one.since <= during.valid_from
    assert one.until is None


def test_one_that_begins_in_the_soak_is_and_one_after_the_proof_is_not(play: Play) -> None:
    it = play(1, times={"soak_s": 600}).run()
    it.applied(0)
    tick()
    assert it.states() == "soaking"
    soaking = goes_down(it, 0, NEW_POS)
    tick()
    assert it.step(0).failure == "unhealthy"
    gets_well(it, 0, NEW_POS)
    after = goes_down(it, 0, NEW_POS)
    with scope(TEST):
        assert set(caused_by_rollouts([begun(soaking), begun(after)])) == {soaking.pk}
        assert caused_by_rollouts([]) == {}


def test_on_the_way_back_too(play: Play) -> None:
    it = play(1).run()
    it.applied(0)
    tick()
    it.do(control.roll_back, reason="no")
    tick()
    it.sign()
    outage = goes_down(it, 0, NEW_POS)
    with scope(TEST):
        assert caused_by_rollouts([begun(outage)])[outage.pk].kind == "rollback"


def test_a_provider_sees_it_of_its_own_sites_alone(play: Play, access: Any, make_provider: Any) -> None:
    own, other = make_provider(), make_provider()
    it = play(1, provider=own).run()
    it.says(0, state="applying")
    outage = goes_down(it, 0)
    for provider, count in ((own, 1), (other, 0)):
        actor, _ = access("provider_viewer", provider=provider)
        with scope(actor):
            assert len(caused_by_rollouts([begun(outage)])) == count
    assert database_now() - outage.valid_from < timedelta(minutes=1)
