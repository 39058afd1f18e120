"""The demo's agents as processes: where they listen, what they play, and a little trouble now and then."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from fleet.stack.demo.sites import SITES_A_PROCESS, DemoSite, host_of
from fleet.stack.errors import StackError
from fleet.stack.options import listen
from fleet.stack.processes import HOST_AGENT, JOIN_FILE
from fleet.stack.state import State, write_private

FIRST_PORT, PORT_STEP, PORT_TRIES = 9100, 100, 20
# The gateway listens in the same block, behind any number of simulators.
GATEWAY_OFFSET = 90
CONTROL_S = 5.0
CHURN_SHARE_A_MINUTE = 0.03
DARK_EVERY_S = (60.0, 180.0)
DARK_FOR_S = (90.0, 240.0)


def process_count(sites: int) -> int:
    """How many simulator processes the sites need."""
    return -(-sites // SITES_A_PROCESS)


def fleet_file(state: State, process: int) -> Path:
    """The file that says which sites a simulator process plays."""
    return state.base / "demo" / f"fleet-{process}.json"


def control_socket(state: State, process: int) -> Path:
    """The socket that takes orders for a simulator process."""
    return state.runtime / f"demo-{process}.sock"


def agent_folder(state: State, process: int | None) -> Path:
    """Where a simulator process, or the host agent (None), keeps keys and certificates."""
    return state.base / "demo" / ("agent" if process is None else f"sites-{process}")


def has_identities(state: State, process: int | None) -> bool:
    """Whether that agent has kept keys at all: without them its sites must join again."""
    return (agent_folder(state, process) / "identities.sqlite").exists()


def write_join(state: State, join: str) -> None:
    """Hand the host agent its join string."""
    folder = agent_folder(state, None)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / JOIN_FILE, join)


def write_fleet_files(state: State, sites: Sequence[DemoSite], joins: Mapping[UUID, str]) -> None:
    """Write the fleet files of the simulated sites, with the join strings of those that are to join."""
    for process in range(process_count(len(sites))):
        entries = [
            site.fleet_entry() | ({"join": joins[site.uuid]} if site.uuid in joins else {})
            for site in sites
            if site.process == process
        ]
        write_private(fleet_file(state, process), json.dumps({"sites": entries}))


def free_port(sites: int) -> int:
    """The first port P of 9100, 9200, ... such that P (host agent) and those after it (simulators) are free.

    Raises StackError when none is: each running stack takes one such block.
    """
    for port in range(FIRST_PORT, FIRST_PORT + PORT_STEP * PORT_TRIES, PORT_STEP):
        with suppress(OSError):
            for number in range(1 + process_count(sites)):
                listen(HOST_AGENT, port + number)
            listen("127.0.0.1", port + GATEWAY_OFFSET)
            return port
    raise StackError(f"No block of ports for the demo's agents is free from {FIRST_PORT} on.")


def order(control: Path, **request: Any) -> dict[str, Any]:
    """Give a simulator one order and return its answer. Raises OSError or ValueError when there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONTROL_S)
        connection.connect(str(control))
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline())
    if not isinstance(answer, dict):
        raise ValueError("not an answer of a simulator")
    return answer


class Unrest:
    """Makes the demo look alive: verdicts that change, and now and then a site that goes dark for some minutes.

    Call `tick` now and then; a simulator that was started again is put to work again. Seeded, so the trouble comes
    in the same order every time.
    """

    def __init__(self, state: State, sites: int) -> None:
        self._random = Random(sites)
        self._controls = [control_socket(state, process) for process in range(process_count(sites))]
        self._places = min(sites, SITES_A_PROCESS)
        self._next_churn = 0.0
        self._next_dark = time.monotonic() + DARK_EVERY_S[0] / 2

    def tick(self) -> None:
        """Give the orders that are due; a simulator that does not answer is asked again later."""
        now = time.monotonic()
        with suppress(OSError, ValueError):
            if now >= self._next_churn:
                self._next_churn = now + DARK_EVERY_S[0]
                for control in self._controls:
                    order(control, cmd="churn", per_minute=CHURN_SHARE_A_MINUTE)
            if now >= self._next_dark:
                self._next_dark = now + self._random.uniform(*DARK_EVERY_S)
                host, seconds = host_of(self._random.randrange(self._places)), self._random.uniform(*DARK_FOR_S)
                order(self._controls[0], cmd="fail", sites=[host], mode="dark", for_s=seconds)
