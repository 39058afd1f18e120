"""The steps of changing packages: each may be done twice, and the process may die at any instruction of them.

What was begun stands in the folder (Work) before it is done; what is so is asked of dpkg, never remembered. Whatever
dpkg was in the middle of when it was killed, the same step put again finds and finishes.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from agent.apply.part import ApplyError, Change, Check
from agent.protocol.desired import OsState
from agent.updater.folder import Folder, Item, Work
from agent.updater.messages import one_line
from agent.updater.plan import Installed, Planned, check_plan
from agent.updater.tools import Done, Tools

NAME: Final = "packages"
_APT_CACHE: Final = "var/cache/apt/archives"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where packages go: tools, the id of the present boot, the kernel that runs, and files that speak of reboots."""

    tools: Tools
    boot: str
    kernel: str

    @property
    def wants_reboot(self) -> bool:
        """Whether a package has asked for one since the last."""
        return any((self.tools.root / path).exists() for path in ("run/reboot-required", "var/run/reboot-required"))

    def has_kernel(self, release: str) -> bool:
        """Whether that kernel could be booted."""
        return (self.tools.root / f"boot/vmlinuz-{release}").exists()


class Steps:
    """The steps for one machine. `also` are patterns of packages that may come along as dependencies.

    With `without_rollback` packages are replaced even where the ones before cannot be kept.
    """

    def __init__(
        self, folder: Folder, machine: Machine, *, also: tuple[str, ...] = (), without_rollback: bool = False
    ) -> None:
        self._folder, self._machine, self._tools = folder, machine, machine.tools
        self._also, self._without_rollback = also, without_rollback
        self._last = Done(0, "")

    # Looking --------------------------------------------------------------------------------------------------
    def changes(self, wanted: OsState) -> Change | None:
        """What must change, all in one; None where all is so. Raises ApplyError."""
        work = self._folder.work()
        is_begun = work is not None and work.key == _key(wanted)
        installed = self._tools.installed()
        needed = _needed(wanted, installed)
        before = [f"{name} {installed[name].version}" for name in needed if name in installed]
        after = [f"{name} {wanted.packages[name]}" for name in needed]
        if wanted.kernel is not None and wanted.kernel != self._machine.kernel:
            before.append(f"kernel {self._machine.kernel}")
            after.append(f"kernel {wanted.kernel}")
        if is_begun and not after:
            after = [f"{name} {version}" for name, version in wanted.packages.items()]
        if not after:
            return None
        return Change("os", NAME, one_line(", ".join(before), 200), one_line(", ".join(after), 200))

    def check(self, wanted: OsState) -> Check:
        """How the packages, and the kernel, are now. Raises ApplyError."""
        self._tools.wait_until_free()
        if problem := self._problem(wanted):
            return Check("broken", problem)
        work = self._folder.work()
        boots = None if work is None or not work.boot else work.boot != self._machine.boot
        lost = [i.name for i in work.items if i.before and not i.old] if work is not None else []
        note = f"; there is no way back for {', '.join(lost)}" if lost else ""
        kernel = wanted.kernel
        if kernel is not None and kernel != self._machine.kernel:
            said = f"kernel {self._machine.kernel} runs, {kernel} is to"
            if not self._machine.has_kernel(kernel):
                return Check("broken", f"kernel {kernel} is not installed")
            if boots and wanted.reboot != "never":
                return Check("broken", f"after a reboot still {said}")
        elif not self._machine.wants_reboot or boots:
            return Check("well", note.lstrip("; "))
        else:
            said = "packages ask for it"
        state = "well" if wanted.reboot == "never" else "reboot"
        return Check(state, f"a reboot is required: {said}{note}")  # type: ignore[arg-type]  # one of two literals

    def _problem(self, wanted: OsState) -> str:
        installed = self._tools.installed()
        if needed := _needed(wanted, installed):
            return "; ".join(f"{name} is {_shown(installed.get(name))}, not {wanted.packages[name]}" for name in needed)
        if said := self._tools.audit():
            return f"dpkg finds: {said}"
        return ""

    # Doing ----------------------------------------------------------------------------------------------------
    def stage(self, wanted: OsState) -> None:
        """Plan, and fetch what is new and what is to be gone back to. Raises ApplyError; nothing is installed."""
        work = self._folder.work()
        if work is not None and (work.phase != "staged" or self._is_whole(work)) and work.key == _key(wanted):
            return
        if work is not None and work.phase != "staged":
            self._go_back(work)  # whoever began that has forgotten it
        self._tools.wait_until_free()
        if problem := self._tools.audit():
            raise ApplyError(f"dpkg is not well, so nothing is begun: {problem}")
        installed = self._tools.installed()
        needed = _needed(wanted, installed)
        items: list[Item] = []
        if needed:
            self._tools.update()
            plan = self._tools.plan([f"{name}={wanted.packages[name]}" for name in needed])
            check_plan(plan, wanted.packages, needed, self._also, self._tools.is_later)
            items = [self._fetch(step) for step in plan]
        self._folder.put_work(Work(key=_key(wanted), kernel=wanted.kernel or "", items=tuple(items), phase="staged"))

    def switch(self, wanted: OsState) -> None:
        """Install what was staged. Raises ApplyError."""
        work = self._folder.work()
        if work is None or work.key != _key(wanted) or work.phase == "restoring":
            raise ApplyError("these packages were not staged")
        if work.phase == "switched":
            return
        self._tools.wait_until_free()
        if work.phase == "staged":
            if not self._is_whole(work):
                raise ApplyError("what was staged is damaged")
            work = replace(work, phase="switching", boot=self._machine.boot)
            self._folder.put_work(work)
        if work.items and self._problem(wanted):
            self._install(work, wanted)
        self._folder.put_work(replace(work, phase="switched"))

    def _install(self, work: Work, wanted: OsState) -> None:
        """By apt, which knows the order, unless dpkg was interrupted: then by dpkg, which takes it up from anywhere."""
        debs = [self._folder.packages / item.new for item in work.items]
        if self._tools.audit():
            self._tools.put(debs)
            done = self._tools.configure()
        else:
            plan = self._tools.plan_files(debs)
            due = _needed(wanted, self._tools.installed())
            also = (*self._also, *(item.name for item in work.items))
            check_plan(plan, {i.name: i.after for i in work.items}, due, also, self._tools.is_later)
            done = self._tools.install(debs)
        if done.code or (problem := self._problem(wanted)):
            raise ApplyError(f"the packages cannot be installed: {done.why if done.code else problem}")

    def keep(self, wanted: OsState) -> None:
        """What is now, stays: of the files kept, only those of the present versions do, for the next time."""
        work = self._folder.work()
        if work is not None and work.key == _key(wanted):
            self._folder.end_work(frozenset(item.new for item in work.items) | self._current())

    def restore(self, wanted: OsState) -> None:
        """Put back what was. Raises ApplyError where that did not do."""
        work = self._folder.work()
        if work is not None and work.key == _key(wanted):
            self._go_back(work)

    def _go_back(self, work: Work) -> None:
        if work.phase == "staged":
            self._folder.end_work(self._current())
            return
        self._tools.wait_until_free()
        self._folder.put_work(replace(work, phase="restoring"))
        done = Done(0, "")
        lost = [item.name for item in work.items if item.before and not item.old]
        if not self._is_back(work):
            olds = [self._folder.packages / item.old for item in work.items if item.old]
            if olds:
                done = self._tools.put(olds)
            installed = self._tools.installed()
            news = [item.name for item in work.items if not item.before and item.name in installed]
            if news:
                done = self._tools.purge(news)
            self._tools.configure()
        if not self._is_back(work):
            why = f"{', '.join(lost)} could not be kept" if lost else self._tools.audit() or done.why
            raise ApplyError(f"the packages before cannot be put back: {why}")
        self._folder.end_work(self._current())

    # Files of packages ----------------------------------------------------------------------------------------
    def _fetch(self, step: Planned) -> Item:
        new = self._file_of(step.name, step.after)
        if new is None:
            raise ApplyError(
                f"{step.name} {step.after} cannot be fetched: {self._last.why}", transient="404" not in self._last.said
            )
        old = self._file_of(step.name, step.before) if step.before else None
        if old is None and step.before:
            old = self._repacked(step.name, step.before)
        if old is None and step.before and not self._without_rollback:
            raise ApplyError(
                f"{step.name} {step.before} cannot be kept to go back to: neither a mirror nor a cache has it, and"
                " dpkg-repack could not make it"
            )
        return Item(name=step.name, before=step.before, after=step.after, new=new.name, old=old.name if old else "")

    def _file_of(self, name: str, version: str) -> Path | None:
        """The package in our folder: it is there, or apt's cache has it, or a mirror."""
        if found := self._find(self._folder.packages, name, version):
            return found
        if cached := self._find(self._tools.root / _APT_CACHE, name, version):
            beside = self._folder.packages / f"{cached.name}.new"
            shutil.copyfile(cached, beside)
            return beside.replace(self._folder.packages / cached.name)
        self._last = self._tools.download(name, version, self._folder.packages)
        return self._find(self._folder.packages, name, version)

    def _repacked(self, name: str, version: str) -> Path | None:
        self._last = self._tools.repack(name, self._folder.packages)
        return self._find(self._folder.packages, name, version)

    def _find(self, folder: Path, name: str, version: str) -> Path | None:
        """By the file's own name, as apt gives it, and by what is in it, whole."""
        for path in sorted(folder.glob(f"{name}_*.deb")):
            if unquote(path.name).startswith(f"{name}_{version}_"):
                found = self._tools.describe(path)
                if found is not None and found[:2] == (name, version):
                    return path
                if folder == self._folder.packages:  # cut short when we were killed
                    path.unlink(missing_ok=True)
        return None

    def _is_whole(self, work: Work) -> bool:
        names = [name for item in work.items for name in (item.new, item.old) if name]
        return all(self._tools.describe(self._folder.packages / name) is not None for name in names)

    def _is_back(self, work: Work) -> bool:
        installed = self._tools.installed()
        for item in work.items:
            found = installed.get(item.name)
            if item.before and (found is None or not found.is_well or found.version != item.before):
                return False
            if not item.before and found is not None and found.status != "config-files":
                return False
        return not self._tools.audit()

    def _current(self) -> frozenset[str]:
        """Files of versions that are installed now: the next change goes back to them."""
        installed = self._tools.installed()
        names = set()
        for path in self._folder.packages.glob("*.deb"):
            found = self._tools.describe(path)
            here = installed.get(found[0]) if found is not None else None
            if found is not None and here is not None and here.version == found[1]:
                names.add(path.name)
        return frozenset(names)


def _key(wanted: OsState) -> str:
    return sha256(msgspec.json.encode([sorted(wanted.packages.items()), wanted.kernel])).hexdigest()


def _needed(wanted: OsState, installed: Mapping[str, Installed]) -> list[str]:
    """The packages that are not whole, or not at their versions."""
    here = {name: package.version for name, package in installed.items() if package.is_well}
    return sorted(name for name, version in wanted.packages.items() if here.get(name) != version)


def _shown(package: Installed | None) -> str:
    if package is None:
        return "not there"
    return package.version if package.is_well else f"{package.version} ({package.status}, {package.flag})"
