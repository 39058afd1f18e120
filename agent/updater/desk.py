"""One request of the agent, answered: judged first, then a step, under the lock and with a line in steps.log."""

import logging
from collections.abc import Callable

from agent.apply.part import ApplyError
from agent.apply.reboot_window import is_open
from agent.config import OsConfig
from agent.protocol.desired import Document, OsState
from agent.updater.folder import KEPT, NEWEST, Folder, PinsError
from agent.updater.judge import Judge, Taken
from agent.updater.messages import Answer, Request, one_line
from agent.updater.steps import Machine, Steps

log = logging.getLogger("updater")


class Desk:
    """Answers requests, one at a time. `reboot` boots the machine anew, and returns before that."""

    def __init__(
        self, folder: Folder, machine: Machine, config: OsConfig, judge: Judge, reboot: Callable[[], None]
    ) -> None:
        self._folder, self._machine, self._config, self._judge, self._reboot = folder, machine, config, judge, reboot
        self._steps = Steps(folder, machine, also=config.also, without_rollback=config.without_rollback)

    def answer(self, request: Request) -> Answer:
        """Do the step, or say why not. Blocks as long as that takes."""
        try:
            with self._folder.lock():
                answer = self._boot() if request.command == "reboot" else self._step(request)
        except ApplyError as error:
            answer = Answer(error=one_line(str(error)), transient=error.transient)
        except PinsError as error:
            answer = Answer(error=one_line(str(error)))
        except OSError as error:  # a disk that is full, above all
            answer = Answer(error=one_line(f"the updater cannot go on: {error}"), transient=True)
        if answer.error:
            log.warning("%s: %s", request.command, answer.error)
        return answer

    def _step(self, request: Request) -> Answer:
        taken = self._judge.take(request.document, request.certificates)
        document = taken.document
        if document.os is None:
            raise ApplyError("the document says nothing of packages")
        if request.command == "changes":
            change = self._steps.changes(document.os)
            if change is None:  # it holds as it is, so it may be brought back later
                self._note_kept(taken)
            return Answer() if change is None else Answer(before=change.before, after=change.after)
        if request.command == "check":
            found = self._steps.check(document.os)
            return Answer(state=found.state, detail=one_line(found.detail))
        self._folder.note(begins=request.command, epoch=document.epoch, version=document.version)
        try:
            self._act(request, taken, document.os)
        except ApplyError as error:
            self._folder.note(failed=request.command, version=document.version, why=str(error))
            raise
        self._folder.note(done=request.command, version=document.version)
        log.info("%s of version %d is done", request.command, document.version)
        return Answer()

    def _act(self, request: Request, taken: Taken, wanted: OsState) -> None:
        if request.command in {"stage", "switch"}:
            self._check_timely(taken)
        if request.command == "stage":
            self._steps.stage(wanted)
        elif request.command == "switch":
            self._steps.switch(wanted)
        elif request.command == "restore":
            self._steps.restore(wanted)
        elif request.command == "keep":
            self._note_kept(taken)
            self._steps.keep(wanted)

    def _note_kept(self, taken: Taken) -> None:
        newest = self._folder.held(NEWEST)
        if newest is not None and not taken.is_kept:
            self._folder.put_held(KEPT, newest)

    def _check_timely(self, taken: Taken) -> None:
        """Nothing is begun for a document that has expired, nor while the newest says to hold. Raises ApplyError."""
        work, newest = self._folder.work(), self._judge.newest()
        if work is not None and work.phase == "switching":  # it must not stay between
            return
        if newest is not None and newest.hold:
            raise ApplyError("this site is frozen")
        if not taken.is_kept and taken.document.expires_at <= self._judge.now():
            raise ApplyError("the updater refuses the document (expired): its time is over")

    # Booting anew ---------------------------------------------------------------------------------------------
    def _boot(self) -> Answer:
        document, work = self._judge.newest(), self._folder.work()
        if document is None or document.os is None or work is None or work.phase != "switched":
            raise ApplyError("there is nothing that a reboot would bring about")
        if work.boot != self._machine.boot:
            raise ApplyError("the machine was booted anew since")
        self._check_boot(document, document.os)
        self._folder.note(done="reboot", version=document.version)
        log.warning("the machine boots anew, for version %d", document.version)
        self._reboot()
        return Answer()

    def _check_boot(self, document: Document, wanted: OsState) -> None:
        """Raises ApplyError, transient where time alone must pass."""
        if wanted.reboot == "never":
            raise ApplyError("the document does not allow a reboot")
        if not self._config.reboot:
            raise ApplyError("this site's configuration does not allow a reboot: [os] reboot = true")
        if document.hold:
            raise ApplyError("this site is frozen", transient=True)
        if wanted.reboot == "window":
            windows, zone = self._config.reboot_windows, self._config.time_zone
            if not windows:
                raise ApplyError("this site's configuration names no window for reboots: [os] reboot_windows")
            if not is_open(windows, zone, self._judge.now()):
                raise ApplyError(f"a reboot waits for {', '.join(windows)} ({zone})", transient=True)
