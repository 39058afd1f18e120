"""The command `archipelago-updater`: `pin` tells it which site this is, `serve` is what systemd starts."""

import argparse
import os
import platform
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent import __version__
from agent.apply.part import ApplyError
from agent.config import CONFIG_FILE, Config, ConfigError, read_config
from agent.identity import Identity, IdentityError
from agent.process import log_to_stdout
from agent.protocol.identity import is_site_name
from agent.status import read_identity
from agent.updater.desk import Desk
from agent.updater.folder import FOLDER, Folder, Pins, PinsError
from agent.updater.judge import Judge
from agent.updater.serving import Server, ServingError, inherited_socket
from agent.updater.steps import Machine
from agent.updater.tools import Tools

USER: Final = "archipelago-agent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it could not, 2 the command line is wrong."""
    options = _parser().parse_args(arguments)
    try:
        config = _own_config(options.config)
        if options.command == "pin":
            return _pin(Folder(options.folder), config, again=options.again)
        return _serve(Folder(options.folder), config, options.user)
    except (ApplyError, ConfigError, IdentityError, PinsError, ServingError) as error:
        print(f"archipelago-updater: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="archipelago-updater", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE", help="the agent's configuration")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"what it keeps; default: {FOLDER}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="answer the agent; systemd starts it by its socket")
    serve.add_argument("--user", default=USER, help="who may ask; default: %(default)s")
    pin = commands.add_parser("pin", help="believe documents for the site that this machine has enrolled as")
    pin.add_argument("--again", action="store_true", help="also where another site, or other roots, are pinned")
    return parser


def _own_config(path: Path) -> Config:
    """The configuration, if nobody but us and root could have written it. Raises ConfigError."""
    config = read_config(path)
    found = path.stat()
    if found.st_uid not in {0, os.getuid()} or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} could be written by others than root, so it is not believed")
    return config


def _serve(folder: Folder, config: Config, user: str) -> int:
    log_to_stdout()
    os.umask(0o022)
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ServingError(f"there is no user {user}") from None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = Machine(Tools(), boot, platform.release())
    judge = Judge(folder, lambda: datetime.now(UTC))
    Server(inherited_socket(), uid, Desk(folder, machine, config.os, judge, _reboot).answer).serve()
    return 0


def _reboot() -> None:
    """Ask systemd to boot the machine anew. Raises ApplyError."""
    command = ["systemctl", "--no-block", "reboot"]
    done = subprocess.run(  # noqa: S603  # a constant
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise ApplyError(f"systemctl does not reboot: {done.stderr.strip()[:200]}")


def pins_of(identity: Identity) -> Pins:
    """Who the site is, and its roots, as it was enrolled. Raises IdentityError where it was not."""
    name, certificates = identity.name(), identity.certificates
    if certificates is None or not is_site_name(name, certificates.fleet, identity.site):
        raise IdentityError("the site's certificate has another name than it should")
    provider = int(name.partition(".p")[2].partition(".")[0])
    return Pins(fleet=certificates.fleet, provider=provider, site=identity.site, roots=certificates.roots)


@contextmanager
def _as_owner_of(folder: Path) -> Iterator[None]:
    """Read what belongs to the agent as the agent, so that SQLite leaves no file of root's behind. Raises PinsError."""
    mine = os.geteuid()
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise PinsError(f"{folder} cannot be read: {error.strerror}") from None
    if mine == 0:
        os.seteuid(owner)
    try:
        yield
    finally:
        if mine == 0:
            os.seteuid(mine)


def _pin(folder: Folder, config: Config, *, again: bool) -> int:
    with _as_owner_of(config.folder):
        identity = read_identity(config.folder)
    if identity is None or identity.certificates is None:
        raise IdentityError("this machine has not enrolled yet: run `archipelago-agent enrol` first")
    pins = pins_of(identity)
    try:
        before: Pins | None = folder.pins()
    except PinsError:
        before = None
    if before is not None and before != pins and not again:
        raise PinsError(f"site {before.site} of {before.fleet} is pinned; to replace that, give --again")
    folder.put_pins(pins)
    print(f"The updater believes documents of {pins.fleet} for site {pins.site} of provider {pins.provider}.")
    for pem in pins.roots:
        der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        print(f"root {sha256(der).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
