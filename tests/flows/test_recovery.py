"""Row 6 of the matrix with the real system: a restore of an older backup, and sites that have more than it knows."""

import os
import sqlite3
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db import connections
from django.test import Client
from psycopg.conninfo import make_conninfo

from agent.apply.record import Newest, pack, unpack
from agent.apply.store import FILE
from fleet.kit import signing
from fleet.kit.errors import Conflict
from fleet.kit.signing import SignerRefused
from fleet.stack.safekeeping import backup, restore
from sites.models import Provider, Site
from sites.services import desired
from tests.conftest import TEST, everything
from tests.flows.system import System, all_up, query, wait_for
from tests.flows.test_desired import IMAGE, REASON, STATE, apply, ended

CENTRE = ("beat", "tick", "poller0", "gateway", "signer")
SIMULATOR = "demo0"
ABSURD = 2**40
DOCUMENTS = "SELECT version, sha256, refused FROM edge_sites_desireddocument WHERE site_id = %s ORDER BY version"
RECOVERING = "SELECT site_id FROM edge_sites_sitedesired WHERE recovering ORDER BY site_id"
COUNTERS = "SELECT recovering, version, last_sha256 FROM edge_sites_sitedesired WHERE site_id = %s"


def pos(version: str) -> dict[str, Any]:
    """A workload; each version is another image."""
    return {"name": "pos", "image": IMAGE + version * 64, "version": version}


def give(site: Site, version: str) -> int:
    """Give the site its next version, and wait until that is applied."""
    number = apply(site, pos(version))
    wait_for(lambda: ended(site, number, "applied"), what=f"version {number} is applied")
    return number


def signed_versions(system: System) -> dict[str, tuple[int, str]]:
    """What the signer's ledger has of each site: its newest version and the hash of that."""
    with sqlite3.connect(system.folder / "keys" / "ledger.sqlite") as ledger:
        return {
            site: (version, sha256)
            for site, version, sha256 in ledger.execute("SELECT site, version, sha256 FROM signed")
        }


def put_back(system: System, path: Path) -> None:
    """Stop the centre, restore, start it again."""
    for name in CENTRE:
        system.end(name)
    system.close_connections()
    owner = make_conninfo(os.environ["DATABASE_OWNER_URL"], dbname=connections["owner"].settings_dict["NAME"])
    said = list(restore(Namespace(path=path, keys=None, replace=True), owner))
    assert said[0].startswith("restored: the database as of ")
    system.start_identity()
    for name in ("beat", "tick", "poller0"):
        system.restart(name)


def boast(system: System, site: Site) -> None:
    """Have a site, while its agent is not running, keep an absurd number beside its newest document."""
    with sqlite3.connect(system.folder / "sites" / FILE) as kept:
        where = "site = ? AND slot = 'newest'"
        ((packed,),) = kept.execute(f"SELECT packed FROM kept WHERE {where}", [site.uuid.bytes]).fetchall()
        forged = pack(msgspec.structs.replace(unpack(packed, Newest), version=ABSURD))
        kept.execute(f"UPDATE kept SET packed = ? WHERE {where}", [forged, site.uuid.bytes])


def refused_orders(site: Site) -> None:
    """Neither a version nor a freeze is given out."""
    with pytest.raises(Conflict, match="has not told its counters"):
        apply(site, pos("f"))
    with pytest.raises(Conflict, match="has not told its counters"):
        desired.set_hold(actor=TEST, rights=everything(), site=site, hold=True, reason=REASON)


