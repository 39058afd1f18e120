"""Row 6 of the matrix: a restore of an older backup. Nothing is signed for a site until it has told its counters.

The database, PostgreSQL's programs, the services, the signer's ledger and the documents are real. What the sites say
is written here, as the deliverer would have read it from them.
"""

import hashlib
import os
import sqlite3
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connections
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from agent.protocol.desired import DesiredStatus, Receipt, encode_document, open_document, seal_receipt, sign_document
from fleet.kit.errors import Conflict
from fleet.kit.models import AuditEntry
from fleet.kit.signing import Signed
from fleet.kit.tenancy import scope
from fleet.signer.ledger import Ledger, Version
from fleet.stack.archive import open_keys, put_keys, seal_keys
from fleet.stack.errors import StackError
from fleet.stack.safekeeping import backup, restore
from sites.models import DesiredDocument, DesiredReceipt, Site, SiteDesired, SiteState
from sites.selectors.desired import deliveries, recovery_of, unsigned
from sites.services import desired
from sites.services.delivery import Told, record_signatures, record_told
from tests.conftest import TEST, everything
from tests.database import APP, OWNER, protected, rows
from tests.sites.joined import owned, present
from tests.sites.told import document_to_sign

pytestmark = pytest.mark.usefixtures("database")
KEY = Ed25519PrivateKey.generate()
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def owner() -> str:
    """The owner's URL of the test database."""
    return make_conninfo(os.environ["DATABASE_OWNER_URL"], dbname=connections[OWNER].settings_dict["NAME"])


@pytest.fixture
def run(owner: str) -> Callable[..., list[str]]:
    """Runs backup or restore while nobody else is connected; returns what it said."""

    def go(command: Any, path: Path, **options: Any) -> list[str]:
        connections.close_all()
        given = {"path": path, "keys": None, "replace": False} | options
        return list(command(Namespace(**given), owner))

    return go


@pytest.fixture
def joined(make_site: Any, certified: Any) -> Callable[[str], tuple[Site, Any]]:
    """A site that is enrolled and reached, and its keys."""

    def make(slug: str) -> tuple[Site, Any]:
        site = make_site(slug, life="active")
        identity = present(site, pre_authorised=True)
        certified(site)
        owned(SiteState).filter(site=site).update(reachability="reachable", misses=0)
        return site, identity

    return make


def give(site: Site, ledger: Ledger, note: str) -> tuple[DesiredDocument, str]:
    """The next version, signed as far as the ledger lets it; returns it and why it was not signed."""
    row = desired.apply(actor=TEST, rights=everything(), site=site, content={}, reason=note)
    found = unsigned([row.pk])[row.pk]
    payload, signature = sign_document(found, KEY)
    version = Version(site.uuid, found.epoch, found.version, hashlib.sha256(payload).hexdigest())
    why = ledger.enter([version]).get(site.uuid, "")
    if not why:
        signed = Signed(signature, KEY.public_key().public_bytes_raw(), "")
        record_signatures([(row.pk, encode_document(found), signed)])
    return owned(DesiredDocument).get(pk=row.pk), why


def tell(site: Site, identity: Any, told: DesiredDocument) -> None:
    """The site says that it has applied this document, with its receipt."""
    receipt = Receipt(
        site=site.uuid,
        epoch=told.epoch,
        version=told.version,
        sha256=told.sha256,
        state="applied",
        at=timezone.now(),
        boot="boot-1",
    )
    envelope = seal_receipt(receipt, identity.keys.signing())
    status = DesiredStatus(
        epoch=told.epoch, version=told.version, sha256=told.sha256, state="applied", receipt=envelope
    )
    (delivery,) = [row for row in deliveries(poller=0, limit=10) if row.site_id == site.pk]
    record_told([(delivery, Told(status, receipt, envelope))])


def contents() -> dict[str, list[Any]]:
    return {name: rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in sorted(protected())}


