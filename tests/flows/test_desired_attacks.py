"""Rows 7 and 18 to 20 of the matrix with the real system: what is lost on the way, and what is forged.

Forged documents go the way of true ones: they are put into the database, and the real deliverer, which sites let in,
hands them over. So whoever tries has more than a thief of the database would, who has no certificate to show to sites.
"""

import html
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import connections
from django.test import Client

from agent.control import request
from agent.protocol.desired import (
    RECEIPT_TYPE,
    Document,
    digest,
    encode_document,
    envelope_document,
    read_document,
    seal_document,
)
from agent.protocol.envelope import seal_envelope
from fleet.people.services import make_user
from sites.models import Site
from sites.services.desired import put_config
from tests.conftest import PASSWORD, TEST, everything
from tests.flows.system import System, all_up, query, wait_for
from tests.flows.test_desired import IMAGE, RECEIPTS, STATE, apply, ended, runs

SIMULATOR = "demo0"
DAY = timedelta(days=1)
ANSWER = "SELECT answer, answer_reason FROM edge_sites_sitedesired WHERE site_id = %s"
ALARMS = "SELECT count(*) FROM kit_auditentry WHERE action = 'desired.alarm' AND object_id = %s"
JOURNALED = """
SELECT (body ->> 'version')::bigint, body ->> 'state' FROM edge_sites_journalentry
WHERE site_id = %s AND kind = 'receipt' ORDER BY seq
"""


def pos(version: str) -> dict[str, Any]:
    return {"name": "pos", "image": IMAGE + version * 64, "version": version}


@pytest.fixture(scope="module")
def viewer(shared_system: Any) -> Client:
    """Somebody who only looks."""
    user = make_user(actor=TEST, username="attacks-viewer", password=PASSWORD, role="viewer")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def site(shared_system: tuple[System, list[Site]]) -> Site:
    """One that nothing has happened to yet."""
    found = sorted(query("SELECT site_id FROM edge_sites_sitedesired"))
    return next(one for one in shared_system[1] if (one.pk,) not in found)


def desired_of(viewer: Client, site: Site) -> dict[str, Any]:
    """What the API says; the session of a browser is as good for that as a token."""
    answer = viewer.get(f"/api/v1/sites/{site.slug}/desired")
    assert answer.status_code == 200
    return dict(answer.json())