@pytest.mark.full  # in short: tests/sites/test_restore.py, and TestRecovery of tests/sites/test_desired.py
def test_after_a_restore_nothing_is_signed_for_a_site_before_it_has_told_what_it_has(
    system: System,
    plain_static: None,
    make_provider: Callable[..., Provider],
    signed_in: Callable[..., Client],
    api_client: Callable[..., Client],
    tmp_path: Path,
) -> None:
    sites = system.start_sites(3, provider_id=make_provider().pk, dial_out=[1])
    wait_for(lambda: all_up(sites), what="three sites up")
    dialled, linked, liar = sites
    for site in sites:
        assert give(site, "a") == 1
    # The backup is made while two orders wait for their signature: once restored they are there to be signed again.
    system.end("signer")
    waiting = [apply(site, pos("b")) for site in (dialled, liar)]
    owner = make_conninfo(os.environ["DATABASE_OWNER_URL"], dbname=connections["owner"].settings_dict["NAME"])
    list(backup(Namespace(path=tmp_path / "old.backup", keys=False), owner))
    system.restart("signer")
    for site, number in zip((dialled, liar), waiting, strict=True):
        wait_for(lambda site=site, number=number: ended(site, number, "applied"), what="signed after the backup")
    assert (give(dialled, "c"), give(linked, "b")) == (3, 2)
    lost = {site.pk: query(DOCUMENTS, site.pk) for site in sites}
    signed = signed_versions(system)

    system.kill(SIMULATOR)
    boast(system, liar)
    put_back(system, tmp_path / "old.backup")
    nothing_is_signed_for_who_is_away(system, sites, signed)

    system.restart(SIMULATOR)
    wait_for(lambda: query(RECOVERING) == [(liar.pk,)], what="who tells the truth has recovered")
    for site, newest in ((dialled, lost[dialled.pk][-1]), (linked, lost[linked.pk][-1])):
        assert query(COUNTERS, site.pk) == [(False, newest[0], newest[1])]
    the_liar_stays(system, liar, signed, signed_in("viewer"), api_client("viewer"))

    # Versions go on after the newest of each site, which takes them as what follows on what it has.
    wait_for(lambda: query(DOCUMENTS, dialled.pk)[1][2], what="the signer refuses what waited for its signature")
    assert "a newer version" in query(DOCUMENTS, dialled.pk)[1][2]
    assert (give(dialled, "d"), give(linked, "d")) == (4, 3)
    follows = "SELECT prev_sha256 FROM edge_sites_desireddocument WHERE site_id = %s ORDER BY version DESC LIMIT 1"
    for site in (dialled, linked):
        assert query(follows, site.pk) == [(lost[site.pk][-1][1],)]
        before = {number: sha256 for number, sha256, _ in lost[site.pk]}
        now = {number: sha256 for number, sha256, _ in query(DOCUMENTS, site.pk) if sha256}
        assert all(now[number] == before[number] for number in now.keys() & before.keys())
    skipped = "SELECT count(*) FROM edge_sites_desiredreceipt WHERE detail LIKE '%%skipped%%' OR state = 'equivocation'"
    assert query(skipped) == [(0,)]
    assert "Traceback" not in system.log("signer").read_text()


def nothing_is_signed_for_who_is_away(system: System, sites: Sequence[Site], signed: dict[str, Any]) -> None:
    """Whoever asks, the signer itself included; the pollers and their deliverer run meanwhile."""
    assert query(RECOVERING) == [(site.pk,) for site in sites]
    waiting = query("SELECT id FROM edge_sites_desireddocument WHERE envelope IS NULL ORDER BY id")
    assert len(waiting) == 2
    for answer in signing.sign_documents([pk for (pk,) in waiting]):
        assert isinstance(answer, SignerRefused)
        assert "has not told its counters since the database was restored" in str(answer)
    for site in sites:
        refused_orders(site)
    time.sleep(5)
    assert query(RECOVERING) == [(site.pk,) for site in sites]
    assert query("SELECT id FROM edge_sites_desireddocument WHERE envelope IS NULL ORDER BY id") == waiting
    assert signed_versions(system) == signed


def the_liar_stays(system: System, liar: Site, signed: dict[str, Any], browser: Client, api: Client) -> None:
    """It is reached, and has even signed for what it claims: it recovers still, nothing is signed, and why is shown."""
    number = f"version 1.{ABSURD}"
    shown = wait_for(
        lambda: (shown := api.get(f"/api/v1/sites/{liar.slug}/desired").json())["recovery_problem"] and shown,
        what="it has told its counters",
    )
    assert shown["recovering"]
    assert number in shown["recovery_problem"]
    signs = "SELECT DISTINCT version FROM edge_sites_desiredreceipt WHERE site_id = %s AND version > 2"
    wait_for(lambda: query(signs, liar.pk) == [(ABSURD,)], what="its receipt is kept as evidence")
    due = "SELECT due_at > now() FROM edge_sites_sitedesired WHERE site_id = %s"
    for _ in range(2):  # it is asked again, and says the same
        with connections["owner"].cursor() as cursor:
            cursor.execute("UPDATE edge_sites_sitedesired SET due_at = now() WHERE site_id = %s", [liar.pk])
        wait_for(lambda: query(due, liar.pk) == [(True,)], what="it was asked again")
    assert query(RECOVERING) == [(liar.pk,)]
    refused_orders(liar)
    assert [(one, bool(sha256)) for one, sha256, _ in query(DOCUMENTS, liar.pk)] == [(1, True), (2, False)]
    assert signed_versions(system)[str(liar.uuid)] == signed[str(liar.uuid)]
    assert query(STATE, liar.pk)[0][1] == ABSURD
    problem = api.get(f"/api/v1/sites/{liar.slug}/desired").json()["recovery_problem"]
    assert problem == f"it has signed for {number}, and the backup knows of 1.2"
    for page in (f"/sites/{liar.slug}/", f"/sites/{liar.slug}/desired/card/", "/sites/recovery/"):
        assert problem in browser.get(page).content.decode(), page