def test_after_a_restore_nothing_is_signed_until_a_site_has_told_its_counters(
    joined: Any, run: Any, tmp_path: Path
) -> None:
    (oslo, keys), (bergen, _) = joined("oslo"), joined("bergen")
    (tmp_path / "signer").mkdir()
    ledger = Ledger(tmp_path / "signer")
    first, _ = give(oslo, ledger, "first version")
    give(bergen, ledger, "first version")
    run(backup, tmp_path / "old.backup")
    second, _ = give(oslo, ledger, "after the backup")
    owned(SiteDesired).update(due_at=timezone.now())
    tell(oslo, keys, second)

    said = run(restore, tmp_path / "old.backup", replace=True)
    assert said[-1] == "every site recovers: nothing is given out or signed for one until it has told its counters"
    assert owned(DesiredDocument).filter(site=oslo).count() == 1
    assert not owned(DesiredReceipt).exists()
    with scope(TEST):
        assert recovery_of(TEST) is not None
    for site in (oslo, bergen):
        with pytest.raises(Conflict, match="has not told its counters"):
            desired.apply(actor=TEST, rights=everything(), site=site, content={}, reason="too early")
        with pytest.raises(Conflict, match="has not told its counters"):
            desired.set_hold(actor=TEST, rights=everything(), site=site, hold=True, reason="too early")
    with scope(TEST), pytest.raises(Conflict, match="has not told its counters"):
        document_to_sign(first.pk)
    assert {row.recovering for row in deliveries(poller=0, limit=10)} == {True}

    tell(oslo, keys, second)
    row = owned(SiteDesired).get(site=oslo)
    assert (row.recovering, row.epoch, row.version, row.last_sha256) == (False, 1, 2, second.sha256)
    assert owned(SiteDesired).get(site=bergen).recovering  # each for itself
    third, why = give(oslo, ledger, "goes on")
    assert (why, third.version, third.prev_sha256) == ("", 3, second.sha256)
    assert open_document(bytes(third.envelope), [KEY.public_key().public_bytes_raw()]).version == 3
    ledger.close()


def test_a_version_that_was_signed_but_never_reached_the_site_is_not_signed_again(
    joined: Any, run: Any, tmp_path: Path
) -> None:
    oslo, keys = joined("oslo")
    (tmp_path / "signer").mkdir()
    ledger = Ledger(tmp_path / "signer")
    first, _ = give(oslo, ledger, "first version")
    run(backup, tmp_path / "old.backup")
    give(oslo, ledger, "signed, then lost")
    run(restore, tmp_path / "old.backup", replace=True)
    tell(oslo, keys, first)
    again, why = give(oslo, ledger, "the same number")
    assert (again.version, why) == (2, "version 1.2 is not newer than 1.2, which was signed before")
    ledger.close()


def test_a_site_that_had_its_first_version_after_the_backup_recovers_too(joined: Any, run: Any, tmp_path: Path) -> None:
    oslo, keys = joined("oslo")
    (tmp_path / "signer").mkdir()
    ledger = Ledger(tmp_path / "signer")
    run(backup, tmp_path / "old.backup")
    first, _ = give(oslo, ledger, "first version")
    run(restore, tmp_path / "old.backup", replace=True)
    assert owned(SiteDesired).get(site=oslo).recovering
    tell(oslo, keys, first)
    second, why = give(oslo, ledger, "goes on")
    assert (second.version, why) == (2, "")
    ledger.close()


