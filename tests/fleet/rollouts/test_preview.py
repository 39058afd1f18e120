"""What a plan would do, said before anything starts."""

import time
from datetime import datetime, timedelta
from datetime import time as clock

from msgspec.structs import replace

from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.gates import Human, MinSample, SlaBudget, Soak
from fleet.rollouts.plan import Caps, Patience, Times, Wave
from fleet.rollouts.preview import Cut, LeftOut, Note, Pace, PlanSite, cut, preview
from fleet.rollouts.windows import Calendar, Freeze, Weekly
from tests.fleet.rollouts.stage import START, make_plan, wave

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def sites(count: int, **changes: object) -> dict[int, PlanSite]:
    return {
        i: PlanSite(**{"id": i, "name": f"shop {i}", "provider": 1 + i % 2, **changes}) for i in range(1, count + 1)
    }


def levels(notes: tuple[Note, ...]) -> list[tuple[str, str]]:
    return [(note.level, note.sentence) for note in notes]


def test_a_selection_is_cut_into_waves_each_with_its_reason():
    found = sites(20)
    found[3] = PlanSite(id=3, name="shop 3", provider=2, labels={"ring": "canary", "size": "small"})
    waves, left_out = cut(
        found.values(),
        [
            Cut(name="ring", labels={"ring": "canary"}, canary=True),
            Cut(name="named", sites=frozenset({7, 99})),
            Cut(name="few", count=4),
            Cut(name="share", share=0.2),
            Cut(name="rest"),
        ],
    )
    assert [(w.name, w.sites, w.why) for w in waves] == [
        ("ring", (3,), "labelled ring=canary"),
        ("named", (7,), "named one by one"),
        ("few", (1, 2, 4, 6), "4 sites, of all providers in turn"),
        ("share", (5, 8, 9, 10), "20% of the sites, of all providers in turn"),
        ("rest", (11, 12, 13, 14, 15, 16, 17, 18, 19, 20), "all that are left"),
    ]
    assert (waves[0].canary, left_out) == (True, ())


def test_sites_are_left_out_with_their_reason():
    found = {**sites(3), 1: PlanSite(id=1, name="a", provider=1, conforms=True)}
    found[2] = PlanSite(id=2, name="b", provider=1, other_rollout="spring")
    waves, left_out = cut(found.values(), [Cut(name="none", count=0)])
    assert waves[0].sites == ()
    assert left_out == (
        LeftOut(1, "runs the standard already"),
        LeftOut(2, "rollout 'spring' has it"),
        LeftOut(3, "no wave takes it"),
    )


def test_a_preview_says_what_each_wave_means():
    found = {**sites(3, download_bytes=100, free_bytes=50), 4: sites(4)[4]}
    found[2] = PlanSite(id=2, name="shop 2", provider=1, origin=Origin.NONE, reachable=False)
    result = preview(make_plan([wave(1, 4)]), found, START)
    (first,) = result.waves
    assert (first.sites, first.by_provider, first.offline_now, first.bytes_total) == (4, {2: 2, 1: 2}, 1, 200)
    assert (first.lack_space, first.lack_origin) == ((1, 3), (2,))
    assert levels(result.notes) == [
        ("warning", "Wave '1 to 4': too little disk space: 2 sites (shop 1, shop 3)."),
        ("warning", "Wave '1 to 4': nothing to roll back to: 1 site (shop 2)."),
    ]
    assert (result.may_start, result.people, result.bytes_total) == (True, 1, 200)


def test_windows_that_never_open_forbid_the_plan():
    freeze = Calendar(freezes=(Freeze(datetime.fromisoformat("2026-01-01T00:00"), None),))
    result = preview(make_plan([wave(1, 14)]), sites(14), START, {1: freeze})
    assert levels(result.notes) == [
        (
            "fault",
            "Wave '1 to 14': the windows of 7 sites (shop 2, shop 4, shop 6, shop 8, shop 10 and 2 more) never open.",
        )
    ]
    assert not result.may_start


def test_what_cannot_work_forbids_the_plan():
    result = preview(make_plan([Wave("a", (1, 2, 77), (MinSample(9),))]), sites(2, other_rollout="spring"), START)
    assert levels(result.notes) == [
        ("fault", "Wave 'a' can never pass: it has 3 sites, and its sample needs 9."),
        ("fault", "The plan names 1 site that is not there."),
        ("fault", "Wave 'a': another rollout has 2 sites (shop 1, shop 2)."),
    ]


def test_gates_that_will_hold_are_said():
    plan = make_plan([wave(1, 3, MinSample(3), Human(), SlaBudget(0.1), name="a")])
    result = preview(plan, {**sites(3), 1: PlanSite(id=1, name="x", provider=1, reachable=False)}, START)
    assert levels(result.notes) == [
        ("warning", "Wave 'a': 2 of its sites answer now, and its sample needs 3."),
        ("warning", "Wave 'a': a person is asked; the finish waits for the answer."),
        ("warning", "Wave 'a': the SLA budget is not configured, so its gate will hold."),
    ]
    known = {pk: replace(site, has_budget=pk == 2) for pk, site in sites(3).items()}
    assert [words for _, words in levels(preview(plan, known, START).notes)] == [
        "Wave 'a': a person is asked; the finish waits for the answer."
    ]


def test_the_finish_is_a_range_from_caps_pace_and_soak():
    plan = make_plan([wave(1, 10, Soak(3_600)), wave(11, 30)], caps=Caps(in_flight=5), times=Times(soak_s=600))
    result = preview(plan, sites(30), START, pace=Pace(60, 300))
    first, second = (w.ends for w in result.waves)
    assert first == (START + 2 * MINUTE + HOUR, START + 10 * MINUTE + HOUR)
    assert second == (first[0] + 14 * MINUTE, first[1] + 30 * MINUTE)
    assert result.ends == second


def test_the_finish_knows_windows_patience_and_start_rates():
    night = Calendar((Weekly((0, 1, 2, 3, 4, 5, 6), clock(20), clock(23)),))
    plan = make_plan([wave(1, 11)], patience=Patience(defer_s=6 * 3_600), caps=Caps(starts_per_minute=2))
    result = preview(plan, sites(11), START, {1: night, 2: Calendar()}, pace=Pace(60, 60))
    assert result.ends == (START + 6 * MINUTE, START + 6 * HOUR + 6 * MINUTE)


def test_a_preview_of_10_000_sites_takes_less_than_2_seconds():
    begin = time.process_time()  # the machine's other work is not the preview's
    found = sites(10_000, zone="Europe/Berlin", download_bytes=1)
    waves, _ = cut(found.values(), [Cut(name="canary", count=20), *(Cut(name=f"{i}", share=0.1) for i in range(9))])
    result = preview(make_plan(waves), found, START)
    assert result.bytes_total == 9_020
    assert time.process_time() - begin < 2
