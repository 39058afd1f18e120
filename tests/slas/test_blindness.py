"""When the centre itself could not watch: from beats, and from sites that vanish together."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import ProgrammingError, transaction

from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Scope, scope
from slas.blindness import Blind, Loss, mass_losses, silences
from slas.models import CentreBlind, Finding
from slas.services.blindness import find_blindness
from slas.services.deriving import derive_due
from tests.database import OWNER, rows
from tests.slas.factories import NOVEMBER as T
from tests.slas.factories import TEST, interval

HALF = Fraction(1, 2)


def at(minutes: float) -> Any:
    return T + timedelta(minutes=minutes)


def lost(*sites: tuple[int, int, float, float | None]) -> list[Loss]:
    return [Loss(site, provider, at(begin), None if end is None else at(end)) for site, provider, begin, end in sites]


# Pure -------------------------------------------------------------------------------------------------------
def test_minutes_without_a_beat_are_blind():
    assert silences([at(0), at(1), at(2)], at(3.5)) == []
    assert silences([at(0), at(1), at(5), at(6)], at(7)) == [Blind(at(2), at(5))]
    assert silences([at(0)], at(2.9)) == []
    assert silences([at(0)], at(3)) == [Blind(at(1), None)]
    assert silences([], at(3)) == []


def test_half_the_fleet_of_two_providers_within_a_minute():
    gone = [(n, n % 2, n * 0.2, 10.0 + n) for n in range(5)]
    # Three of eight are not more than half: blind until the first of five is heard again.
    assert mass_losses(lost(*gone), 8, HALF) == [Blind(at(0), at(10))]
    assert mass_losses(lost(*gone), 10, HALF) == []
    assert mass_losses(lost(*gone[:3], *((n, 1, 0.5, None) for n in range(10, 20))), 20, HALF) == [Blind(at(0), at(12))]


def test_one_providers_uplink_is_its_own_trouble():
    assert mass_losses(lost(*((n, 1, 0.1, None) for n in range(8))), 8, HALF) == []
    assert mass_losses(lost(*((n, n % 2, 0.1, None) for n in range(8))), 8, HALF) == [Blind(at(0.1), None)]


def test_losses_that_come_one_by_one_are_none_and_few_sites_prove_nothing():
    assert mass_losses(lost(*((n, n % 2, n * 0.5, None) for n in range(8))), 8, HALF) == []
    assert mass_losses(lost(*((n, n % 2, 0.0, None) for n in range(3))), 3, HALF) == []


# From the database ------------------------------------------------------------------------------------------
MINUTE = timedelta(minutes=1)
_began: list[datetime] = []


@pytest.fixture(autouse=True)
def one_minute() -> Iterator[None]:
    """All of a test speaks of the minute in which it began."""
    _began.append(datetime.now(UTC).replace(second=0, microsecond=0))
    yield
    _began.clear()


def clock() -> datetime:
    return _began[0]


def beat(*minutes: int) -> None:
    for minute in minutes:
        rows(
            "INSERT INTO edge_sites_pollerbeat (poller, minute, polls, failures, lag_max_ms) VALUES ('p', %s, 0, 0, 0)",
            [clock() - timedelta(minutes=minute)],
            using=OWNER,
        )


def blinds() -> list[tuple[str, Any, Any]]:
    """What is on record, in minutes before the test began."""
    found = rows("SELECT rule, valid_from, valid_to FROM slas_centreblind ORDER BY valid_from", using=OWNER)
    return [(rule, *(None if m is None else round((clock() - m) / MINUTE) for m in span)) for rule, *span in found]


def test_pollers_that_stopped_and_came_back(database):
    beat(30, 29, 10)
    assert find_blindness() == 2
    assert blinds() == [("beats", 28, 10), ("beats", 9, None)]
    assert find_blindness() == 0
    beat(2, 1, 0)
    assert find_blindness() == 1
    assert blinds() == [("beats", 28, 10), ("beats", 9, 2)]
    with scope(TEST):
        assert AuditEntry.objects.filter(action="centre.blind").count() == 3


def test_a_silence_that_began_long_ago_is_found(database):
    beat(5000, 2, 1, 0)
    assert find_blindness() == 1
    assert blinds() == [("beats", 4999, 2)]


def test_sites_that_vanished_together_are_the_centres(make_site, make_provider):
    providers = [make_provider(), make_provider()]
    begin = clock() - timedelta(minutes=20)
    sites = [make_site(provider=providers[n % 2]) for n in range(4)]
    for n, site in enumerate(sites):
        interval(site, "reachability", "reachable", begin - timedelta(hours=1), begin + timedelta(seconds=n))
        interval(site, "reachability", "unreachable", begin + timedelta(seconds=n), None)
    rows("UPDATE edge_sites_sitestate SET reachability = 'unreachable', reachability_since = %s", [begin], using=OWNER)
    derive_due()
    assert find_blindness() == 1
    assert blinds() == [("mass_loss", 20, None)]
    derive_due()
    with scope(TEST):
        assert set(Finding.objects.values_list("cause", "charged_to")) == {("centre", "operator")}
        assert Finding.objects.count() == 4
    # One is heard again and three are still more than half; with the second they are not.
    for number, ended in ((0, 5), (1, 8)):
        rows(
            "UPDATE edge_sites_stateinterval SET valid_to = %s, closed_at = now()"
            " WHERE site_id = %s AND state = 'unreachable'",
            [begin + timedelta(minutes=ended), sites[number].pk],
            using=OWNER,
        )
        assert find_blindness() == number
    assert blinds() == [("mass_loss", 20, 12)]


def test_everybody_may_read_it_and_no_provider_writes_it(database):
    with scope(TEST):
        CentreBlind.objects.create(rule="beats", valid_from=at(0))
    with scope(Scope(name="p", providers=frozenset({1}))):
        assert CentreBlind.objects.count() == 1
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            CentreBlind.objects.update(valid_to=at(1), closed_at=at(1))
