"""What a journal proves about a site's own states."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.protocol.entries import GENESIS, Alive, Entry
from sites.journal_states import Anchor, Note, Span, Tail, read

MINUTE = 60_000


def spans(*notes: Note, tail: Tail | None = None) -> list[tuple[int, int, str, str]]:
    found, _ = read(notes, tail)
    return [(span.begin_ms, span.end_ms, span.state, span.why) for span in found]


def alive(seq: int, minute: float, boot: str = "a", state: str | None = None) -> Note:
    return Note(seq, int(minute * MINUTE), boot, state)


def test_a_state_lasts_from_verdict_to_verdict():
    assert spans(
        alive(1, 0, state="up"), alive(2, 1), alive(3, 1.5, state="down"), alive(4, 2), alive(5, 3, state="up")
    ) == [
        (0, 90_000, "up", "verdict"),
        (90_000, 180_000, "down", "verdict"),
    ]


def test_the_proof_names_the_entries():
    found, tail = read([alive(7, 0, state="up"), alive(8, 1), alive(9, 2)], None)
    assert found == [Span(0, 2 * MINUTE, "up", 7, 9, "verdict")]
    assert tail == Tail(2 * MINUTE, "a", "up", 9)


def test_silence_in_one_boot_is_unknown_and_says_nothing_of_the_site():
    assert spans(alive(1, 0, state="up"), alive(2, 1), alive(3, 5), alive(4, 6)) == [
        (0, MINUTE, "up", "verdict"),
        (MINUTE, 5 * MINUTE, "unknown", "silence"),
        (5 * MINUTE, 6 * MINUTE, "up", "verdict"),
    ]


def test_ninety_seconds_are_no_silence():
    assert spans(alive(1, 0, state="up"), alive(2, 1.5)) == [(0, 90_000, "up", "verdict")]
    assert spans(alive(1, 0, state="up"), Note(2, 90_001, "a")) == [(0, 90_001, "unknown", "silence")]


def test_another_boot_means_down_from_a_minute_after_the_last_word_until_the_first_good_verdict():
    notes = [
        alive(1, 0, state="up"),
        alive(2, 1),
        alive(3, 61, "b"),
        alive(4, 61.5, "b", "down"),
        alive(5, 62, "b", "degraded"),
        alive(6, 63, "b"),
    ]
    assert spans(*notes) == [
        (0, MINUTE, "up", "verdict"),
        (MINUTE, 2 * MINUTE, "unknown", "reboot"),
        (2 * MINUTE, 61 * MINUTE, "down", "reboot"),
        (61 * MINUTE, 62 * MINUTE, "down", "verdict"),
        (62 * MINUTE, 63 * MINUTE, "degraded", "verdict"),
    ]


def test_a_reboot_within_a_minute_is_unknown_until_then_and_down_until_the_verdict():
    assert spans(alive(1, 0, state="up"), Note(2, 40_000, "b"), Note(3, 50_000, "b", "up"), Note(4, 60_000, "b")) == [
        (0, 40_000, "unknown", "reboot"),
        (40_000, 50_000, "down", "verdict"),
        (50_000, 60_000, "up", "verdict"),
    ]


def test_reading_goes_on_from_the_tail_as_if_it_had_never_stopped():
    notes = [
        alive(1, 0, state="up"),
        alive(2, 1),
        alive(3, 2, state="down"),
        alive(4, 50, "b"),
        alive(5, 51, "b", "up"),
    ]
    whole, end = read(notes, None)
    for cut in range(1, len(notes)):
        first, tail = read(notes[:cut], None)
        second, last = read(notes[cut:], tail)
        assert last == end
        covered = [(s.begin_ms, s.end_ms, s.state) for s in first + second]
        # The same time in the same states, though a cut may fall into a span.
        flat = [state for begin, stop, state in covered for _ in range((stop - begin) // 1000)]
        assert flat == [s.state for s in whole for _ in range((s.end_ms - s.begin_ms) // 1000)]


def test_a_clock_that_steps_back_is_held_still():
    found, tail = read([alive(1, 5, state="up"), alive(2, 1), alive(3, 6)], None)
    assert [(s.begin_ms, s.end_ms, s.state) for s in found] == [(5 * MINUTE, 6 * MINUTE, "up")]
    assert tail is not None
    assert tail.at_ms == 6 * MINUTE


def test_before_the_first_verdict_nothing_is_known():
    assert spans(alive(1, 0), alive(2, 1), alive(3, 2, state="up")) == [(0, 2 * MINUTE, "unknown", "verdict")]


NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def entry(boot: str, mono_ms: int, at: datetime) -> Entry:
    return Entry(1, GENESIS, boot, mono_ms, at, "alive", Alive())


@pytest.mark.parametrize("wrong", [timedelta(), timedelta(days=-730), timedelta(hours=1)])
def test_within_a_boot_the_wall_clock_of_the_site_does_not_matter(wrong):
    anchor = Anchor(NOW, "a", 1_000_000, round(wrong.total_seconds() * 1000), 12, 9)
    assert anchor.map(entry("a", 400_000, NOW + wrong)) == (NOW - timedelta(seconds=600), 12)


def test_across_boots_the_offset_measured_last_corrects_it_and_is_its_uncertainty():
    anchor = Anchor(NOW, "b", 1_000, -3_600_000, 12, 9)
    at = NOW - timedelta(hours=5)
    assert anchor.map(entry("a", 400_000, at)) == (at + timedelta(hours=1), 3_601_000)
