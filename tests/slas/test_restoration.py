"""How soon what was down was up again, and how soon a provider answered: each figure derived by hand."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from slas.engine import Verdict
from slas.models import Incident
from slas.restoring import Found, Lasted, Part, answered, restored
from slas.selectors.restoration import restoration_of
from slas.services.deriving import derive_due
from slas.services.incidents import correct_cause
from slas.settlement import Burden
from slas.states import Measure, Reach, Restoration
from slas.terms import Objective
from tests.database import OWNER, rows
from tests.slas.factories import DECEMBER, NOVEMBER, TEST, make_contract, segment
from tests.slas.test_figures import LATER, at, make

H, M = 3_600_000, 60_000
MET, MISSED, OPEN = Verdict.MET, Verdict.MISSED, Verdict.UNDETERMINED


def promise(figure: Restoration | None, limit: int, target: Fraction | None = None) -> Objective:
    measure = Measure.RESTORATION if figure else Measure.RESPONSE
    return Objective(
        measure, target, Reach.EACH_SITE, None, Burden.OPEN, "up", figure, Decimal(limit), None, (), Fraction(1), None
    )


def part(*spans: tuple[float, float | None], until: float = 100, hours: Any = None) -> Part:
    outages = [Lasted(int(begin * H), None if end is None else int(end * H), None) for begin, end in spans]
    return Part(outages, [(0, int(until * H))] if hours is None else hours, int(until * H))


@pytest.mark.parametrize(
    ("figure", "limit", "spans", "expected"),
    [
        (Restoration.MTTR, 2, [(1, 2), (10, 13)], (Fraction(2), MET, 2, 0)),
        (Restoration.MTTR, 1, [(1, 2), (10, 13)], (Fraction(2), MISSED, 2, 0)),
        (Restoration.MTTR, 2, [(1, 2), (99, None)], (Fraction(1), OPEN, 2, 1)),
        (Restoration.MTTR, 2, [(90, None)], (Fraction(10), MISSED, 1, 1)),
        (Restoration.LONGEST, 3, [(1, 2), (10, 13)], (Fraction(3), MET, 2, 0)),
        (Restoration.LONGEST, 2, [(1, 2), (10, 13)], (Fraction(3), MISSED, 2, 0)),
        (Restoration.COUNT, 2, [(1, 2), (10, None)], (Fraction(2), MET, 2, 0)),
        (Restoration.COUNT, 1, [(1, 2), (10, 13)], (Fraction(2), MISSED, 2, 0)),
        (Restoration.COUNT, 0, [], (Fraction(0), MET, 0, 0)),
        (Restoration.MTBF, 48, [(1, 2), (10, 13)], (Fraction(48), MET, 2, 0)),
        (Restoration.MTBF, 49, [(1, 2), (10, 13)], (Fraction(48), MISSED, 2, 0)),
        (Restoration.MTTR, 2, [], (None, None, 0, 0)),
        (Restoration.MTBF, 2, [], (None, None, 0, 0)),
    ],
)
def test_restoration(figure, limit, spans, expected):
    assert restored(promise(figure, limit), [part(*spans)]) == Found(*expected)


def test_only_service_hours_count_and_sites_add_up():
    hours = [(0, 12 * H), (24 * H, 36 * H)]
    one = part((11, 25), (13, 20), hours=hours)  # two hours within; the other one in none of them
    assert restored(promise(Restoration.MTTR, 9), [one]) == Found(Fraction(2), MET, 1, 0)
    assert restored(promise(Restoration.MTTR, 9), [one, part((1, 5))]) == Found(Fraction(3), MET, 2, 0)
    assert restored(promise(Restoration.MTBF, 9), [one, part((1, 5))]).figure == Fraction(24 + 100 - 6, 2)


def took(begin: float, end: float | None, answer: float | None) -> Lasted:
    return Lasted(*(None if minute is None else int(minute * M) for minute in (begin, end, answer)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outages", "until", "expected"),
    [
        ([took(0, 90, 15)], 100, (Fraction(1), MET, 1, 0)),
        ([took(0, 90, 15.1)], 100, (Fraction(0), MISSED, 1, 0)),
        ([took(0, None, None)], 100, (Fraction(0), MISSED, 1, 0)),
        ([took(0, 10, None)], 100, (None, None, 0, 0)),  # over before it had to be answered
        ([took(90, None, None)], 100, (None, None, 1, 1)),
        ([took(0, 90, 5), took(90, None, None)], 100, (Fraction(1), OPEN, 2, 1)),
        ([took(0, 90, 5), took(1, 90, 5), took(2, 90, None)], 100, (Fraction(2, 3), MISSED, 3, 0)),
        ([], 100, (None, None, 0, 0)),
    ],
)
def test_response(outages, until, expected):
    found = answered(promise(None, 15, Fraction(9, 10)), [Part(outages, [], until * M)])
    assert found == Found(*expected)


OBJECTIVES = [
    {"measure": "restoration", "figure": "mttr_h", "limit": "2", "scope": "pooled"},
    {"measure": "restoration", "figure": "count", "limit": "1"},
    {"measure": "response", "limit": "15", "target": "90", "scope": "pooled"},
]


def take(incident: Incident, moment: datetime, side: str) -> None:
    user = rows("SELECT id FROM people_user LIMIT 1", using=OWNER)[0][0]
    rows(
        "INSERT INTO slas_incidentnote (incident_id, provider_id, kind, side, text, author_id, author_name, at)"
        " SELECT %s, provider_id, 'acknowledged', %s, '', %s, 'x', %s FROM edge_sites_site WHERE id = %s",
        [incident.pk, side, user, moment, incident.site_id],
        using=OWNER,
    )


def test_from_the_database_as_known_then(make_site, make_provider, access):
    nord, manager = make_provider("nord"), access("manager")
    make(make_site, nord, "one", (at(5), "down"), (at(5, 3), "up"), (at(7), "down"), (at(7, 1), "up"))
    make(make_site, nord, "two", (at(9), "down"), (at(9, 8), "up"))
    derive_due()
    version = make_contract(segment("nord", objectives=OBJECTIVES))
    with scope(TEST):
        one, two, eight = Incident.objects.filter(kind="down").order_by("spans__valid_from")
    take(one, at(5) + timedelta(minutes=10), "provider")
    take(two, at(7) + timedelta(minutes=1), "operator")
    take(two, at(7) + timedelta(minutes=20), "provider")

    def found() -> list[Any]:
        with scope(TEST):
            return [(one.total, one.verdict) for one in restoration_of(version.contract, NOVEMBER, DECEMBER, LATER)]

    assert found() == [
        (Found(Fraction(4), MISSED, 3, 0), MISSED),
        (Found(Fraction(3), MISSED, 3, 0), MISSED),
        (Found(Fraction(1, 3), MISSED, 3, 0), MISSED),
    ]
    correct_cause(actor=manager[0], rights=manager[1], incident=eight, cause="workload", reason="it was their till")
    assert found() == [
        (Found(Fraction(2), MET, 2, 0), MET),
        (Found(Fraction(2), MISSED, 2, 0), MISSED),
        (Found(Fraction(1, 2), MISSED, 2, 0), MISSED),
    ]
