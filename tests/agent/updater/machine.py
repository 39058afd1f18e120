"""A folder that stands for a Debian machine: dpkg's database, apt's lists, a `file:` repository of small packages.

Nothing of the real machine is read but its programs, nothing of it is changed, and no network is used.
"""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from agent.config import OsConfig
from agent.protocol.desired import Document, OsState, Policy, seal_document
from agent.updater.desk import Desk
from agent.updater.folder import Folder, Pins
from agent.updater.judge import Judge
from agent.updater.messages import Answer, Command, Request
from agent.updater.steps import Machine
from agent.updater.tools import Tools
from fleet.signer.authority import Issuer, certify_documents, make_root

FLEET = "test.example"
SITE = UUID("6b0f1c0e-5a0f-4f6d-8d52-0a1b2c3d4e5f")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
Scripts = Mapping[str, str]


def build(folder: Path, name: str, version: str, *, fields: str = "", scripts: Scripts | None = None) -> Path:
    """A real package with one file, made by dpkg-deb."""
    tree = folder / f".{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share" / name).mkdir(parents=True)
    (tree / "usr/share" / name / "version").write_text(f"{version}\n")
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@test.example>\n{fields}"
    (tree / "DEBIAN/control").write_text(control + "Description: a package for tests\n")
    for script, text in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        (tree / "DEBIAN" / script).chmod(0o755)
    deb = folder / f"{name}_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb


@cache
def _signers() -> tuple[Issuer, Ed25519PrivateKey, str]:
    """The fleet's root, the key that signs documents, and its certificate."""
    root, key = make_root(FLEET, now=NOW - timedelta(days=1)), Ed25519PrivateKey.generate()
    certificate = certify_documents(root, fleet=FLEET, key=key.public_key(), now=NOW - timedelta(hours=1))
    return root, key, certificate.public_bytes(Encoding.PEM).decode()


class Box:
    """The machine, its updater, and a centre that signs documents for it."""

    def __init__(self, folder: Path, config: OsConfig | None = None) -> None:
        self.root, self.repository = folder / "root", folder / "repository"
        self.state, self.config = folder / "updater", config or OsConfig()
        self.now, self.boot, self.kernel, self.rebooted = NOW, "boot-1", "6.1.0-20", 0
        self.repository.mkdir(parents=True)
        for name in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/apt/lists/partial", "etc/apt/apt.conf.d"):
            (self.root / name).mkdir(parents=True)
        for name in ("var/cache/apt/archives/partial", "var/log/apt", "etc/apt/preferences.d", "run", "boot", "tmp"):
            (self.root / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        (self.root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{self.repository} ./\n")
        self.apt_config = self.root / "etc/apt/apt.conf"
        self.apt_config.write_text(
            textwrap.dedent(f"""\
                Dir "{self.root}/";
                Dir::State::status "{self.root}/var/lib/dpkg/status";
                Dir::Bin::methods "/usr/lib/apt/methods";
                Dir::Bin::dpkg "/usr/bin/dpkg";
                DPkg::Options {{ "--root={self.root}"; "--force-not-root"; "--force-script-chrootless"; }};
                APT::Sandbox::User "";
            """)
        )
        self.tools = Tools(self.root, self.apt_config)
        self.folder = Folder(self.state)
        root, self.key, self.certificate = _signers()
        pem = root.certificate.public_bytes(Encoding.PEM).decode()
        self.folder.put_pins(Pins(fleet=FLEET, provider=1, site=SITE, roots=(pem,)))
        self.version = 0

    # The machine ----------------------------------------------------------------------------------------------
    def publish(self, name: str, version: str, *, fields: str = "", scripts: Scripts | None = None) -> Path:
        """Put a package into the repository."""
        deb = build(self.repository, name, version, fields=fields, scripts=scripts)
        self.index()
        return deb

    def index(self) -> None:
        """Write the repository's list of what lies in it."""
        command = ["dpkg-scanpackages", "--multiversion", "."]
        done = subprocess.run(command, cwd=self.repository, check=True, capture_output=True)
        (self.repository / "Packages").write_bytes(done.stdout)

    def have(self, *debs: Path) -> None:
        """Install packages as if they had always been there."""
        done = self.tools.put(list(debs))
        assert done.code == 0, done.said

    def lose_repository(self) -> None:
        """The mirror is gone, with all that it held."""
        shutil.rmtree(self.repository)

    def versions(self) -> dict[str, str]:
        """What is installed, whole; anything else shows with its state. The files must say the same."""
        found = {}
        for name, package in self.tools.installed().items():
            found[name] = package.version if package.is_well else f"{package.version} {package.status}"
            file = self.root / "usr/share" / name / "version"
            if package.is_well:
                assert file.read_text() == f"{package.version}\n"
        return found

    # The centre and the agent ---------------------------------------------------------------------------------
    def document(self, packages: Mapping[str, str], **other: object) -> bytes:
        """The next version of the site's document, signed; `other` replaces members of Document or of OsState."""
        self.version += 1
        state = {name: other.pop(name) for name in ("kernel", "reboot") if name in other}
        key = other.pop("key", self.key)
        assert isinstance(key, Ed25519PrivateKey)
        members: dict[str, object] = {
            "fleet": FLEET,
            "provider": 1,
            "site": SITE,
            "epoch": 1,
            "version": self.version,
            "prev_sha256": None,
            "issued_at": self.now - timedelta(minutes=1),
            "expires_at": self.now + timedelta(hours=1),
            "hold": False,
            "standard": None,
            "workloads": (),
            "agent": None,
            "os": OsState(packages=dict(packages), **state),  # type: ignore[arg-type]  # as the test gives them
            "policy": Policy(),
            "rollout": None,
        }
        return seal_document(Document(**{**members, **other}), key)  # type: ignore[arg-type]  # the same

    def desk(self) -> Desk:
        """The updater as it is after a start of its own: it knows nothing but what is on the disk."""
        machine = Machine(self.tools, self.boot, self.kernel)
        judge = Judge(Folder(self.state), lambda: self.now)
        return Desk(Folder(self.state), machine, self.config, judge, self._reboot)

    def ask(self, command: Command, envelope: bytes = b"") -> Answer:
        """What the updater answers the agent."""
        certificates = (self.certificate,)
        return self.desk().answer(Request(command=command, document=envelope, certificates=certificates))

    def do(self, command: Command, envelope: bytes = b"") -> Answer:
        """The same of a step that must succeed."""
        answer = self.ask(command, envelope)
        assert answer.error == ""
        return answer

    def all(self, envelope: bytes, *steps: Command) -> None:
        """Several steps that must succeed."""
        for step in steps:
            self.do(step, envelope)

    def _reboot(self) -> None:
        self.rebooted += 1


def environment() -> dict[str, str]:
    """For a child process that imports the tests."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
