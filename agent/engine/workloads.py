"""Brings containers to what a document says: the part `workload` of what the applier drives.

All that is needed after a kill is in the engine: `archipelago-NAME` is what runs, `archipelago-NAME.before` what ran
until the change, kept stopped until it is certain that the new one stays; labels say what each was made from.

    nothing .. [stop, rename] .. before .. [create] .. before + new .. [start] .. before + running .. keep | restore
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from agent.apply.part import ApplyError, Blobs, Change, Check
from agent.engine import container as spec
from agent.engine.client import Engine, name_in_path
from agent.engine.container import before_name, creation, current_name, spec_digest
from agent.engine.errors import EngineError
from agent.engine.images import parse_reference
from agent.engine.judge import judge, probe_if_due
from agent.engine.messages import Created, Inspected, Listed, read_time
from agent.engine.pull import find_image, prune_images, pull_image
from agent.engine.settings import EngineSettings
from agent.protocol.desired import DesiredWorkload, Document, WorkloadConfig, decode_config
from agent.protocol.report import ProtocolError

PART: Final = "workload"
_START_S: Final = 60.0
_STOP_LIMIT_S: Final = spec.STOP_S + 30.0
_UNSTARTED: Final = {"created", "configured", "initialized"}
log = logging.getLogger("agent")


class Workloads:
    """See Part. It touches only containers that carry Archipelago's label for the workload they are named after."""

    name = PART

    def __init__(self, engine: Engine, settings: EngineSettings, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each step that changed what runs, in the applier's thread."""
        self._engine = engine
        self._settings = settings
        self._changed = changed

    def changes(self, document: Document, blobs: Blobs) -> list[Change]:
        """See Part: removals first, for they may free a port; what was switched and is not kept yet is listed again."""
        with _plainly():
            there = self._containers()
            wanted = {workload.name: workload for workload in document.workloads}
            for workload in document.workloads:
                self._check_allowed(workload, blobs)
                self._own(there, workload.name)
            ours = {name for found in there.values() if (name := _workload_of(found))}
            return [
                *(self._change(there, name, None) for name in sorted(ours - wanted.keys())),
                *(
                    self._change(there, name, workload)
                    for name, workload in wanted.items()
                    if not self._holds(there, workload)
                ),
            ]

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part: pulls the image by its digest."""
        workload = _wanted(document, change)
        if workload is None:
            return
        with _plainly():
            self._check_allowed(workload, blobs)
            pull_image(self._engine, workload.image, workload.name, self._settings)

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part: the old is stopped and renamed, the new made and started. No network is used."""
        workload = _wanted(document, change)
        with _plainly():
            current, before = self._own(self._containers(), change.name)
            if workload is None:
                self._put_aside(change.name, current, before)
            else:
                self._replace(workload, _config(workload, blobs), current, before)
        self._changed()

    def check(self, document: Document, change: Change) -> Check:
        """See Part: by the engine's health state, or by having run for `settle_s` without a restart."""
        workload = _wanted(document, change)
        with _plainly():
            current, _ = self._own(self._containers(), change.name)
            if workload is None:
                return Check("well") if current is None else Check("broken", "it is still there")
            if current is None or not _is(current, workload):
                return Check("broken", "its container is not there")
            found = self._inspect(current)
            if probe_if_due(self._engine, found):
                found = self._inspect(current)
            return judge(workload, found, datetime.now(UTC))

    def keep(self, document: Document, change: Change) -> None:
        """See Part: the old container goes, and images of ours but for the current one and the one before."""
        with _plainly():
            current, before = self._own(self._containers(), change.name)
            workload = _wanted(document, change)
            if workload is not None and (current is None or not _is(current, workload)):
                return  # not what was switched: there is nothing to keep it for
            self._remove(before)
            self._prune(change.name, current)
        self._changed()

    def restore(self, document: Document, change: Change) -> None:
        """See Part: the new container goes, the old one gets its name back and runs."""
        with _plainly():
            current, before = self._own(self._containers(), change.name)
            workload = _wanted(document, change)
            is_new = workload is not None and current is not None and _is(current, workload)
            if before is not None:
                self._remove(current)
                self._rename(before, current_name(change.name))
                current = before
            elif is_new and not change.before:
                self._remove(current)
                current = None
            if current is not None:
                self._start(current)
            self._prune(change.name, current)
        self._changed()

    def start_all(self) -> None:
        """Start our containers that do not run. To be called once after a boot of the machine, before any step.

        Docker does so by itself; of Podman, the unit that starts containers knows the restart policy `always` only,
        which would start again what a person had stopped. Raises ApplyError.
        """
        with _plainly():
            if not self._engine.is_podman:
                return
            there = self._containers()
            for name in sorted({name for found in there.values() if (name := _workload_of(found))}):
                current, _ = self._own(there, name)
                if current is not None and current.state != "running" and self._was_started(current):
                    self._start(current)
        self._changed()

    def _change(self, there: dict[str, Listed], name: str, workload: DesiredWorkload | None) -> Change:
        current, before = self._own(there, name)
        old = before or current
        before_text = "" if old is None else shown(old.label(spec.VERSION), old.label(spec.IMAGE))
        if workload is not None and before is None and current is not None and _is(current, workload):
            before_text = ""  # made by us, and never started: there was nothing before it
        return Change(PART, name, before_text, shown(workload.version or "", workload.image) if workload else "")

    def _holds(self, there: dict[str, Listed], workload: DesiredWorkload) -> bool:
        current, before = self._own(there, workload.name)
        return current is not None and before is None and _is(current, workload) and self._was_started(current)

    def _check_allowed(self, workload: DesiredWorkload, blobs: Blobs) -> None:
        """Raise EngineError or ApplyError for a workload that can never run here."""
        try:
            creation(workload, _config(workload, blobs), self._settings, "")
        except EngineError as error:
            raise EngineError(f"workload {workload.name}: {error}") from None

    def _containers(self) -> dict[str, Listed]:
        """All containers of the engine by their names."""
        return {found.name: found for found in self._engine.get("/containers/json", tuple[Listed, ...], all=True)}

    def _own(self, there: dict[str, Listed], name: str) -> tuple[Listed | None, Listed | None]:
        """The container of a workload, and what is kept of its predecessor. Raises EngineError for foreign ones."""
        found = there.get(current_name(name)), there.get(before_name(name))
        for container in found:
            if container is not None and container.label(spec.WORKLOAD) != name:
                raise EngineError(
                    f"a container {container.name} is there that is not Archipelago's (it has no label"
                    f" {spec.WORKLOAD}={name}); it is left alone, and must go or get another name first"
                )
        return found

    def _was_started(self, found: Listed) -> bool:
        """Whether it ever ran. After a boot Podman calls all `created`, but knows when they were started."""
        return found.state not in _UNSTARTED or read_time(self._inspect(found).state.started_at) is not None

    def _inspect(self, found: Listed) -> Inspected:
        return self._engine.get(f"/containers/{name_in_path(found.id)}/json", Inspected)

    def _put_aside(self, name: str, current: Listed | None, before: Listed | None) -> None:
        """Stop what runs and keep it, unless an older one is kept already: that one was the last known to be good."""
        if current is None:
            return
        if before is not None:
            self._remove(current)
            return
        self._stop(current)
        self._rename(current, before_name(name))

    def _replace(
        self, workload: DesiredWorkload, config: WorkloadConfig, current: Listed | None, before: Listed | None
    ) -> None:
        if current is not None and _is(current, workload):
            if not self._was_started(current):
                self._start(current)
            return
        if find_image(self._engine, workload.image) is None:
            raise EngineError(f"the image {workload.image} is not there; it was not staged, or removed since")
        old = before or current
        image_before = "" if old is None else old.label(spec.IMAGE)
        if parse_reference(image_before).digest == parse_reference(workload.image).digest and old is not None:
            image_before = old.label(spec.BEFORE)  # only its configuration changes: the image before is still that
        body = creation(workload, config, self._settings, image_before)
        self._put_aside(workload.name, current, before)
        made = self._engine.create("/containers/create", body, Created, name=current_name(workload.name))
        self._start(made)

    def _rename(self, found: Listed, name: str) -> None:
        self._engine.post(f"/containers/{name_in_path(found.id)}/rename", name=name)

    def _stop(self, found: Listed) -> None:
        self._engine.post(f"/containers/{name_in_path(found.id)}/stop", timeout_s=_STOP_LIMIT_S, t=spec.STOP_S)

    def _start(self, found: Listed | Created) -> None:
        self._engine.post(f"/containers/{name_in_path(found.id)}/start", timeout_s=_START_S)

    def _remove(self, found: Listed | None) -> None:
        """Remove a container with the volumes that have no name; named ones, the site's data, stay."""
        if found is None:
            return
        try:
            if found.state == "running":
                self._stop(found)  # it may be writing to a volume that the next one uses
            self._engine.delete(f"/containers/{name_in_path(found.id)}", force=True, v=True)
        except EngineError as error:
            if error.status != 404:
                raise

    def _prune(self, name: str, current: Listed | None) -> None:
        """Let images of ours go, but for what runs and what ran before. That it fails is no reason to fail a change."""
        keep = [] if current is None else [image for key in (spec.IMAGE, spec.BEFORE) if (image := current.label(key))]
        try:
            prune_images(self._engine, name, keep)
        except EngineError as error:
            log.warning("images that workload %s no longer needs cannot be removed: %s", name, error)


def shown(version: str, image: str) -> str:
    """A version for people: `4.2.0 (sha256:1f3a5b7c9d0e…)`."""
    digest = parse_reference(image).digest[:19]
    return f"{version} ({digest}…)" if version else f"{digest}…"


def _wanted(document: Document, change: Change) -> DesiredWorkload | None:
    """What the document says of the workload that changes; None if it is to go."""
    return next((workload for workload in document.workloads if workload.name == change.name), None)


def _config(workload: DesiredWorkload, blobs: Blobs) -> WorkloadConfig:
    """Its configuration. Raises ApplyError."""
    if workload.config_sha256 is None:
        return WorkloadConfig()
    try:
        return decode_config(blobs.read(workload.config_sha256))
    except ProtocolError as error:
        raise ApplyError(f"workload {workload.name}: its configuration cannot be read: {error.reason}") from None


def _workload_of(found: Listed) -> str:
    """The workload whose container, or kept predecessor, this is; empty for all others, whatever their labels say."""
    name = found.label(spec.WORKLOAD)
    return name if name and found.name in {current_name(name), before_name(name)} else ""


def _is(found: Listed, workload: DesiredWorkload) -> bool:
    """Whether it was made from exactly this."""
    return found.label(spec.SPEC) == spec_digest(workload)


@contextmanager
def _plainly() -> Iterator[None]:
    """Errors of the engine as those of a step."""
    try:
        yield
    except EngineError as error:
        raise ApplyError(str(error), transient=error.transient) from None
