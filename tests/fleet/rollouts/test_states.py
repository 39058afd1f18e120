"""The one table: every state can be reached, every one but the ends can be left, and the docs show it."""

import pytest

from fleet.env import ROOT
from fleet.rollouts.picture import BEGIN, END, picture
from fleet.rollouts.states import (
    TABLES,
    NotAllowedError,
    RolloutEvent,
    RolloutState,
    StepEvent,
    StepState,
    Thing,
    WaveState,
    after,
    allowed,
)

each_thing = pytest.mark.parametrize("thing", TABLES.values(), ids=TABLES)


def reached(thing: Thing) -> set[str]:
    found = {thing.begins}
    while True:
        more = {line.target for line in thing.lines if line.source in found} - found
        if not more:
            return found
        found |= more


@each_thing
def test_every_state_can_be_reached(thing):
    assert reached(thing) == set(type(thing.begins))


@each_thing
def test_every_state_that_is_not_an_end_can_be_left(thing):
    left = {line.source for line in thing.lines if line.target != line.source}
    assert set(type(thing.begins)) - thing.ends <= left


@each_thing
def test_from_everywhere_an_end_can_be_reached(thing):
    ending = set(thing.ends)
    while True:
        more = {line.source for line in thing.lines if line.target in ending} - ending
        if not more:
            break
        ending |= more
    assert ending == set(type(thing.begins))


@each_thing
def test_an_event_leads_from_a_state_to_one_state_of_the_same_thing(thing):
    pairs = [(line.source, line.event) for line in thing.lines]
    assert len(pairs) == len(set(pairs))
    assert {type(state) for line in thing.lines for state in (line.source, line.target)} == {type(thing.begins)}


@each_thing
def test_every_event_is_used(thing):
    events = {type(line.event) for line in thing.lines}
    assert len(events) == 1
    assert {line.event for line in thing.lines} == set(events.pop())


def test_every_end_of_a_rollout_is_an_end_and_what_is_alive_is_not():
    assert TABLES["rollout"].ends == {
        *("succeeded", "partially_succeeded", "failed", "aborted"),
        *("rejected", "expired", "rolled_back", "rollback_failed"),
    }


def test_a_move_that_the_table_lacks_is_refused():
    assert after(StepState.QUEUED, StepEvent.CLAIM) is StepState.CLAIMED
    assert not allowed(StepState.QUEUED, StepEvent.PROVE)
    with pytest.raises(NotAllowedError, match="prove does not lead anywhere from queued"):
        after(StepState.QUEUED, StepEvent.PROVE)
    with pytest.raises(NotAllowedError):
        after(RolloutState.REJECTED, RolloutEvent.START)


def test_no_wave_opens_but_from_pending_or_a_person_who_resumes():
    opening = {(line.source, line.event) for line in TABLES["wave"].lines if line.target is WaveState.OPEN}
    assert opening == {
        *(("pending", "open"), ("soaking", "reopen"), ("gate", "reopen")),
        *(("held", "retry"), ("held", "excuse")),
    }


def test_success_has_one_door():
    """Nothing but a whole soak makes a step proven."""
    proving = [line for line in TABLES["step"].lines if line.target is StepState.PROVEN]
    assert [(line.source, line.event) for line in proving] == [("soaking", "prove")]


def test_the_docs_show_the_table():
    text = (ROOT / "docs/rollouts.md").read_text()
    drawn = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    assert drawn == picture()
