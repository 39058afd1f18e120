"""`enrol`: make this machine's keys, present them to the centre, and wait until a person has accepted them."""

import argparse
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.calling import CallError, Gateway, fetch_roots, trusted
from agent.commands.arguments import add_config, config_of, plain
from agent.commands.kept import join_of
from agent.identity import Identity, IdentityError, IdentityFile, Keys
from agent.keeping import open_identities
from agent.protocol.identity import EnrolAnswer, Join
from agent.state import IDENTITIES, LockedError, StateError, become_owner, forget_join, keep_join, locked, why
from agent.status import read_identity

MAX_JOIN_CHARS: Final = 4_096
RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Refused:
    """An ending of an enrolment that is not being accepted: exit status, what happened, what to do."""

    status: int
    sentence: str
    remedy: str


UNREACHABLE: Final = 3
_NEW_STRING: Final = "Make a new join string on the site's page and enrol with that."
_LOOK: Final = "Its operators must look at the site's page, find out who used the join string, and thaw or reject."
# By the gateway's word; the words of sites.services.enrolment.
REFUSALS: Final = {
    "expired": Refused(4, "the join string has expired; it is valid for 24 hours", _NEW_STRING),
    "withdrawn": Refused(4, "the join string was withdrawn, for a newer one was made", "Enrol with the newest one."),
    "unknown_token": Refused(4, "the centre does not know this join string", _NEW_STRING),
    "replaced": Refused(4, "newer keys of this site took the place of these", _NEW_STRING),
    "frozen": Refused(5, "the site is frozen: by its operators, or as a join string was used with other keys", _LOOK),
    "rejected": Refused(6, "the keys of this machine were rejected", f"Ask who rejected them, and why. {_NEW_STRING}"),
    "revoked": Refused(6, "the keys of this site were revoked", _NEW_STRING),
    "retired": Refused(6, "this site is retired", "Add the machine as a new site."),
    "root": Refused(
        7,
        "the gateway is not the one that the join string names: somebody may be in between",
        "Nothing secret was sent. Check the network on the way, then the join string.",
    ),
    "certificate": Refused(
        7,
        "the gateway cannot prove that it is the centre's",
        "Nothing secret was sent. Check the network on the way, and this machine's clock.",
    ),
    "clock": Refused(
        8,
        "this machine's clock and the centre's certificates do not agree",
        "Set the clock (`timedatectl set-ntp true`) and enrol again.",
    ),
}


def add(commands: Any) -> None:
    """Describe the command."""
    enrol = commands.add_parser(
        "enrol",
        help="join the fleet",
        description="Make this machine's keys, present them, and wait until they are accepted. Exit status: 0 accepted"
        " (with --no-wait: presented), 3 the gateway was not reached, 4 the join string is not valid, 5 frozen,"
        " 6 rejected, 7 not our gateway, 8 the clock is wrong, 1 anything else.",
    )
    enrol.add_argument(
        "join", nargs="?", metavar="JOIN_STRING", help="from the site's page; better give `-` and paste it"
    )
    enrol.add_argument("--join-file", type=Path, metavar="FILE", help="a file that holds it")
    enrol.add_argument("--no-wait", action="store_true", help="present the keys and return; `run` does the rest")
    enrol.add_argument("--again", action="store_true", help="also where this machine has a certificate already")
    add_config(enrol)
    enrol.set_defaults(command=_enrol)


def _enrol(options: argparse.Namespace) -> int:
    folder = config_of(options).folder
    text = _join_text(options)
    join = join_of(text)
    become_owner(folder)
    try:
        with locked(folder):
            identity = _own(folder, join, again=options.again)
            if identity.certificates is not None and not options.again:
                until = f"{identity.validity()[1]:%Y-%m-%d %H:%M} UTC"
                print(f"This machine is site {identity.site} already; its certificate is valid until {until}.")
                return 0
            keep_join(folder, text.strip())  # so that `run` can go on where we stop
            return _Enrolment(folder, join, identity).run(wait=not options.no_wait)
    except LockedError as error:
        raise StateError(f"{error}; stop it, enrol, and start it again: systemctl stop archipelago-agent") from None


def _join_text(options: argparse.Namespace) -> str:
    """The join string. Raises IdentityError."""
    if options.join_file is not None:
        try:
            with options.join_file.open() as file:
                return str(file.read(MAX_JOIN_CHARS))
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"{options.join_file} cannot be read: {why(error)}") from None
    if options.join not in {None, "-"}:
        print(
            "Warning: a join string among the arguments can be read by all users of this machine, and stays in the"
            " shell's history. Better: archipelago-agent enrol - (and paste it).",
            file=sys.stderr,
        )
        return str(options.join)
    if sys.stdin.isatty():
        print("Paste the join string from the site's page, then press Enter:", flush=True)
    return sys.stdin.readline(MAX_JOIN_CHARS)


