import contextlib
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.protocol import (
    KINDS,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    Busy,
    Component,
    ProtocolError,
    Report,
    Resources,
    Verdict,
    Workload,
    components_digest,
    decode_report,
    encode_report,
    format_time,
)
from tests.agent.factories import AT, as_bytes, make_body, make_report


def refusal(body: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode_report(body)
    assert type(caught.value) is ProtocolError
    assert caught.value.reason == str(caught.value)
    assert 0 < len(caught.value.reason) <= 200
    assert caught.value.reason.isprintable()
    return caught.value.reason


def texts(max_size: int, min_size: int = 0) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=min_size, max_size=max_size)


class TestDigest:
    def test_is_that_of_the_published_vector(self) -> None:
        pos = Component("workload", "pos", "4.2.1", "sha256:aa")
        linux = Component("kernel", "linux", "6.1.0-21-amd64", None)
        expected = "sha256:8e51724b6d16b3f6ab09403927ef5e8bbfff0cf603b9468fff3580db45a23ba5"
        assert components_digest([linux, pos]) == expected
        assert components_digest([pos, linux]) == expected

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(KINDS), texts(20), st.none() | texts(20), st.none() | texts(20))))
    def test_is_that_of_the_standard_library(self, rows: list[tuple[Any, str, str | None, str | None]]) -> None:
        unique = {row[:2]: row for row in rows}
        text = json.dumps([list(unique[key]) for key in sorted(unique)], separators=(",", ":"), ensure_ascii=False)
        expected = "sha256:" + sha256(text.encode()).hexdigest()
        assert components_digest(Component(*row) for row in unique.values()) == expected