def test_everything_comes_back_and_the_rules_of_the_database_with_it(joined: Any, run: Any, tmp_path: Path) -> None:
    oslo, _ = joined("oslo")
    before = contents()
    policies = rows("SELECT tablename, policyname, roles::text, qual FROM pg_policies ORDER BY 1, 2", using=OWNER)
    grants = (
        "SELECT relname, relacl::text, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relkind IN ('r','p')"
    )
    grants += " AND relnamespace = 'public'::regnamespace ORDER BY 1"
    rights = {name: (set((acl or "").strip("{}").split(",")), *rest) for name, acl, *rest in rows(grants, using=OWNER)}
    run(backup, tmp_path)
    (file,) = tmp_path.glob("archipelago-*.backup")
    assert file.stat().st_mode & 0o777 == 0o600
    owned(Site).filter(pk=oslo.pk).update(name="Changed since")
    run(restore, file, replace=True)
    after = contents()
    entry = AuditEntry.objects.using(OWNER).get(action="database.restore")
    assert entry.after["sites"] == 1
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"kit_auditentry", "edge_sites_sitedesired"}
    assert (
        rows("SELECT tablename, policyname, roles::text, qual FROM pg_policies ORDER BY 1, 2", using=OWNER) == policies
    )
    found = {name: (set((acl or "").strip("{}").split(",")), *rest) for name, acl, *rest in rows(grants, using=OWNER)}
    assert found == rights


@pytest.mark.parametrize("damage", ["flipped", "cut", "nothing", "older", "fewer"])
def test_what_cannot_be_restored_changes_nothing(
    joined: Any, run: Any, tmp_path: Path, damage: str, monkeypatch: Any
) -> None:
    joined("oslo")
    run(backup, tmp_path / "a.backup")
    data = bytearray((tmp_path / "a.backup").read_bytes())
    said = {
        "flipped": "damaged",
        "cut": "no backup",
        "nothing": "no backup",
        "older": "1 migrations older",
        "fewer": "rows",
    }
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "nothing":
        data = bytearray(b"no tar")
    elif damage == "older":
        data = data.replace(b'"0016_desired_security"', b'"0016_desired_securitz"', 1)
    else:
        data = data.replace(b'"edge_sites_site": 1,', b'"edge_sites_site": 9,', 1)
    (tmp_path / "a.backup").write_bytes(bytes(data))
    before = contents()
    with pytest.raises(StackError, match=said[damage]):
        run(restore, tmp_path / "a.backup", replace=True)
    assert contents() == before


def test_a_database_that_is_not_empty_or_in_use_is_left_alone(
    joined: Any, run: Any, tmp_path: Path, owner: str
) -> None:
    joined("oslo")
    run(backup, tmp_path / "a.backup")
    with pytest.raises(StackError, match="not empty"):
        run(restore, tmp_path / "a.backup")
    rows("SELECT 1", using=APP)  # the application's, of which the owner sees little
    given = Namespace(path=tmp_path / "a.backup", keys=None, replace=True)
    with pytest.raises(StackError, match="stop the dashboard first"):
        list(restore(given, owner))


def test_keys_are_apart_encrypted_and_put_back_where_there_are_none(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "signer"
    folder.mkdir()
    (folder / "root.pem").write_bytes(b"the root's key")
    ledger = Ledger(folder)
    site = Site().uuid
    ledger.enter([Version(site, 1, 7, "x")])
    names = seal_keys(folder, tmp_path / "k", PASSPHRASE)
    ledger.close()
    assert names == ["root.pem", "ledger.sqlite"]
    assert b"the root's key" not in (tmp_path / "k").read_bytes()
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StackError, match="does not open"):
        open_keys(tmp_path / "k", PASSPHRASE + "!")
    damaged = bytearray((tmp_path / "k").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(bytes(damaged))
    with pytest.raises(StackError, match="does not open"):
        open_keys(tmp_path / "damaged", PASSPHRASE)
    with pytest.raises(StackError, match="fewer than 12"):
        seal_keys(folder, tmp_path / "k2", "short")
    found = open_keys(tmp_path / "k", PASSPHRASE)
    with pytest.raises(StackError, match="has keys already"):
        put_keys(found, folder)
    put_keys(found, tmp_path / "new")
    assert (tmp_path / "new" / "root.pem").read_bytes() == b"the root's key"
    again = sqlite3.connect(tmp_path / "new" / "ledger.sqlite")
    assert again.execute("SELECT site, version FROM signed").fetchall() == [(str(site), 7)]
    again.close()
