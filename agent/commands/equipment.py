"""What this machine has: what its reports are read from, and what documents can change at it."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from agent import __version__
from agent.apply.machine import ThisMachine
from agent.apply.os_part import OsPart
from agent.apply.part import ApplyError, Part
from agent.apply.releases import CURRENT, Releases
from agent.apply.self_update import SelfUpdate
from agent.backends.base import Backend
from agent.backends.host import HostBackend
from agent.config import Config, EngineConfig
from agent.engine.backend import EngineBackend
from agent.engine.client import Engine
from agent.engine.settings import Credentials, EngineSettings
from agent.engine.workloads import Workloads
from agent.protocol import Verdict

STARTED_BOOT: Final = "started-boot"

log = logging.getLogger("agent")


class _Machine(ThisMachine):
    """This machine, which archipelago-updater has the right to boot anew."""

    def __init__(self, packages: OsPart) -> None:
        super().__init__()
        self._packages = packages

    def reboot(self) -> None:
        """See Machine."""
        self._packages.reboot()


class Known(Protocol):
    """What the parts need of the running agent."""

    def envelope(self) -> bytes:
        """The envelope of the document that is being applied."""
        ...

    def certificates(self) -> tuple[str, ...]:
        """Those of the keys that sign documents."""
        ...

    def is_polled(self) -> bool:
        """Whether the centre has polled this process."""
        ...


class Equipment:
    """This machine, its packages, its container engine if the configuration names one, and the agent's own releases."""

    def __init__(self, config: Config, site: UUID, verdict: Callable[[], Verdict], known: Known) -> None:
        """`verdict` is that of the probes."""
        self._packages = OsPart(Path(config.os.updater), lambda document: known.envelope(), known.certificates)
        self.machine = _Machine(self._packages)
        self._self_update = _self_update(known)
        self._folder = config.folder
        self._workloads: Workloads | None = None
        self._engine_backend: EngineBackend | None = None
        host = HostBackend(site, verdict=verdict)
        self.backend: Backend = host
        if config.engine is not None:
            settings = _settings(config.engine)
            engine = Engine(settings.socket)
            self.backend = self._engine_backend = EngineBackend(host, engine, settings.interval_s)
            self._workloads = Workloads(engine, settings, self._engine_backend.refresh)

    @property
    def parts(self) -> list[Part]:
        """What documents can change here, in the order in which it is done: the agent itself comes last."""
        possible: list[Part | None] = [self._workloads, self._packages, self._self_update]
        return [part for part in possible if part is not None]

    def begin(self) -> bool:
        """Once after a boot, before any step of a document: start the workloads that ran. False: try again later."""
        if self._workloads is None:
            return True
        told = self._folder / STARTED_BOOT
        with suppress(OSError):
            if told.read_text() == self.machine.boot:
                return True
        try:
            self._workloads.start_all()
        except ApplyError as error:
            log.warning("workloads are not started after the boot: %s", error)
            return False
        with suppress(OSError):  # it is done once more at the next start, and changes nothing then
            told.write_text(self.machine.boot)
        return True

    def close(self) -> None:
        """End what runs beside."""
        if self._engine_backend is not None:
            self._engine_backend.close()


def _settings(config: EngineConfig) -> EngineSettings:
    return EngineSettings(
        socket=Path(config.socket),
        registries={one.registry: Credentials(one.username, Path(one.password_file)) for one in config.registries},
        folders=tuple(Path(folder) for folder in config.folders),
        interval_s=config.interval_s,
    )


def _self_update(known: Known) -> SelfUpdate | None:
    """The agent's own releases, where it was installed as deploy/agent/install.sh does."""
    folder = Path(sys.prefix).parent
    base = folder.parent / "base" / "bin" / "python"
    if not (folder / CURRENT).is_symlink() or not base.exists():
        return None
    return SelfUpdate(
        Releases(folder, base),
        running=__version__,
        polled=known.is_polled,
        restart=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