def journaled(site: Site, entries: list[tuple[int, str]]) -> bool:
    """Whether these, and no others, are the receipts of the site's journal, which is read now and not in a minute."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE edge_sites_journalcursor SET next_at = now() WHERE site_id = %s", [site.pk])
    return query(JOURNALED, site.pk) == entries


# Row 7 ------------------------------------------------------------------------------------------------------
def test_an_answer_that_is_lost_is_asked_for_again_and_the_document_is_applied_once(
    shared_system: tuple[System, list[Site]], site: Site, viewer: Client
) -> None:
    system, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    request(system.control, {"cmd": "fail_apply", "fault": "lost", "sites": [str(site.uuid)]})
    number = apply(site, pos("a"))
    wait_for(lambda: query(STATE, site.pk) == [(1, number, "applied")], what="its reports say that it has applied it")
    tries = "SELECT tries FROM edge_sites_sitedesired WHERE site_id = %s"
    wait_for(lambda: query(tries, site.pk)[0][0] >= 2, what="it was asked again, in vain")
    assert (query(ANSWER, site.pk), query(RECEIPTS, site.pk, number)) == ([("", "")], [])
    assert desired_of(viewer, site)["answer"] is None

    system.heal(site)
    with connections["owner"].cursor() as cursor:  # not in five minutes
        cursor.execute("UPDATE edge_sites_sitedesired SET due_at = now() WHERE site_id = %s", [site.pk])
    wait_for(lambda: ended(site, number, "applied"), what="its receipt")
    assert query(ANSWER, site.pk) == [("accepted", "")]
    assert query(RECEIPTS, site.pk, number) == [(number, "applied")]
    wait_for(partial(journaled, site, [(number, "applied")]), what="its journal says so")


def test_an_agent_that_dies_in_an_apply_ends_it_once(shared_system: tuple[System, list[Site]], site: Site) -> None:
    kill_at_random(*shared_system, site, times=1)


@pytest.mark.full
def test_an_agent_that_dies_in_many_applies_ends_each_once(
    shared_system: tuple[System, list[Site]], site: Site
) -> None:
    kill_at_random(*shared_system, site, times=20)


def kill_at_random(system: System, sites: list[Site], site: Site, *, times: int) -> None:
    """kill -9 within the seconds of an apply: the site says in the end what it came to, once, and the centre knows."""
    random = Random(7)
    numbers = []
    for turn in range(times):
        wait_for(lambda: all_up(sites), what="all up")
        number = apply(site, pos("bc"[turn % 2]))
        wait_for(lambda: query(ANSWER, site.pk)[0][0] == "accepted", what="it has the document")
        time.sleep(random.uniform(0, 3))
        system.kill(SIMULATOR)
        system.restart(SIMULATOR)
        wait_for(partial(ended, site, number, "applied"), what="it says what it came to")
        assert query(RECEIPTS, site.pk, number) == [(number, "applied")]
        numbers.append((number, "applied"))
    wait_for(partial(journaled, site, numbers), what="its journal says so")


# A blob that is gone ----------------------------------------------------------------------------------------
def test_a_document_that_names_a_blob_which_nobody_has_is_refused_and_shown_until_it_is_there(
    shared_system: tuple[System, list[Site]], site: Site, viewer: Client
) -> None:
    _, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    config = put_config(actor=TEST, rights=everything(), config={"env": {"TILL": "9"}})
    ((kind, size, body),) = query("SELECT kind, size, body FROM edge_sites_blob WHERE digest = %s", config)
    number = apply(site, pos("a") | {"config_sha256": config})
    with connections["owner"].cursor() as cursor:  # lost here after it was named
        cursor.execute("DELETE FROM edge_sites_blob WHERE digest = %s", [config])
    wait_for(lambda: query(ANSWER, site.pk) == [("refused", "blobs_missing")], what="the site refuses it")
    shown = desired_of(viewer, site)
    assert (shown["answer"]["reason"], shown["answer"]["detail"]) == ("blobs_missing", "1 blobs must be sent first")
    assert "The site lacks a configuration" in viewer.get(f"/sites/{site.slug}/desired/card/").content.decode()
    assert query(STATE, site.pk)[0][1] == 0
    with connections["owner"].cursor() as cursor:
        row = [config, kind, size, bytes(body), "nina"]
        cursor.execute(
            "INSERT INTO edge_sites_blob (digest, kind, size, body, made_by) VALUES (%s, %s, %s, %s, %s)", row
        )
        cursor.execute("UPDATE edge_sites_sitedesired SET due_at = now() WHERE site_id = %s", [site.pk])
    wait_for(lambda: ended(site, number, "applied"), what="it is handed over again, with its blob")


# Rows 18 to 20 ----------------------------------------------------------------------------------------------
class Thief:
    """Whoever has the whole database, and all that was ever signed. `real` is the fleet's own key: two rows need it."""

    def __init__(self, system: System, victim: Site, other: Site) -> None:
        self.victim = victim
        older, theirs = apply(victim, pos("a")), apply(other, pos("c"))
        for site, number in ((victim, older), (other, theirs)):
            wait_for(partial(ended, site, number, "applied"), what="the first versions")
        for site in (victim, other):
            number = apply(site, pos("b"))
            wait_for(partial(ended, site, number, "applied"), what="the second versions")
        third = apply(other, pos("d"))
        wait_for(partial(ended, other, third, "applied"), what="the other's third")
        self.older, self.held = (self.envelope(victim, number) for number in (1, 2))
        self.theirs = self.envelope(other, 3)
        pem = (system.folder / "keys" / "documents.pem").read_bytes()
        real = load_pem_private_key(pem, None)
        assert isinstance(real, Ed25519PrivateKey)
        self.real, self.own = real, Ed25519PrivateKey.generate()

    @staticmethod
    def envelope(site: Site, number: int) -> bytes:
        text = "SELECT envelope FROM edge_sites_desireddocument WHERE site_id = %s AND version = %s"
        return bytes(query(text, site.pk, number)[0][0])

    def next(self, **fields: Any) -> Document:
        """The document that would come next, with content that nobody ordered."""
        held = read_document(self.held)
        workloads = (msgspec.structs.replace(held.workloads[0], image=IMAGE + "e" * 64, version="evil"),)
        return msgspec.structs.replace(held, **{"version": 3, "workloads": workloads, **fields})

    def forged(self) -> Iterator[tuple[str, bytes, str]]:
        """What is tried, by name, and why it is to be refused."""
        now = datetime.now(UTC).replace(microsecond=0)
        yield "row 18: an older version", self.older, "older"
        yield "row 18: the same version, other bytes", seal_document(self.next(version=2), self.real), "equivocation"
        yield "row 18: another site's", self.theirs, "not_mine"
        past = self.next(issued_at=now - 8 * DAY, expires_at=now - DAY)
        yield "row 18: expired", seal_document(past, self.real), "expired"

        good = seal_document(self.next(), self.real)
        payload, public = encode_document(self.next()), self.real.public_key().public_bytes_raw()
        unsigned = good.partition(b'"signatures":')[0] + b'"signatures":[]}'
        yield "row 19: no signature", unsigned, "signature"
        yield "row 19: an unknown key", seal_document(self.next(), self.own), "signature"
        typed = seal_envelope(payload, payload_type=RECEIPT_TYPE, signing_key=self.real)
        yield "row 19: another type", typed, "signature"
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        yield "row 19: one bit", bytes(flipped), "signature"
        yield "row 19: trailing bytes", good + b"\n", "signature"

        signature = msgspec.json.decode(self.held)["signatures"][0]["sig"]
        old = msgspec.convert(signature, bytes, builtin_types=())
        yield "row 20: a signature that was seen, new content", envelope_document(payload, public, old), "signature"
        named = envelope_document(payload, public, self.own.sign(payload))
        yield "row 20: its own signature, in the name of the fleet's key", named, "signature"

    def hand_over(self, envelope: bytes) -> tuple[str, str]:
        """Have the deliverer send this; what the site answers."""
        with connections["owner"].cursor() as cursor:
            cursor.execute(
                "UPDATE edge_sites_desireddocument SET envelope = %s WHERE site_id = %s AND version = 2",
                [envelope, self.victim.pk],
            )
            cursor.execute(
                "UPDATE edge_sites_sitedesired SET answer = '', answer_reason = '', due_at = now() WHERE site_id = %s",
                [self.victim.pk],
            )
        found = wait_for(
            lambda: (rows := query(ANSWER, self.victim.pk)) != [("", "")] and rows, what="the site has answered"
        )
        answer, reason = found[0]
        return answer, reason


