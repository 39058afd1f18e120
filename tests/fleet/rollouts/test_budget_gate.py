"""What is left of SLA budgets opens the next wave, or holds: on the real tables, by the pass that works them out."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.kit.clock import database_now
from fleet.rollouts.services.ticking import tick
from slas.selectors.budgets import month_of
from slas.services.budgets import work_out_budgets
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import LAX, Played
from tests.slas.factories import make_contract, objective, segment, states, tenures

pytestmark = pytest.mark.usefixtures("database")
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def it(make_site: Callable[..., Any], make_person: Any, make_provider: Any) -> Played:
    """Two waves of a site each; the first asks for half of the budget."""
    found = Played(make_site, make_person, [1, 1], provider=make_provider("nord"))
    gate = {"type": "sla_budget", "share_left": 0.5}
    waves = [{"name": str(at), "sites": [site.pk], "gates": [*LAX, gate]} for at, site in enumerate(found.sites)]
    found.values["waves"] = waves
    found.rollout = found.plan(found.rollout)
    return found


def promise(it: Played, lost: float) -> None:
    """99.999 % of the month; of what that allows the first site has lost a share, at its begin."""
    begin, end = month_of(database_now(), "UTC")
    for site in it.sites:
        tenures(site, (site.provider, LONG_AGO, None))
    down = lost * (end - begin) / 100_000
    changes = [(begin, "down"), (begin + down, "up")] if lost else []
    states(it.sites[0], "availability", (LONG_AGO, "up"), *changes)
    make_contract(segment("nord", begins="2025-01-01T00:00", objectives=[objective(target="99.999")]))
    work_out_budgets()


def first_wave(it: Played) -> str:
    it.run()
    it.applied(0)
    tick()
    return str(it.now().reason)


def test_a_wave_is_held_once_the_budget_is_used_up(it: Played) -> None:
    promise(it, 0.6)
    assert first_wave(it).startswith("fail: SLA budget left is 0.4")
    assert it.waves() == "held pending"


def test_it_passes_while_enough_is_left(it: Played) -> None:
    promise(it, 0.1)
    first_wave(it)
    assert it.waves().split()[0] == "passed"


def test_nothing_is_configured_where_no_contract_covers_the_wave(it: Played) -> None:
    assert first_wave(it) == (
        "inconclusive: the SLA budget is not configured: no contract promises availability for sites of this wave"
    )


def test_a_figure_that_is_old_is_no_figure(it: Played) -> None:
    promise(it, 0)
    rows("UPDATE slas_budget SET as_of = as_of - interval '1 hour' WHERE site_id IS NULL", using=OWNER)
    assert "is a worker running?" in first_wave(it)
    assert it.waves() == "held pending"
