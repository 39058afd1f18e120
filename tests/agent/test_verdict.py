"""The pure core of the site's own verdict."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol import MAX_REASONS, MAX_TEXT_CHARS, STATES, Verdict, VerdictState
from agent.verdict import Result, Rule, Standing, judge, step

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
RULE = Rule("web", fall=3, rise=2)

states = st.sampled_from(STATES)


def walk(rule: Rule, results: list[VerdictState], begin: Standing | None = None) -> list[VerdictState]:
    """The standing after each result, the one before them first."""
    standing = begin or Standing()
    found = [standing.state]
    for state in results:
        standing = step(rule, standing, Result(state, "why"))
        found.append(standing.state)
    return found


def severity(state: VerdictState) -> int:
    return STATES.index(state)


class TestOneProbe:
    def test_three_failures_in_a_row_and_two_successes(self) -> None:
        results: list[VerdictState] = ["down", "down", "up", "down", "down", "down", "up", "down", "up", "up"]
        assert walk(RULE, results)[1:] == ["up", "up", "up", "up", "up", "down", "down", "down", "down", "up"]

    def test_what_is_now_degraded_now_down_is_degraded(self) -> None:
        assert walk(RULE, ["down", "degraded", "down"])[-1] == "degraded"
        assert walk(RULE, ["degraded", "down", "down", "down"])[-1] == "down"

    def test_it_gets_better_by_as_much_as_all_good_results_allow(self) -> None:
        down = Standing("down", "why", ())
        assert walk(RULE, ["degraded", "up"], down)[1:] == ["down", "degraded"]
        assert walk(RULE, ["up", "up"], down)[1:] == ["down", "up"]

    def test_the_sentence_is_of_the_last_look_that_was_not_good(self) -> None:
        standing = Standing()
        for result in (Result("down", "first"), Result("down", "second"), Result("up"), Result("up")):
            standing = step(Rule("web", fall=1, rise=3), standing, result)
        assert (standing.state, standing.detail) == ("down", "second")

    @given(st.integers(1, 6), st.integers(1, 6), st.lists(states, max_size=60))
    def test_it_never_moves_on_fewer_results_than_the_rule_asks_for(
        self, fall: int, rise: int, results: list[VerdictState]
    ) -> None:
        found = walk(Rule("web", fall, rise), results)
        for place, (before, after) in enumerate(pairwise(found), start=1):
            if severity(after) > severity(before):
                last = results[max(0, place - fall) : place]
                assert len(last) == fall
                assert min(map(severity, last)) == severity(after)
            elif severity(after) < severity(before):
                last = results[max(0, place - rise) : place]
                assert len(last) == rise
                assert max(map(severity, last)) == severity(after)

    @given(st.integers(1, 6), st.integers(1, 6), st.lists(states, max_size=30), states)
    def test_it_always_follows_results_that_last(
        self, fall: int, rise: int, results: list[VerdictState], last: VerdictState
    ) -> None:
        assert walk(Rule("web", fall, rise), [*results, *[last] * max(fall, rise)])[-1] == last

    @given(st.lists(states, max_size=200))
    def test_it_remembers_no_more_than_it_needs(self, results: list[VerdictState]) -> None:
        standing = Standing()
        for state in results:
            standing = step(RULE, standing, Result(state))
        assert len(standing.recent) <= 3


class TestTheSite:
    UP = Verdict("up", EARLIER)

    def test_the_worst_counts_and_all_reasons_are_told_sorted(self) -> None:
        bad = [("web", Standing("degraded", "slow")), ("db", Standing("down", "refused")), ("disk", Standing())]
        assert judge(bad, self.UP, NOW) == Verdict("down", NOW, ("db: refused", "web: slow"))

    def test_since_moves_with_the_state_and_not_with_the_reasons(self) -> None:
        before = Verdict("down", EARLIER, ("db: refused",))
        after = judge([("db", Standing("down", "no answer within 5 s"))], before, NOW)
        assert after == Verdict("down", EARLIER, ("db: no answer within 5 s",))
        assert judge([("db", Standing())], before, NOW) == Verdict("up", NOW)

    def test_without_probes_it_is_up(self) -> None:
        assert judge([], self.UP, NOW) == self.UP

    @given(st.lists(st.tuples(st.text(max_size=64), states, st.text(max_size=2_000)), max_size=100))
    def test_reasons_always_fit_in_a_report(self, probes: list[tuple[str, VerdictState, str]]) -> None:
        found = []
        for name, state, detail in probes:
            standing = Standing()
            for _ in range(3):
                standing = step(RULE, standing, Result(state, detail))
            found.append((name, standing))
        verdict = judge(found, self.UP, NOW)
        assert len(verdict.reasons) == min(MAX_REASONS, sum(state != "up" for _, state, _ in probes))
        assert all(len(reason) <= MAX_TEXT_CHARS and reason.isprintable() for reason in verdict.reasons)
        assert list(verdict.reasons) == sorted(verdict.reasons)


@pytest.mark.parametrize("state", STATES)
def test_a_rule_of_one_follows_at_once(state: VerdictState) -> None:
    assert walk(Rule("web", 1, 1), ["down", state])[-1] == state
