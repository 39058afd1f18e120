"""Entries in bytes, and pages from hostile bytes."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from agent.protocol import Component, ProtocolError, Verdict, components_digest
from agent.protocol.entries import (
    ENTRY_KINDS,
    GENESIS,
    MAX_ENTRY_BYTES,
    Access,
    Alive,
    Body,
    Components,
    Gap,
    Receipt,
    Start,
    decode_entry,
    digest_of,
    encode_entry,
    entry_digest,
    kind_of,
)
from agent.protocol.envelope import key_id, seal_envelope
from agent.protocol.journal import (
    PAGE_TYPE,
    AckAnswer,
    AckRequest,
    decode_ack,
    decode_ack_answer,
    encode_ack,
    open_page,
)
from tests.agent.factories import AT, COMPONENTS, SITE
from tests.agent.journals import KEY, PUBLIC, SAMPLE, UP, make_chain, make_entry, make_page, open_made, sign

BODIES: tuple[Body, ...] = (
    Start(1_234, "0.1.0", None, AT),
    UP,
    Components(components_digest(COMPONENTS), COMPONENTS),
    Alive(),
    SAMPLE,
    Receipt(1, 7, "applied", "größer"),
    Access("root", "console", "refused"),
    Gap(3, 9, {"sample": 2, "alive": 1}, "bound"),
)
CHAIN = make_chain(BODIES)


def refusal(body: bytes, *, after: int = 0, prev: str | None = None) -> str:
    with pytest.raises(ProtocolError) as caught:
        open_made(body, after=after, prev=prev)
    assert type(caught.value) is ProtocolError
    return caught.value.reason


class TestEntry:
    def test_bytes_and_digest_are_those_of_the_published_vector(self) -> None:
        entry = make_entry(1, GENESIS, Verdict("degraded", AT, ('workload "pos" is unhealthy',)))
        expected = (
            '{"seq":1,"prev":"sha256:0000000000000000000000000000000000000000000000000000000000000000",'
            '"boot":"84bd36e5-1ff2-4c0a-a7a8-bad60a869b7c","mono_ms":60000,"at":"2026-11-23T21:01:00.000Z",'
            '"kind":"verdict","body":{"state":"degraded","since":"2026-11-23T21:00:00.000Z",'
            '"reasons":["workload \\"pos\\" is unhealthy"]}}'
        )
        assert encode_entry(entry).decode() == expected
        assert entry_digest(entry) == "sha256:4221762f32be56807e6f51549b51687efbe91602772c87d29165f703b24abe7e"

    def test_every_kind_survives_the_way_through_bytes(self) -> None:
        assert {kind_of(body) for body in BODIES} == set(ENTRY_KINDS)
        for seq, (raw, body) in enumerate(zip(CHAIN, BODIES, strict=True), start=1):
            prev = digest_of(CHAIN[seq - 2]) if seq > 1 else GENESIS
            assert decode_entry(raw) == make_entry(seq, prev, body)
            assert digest_of(raw) == entry_digest(decode_entry(raw))
            assert json.dumps(json.loads(raw), separators=(",", ":"), ensure_ascii=False).encode() == raw

    def test_what_breaks_a_bound_is_refused(self) -> None:
        many = tuple(Component("workload", f"{i:0512}") for i in range(512))
        bad: list[Body] = [
            Gap(3, 1, {}, "bound"),
            Components("sha256:" + "0" * 64, COMPONENTS),
            Components(components_digest(many), many),
            Access("a\x00", "b", "c"),
            Access("", "b", "c"),
            Receipt(-1, 0, "x"),
        ]
        for body in bad:
            raw = encode_entry(make_entry(1, GENESIS, body))
            with pytest.raises(ProtocolError):
                decode_entry(raw)
        assert len(encode_entry(make_entry(1, GENESIS, bad[2]))) > MAX_ENTRY_BYTES


class TestPage:
    def test_opens(self) -> None:
        page = open_made(make_page(CHAIN))
        assert [entry.body for entry in page.entries] == list(BODIES)
        assert page.digests == tuple(digest_of(raw) for raw in CHAIN)
        assert (page.after, page.to, page.head, page.holes) == (0, 8, digest_of(CHAIN[-1]), ())
        rest = open_made(make_page(CHAIN[3:], after=3), after=3, prev=digest_of(CHAIN[2]))
        assert rest.entries == page.entries[3:]

    def test_may_be_empty(self) -> None:
        head = digest_of(CHAIN[-1])
        for after, claimed, prev in ((0, GENESIS, None), (8, head, head), (8, head, None)):
            page = open_made(make_page([], after=after, head=claimed), after=after, prev=prev)
            assert (page.entries, page.to, page.head) == ((), after, claimed)
        assert refusal(make_page([], after=8, head=GENESIS), after=8, prev=head) == "an empty page that ends elsewhere"
        assert refusal(make_page([], head=head)) == "an empty page that ends elsewhere"

    def test_any_dsse_library_verifies_it(self) -> None:
        key = SSlibKey(key_id(PUBLIC), "ed25519", "ed25519", {"public": PUBLIC.hex()})
        envelope = Envelope.from_dict(json.loads(make_page(CHAIN)))
        assert list(envelope.verify([key], 1)) == [key.keyid]

    def test_unknown_members_are_ignored_and_hashed(self) -> None:
        raw = CHAIN[0][:-2] + b',"later":{"x":1.5}}}'
        page = open_made(make_page([raw]))
        assert page.entries[0].body == BODIES[0]
        assert page.digests == ("sha256:" + sha256(raw).hexdigest(),)

    @settings(deadline=None, max_examples=500)
    @given(st.data())
    def test_any_flipped_bit_is_refused(self, data: st.DataObject) -> None:
        body = bytearray(make_page(CHAIN[:3]))
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] ^= 1 << data.draw(st.integers(0, 7))
        refusal(bytes(body))

    def test_any_changed_byte_of_the_envelope_is_refused(self) -> None:
        body = make_page(CHAIN[:1])
        for at in range(len(body)):
            refusal(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
            refusal(body[:at])
            refusal(body[:at] + b" " + body[at:])
        refusal(body + b"\n")

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
    def test_any_signed_nonsense_is_refused(self, payload: bytes | str) -> None:
        payload = payload.encode() if isinstance(payload, str) else payload
        refusal(payload)
        refusal(sign(payload))

    @settings(deadline=None, max_examples=300)
    @given(st.data())
    def test_a_signed_page_with_damage_is_refused_or_says_the_same(self, data: st.DataObject) -> None:
        payload = bytearray(base64.b64decode(json.loads(make_page(CHAIN[:3]))["payload"]))
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] ^= 1 << data.draw(st.integers(0, 7))
        try:
            page = open_made(sign(bytes(payload)))
        except ProtocolError:
            return
        assert page == open_made(make_page(CHAIN[:3]))  # a letter of the site's id in upper case

    def test_the_envelope_is_strict(self) -> None:
        body = make_page(CHAIN)
        whole = json.loads(body)
        signature = whole["signatures"][0]
        other = Ed25519PrivateKey.generate()
        payload = base64.b64decode(whole["payload"])
        wrong: dict[str, Any] = {
            "none": {**whole, "signatures": []},
            "two": {**whole, "signatures": [signature, signature]},
            "type": {**whole, "payloadType": "application/json"},
            "extra": {**whole, "more": 1},
            "keyid": {**whole, "signatures": [{**signature, "keyid": "a"}]},
            "short": {**whole, "signatures": [{**signature, "sig": "AAAA"}]},
        }
        for fields in wrong.values():
            refusal(msgspec.json.encode(fields))
        assert refusal(seal_envelope(payload, payload_type=PAGE_TYPE, signing_key=other)) == "signed by another key"
        refusal(seal_envelope(payload, payload_type=PAGE_TYPE + "2", signing_key=KEY))
        assert refusal(json.dumps(whole).encode()) == "the envelope is not in canonical form"
        assert refusal(body.replace(b'{"payloadType"', b'{"payload":"","payloadType"', 1)).startswith("the envelope")
        assert refusal(b" " * (1 << 20) + b" ") == "body of 1048577 bytes is above 1048576"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda p: p.replace(b'"to":', b'"to":9,"to":'),
            lambda p: p.replace(b'"seq":1,', b'"seq":2,"seq":1,'),
            lambda p: p.replace(b'"temp_celsius":41.5', b'"temp_celsius":NaN'),
            lambda p: p.replace(b'"temp_celsius":41.5', b'"temp_celsius":1e999'),
            lambda p: p.replace(b'"temp_celsius":41.5', b'"temp_celsius":4.15e1'),
            lambda p: p.replace(b'"uptime_ms":1234', b'"uptime_ms":' + b"1" * 5_000),
            lambda p: p.replace(b'"body":{}', b'"body":{"x":' + b"[" * 40 + b"]" * 40 + b"}"),
            lambda p: p.replace(b'"body":{}', b'"body":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
            lambda p: p.replace(b'"root"', b'"r\\u0000t"'),
            lambda p: p.replace(b'"root"', b'"r\\ud800t"'),
            lambda p: p.replace(b'"root"', b'"\\u0072oot"'),
            lambda p: p.replace(b'"root"', b'"r\xfft"'),
            lambda p: p.replace(b'"root"', b'"r\xc2\x85t"'),
            lambda p: p.replace(b":", b": "),
            lambda p: p + b" ",
            lambda p: p[:-1],
            lambda p: b"[" + p + b"]",
            lambda p: p.replace(b'"kind":"alive"', b'"kind":"other"'),
            lambda p: p.replace(b'"at":"2026-11-23T21:01:00.000Z"', b'"at":"2026-11-23T21:01:00.000+01:00"'),
        ],
    )
    def test_a_signed_payload_is_strict(self, spoil: Callable[[bytes], bytes]) -> None:
        payload = base64.b64decode(json.loads(make_page(CHAIN))["payload"])
        assert spoil(payload) != payload
        refusal(sign(spoil(payload)))

    def test_the_chain_is_followed(self) -> None:
        assert refusal(make_page([CHAIN[0], CHAIN[2]])) == "entry 3 where 2 was due"
        assert refusal(make_page([CHAIN[1], CHAIN[0]], to=2)) == "entry 2 where 1 was due"
        assert refusal(make_page([CHAIN[0], CHAIN[0]])) == "entry 1 where 2 was due"
        edited = CHAIN[0].replace(b"1234", b"1235")
        assert refusal(make_page([edited, *CHAIN[1:]])) == "entry 2 does not follow the one before"
        assert refusal(make_page(CHAIN[3:], after=3), after=3, prev=GENESIS) == "entry 4 does not follow the one before"
        assert (
            refusal(make_page(make_chain(BODIES, prev="sha256:" + "1" * 64)))
            == "entry 1 does not follow the one before"
        )
        assert refusal(make_page(CHAIN, head=GENESIS)) == "the page does not end as it says"
        assert refusal(make_page(CHAIN, to=9)) == "the page does not end as it says"
        assert refusal(make_page(CHAIN), after=1) == "a page from 1, asked for 2"
        assert refusal(make_page(CHAIN, site="00000000-0000-0000-0000-000000000000")) == "the page of another site"
        for name in ("site", "from", "to", "head", "holes", "entries"):
            assert "missing required field" in refusal(make_page(CHAIN, **{name: ...}))

    def test_holes_are_named_exactly(self) -> None:
        page = open_made(make_page([CHAIN[0], CHAIN[3], CHAIN[7]], holes=((2, 3), (5, 7))))
        assert page.holes == ((2, 3), (5, 7))
        assert [entry.seq for entry in page.entries] == [1, 4, 8]
        some = [CHAIN[0], CHAIN[3]]
        for holes in ((), ((2, 4),), ((2, 2),), ((1, 3),), ((2, 3), (5, 6)), ((5, 6), (2, 3))):
            refusal(make_page(some, holes=holes))
        assert refusal(make_page(CHAIN, holes=((9, 9),))) == "a hole where nothing is missing"
        assert refusal(make_page([], holes=((1, 4),), to=4)) == "an empty page that ends elsewhere"

    def test_only_a_gap_begins_anew_after_a_hole(self) -> None:
        anew = make_chain([Gap(1, 4_005, {}, "damaged"), Alive()], first=4_006)
        page = open_made(make_page(anew, after=8, holes=((9, 4_005),)), after=8, prev=digest_of(CHAIN[-1]))
        assert page.to == 4_007
        alive = make_chain([Alive()], first=20)
        assert refusal(make_page(alive, holes=((1, 19),))) == "entry 20 begins anew and is no gap"
        gap = make_chain([Gap(1, 8, {}, "damaged")], first=9)
        assert refusal(make_page(gap, after=8), after=8, prev=digest_of(CHAIN[-1])).startswith(
            "entry 9 does not follow"
        )

    def test_sizes_are_bounded(self) -> None:
        assert len(open_made(make_page(make_chain([Alive()] * 1_000))).entries) == 1_000
        refusal(make_page(make_chain([Alive()] * 1_001)))
        big = Components("sha256:" + "0" * 64, None)
        raw = encode_entry(make_entry(1, GENESIS, big))[:-2]
        limit = raw + b',"pad":"' + b"x" * (MAX_ENTRY_BYTES - len(raw) - 11) + b'"}}'
        assert len(limit) == MAX_ENTRY_BYTES
        assert open_made(make_page([limit])).to == 1
        assert refusal(make_page([limit.replace(b"xx", b"xxx", 1)])) == "entry of 256001 bytes is above 256000"
        assert refusal(sign(b'"' + b"x" * 600_000 + b'"')) == "page of 600002 bytes is above 600000"


def test_acknowledgements() -> None:
    request = AckRequest(7, GENESIS)
    assert decode_ack(encode_ack(request)) == request
    answer = AckAnswer("refused", 3, "other_head")
    assert decode_ack_answer(encode_ack(answer)) == answer
    for body in (b"", b"{}", b'{"upto":0,"head":"%b"}' % GENESIS.encode(), b'{"upto":1,"head":"x"}', b" " * 5_000):
        with pytest.raises(ProtocolError):
            decode_ack(body)
    with pytest.raises(ProtocolError):
        decode_ack_answer(b'{"state":"maybe","acked":1}')


def test_a_page_is_of_one_site_and_key() -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(ProtocolError, match="signed by another key"):
        open_page(make_page(CHAIN), site=SITE, signing_key=other, after=0, prev=None)
