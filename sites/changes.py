"""What is different between two contents of documents, line by line and in plain words. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.protocol.desired import AgentRelease, DesiredWorkload, WorkloadConfig, decode_config
from sites.drafts import shape

Lines = tuple["Line", ...]
_REBOOTS: Final = {
    "never": "never restarts its machine",
    "if_required": "restarts its machine if that is needed",
    "window": "restarts its machine in its window, if that is needed",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One value that changes; what is not there is empty."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changes. `kind`: workload, package, kernel, reboot or agent; `verb`: added, removed or changed.

    `words` is the change in one line.
    """

    kind: str
    name: str
    verb: str
    words: str
    lines: Lines = ()


def changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], bodies: Mapping[str, bytes] | None = None
) -> list[Change]:
    """What `after` changes of `before` (None: nothing was managed). Configurations in `bodies` are compared inside."""
    old, new = shape(before), shape(after)
    return [
        *_workloads(old.workloads, new.workloads, bodies or {}),
        *_packages(old.os.packages if old.os else {}, new.os.packages if new.os else {}),
        *_machine(old.os, new.os),
        *_agent(old.agent, new.agent),
    ]


def effects(found: list[Change]) -> list[str]:
    """What these changes do at the site, in plain words: one sentence each."""
    if not found:
        return ["Nothing changes: the site is told the same once more, and brings back what it finds changed."]
    said = []
    workloads = [one for one in found if one.kind == "workload"]
    begun = sum(one.verb == "added" for one in workloads)
    ended = sum(one.verb == "removed" for one in workloads)
    again = sum(one.verb == "changed" and any(line.what != "settle time" for line in one.lines) for one in workloads)
    for number, verb in ((again, "restarts"), (begun, "starts"), (ended, "stops and removes")):
        if number:
            said.append(f"The site {verb} {number} container{'' if number == 1 else 's'}.")
    packages = [one for one in found if one.kind == "package" and one.verb != "removed"]
    if packages:
        said.append(f"It installs {len(packages)} package{'' if len(packages) == 1 else 's'} at exact versions.")
    said += [one.words for one in found if one.kind == "reboot"]
    if any(one.kind == "kernel" for one in found):
        said.append("Another kernel runs only after a restart of the machine.")
    if any(one.kind == "agent" and one.verb != "removed" for one in found):
        said.append("The agent replaces itself, and goes back by itself if the new one does not come up.")
    return said


# Workloads --------------------------------------------------------------------------------------------------
def _workloads(
    old: tuple[DesiredWorkload, ...], new: tuple[DesiredWorkload, ...], bodies: Mapping[str, bytes]
) -> Iterator[Change]:
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    for name in dict.fromkeys([*before, *after]):
        was, is_now = before.get(name), after.get(name)
        lines = _differ(_values(was, bodies), _values(is_now, bodies))
        if was is None and is_now is not None:
            yield Change("workload", name, "added", f"{name}: new, at {_called(is_now)}", lines)
        elif was is not None and is_now is None:
            yield Change("workload", name, "removed", f"{name}: removed (it was at {_called(was)})", lines)
        elif was is not None and is_now is not None and lines:
            yield Change("workload", name, "changed", f"{name}: {_in_words(was, is_now, lines)}", lines)


def _in_words(was: DesiredWorkload, is_now: DesiredWorkload, lines: Lines) -> str:
    others = [line.what for line in lines if line.what not in ("version", "image")]
    said = []
    if _called(was) != _called(is_now):
        said.append(f"{_called(was)} → {_called(is_now)}")
    elif was.image != is_now.image:
        said.append(f"another image under the same version {_called(is_now)}")
    if others:
        said.append(f"{', '.join(others[:6])}{' and more' if len(others) > 6 else ''} changed")
    return "; ".join(said)


def _called(one: DesiredWorkload) -> str:
    """What people call its image."""
    return one.version or "sha256:" + one.image.rpartition(":")[2][:12]


