"""Types of messages that several threads meet at once, in a process that has met none of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A process that switches threads as often as it can. msgspec fills what it knows of a type with the lock let go.
AT_ONCE = """
import importlib, sys, threading
import msgspec

sys.setswitchinterval(1e-6)
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    kinds = [kind for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == name]
    assert kinds
    gate = threading.Barrier(4)

    def meet():
        for kind in kinds:
            lines = [b'{"%s":null}' % field.encode() for field in reversed(kind.__struct_encode_fields__)]
            gate.wait()
            for line in lines:
                try:
                    msgspec.json.decode(line, type=kind)
                except msgspec.ValidationError:
                    pass

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.parametrize(
    "module",
    ["agent.engine.messages", "agent.protocol.identity", "agent.probes.runner", "agent.journal_mark",
     "agent.updater.folder", "fleet.standards.contents", "fleet.rollouts.plan", "fleet.rollouts.windows"],
)  # fmt: skip
def test_threads_that_meet_a_type_at_once_do_not_end_the_process(module: str) -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", AT_ONCE, module], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
