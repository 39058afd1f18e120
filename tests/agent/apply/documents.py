"""Documents, the keys that sign them, and a site that takes them, for tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agent.apply.desk import Desk
from agent.apply.part import ApplyError, Blobs, Change, Check, Part
from agent.apply.site import Step
from agent.apply.store import FileStore, Store, StoreError
from agent.identity import Identity
from agent.protocol import Desired
from agent.protocol.desired import DesiredWorkload, Document, Policy, digest, seal_document
from agent.protocol.entries import Receipt
from tests.agent.factories import AT, SITE
from tests.pki import FLEET, Fleet

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
BOOT = "84bd36e5-1ff2-4c0a-a7a8-bad60a869b7c"
NEXT_BOOT = "11bd36e5-1ff2-4c0a-a7a8-bad60a869b7c"


def workload(name: str = "pos", version: str = "2", **fields: Any) -> DesiredWorkload:
    image = f"registry.example/{name}:{version}@{digest(f'{name}:{version}'.encode())}"
    return DesiredWorkload(name=name, image=image, version=version, **fields)


def document(version: int = 1, *names: str, **fields: Any) -> Document:
    """Version `version`; each of `names` is a workload `NAME:VERSION`."""
    values: dict[str, Any] = {
        "fleet": FLEET,
        "provider": 1,
        "site": SITE,
        "epoch": 1,
        "version": version,
        "prev_sha256": None,
        "issued_at": AT,
        "expires_at": AT + timedelta(days=7),
        "hold": False,
        "standard": None,
        "workloads": tuple(workload(*name.split(":")) for name in names),
        "agent": None,
        "os": None,
        "policy": Policy(),
        "rollout": None,
    }
    return Document(**{**values, **fields})


def sealed(version: int = 1, *names: str, key: Ed25519PrivateKey = KEY, **fields: Any) -> bytes:
    return seal_document(document(version, *names, **fields), key)


def documents_certificate(
    fleet: Fleet,
    key: Any = KEY,
    *,
    issuer: Any = None,
    name: str | None = None,
    begin: datetime = AT - timedelta(days=30),
    end: datetime = AT + timedelta(days=3_650),
    usage: Sequence[str] = ("digital_signature",),
    is_critical: bool = True,
    ca: bool = False,
) -> str:
    """The certificate of a key that may sign documents, or one that is wrong in some way."""
    by = issuer or fleet.root
    all_usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    all_usages += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "documents")]))
        .issuer_name(by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{u: u in usage for u in all_usages}), critical=is_critical)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name or f"documents.{fleet.name}")]), critical=False)
        .sign(by.key, SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def trusting(fleet: Fleet, identity: Identity, *documents: str) -> Identity:
    """The same site, given the certificates of keys for documents."""
    assert identity.certificates is not None
    given = msgspec.structs.replace(identity.certificates, documents=documents or (documents_certificate(fleet),))
    return Identity(identity.site, identity.keys, given)


class Machine:
    """A machine whose clock and boots are the test's."""

    is_running = True

    def __init__(self) -> None:
        self.boot = BOOT
        self.at = AT + timedelta(hours=1)
        self.reboots = 0
        self.closed = ""  # why it may not boot anew just now

    def now(self) -> datetime:
        return self.at

    def reboot(self) -> None:
        if self.closed:
            raise ApplyError(self.closed, transient=True)
        self.reboots += 1