def _values(one: DesiredWorkload | None, bodies: Mapping[str, bytes]) -> dict[str, str]:
    """Everything about a workload by the names that people give it, as text; what is not set is left out."""
    if one is None:
        return {}
    values = {"image": one.image, "version": one.version or ""}
    values["CPU limit"] = f"{one.limits.cpus:g} cores" if one.limits.cpus else ""
    values["memory limit"] = f"{one.limits.mem_bytes / (1 << 20):,.0f} MiB" if one.limits.mem_bytes else ""
    if one.health is not None:
        values["health command"] = " ".join(one.health.command)
        values["health timing"] = (
            f"every {one.health.interval_s:g} s, at most {one.health.timeout_s:g} s, {one.health.retries} times,"
            f" {one.health.grace_s:g} s of grace"
        )
    values["settle time"] = f"{one.settle_s:g} s"
    body = bodies.get(one.config_sha256 or "")
    values |= _config_values(decode_config(body)) if body is not None else {"configuration": one.config_sha256 or ""}
    return {name: value for name, value in values.items() if value}


def _config_values(config: WorkloadConfig) -> dict[str, str]:
    values = {f"variable {name}": value or "(empty)" for name, value in config.env.items()}
    for port in config.ports:
        values[f"port {port.address and port.address + ':'}{port.host}/{port.protocol}"] = f"to {port.container}"
    for mount in config.mounts:
        values[f"mount {mount.target}"] = f"{mount.volume or mount.folder}{' (read only)' if mount.read_only else ''}"
    values["command"] = " ".join(config.command or ())
    values["network"] = "" if config.network == "bridge" else config.network
    values["user"] = config.user
    values["file system"] = "read only" if config.read_only else ""
    return values


def _differ(before: Mapping[str, str], after: Mapping[str, str]) -> Lines:
    names = dict.fromkeys([*before, *after])
    found = [Line(name, before.get(name, ""), after.get(name, "")) for name in names]
    return tuple(line for line in found if line.before != line.after)


# The machine ------------------------------------------------------------------------------------------------
def _packages(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        was, is_now = before.get(name, ""), after.get(name, "")
        lines = (Line("version", was, is_now),)
        if not was:
            yield Change("package", name, "added", f"package {name}: held at {is_now}", lines)
        elif not is_now:
            yield Change("package", name, "removed", f"package {name}: no longer managed, left at {was}", lines)
        elif was != is_now:
            yield Change("package", name, "changed", f"package {name}: {was} → {is_now}", lines)


def _machine(old: Any, new: Any) -> Iterator[Change]:
    was, is_now = (old.kernel if old else None) or "", (new.kernel if new else None) or ""
    if was != is_now:
        words = f"kernel: {was} → {is_now}" if was and is_now else f"kernel: {is_now or 'no longer managed'}"
        yield Change("kernel", "kernel", _verb(was, is_now), words, (Line("version", was, is_now),))
    before, after = old.reboot if old else "never", new.reboot if new else "never"
    if before != after:
        words = f"From now on the site {_REBOOTS[after]}."
        yield Change("reboot", "reboot", "changed", words, (Line("reboot", before, after),))


def _agent(old: AgentRelease | None, new: AgentRelease | None) -> Iterator[Change]:
    was, is_now = old.version if old else "", new.version if new else ""
    if msgspec.to_builtins(old) == msgspec.to_builtins(new):
        return
    words = f"agent: {was or 'as it is'} → {is_now}" if is_now else f"agent: no longer managed, left at {was}"
    lines = _differ(
        {"version": was, "wheel": old.blob if old else ""}, {"version": is_now, "wheel": new.blob if new else ""}
    )
    yield Change("agent", "agent", _verb(was, is_now), words, lines)


def _verb(before: str, after: str) -> str:
    return "added" if not before else "changed" if after else "removed"