def test_what_is_forged_or_replayed_is_refused_shown_and_changes_nothing(
    shared_system: tuple[System, list[Site]], viewer: Client
) -> None:
    system, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    victim, other = sites[-1], sites[-2]
    thief = Thief(system, victim, other)
    card, alarms = f"/sites/{victim.slug}/desired/card/", 0
    for name, envelope, reason in thief.forged():
        assert thief.hand_over(envelope) == ("refused", reason), name
        shown = desired_of(viewer, victim)["answer"]
        assert (shown["state"], shown["reason"]) == ("refused", reason), name
        page = html.unescape(viewer.get(card).content.decode())
        assert "Refused" in page, name
        assert shown["detail"] in page, name
        assert shown["detail"], name
        alarms += reason in {"signature", "equivocation", "not_mine"}
        assert query(ALARMS, str(victim.pk)) == [(alarms,)], name
    assert query(STATE, victim.pk) == [(1, 2, "applied")]
    assert runs(victim, "b", "sha256:" + "b" * 64)
    entries = [(1, "applied"), (2, "applied"), (2, "equivocation")]
    wait_for(partial(journaled, victim, entries), what="its journal says so")

    assert thief.hand_over(thief.held) == ("accepted", "")  # the true one: unchanged, and nothing is done again
    assert apply(victim, pos("f")) == 3
    wait_for(lambda: ended(victim, 3, "applied"), what="what is true goes on")
    assert digest(thief.envelope(victim, 2)) == read_document(thief.envelope(victim, 3)).prev_sha256
    wait_for(partial(journaled, victim, [*entries, (3, "applied")]), what="its journal says so")