def _own(folder: Path, join: Join, *, again: bool) -> Identity:
    """This machine's identity, made if need be, on the disk before it is shown. Raises IdentityError."""
    identity = read_identity(folder)
    if identity is not None and identity.site != join.site:
        raise IdentityError(
            f"this machine is site {identity.site}, but the join string is for site {join.site};"
            f" to make it another site, stop the agent and move {folder} away"
        )
    return open_identities(IdentityFile(folder / IDENTITIES), [join.site])[join.site]


class _Enrolment:
    """One attempt, told on standard output."""

    def __init__(self, folder: Path, join: Join, identity: Identity) -> None:
        self._folder, self._join, self._identity = folder, join, identity
        self._file = IdentityFile(folder / IDENTITIES)
        self._gateway: Gateway | None = None

    def run(self, *, wait: bool, pause: Callable[[float], None] = time.sleep) -> int:
        """Until there is an answer that no waiting changes; the exit status."""
        shown = said_unreachable = False
        try:
            while True:
                try:
                    answer = self._ask()
                except CallError as error:
                    refused = _refusal(error)
                    if refused.status != UNREACHABLE or not wait or not shown:
                        return _tell(refused)
                    if not said_unreachable:
                        print(f"For the moment {refused.sentence}. Trying again.", flush=True)
                    said_unreachable = True
                    pause(RETRY_S)
                    continue
                said_unreachable = False
                if answer is not None and not shown:
                    shown = True
                    self._show(waits=answer.state == "pending")
                if answer is not None and (status := self._settle(answer, wait=wait)) is not None:
                    return status
                pause(answer.retry_s if answer is not None else 0.0)
        finally:
            if self._gateway is not None:
                self._gateway.close()

    def _ask(self) -> EnrolAnswer | None:
        """Present the keys; None where they were revoked, and new ones have been made. Raises CallError."""
        if self._gateway is None:
            self._gateway = Gateway(self._join.gateway, self._join.fleet, trusted(fetch_roots(self._join)))
        try:
            return self._gateway.enrol(self._identity, self._join.secret, host=socket.gethostname())
        except CallError as error:
            if error.code != "revoked_keys":
                raise
        self._identity = Identity(self._join.site, Keys.make())
        self._file.put(self._identity)
        print("The keys that this machine had were revoked. It has made new ones.")
        return None

    def _settle(self, answer: EnrolAnswer, *, wait: bool) -> int | None:
        """The exit status if this answer is the last. Raises IdentityError."""
        if answer.state == "rejected":
            forget_join(self._folder)
            refused = REFUSALS["rejected"]
            reason = f": {plain(answer.detail[:300])}" if answer.detail else ""
            return _tell(Refused(refused.status, refused.sentence + reason, refused.remedy))
        if answer.certificates is not None:
            self._identity = self._identity.with_certificates(answer.certificates)
            self._file.put(self._identity)
            forget_join(self._folder)
            print(f"Accepted. The certificate is valid until {self._identity.validity()[1]:%Y-%m-%d %H:%M} UTC.")
            print("Start the agent: systemctl enable --now archipelago-agent")
            return 0
        if wait:
            return None
        if self._identity.certificates is not None:  # so that `run` joins, and does not wait for its half-life
            self._file.put(replace(self._identity, certificates=None))
        print("Not waiting: start the agent, which fetches its certificate once it is accepted.")
        return 0

    def _show(self, *, waits: bool) -> None:
        """The fingerprint, so that nobody overlooks it."""
        line = self._identity.keys.fingerprint.upper().replace("-", "  ")
        frame = "=" * (len(line) + 4)
        print(f"This machine has presented itself as site {self._identity.site}.")
        print(f"\n{frame}\n  {line}\n{frame}\n\nThis is its FINGERPRINT.")
        if waits:
            print(
                "Open the waiting room of the dashboard, compare the fingerprint there with this one, sign by sign,\n"
                "and accept only if they are the same. Waiting for that ..."
            )
        sys.stdout.flush()


def _refusal(error: CallError) -> Refused:
    """What an error of the gateway, or on the way to it, means to a person."""
    said = plain(str(error)[:300])
    if error.code == "certificate" and ("expired" in said or "not yet valid" in said):
        way = "ahead" if "expired" in said else "behind"
        clock = REFUSALS["clock"]
        return Refused(clock.status, f"{clock.sentence}: it may be {way} ({said})", clock.remedy)
    known = REFUSALS.get(error.code)
    if known is not None:
        return known
    if error.code in {"", "slow_down", "signer", "unavailable", "internal"}:
        return Refused(UNREACHABLE, said.rstrip("."), "Check network and gateway address; `archipelago-agent doctor`.")
    return Refused(1, f"the gateway refuses: {said}", "Ask the centre's operators.")


def _tell(refused: Refused) -> int:
    print(f"archipelago-agent: {refused.sentence}.\n{refused.remedy}", file=sys.stderr)
    return refused.status
