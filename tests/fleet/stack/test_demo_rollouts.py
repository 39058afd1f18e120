"""The demo's rollout: planned and approved by the demo's people, once, and never beside those of others."""

import pytest

from fleet.kit.tenancy import job, scope
from fleet.people.services import make_user
from fleet.rollouts.models import Approval, Rollout, Wave
from fleet.rollouts.plan import read_plan
from fleet.rollouts.plan_check import faults
from fleet.rollouts.services.ticking import tick
from fleet.stack.demo.rollouts import begin_rollout
from fleet.stack.demo.standards import make_standards
from sites.models import SiteDesired

DEMO = job("demo")


@pytest.mark.usefixtures("database")
def test_the_shops_get_a_rollout_that_people_approved(make_site):
    for number in range(12):
        make_site(f"shop-{number}", labels={"kind": "shop"}, ring="canary" if number % 4 == 1 else "stable")
    for name, role in (("noc", "operator"), ("manager", "manager"), ("admin", "admin")):
        make_user(actor=DEMO, username=name, password="x" * 16, role=role)
    assert begin_rollout(DEMO) is None
    with scope(DEMO):
        make_standards(DEMO)
    made = begin_rollout(DEMO)
    assert made is not None
    tick()
    with scope(DEMO):
        row = Rollout.objects.get()
        assert (row.pk, row.state, row.sites) == (made.pk, "scheduled", 12)
        plan = read_plan(row.plan)
        assert (faults(plan), [len(wave.sites) for wave in plan.waves]) == ([], [3, 1, 8])
        assert SiteDesired.objects.filter(version=1).count() == 10
        assert Wave.objects.count() == 3
        assert sorted(Approval.objects.values_list("user_name", flat=True)) == ["admin", "manager"]
    assert begin_rollout(DEMO) is None
