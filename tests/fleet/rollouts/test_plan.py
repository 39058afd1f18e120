"""Plans: one form of bytes, one hash, strict reading, and sentences for what cannot work."""

import json
import re
from datetime import UTC, datetime

import pytest

from fleet.env import ROOT
from fleet.rollouts.gates import Deadline, FailureLimit, Human, MetricLimit, MinSample, SlaBudget, Soak, SuccessShare
from fleet.rollouts.plan import (
    Action,
    Approvals,
    Caps,
    Expiries,
    PlanError,
    Retry,
    Times,
    Wave,
    canonical,
    plan_hash,
    plan_of,
    read_plan,
)
from fleet.rollouts.plan_check import faults
from fleet.rollouts.recipe import read_recipe
from fleet.rollouts.states import Failure
from fleet.rollouts.windows import Calendar, Freeze, Weekly
from tests.fleet.rollouts.stage import make_plan, wave

GATES = (
    *(MinSample(2), SuccessShare(0.9), FailureLimit((Failure.LOST,), 1), Soak(60), Deadline(7_200)),
    *(MetricLimit("cpu_ratio", None, 0.9), SlaBudget(0.2), Human("well?")),
)
FULL = make_plan(
    [wave(1, 3, *GATES, canary=True), wave(4, 9)],
    start_at=datetime(2026, 12, 1, 8, tzinfo=UTC),
    retries={Failure.PULL_FAILED: Retry(3)},
    actions={Failure.UNHEALTHY: Action.ROLL_BACK_ALL},
    calendar=Calendar(
        (Weekly((0,), datetime(2000, 1, 1, 2, tzinfo=UTC).time(), datetime(2000, 1, 1, 4, tzinfo=UTC).time()),),
        (Freeze(datetime.fromisoformat("2026-12-20T00:00"), None),),
    ),
)


def test_a_plan_is_read_as_it_was_written():
    assert read_plan(canonical(FULL)) == FULL
    assert canonical(read_plan(json.dumps(json.loads(canonical(FULL)), indent=3))) == canonical(FULL)


def test_the_hash_is_over_every_member():
    value = json.loads(canonical(FULL))
    for place, other in [("author", 2), ("severity", "security"), ("abort", "roll_back"), ("reboots", True)]:
        assert plan_hash(plan_of(value | {place: other})) != plan_hash(FULL)
    value["waves"][1]["sites"][0] = 77
    assert plan_hash(plan_of(value)) != plan_hash(FULL)


def test_the_hash_of_a_plan_stays():
    """What people approved must still be what they approved after an upgrade."""
    assert plan_hash(FULL) == "sha256:38c25e678370a54fae6d2a37aeeb3236c51e371c24fe423bcd9c701180e944a9"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "line 1, column 2: Expecting property name enclosed in double quotes"),
        ('{"a": 1, "a": 2}', "the member 'a' is there twice"),
        ('{"a": NaN}', "NaN is not a number"),
        ("[]", "expected `object`, got `array`"),
        (b"\xff", "this is not UTF-8"),
        ("[" * 100_000, "this is nested too deeply"),
    ],
)
def test_what_is_not_a_plan_is_said(text, sentence):
    with pytest.raises(PlanError) as caught:
        read_plan(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(speed=9), "there is no such member: speed"),
        (lambda v: v.pop("standard"), "a member is missing: standard"),
        (lambda v: v["waves"][0]["gates"][1].update(share=1.5), "waves[0].gates[1].share: expected `float` <= 1.0"),
        (lambda v: v["waves"][0]["gates"][0].update(type="luck"), "waves[0].gates[0].type: invalid value 'luck'"),
        (lambda v: v["waves"][1].update(sites=[0]), "waves[1].sites[0]: expected `int` >= 1"),
        (lambda v: v.update(start_at="2026-12-01T08:00:00"), "start_at: a time needs its zone"),
        (lambda v: v["retries"].update(bad_luck={"times": 1}), "invalid enum value 'bad_luck'"),
    ],
)
def test_what_is_wrong_in_a_plan_is_said_with_its_place(change, sentence):
    value = json.loads(canonical(FULL))
    change(value)
    with pytest.raises(PlanError) as caught:
        plan_of(value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "sentences"),
    [
        (FULL, []),
        (make_plan([]), ["There are no waves."]),
        (make_plan([Wave("a", ())]), ["Wave 'a' has no sites."]),
        (make_plan([Wave("a", (1, 1, 2))]), ["Wave 'a' names 1 site twice."]),
        (make_plan([Wave("a", (1, 2)), Wave("b", (2, 3))]), ["1 site is in wave 'a' and in wave 'b'."]),
        (make_plan([Wave("a", (1,)), Wave("a", (2,))]), ["2 waves are called 'a'."]),
        (
            make_plan([Wave("a", (1,), (MinSample(2),))]),
            ["Wave 'a' can never pass: it has 1 site, and its sample needs 2."],
        ),
        (
            make_plan([Wave("a", (1,), (FailureLimit(),))]),
            ["Wave 'a' has a failure limit with neither a count nor a share."],
        ),
        (make_plan([Wave("a", (1,), (Soak(1), Soak(2)))]), ["Wave 'a' has 2 gates of one kind (soak)."]),
        (make_plan([Wave("a", (1,), (MetricLimit("x"),))]), ["Wave 'a' has a limit on 'x' with no bound."]),
        (
            make_plan([Wave("a", (1,), (MetricLimit("x", 2.0, 1.0),))]),
            ["Wave 'a' can never pass: 'x' cannot be at least 2 and at most 1."],
        ),
        (
            make_plan([Wave("a", (1,), (Soak(3_600), Deadline(60)))]),
            ["Wave 'a' can never pass: it needs 3600 s at the least, and its deadline is 60 s."],
        ),
        (
            make_plan([wave(1, 100, Deadline(600), name="a")], caps=Caps(starts_per_minute=5), times=Times(soak_s=0)),
            ["Wave 'a' can never pass: it needs 1140 s at the least, and its deadline is 600 s."],
        ),
        (
            make_plan(retries={Failure.LOST: Retry(1)}),
            ["A lost site cannot be tried again: it is asked until it answers."],
        ),
        (
            make_plan(actions={Failure.LOST: Action.CONTINUE}),
            ["A rollout cannot go on over lost sites: an update that cuts uplinks would reach every site."],
        ),
        (make_plan(approvals=Approvals(providers=(1, 2))), ["More providers must approve than approvals are needed."]),
        (make_plan(expiries=Expiries(pause_s=0)), ["A pause or an approval that expires at once lets nobody act."]),
    ],
)
def test_what_cannot_work_is_found_before_anything_starts(plan, sentences):
    assert faults(plan) == sentences


def test_the_recipe_in_the_documentation_is_one():
    text = (ROOT / "docs/rollouts.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    recipe = read_recipe(json.loads(example))
    assert [wave.name for wave in recipe.waves] == ["canary", "a tenth", "the rest"]
    fixed = {"author": 1, "standard": recipe.standard, "standard_sha256": "sha256:" + "0" * 64}
    plan = plan_of({**recipe.rest, **fixed, "waves": [], "approvals": {"needed": 2, "providers": [1]}})
    assert plan.start_at == datetime(2026, 12, 1, 22, tzinfo=UTC)
