"""Rows 18 and 19 of the matrix at the agent: what is refused, always, and in which order."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.apply.trust import DocumentKey, Trust
from agent.apply.verify import BlobsMissing, Floor, Situation, verify
from agent.protocol.desired import (
    DOCUMENT_TYPE,
    MAX_DOCUMENT_BYTES,
    DocumentRefused,
    digest,
    encode_plain,
)
from agent.protocol.envelope import seal_envelope
from tests.agent.apply.documents import KEY, OTHER_KEY, document, sealed, workload
from tests.agent.factories import AT, SITE
from tests.pki import FLEET

DAY = timedelta(days=1)
NOW = AT + timedelta(hours=1)
TRUST = Trust((DocumentKey(KEY.public_key().public_bytes_raw(), AT - 30 * DAY, AT + 3_650 * DAY),))
BLOB = digest(b"configuration")
HELD = sealed(7, "pos:1")
MINE = Situation(FLEET, 1, SITE, TRUST, Floor(1, 7, digest(HELD)), AT, NOW)
GOOD = sealed(8, "pos:2", prev_sha256=digest(HELD))


def all_there(blob: str) -> bool:
    return True


def none_there(blob: str) -> bool:
    return False


def refusal(body: bytes, situation: Situation = MINE, has_blob: Callable[[str], bool] = all_there) -> str:
    with pytest.raises(DocumentRefused) as caught:
        verify(body, situation, has_blob)
    return caught.value.code


def sign(payload: bytes, key: Any = KEY, kind: str = DOCUMENT_TYPE) -> bytes:
    return seal_envelope(payload, payload_type=kind, signing_key=key)


def test_a_good_document_is_accepted() -> None:
    verified = verify(GOOD, MINE, all_there)
    assert (verified.outcome, verified.sha256, verified.skipped) == ("accepted", digest(GOOD), False)
    assert verified.document == document(8, "pos:2", prev_sha256=digest(HELD))


class TestBytes:
    def test_any_bit_that_is_changed(self) -> None:
        for bit in range(len(GOOD) * 8):
            changed = bytearray(GOOD)
            changed[bit // 8] ^= 1 << bit % 8
            assert refusal(bytes(changed)) == "signature", f"bit {bit}"

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, len(GOOD) - 1))
    def test_any_truncation(self, size: int) -> None:
        assert refusal(GOOD[:size]) == "signature"

    @settings(max_examples=100, deadline=None)
    @given(st.binary(min_size=1, max_size=40))
    def test_any_trailing_bytes(self, tail: bytes) -> None:
        assert refusal(GOOD + tail) == "signature"

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_anything_else(self, body: bytes) -> None:
        assert refusal(body) == "signature"

    def test_no_signature_an_unknown_key_and_another_type(self) -> None:
        payload = encode_plain(document(8, "pos:2"))
        assert refusal(payload) == "signature"
        assert refusal(sign(payload, OTHER_KEY)) == "signature"
        assert refusal(sign(payload, kind="application/vnd.archipelago.receipt.v1+json")) == "signature"
        assert refusal(GOOD.replace(b'"signatures":[', b'"signatures":[],"x":[')) == "signature"

    def test_no_key_at_all(self) -> None:
        assert refusal(GOOD, replace(MINE, trust=Trust())) == "signature"

    @pytest.mark.parametrize(
        "change",
        [
            lambda raw: raw.replace(b'"hold":false', b'"hold":false,"hold":false'),
            lambda raw: raw.replace(b'"hold":false', b'"hold":false,"hurry":true'),
            lambda raw: raw.replace(b'"hold":false,', b""),
            lambda raw: raw.replace(b'"version":8', b'"version":8.0'),
            lambda raw: raw.replace(b'"version":8', b'"version":NaN'),
            lambda raw: raw.replace(b'"policy":{}', b'"policy":' + b'{"a":' * 40 + b"{}" + b"}" * 40),
            lambda raw: raw + b" ",
            lambda raw: raw[:-1],
            lambda raw: b"[]",
        ],
    )
    def test_what_is_signed_is_parsed_strictly(self, change: Callable[[bytes], bytes]) -> None:
        raw = encode_plain(document(8, "pos:2"))
        assert refusal(sign(change(raw))) == "malformed"
        assert change(raw) != raw


class TestOrder:
    """Each document is wrong in all the ways that come after: the first is what is said."""

    def test_each_check_comes_before_the_next(self) -> None:
        other = partial(document, fleet="other.example", expires_at=AT + timedelta(minutes=1))
        stranger = encode_plain(other(6, workloads=(workload(config_sha256=BLOB),)))
        assert refusal(b"x" * (MAX_DOCUMENT_BYTES + 1)) == "too_large"
        assert refusal(sign(b"not JSON", OTHER_KEY), MINE, none_there) == "signature"
        assert refusal(sign(stranger + b" "), MINE, none_there) == "malformed"
        assert refusal(sign(stranger), MINE, none_there) == "not_mine"
        late: dict[str, Any] = {"expires_at": AT + timedelta(minutes=1), "workloads": (workload(config_sha256=BLOB),)}
        assert refusal(sealed(6, **late), MINE, none_there) == "older"
        assert refusal(sealed(7, **late), MINE, none_there) == "equivocation"
        assert refusal(sealed(8, **late), MINE, none_there) == "expired"
        late["expires_at"] = AT + DAY
        assert refusal(sealed(8, **late), MINE, none_there) == "blobs_missing"
        assert verify(sealed(8, **late), MINE, all_there).outcome == "accepted"

    def test_the_signature_is_checked_before_anything_is_parsed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import agent.protocol.desired as module

        def parsed(*_: object) -> Any:
            raise AssertionError("parsed before the signature was checked")

        monkeypatch.setattr(module, "check_canonical", parsed)
        assert refusal(sign(encode_plain(document(8)), OTHER_KEY)) == "signature"
        with pytest.raises(AssertionError, match="parsed before"):
            verify(GOOD, MINE, all_there)

    def test_what_is_held_is_unchanged_even_when_it_has_expired(self) -> None:
        assert verify(HELD, replace(MINE, now=AT + 30 * DAY), none_there).outcome == "unchanged"


@pytest.mark.parametrize(
    "fields", [{"fleet": "other.example"}, {"provider": 2}, {"site": UUID("3f6c1c1e-7f2d-4c55-9d0a-0a4c8a1f2b11")}]
)
def test_somebody_elses_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(sealed(8, "pos:2", **fields)) == "not_mine"


class TestVersions:
    def test_a_later_epoch_wins_over_any_version(self) -> None:
        assert verify(sealed(1, "pos:2", epoch=2), MINE, all_there).outcome == "accepted"
        assert refusal(sealed(900, "pos:2", epoch=0)) == "older"

    def test_what_was_lost_here_may_come_again_but_nothing_else_of_its_number(self) -> None:
        lost = replace(MINE, floor=replace(MINE.floor or Floor(0, 0, ""), held=False))
        assert verify(HELD, lost, all_there).outcome == "accepted"
        assert refusal(sealed(7, "pos:other"), lost) == "equivocation"

    def test_a_predecessor_that_was_never_here_is_recorded_not_refused(self) -> None:
        assert verify(sealed(9, "pos:2", prev_sha256=digest(b"8")), MINE, all_there).skipped
        assert verify(sealed(9, "pos:2"), MINE, all_there).skipped
        assert not verify(sealed(9, "pos:2"), replace(MINE, floor=None), all_there).skipped

    def test_missing_blobs_are_named(self) -> None:
        body = sealed(8, workloads=(workload(config_sha256=BLOB), workload("api", config_sha256=digest(b"2"))))
        with pytest.raises(BlobsMissing) as caught:
            verify(body, MINE, lambda blob: blob == BLOB)
        assert caught.value.blobs == (digest(b"2"),)


class TestClocks:
    """Row 10 of the matrix: expired stays expired."""

    def test_a_clock_set_back_makes_nothing_valid_again(self) -> None:
        old = sealed(8, "pos:2", expires_at=AT + timedelta(hours=2))
        assert verify(old, MINE, all_there).outcome == "accepted"
        seen = replace(MINE, seen_at=AT + DAY)
        assert refusal(old, replace(seen, now=AT - 700 * DAY)) == "expired"
        assert refusal(old, replace(seen, now=AT + timedelta(hours=1))) == "expired"

    def test_a_clock_ahead_is_said(self) -> None:
        with pytest.raises(DocumentRefused) as caught:
            verify(GOOD, replace(MINE, now=AT + 730 * DAY), all_there)
        assert caught.value.code == "expired"
        assert "the clock of this machine says 2028-11-22T21:00:00.000Z: is it right?" in caught.value.reason

    def test_a_clock_behind_all_keys_is_said(self) -> None:
        with pytest.raises(DocumentRefused) as caught:
            verify(GOOD, replace(MINE, now=AT - 730 * DAY, seen_at=None), all_there)
        assert caught.value.code == "signature"
        assert caught.value.reason.startswith("the clock of this machine says 2024-11-23")


def test_verifying_takes_less_than_a_millisecond() -> None:
    body = sealed(8, *(f"workload-{n}:2" for n in range(10)), prev_sha256=digest(HELD))
    best_s = float("inf")
    for _ in range(5):
        began_s = time.process_time()
        for _ in range(20):
            verify(body, MINE, all_there)
        best_s = min(best_s, (time.process_time() - began_s) / 20)
    assert best_s < 0.001