@dataclass
class FolderPart:
    """A Part whose world is a folder: `NAME` is the version that is there, `NAME.old` what was there before.

    A thing whose version begins with `bad` never gets well; with `absent` it cannot be staged; with `boot` it is well
    after a reboot. `called` is told before and after each act, and may raise or be killed.
    """

    folder: Path
    called: Callable[[str], None] = lambda what: None
    name: str = "workload"
    machine: Machine | None = None
    away: int = 0
    calls: list[str] = field(default_factory=list)

    def world(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.folder.iterdir() if not p.suffix}

    def leftovers(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if p.suffix)

    def changes(self, document: Document, blobs: Blobs) -> Sequence[Change]:
        here, wanted = self.world(), self._wanted(document)
        return [
            Change(self.name, name, here.get(name, ""), wanted.get(name, ""))
            for name in (*wanted, *sorted(here.keys() - wanted.keys()))
            if here.get(name) != wanted.get(name)
        ]

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        self._act(f"stage {change.name}")
        if self.away:
            self.away -= 1
            raise ApplyError("the registry is away", transient=True)
        if change.after.startswith("absent"):
            raise ApplyError(f"{change.name} at {change.after} is nowhere")
        if change.after:
            self._write(f"{change.name}.new", change.after)

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        self._act(f"switch {change.name}")
        if self.world().get(change.name, "") == change.after:
            return
        old = self.folder / f"{change.name}.old"
        if not old.exists():
            self._write(old.name, change.before)
            self._act("half a switch")
        if change.after:
            (self.folder / f"{change.name}.new").replace(self.folder / change.name)
        else:
            (self.folder / change.name).unlink(missing_ok=True)
        self._act("switched")

    def check(self, document: Document, change: Change) -> Check:
        self._act(f"check {change.name}")
        if change.after.startswith("bad"):
            return Check("broken", "it never got well")
        if self.machine is not None and change.after.startswith("boot") and self.machine.boot == BOOT:
            return Check("reboot")
        return Check("well" if self.world().get(change.name, "") == change.after else "broken", "it is not there")

    def keep(self, document: Document, change: Change) -> None:
        self._act(f"keep {change.name}")
        (self.folder / f"{change.name}.old").unlink(missing_ok=True)

    def restore(self, document: Document, change: Change) -> None:
        self._act(f"restore {change.name}")
        (self.folder / f"{change.name}.new").unlink(missing_ok=True)
        old = self.folder / f"{change.name}.old"
        if not old.exists():
            return
        if change.before:
            self._write(change.name, old.read_text())
        else:
            (self.folder / change.name).unlink(missing_ok=True)
        self._act("half a restore")
        old.unlink()

    def _wanted(self, document: Document) -> dict[str, str]:
        return {w.name: w.version or "" for w in document.workloads}

    def _write(self, name: str, text: str) -> None:
        beside = self.folder / f"{name}.tmp"
        beside.write_text(text)
        beside.replace(self.folder / name)

    def _act(self, what: str) -> None:
        self.calls.append(what)
        self.called(what)


class Noted:
    """What was to be journaled, and what reports were to say."""

    def __init__(self) -> None:
        self.entries: list[Receipt] = []
        self.desired: list[Desired] = []

    def published(self, site: UUID, desired: Desired) -> None:
        self.desired.append(desired)

    def noted(self, site: UUID, entry: Receipt) -> None:
        self.entries.append(entry)


class Bench:
    """A site on the disk, its steps driven by the test; opened again, it goes on from what is on the disk."""

    def __init__(
        self,
        folder: Path,
        *,
        fleet: Fleet,
        identity: Identity,
        machine: Machine | None = None,
        store: Store | None = None,
        called: Callable[[str], None] = lambda what: None,
        parts: Sequence[Part] | None = None,
    ) -> None:
        (folder / "world").mkdir(parents=True, exist_ok=True)
        self.machine = machine or Machine()
        self.part = FolderPart(folder / "world", called, machine=self.machine)
        self.noted = Noted()
        self.store = store or FileStore(folder / "desired", SITE)
        self.desk = Desk(self.store, folder / "blobs", published=self.noted.published, noted=self.noted.noted)
        self.desk.add([(SITE, self.machine, parts if parts is not None else [self.part])])
        self.desk.certify(identity)
        self.desk.note_untold()

    def step(self) -> Step:
        step = self.desk.begin(SITE)
        self.desk.keep(self.desk.writes(SITE, step))
        self.desk.finish(SITE, step)
        return step

    def run(self, limit: int = 200) -> None:
        """Until there is nothing to do but wait to be woken."""
        for _ in range(limit):
            if self.step().wait_s is None:
                return
        raise AssertionError(f"not at rest after {limit} steps: {self.desk.status(SITE)}")

    def apply(self, body: bytes) -> None:
        assert self.desk.put(SITE, body).state == "accepted"
        self.run()

    @property
    def state(self) -> tuple[int, str]:
        status = self.desk.status(SITE)
        return status.version, status.state


class FullStore:
    """A store on a full disk, as long as `is_full`."""

    def __init__(self, store: Store) -> None:
        self.store, self.is_full = store, True

    def load(self, sites: Any) -> Any:
        return self.store.load(sites)

    def put(self, writes: Any) -> None:
        if self.is_full:
            raise StoreError("no space left on device")
        self.store.put(writes)

    def set_aside(self, site: UUID, slot: Any) -> None:
        self.store.set_aside(site, slot)