class TestGoodReports:
    def test_round_trip(self) -> None:
        report = make_report(busy=Busy(AT + timedelta(hours=1), "inventory count"))
        assert decode_report(encode_report(report)) == report

    def test_the_wire_has_exactly_the_published_fields_and_milliseconds(self) -> None:
        body = json.loads(encode_report(make_report(at=AT + timedelta(microseconds=123_456))))
        assert list(body) == [
            "protocol", "site", "boot", "mono_ms", "at", "verdict", "resources", "components_digest", "components",
            "image_bytes", "workloads", "desired", "busy", "journal_seq", "journal_head",
        ]  # fmt: skip
        assert body["at"] == "2026-11-23T21:00:00.123Z"
        assert body["verdict"] == {"state": "up", "since": "2026-11-23T21:00:00.000Z", "reasons": []}
        assert list(body["resources"]) == [
            "cpu_count", "cpu_ratio", "load1", "mem_bytes", "mem_total_bytes", "disk_bytes", "disk_total_bytes",
            "net_rx_bytes_total", "net_tx_bytes_total", "temp_celsius", "power_watts",
        ]  # fmt: skip
        assert body["components"][0] == {
            "kind": "kernel",
            "name": "linux",
            "version": "6.1.0-21-amd64",
            "digest": None,
        }
        assert list(body["workloads"][0]) == [
            "name", "managed", "state", "health", "cpu_ratio", "mem_bytes", "mem_limit_bytes", "restarts",
        ]  # fmt: skip
        assert body["desired"] == {"epoch": 1, "version": 7, "state": "applied", "detail": ""}

    def test_the_least_report_has_defaults(self) -> None:
        report = decode_report(as_bytes(make_body()))
        assert (report.components, report.workloads, report.desired, report.busy) == (None, (), None, None)
        assert (report.journal_seq, report.journal_head) == (0, None)
        assert report.resources.temp_celsius is None

    def test_unknown_fields_are_ignored_and_of_duplicate_keys_the_last_wins(self) -> None:
        body = as_bytes(make_body(novelty={"a": [1, {"b": None}]}))
        assert decode_report(body[:-1] + b',"boot":"x","boot":"y"}').boot == "y"

    def test_a_clock_far_in_the_future_is_accepted(self) -> None:
        assert decode_report(as_bytes(make_body(at="9998-12-31T23:59:59.999Z"))).at.year == 9998

    def test_blanks_and_line_ends_between_tokens_are_fine(self) -> None:
        assert decode_report(json.dumps(make_body(), indent="\t").replace("\n", "\r\n").encode()).boot == "b"

    def test_text_beyond_ascii_is_kept_however_it_is_escaped(self) -> None:
        for ensure_ascii in (True, False):
            body = json.dumps(make_body(boot='Kö\\n"ln 🌍 \u202e'), ensure_ascii=ensure_ascii).encode()
            assert decode_report(body).boot == 'Kö\\n"ln 🌍 \u202e'

    def test_brackets_within_strings_do_not_nest(self) -> None:
        reason = '[{"' * 60 + "\\"
        body = as_bytes(make_body(verdict={"state": "up", "since": format_time(AT), "reasons": [reason]}))
        assert decode_report(body).verdict.reasons == (reason,)

    def test_512_components_and_workloads_fit(self) -> None:
        components = tuple(Component("config", f"c{i}", "1") for i in range(512))
        workloads = tuple(Workload(name=f"w{i}", state="running") for i in range(512))
        report = make_report(components=components, workloads=workloads)
        assert decode_report(encode_report(report)) == report

    def test_nesting_up_to_the_limit_is_accepted(self) -> None:
        levels = MAX_DEPTH - 1
        assert decode_report(as_bytes(make_body())[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}").boot == "b"

    def test_format_time_converts_to_utc(self) -> None:
        assert format_time(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:00:00.000Z"


def nested(**fields: Any) -> dict[str, Any]:
    return {**make_body()["resources"], **fields}


BAD_FIELDS: dict[str, dict[str, Any]] = {
    "a missing field": {"boot": ...},
    "no resources": {"resources": ...},
    "resources without CPU": {"resources": {"cpu_count": 1}},
    "no verdict": {"verdict": ...},
    "no digest": {"components_digest": ...},
    "a string for a number": {"mono_ms": "1"},
    "a boolean for a number": {"mono_ms": True},
    "a fraction for a count": {"mono_ms": 1.5},
    "a number for a string": {"boot": 1},
    "a list for an object": {"verdict": []},
    "an object for a list": {"workloads": {}},
    "null for a number": {"mono_ms": None},
    "a negative count": {"mono_ms": -1},
    "a count of 64 bits": {"mono_ms": 2**63},
    "a count of 5,000 digits": {"mono_ms": "DIGITS"},
    "a ratio above 1": {"resources": nested(cpu_ratio=1.01)},
    "a ratio below 0": {"resources": nested(cpu_ratio=-0.01)},
    "no core": {"resources": nested(cpu_count=0)},
    "colder than possible": {"resources": nested(temp_celsius=-300)},
    "negative power": {"resources": nested(power_watts=-1)},
    "an unknown verdict": {"verdict": {"state": "fine", "since": "2026-11-23T20:00:00Z"}},
    "too many reasons": {"verdict": {"state": "up", "since": "2026-11-23T20:00:00Z", "reasons": [""] * 65}},
    "a long reason": {"verdict": {"state": "up", "since": "2026-11-23T20:00:00Z", "reasons": ["x" * 513]}},
    "an empty boot id": {"boot": ""},
    "a long boot id": {"boot": "b" * 65},
    "no UUID": {"site": "site-1"},
    "a time without a zone": {"at": "2026-11-23T21:00:00"},
    "a time in another zone": {"at": "2026-11-23T21:00:00+01:00"},
    "a verdict in another zone": {"verdict": {"state": "up", "since": "2026-11-23T20:00:00+01:00"}},
    "busy in another zone": {"busy": {"until": "2026-11-23T20:00:00+01:00"}},
    "a time that is no date": {"at": "2026-02-30T21:00:00Z"},
    "a time as a number": {"at": 1_700_000_000},
    "a digest of another form": {"components_digest": "md5:00"},
    "a digest with a line end": {"components_digest": "sha256:" + "0" * 64 + "\n"},
    "a journal head of another form": {"journal_head": "sha256:aa"},
    "an unknown kind": {"components": [{"kind": "firmware", "name": "bios"}]},
    "a component without a name": {"components": [{"kind": "os", "name": ""}]},
    "513 components": {"components": [{"kind": "config", "name": f"c{i}"} for i in range(513)]},
    "the size of something that is no digest": {"image_bytes": {"pos": 1}},
    "a negative size": {"image_bytes": {"sha256:" + "0" * 64: -1}},
    "513 sizes": {"image_bytes": {f"sha256:{i:064x}": 1 for i in range(513)}},
    "513 workloads": {"workloads": [{"name": "w", "state": "running"}] * 513},
    "a long workload name": {"workloads": [{"name": "w" * 513, "state": "running"}]},
    "components of another digest": {"components": [{"kind": "os", "name": "debian", "version": "12"}]},
}


class TestBadReports:
    @pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS)
    def test_a_bad_field_is_refused(self, fields: dict[str, Any]) -> None:
        refusal(as_bytes(make_body(**fields)).replace(b'"DIGITS"', b"7" * 5_000))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xef\xbb\xbf{}",
            as_bytes(make_body())[:-1],
            as_bytes(make_body()) + b"x",
            as_bytes(make_body()).replace(b"0.31", b"NaN"),
            as_bytes(make_body()).replace(b"0.31", b"Infinity"),
            as_bytes(make_body()).replace(b"0.31", b"1e999"),
            as_bytes(make_body()).replace(b"0.31", b"7" * 5_000),
            as_bytes(make_body()).replace(b"0.31", b"0.31,"),
            as_bytes(make_body()).replace(b'"', b"'"),
        ],
    )
    def test_what_is_no_such_json_is_refused(self, body: bytes) -> None:
        refusal(body)

    @pytest.mark.parametrize("where", ["boot", "unknown", "key"])
    @pytest.mark.parametrize(
        "bad",
        [rb"\u0000", rb"\u001F", rb"\n", rb"\t", rb"\u007f", rb"\u0085", rb"\\\u0000", b"\x00", b"\x1f", b"\n",
         b"\x7f", b"\xc2\x85", rb"\ud800", rb"\udc00", rb"\ud83d\u0041",
         rb"\udc00\ud800", b"\xed\xa0\x80", b"\xff", b"\xc0\x80"],
    )  # fmt: skip
    def test_control_characters_and_surrogates_are_refused_everywhere(self, bad: bytes, where: str) -> None:
        body = as_bytes(make_body())
        if where == "boot":
            body = body.replace(b'"boot": "b"', b'"boot": "b' + bad + b'"')
        elif where == "unknown":
            body = body[:-1] + b',"x":"' + bad + b'"}'
        else:
            body = body[:-1] + b',"' + bad + b'":1}'
        refusal(body)

    @pytest.mark.parametrize(
        "inner",
        [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 32 + b"1" + b"}" * 32, b"[" * 32 + b"]" * 32],
    )
    def test_deep_nesting_is_refused(self, inner: bytes) -> None:
        assert "nest" in refusal(as_bytes(make_body())[:-1] + b',"x":' + inner + b"}")
        refusal(inner)

    def test_a_body_above_the_limit_is_refused_unread(self) -> None:
        good = as_bytes(make_body())
        assert decode_report(good + b" " * (MAX_BODY_BYTES - len(good))).boot == "b"
        assert "above" in refusal(good + b" " * (MAX_BODY_BYTES - len(good) + 1))

    @pytest.mark.parametrize("number", [0, 2, -1, 2**63 - 1, 10**30])
    def test_another_protocol_number_is_said_first(self, number: int) -> None:
        assert refusal(as_bytes(make_body(protocol=number))).startswith("protocol ")
        if abs(number) < 2**63:
            assert refusal(as_bytes({"protocol": number})) == f"protocol {number}, expected 1"

    def test_a_name_twice_is_refused(self) -> None:
        pair = (Component("os", "debian", "12"), Component("os", "debian", "13"))
        assert "two components" in refusal(encode_report(make_report(components=pair)))

    def test_a_digest_of_other_components_is_refused(self) -> None:
        wrong = msgspec.structs.replace(make_report(), components_digest="sha256:" + "0" * 64)
        assert "components_digest" in refusal(encode_report(wrong))

    @pytest.mark.parametrize(
        "body",
        [b'"\\' * 524_288, b'{"' + b'\\"' * 500_000 + b"\\", b"[" * 1_048_576, b"[]" * 524_288, b"\\u0020" * 170_000,
         b'[""' * 260_000, b"{" * 33 + b'"' * 1_000_000, b'{"x":"' + rb"\ud83d\ude00" * 80_000 + b"[" * 40 + b'"}'],
    )  # fmt: skip
    def test_a_megabyte_of_malice_is_refused_in_a_moment(self, body: bytes) -> None:
        begin_s = time.process_time()
        refusal(body)
        assert time.process_time() - begin_s < 0.5

    def test_a_reason_never_carries_hostile_text_raw(self) -> None:
        reason = refusal(as_bytes(make_body(verdict={"state": "\u202e" + "x" * 400, "since": "2026-11-23T20:00:00Z"})))
        assert "\u202e" not in reason


