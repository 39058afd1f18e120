"""The folder of keys: made on first use, found again, private, and never quietly made anew."""

import os
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.signer.authority import SignerError
from fleet.signer.keys import KeyStore
from tests.fleet.signer.tls import new_key, private_pem

FLEET = "demo.example"
NOW = datetime(2026, 11, 23, 21, tzinfo=UTC)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def store(folder: Path, fleet: str = FLEET, clock: Clock | None = None) -> KeyStore:
    return KeyStore(folder, fleet, clock or Clock())


def begun(folder: Path) -> None:
    """A folder with all kinds of keys in it."""
    keys = store(folder)
    keys.provider(7)
    keys.close()


def documents_key(keys: KeyStore) -> bytes:
    return keys.documents.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def test_keys_are_made_once_and_found_again(tmp_path):
    folder = tmp_path / "state" / "keys"
    first = store(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["documents.pem", "root.pem", "services.pem"]
    seven = first.provider(7)
    first.close()
    again = store(folder)
    assert again.root.pem == first.root.pem
    assert again.root_sha256 == sha256(again.root.certificate.public_bytes(Encoding.DER)).hexdigest()
    assert again.services().pem == first.services().pem
    assert again.provider(7).pem == seven.pem
    assert again.provider(7).key.private_numbers() == seven.key.private_numbers()
    assert again.provider(8).pem != seven.pem
    assert documents_key(again) == documents_key(first)
    again.close()


def test_folder_and_files_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        begun(tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == dict.fromkeys(["documents.pem", "provider-7.pem", "root.pem", "services.pem"], 0o600)


@pytest.mark.parametrize("name", ["", "root.pem", "services.pem", "provider-7.pem", "documents.pem"])
@pytest.mark.parametrize("mode", [0o040, 0o004, 0o020, 0o010])
def test_what_others_may_read_is_not_used(tmp_path, name, mode):
    begun(tmp_path / "keys")
    path = tmp_path / "keys" / name
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(SignerError, match="may be read or changed by others"):
        store(tmp_path / "keys")


def test_links_are_not_followed(tmp_path):
    begun(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SignerError, match="a link"):
        store(tmp_path / "link")
    (tmp_path / "real/root.pem").rename(tmp_path / "root.pem")
    (tmp_path / "real/root.pem").symlink_to(tmp_path / "root.pem")
    with pytest.raises(SignerError, match="a link"):
        store(tmp_path / "real")


def test_one_signer_a_folder(tmp_path):
    keys = store(tmp_path / "keys")
    with pytest.raises(SignerError, match="in use by another signer"):
        store(tmp_path / "keys")
    keys.close()
    store(tmp_path / "keys").close()


def test_a_lost_root_is_not_replaced(tmp_path):
    begun(tmp_path / "keys")
    (tmp_path / "keys/root.pem").unlink()
    with pytest.raises(SignerError, match=r"has documents\.pem but no root\.pem"):
        store(tmp_path / "keys")
    assert not (tmp_path / "keys/root.pem").exists()


def test_another_fleet_and_another_root_are_refused(tmp_path):
    begun(tmp_path / "a")
    begun(tmp_path / "b")
    with pytest.raises(SignerError, match="another fleet"):
        store(tmp_path / "a", "other.example")
    (tmp_path / "a/provider-7.pem").replace(tmp_path / "b/provider-7.pem")
    keys = store(tmp_path / "b")
    with pytest.raises(SignerError, match="not made by this root"):
        keys.provider(7)
    keys.close()
    (tmp_path / "a/services.pem").replace(tmp_path / "b/services.pem")
    with pytest.raises(SignerError, match="not made by this root"):
        store(tmp_path / "b")


def test_one_providers_keys_are_not_taken_for_anothers(tmp_path):
    begun(tmp_path / "keys")
    (tmp_path / "keys/provider-7.pem").rename(tmp_path / "keys/provider-8.pem")
    keys = store(tmp_path / "keys")
    with pytest.raises(SignerError, match="not limited to p8"):
        keys.provider(8)
    keys.close()


@pytest.mark.parametrize("name", ["root.pem", "services.pem", "documents.pem"])
@pytest.mark.parametrize("part", [0, 40, 300])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, name, part):
    begun(tmp_path / "keys")
    path = tmp_path / "keys" / name
    damaged = path.read_bytes()[: part if name != "documents.pem" else part // 4]
    path.write_bytes(damaged)
    with pytest.raises(SignerError, match=rf"{name} is damaged"):
        store(tmp_path / "keys")
    assert path.read_bytes() == damaged


def test_a_key_of_another_kind_is_named(tmp_path):
    begun(tmp_path / "keys")
    (tmp_path / "keys/documents.pem").write_bytes(private_pem(new_key()))
    with pytest.raises(SignerError, match="not one of Ed25519"):
        store(tmp_path / "keys")


def test_what_a_power_loss_left_is_cleared(tmp_path):
    begun(tmp_path / "keys")
    (tmp_path / "keys/.new-abc").write_text("half a key")
    store(tmp_path / "keys").close()
    assert not (tmp_path / "keys/.new-abc").exists()


def test_a_full_disk_makes_no_key(tmp_path, monkeypatch):
    keys = store(tmp_path / "keys")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SignerError, match=r"provider-7\.pem cannot be written: No space left"):
        keys.provider(7)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["documents.pem", "root.pem", "services.pem"]
    assert keys.provider(7).pem in (tmp_path / "keys/provider-7.pem").read_text()
    keys.close()


def test_issuers_are_renewed_in_the_last_quarter_of_their_life(tmp_path):
    clock = Clock()
    keys = store(tmp_path / "keys", clock=clock)
    seven, services = keys.provider(7), keys.services()
    begin, end = seven.certificate.not_valid_before_utc, seven.certificate.not_valid_after_utc
    clock.now = end - (end - begin) / 4
    assert (keys.provider(7), keys.services()) == (seven, services)
    clock.now += timedelta(seconds=1)
    renewed = keys.provider(7)
    assert renewed.pem != seven.pem
    assert renewed.certificate.public_key() != seven.certificate.public_key()
    assert keys.provider(7) is renewed
    assert keys.services().pem != services.pem
    keys.close()
    found = store(tmp_path / "keys", clock=clock)
    assert found.provider(7).pem == renewed.pem
    found.close()


def test_many_at_once_get_one_issuer(tmp_path):
    keys = store(tmp_path / "keys")
    got: list[x509.Certificate] = []
    threads = [Thread(target=lambda: got.append(keys.provider(7).certificate)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16
    assert len(set(got)) == 1
    keys.close()
