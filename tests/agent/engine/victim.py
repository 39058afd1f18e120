"""A process that does one step of the part `workload`, and dies by kill -9 just before its N-th call of the engine.

`python -m tests.agent.engine.victim ORDER.json`; ends with 0 if it made fewer calls than N.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import msgspec

from agent.apply.part import Change
from agent.engine.client import Engine
from agent.engine.settings import EngineSettings
from agent.engine.workloads import Workloads
from agent.protocol.desired import Document
from tests.agent.engine.desired import Blobs


class Doomed(Engine):
    """An engine before whose N-th call the process dies."""

    calls_left = 0

    @contextmanager
    def _answer(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Iterator[HTTPResponse]:
        self.calls_left -= 1
        if self.calls_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        with super()._answer(method, target, body, headers, timeout_s) as answer:
            yield answer


def main(order: Path) -> None:
    said = json.loads(order.read_text())
    engine = Doomed(Path(said["socket"]))
    engine.calls_left = said["call"]
    blobs = Blobs()
    blobs.held = {name: text.encode() for name, text in said["blobs"].items()}
    part = Workloads(engine, EngineSettings(engine.path))
    document = msgspec.json.decode(said["document"], type=Document)
    change = Change(*said["change"])
    match said["step"]:
        case "stage":
            part.stage(document, change, blobs)
        case "switch":
            part.switch(document, change, blobs)
        case "keep":
            part.keep(document, change)
        case "restore":
            part.restore(document, change)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