counts = st.integers(0, 2**63 - 1)
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
ratios = st.floats(0, 1)
times = st.datetimes(timezones=st.just(UTC)).map(lambda t: t.replace(microsecond=t.microsecond // 1_000 * 1_000))
components = st.lists(
    st.builds(Component, st.sampled_from(KINDS), texts(20, 1), st.none() | texts(20), st.none() | texts(20)),
    max_size=8,
    unique_by=lambda c: (c.kind, c.name),
).map(tuple)
resources = st.builds(
    Resources,
    cpu_count=st.integers(1, 65_536),
    cpu_ratio=ratios,
    load1=st.none() | st.floats(0, 1_000),
    mem_bytes=counts,
    mem_total_bytes=counts,
    disk_bytes=counts,
    disk_total_bytes=counts,
    net_rx_bytes_total=st.none() | counts,
    temp_celsius=st.none() | st.floats(-50, 120),
)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    return make_report(
        site=draw(st.uuids()),
        boot=draw(texts(64, 1)),
        mono_ms=draw(counts),
        at=draw(times),
        verdict=Verdict(
            draw(st.sampled_from(("up", "degraded", "down"))), draw(times), tuple(draw(st.lists(texts(40), max_size=4)))
        ),
        resources=draw(resources),
        components=draw(components.filter(bool)),
        image_bytes=draw(st.none() | st.dictionaries(digests, counts, max_size=4)),
        busy=draw(st.none() | st.builds(Busy, times, texts(20))),
        journal_seq=draw(counts),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
GOOD = encode_report(make_report())


class TestFuzz:
    @settings(deadline=None)
    @given(reports())
    def test_every_report_survives_the_wire(self, report: Report) -> None:
        assert decode_report(encode_report(report)) == report

    @settings(deadline=None)
    @given(st.binary(max_size=400))
    @example(b'{"protocol":')
    def test_bytes_raise_nothing_but_protocol_errors(self, body: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            decode_report(body)

    @settings(deadline=None)
    @given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=40))
    def test_damaged_reports_raise_nothing_but_protocol_errors(self, at: int, length: int, patch: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            decode_report(GOOD[:at] + patch + GOOD[at + length :])

    @settings(deadline=None)
    @given(st.sampled_from([*make_body(), "components", "workloads", "desired", "busy"]), json_values)
    def test_fields_of_any_type_raise_nothing_but_protocol_errors(self, name: str, value: Any) -> None:
        with contextlib.suppress(ProtocolError):
            decode_report(as_bytes(make_body(**{name: value})))
