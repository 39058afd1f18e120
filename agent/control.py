"""The simulator's control socket: one JSON request a line, one JSON answer a line, for this user only."""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent.churn import MAX_PER_MINUTE
from agent.protocol import Kind, VerdictState
from agent.simulator import OrderError, SimulatedFleet
from agent.unix_socket import UnixSocketError, bind_private
from agent.virtual_site import ApplyFault, Mode

MAX_LINE_BYTES: Final = 4 << 20
_ANSWER_S: Final = 30.0

Sites = list[str] | Literal["all"]

log = logging.getLogger("agent")


class ControlError(UnixSocketError):
    """The control socket cannot be used, or the order was refused; the message says why in one line."""


class Fail(Struct, tag_field="cmd", tag="fail"):
    """Let sites fail, for a time or until healed."""

    sites: Sites
    mode: Mode
    for_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None


class Heal(Struct, tag_field="cmd", tag="heal"):
    """Let sites be well again."""

    sites: Sites


class FailApply(Struct, tag_field="cmd", tag="fail_apply"):
    """Let the changes of desired state fail, until healed."""

    sites: Sites
    fault: ApplyFault


class Judge(Struct, tag_field="cmd", tag="judge"):
    """Let sites give a verdict of themselves, also while they fail otherwise."""

    sites: Sites
    state: VerdictState


class Upgrade(Struct, tag_field="cmd", tag="upgrade"):
    """Give a component another version."""

    sites: Sites
    kind: Kind
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    version: Annotated[str, Meta(min_length=1, max_length=512)]


class SetChurn(Struct, tag_field="cmd", tag="churn"):
    """Let that share of the sites change its verdict each minute."""

    per_minute: Annotated[float, Meta(ge=0, le=MAX_PER_MINUTE)]


class Status(Struct, tag_field="cmd", tag="status"):
    """Ask for the counts."""


Order = Fail | FailApply | Heal | Judge | Upgrade | SetChurn | Status
_decoder = msgspec.json.Decoder(Order)


def carry_out(fleet: SimulatedFleet, order: Order) -> dict[str, Any]:
    """Do what is ordered and return the answer's fields. Raises OrderError."""
    if isinstance(order, Status):
        return fleet.status()
    if isinstance(order, SetChurn):
        fleet.churn(order.per_minute)
        log.info("churn: %g of the sites change a minute", order.per_minute)
        return {"per_minute": order.per_minute}
    sites = fleet.select(order.sites)
    if isinstance(order, Fail):
        fleet.fail(sites, order.mode, order.for_s)
        log.info("fail: %d sites are %s%s", len(sites), order.mode, f" for {order.for_s:g} s" if order.for_s else "")
        return {"sites": len(sites)}
    if isinstance(order, FailApply):
        fleet.fail_apply(sites, order.fault)
        log.info("fail-apply: at %d sites: %s", len(sites), order.fault)
        return {"sites": len(sites)}
    if isinstance(order, Judge):
        fleet.judge(sites, order.state)
        log.info("judge: %d sites are %s", len(sites), order.state)
        return {"sites": len(sites)}
    if isinstance(order, Heal):
        fleet.heal(sites)
        log.info("heal: %d sites", len(sites))
        return {"sites": len(sites)}
    changed = fleet.upgrade(sites, order.kind, order.name, order.version)
    log.info("upgrade: %s %s is %s at %d sites", order.kind, order.name, order.version, changed)
    return {"sites": len(sites), "changed": changed}


def answer_line(fleet: SimulatedFleet, line: bytes) -> bytes:
    """The answer to one line of request, whatever the line holds."""
    answer: dict[str, Any]
    try:
        answer = {"ok": True, **carry_out(fleet, _decoder.decode(line))}
    except (ValueError, RecursionError, OrderError) as error:
        answer = {"ok": False, "error": str(error)}
    return msgspec.json.encode(answer) + b"\n"


class ControlServer:
    """Listens on a unix socket of mode 0600. A stale socket file is replaced, a live one is left alone."""

    def __init__(self, fleet: SimulatedFleet, path: Path) -> None:
        self._fleet = fleet
        self._path = path
        self._inode = 0
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Begin to take orders. Raises UnixSocketError."""
        sock = bind_private(self._path, "simulator")
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_LINE_BYTES)

    async def close(self) -> None:
        """Take no more orders, and remove the socket file if it is still ours."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(answer_line(self._fleet, line))
                await writer.drain()
        except ValueError:  # the line is longer than the limit
            writer.write(b'{"ok":false,"error":"the request line is too long"}\n')
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def request(path: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Send one order to a running simulator and return its answer. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_ANSWER_S)
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode(order) + b"\n")
            with sock.makefile("rb") as lines:
                answer = msgspec.json.decode(lines.readline(), type=dict[str, Any])
    except OSError as error:
        raise ControlError(f"no simulator answers at {path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise ControlError(f"the simulator at {path} ended before it answered") from None
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error", "refused")))
    return answer
