"""pytest plugin: how long a test may take; with `-n`, which stay together in one process and in which order they begin.

The servers of each process: `tests.services`.
"""

from typing import Any

import pytest

# Whole systems, which share the folder of collected files: one process runs them, one after the other.
TOGETHER = ("tests/browser/", "tests/bench/test_stack.py", "tests/fleet/stack/test_up.py")
WHOLE_SYSTEMS = "whole systems"
# What waits for processes begins first: at the end, one process would work on it alone.
FIRST = (WHOLE_SYSTEMS, "tests/flows/", "tests/agent/engine/", "tests/agent/updater/", "tests/agent/")
FULL_LENGTH_S = 1_500  # ten minutes without Redis, and what comes before and after


def unit_of(test: str) -> str:
    """Name of the unit that a test (its node id) belongs to: its file, or the files that must not run beside it."""
    return WHOLE_SYSTEMS if test.startswith(TOGETHER) else test.partition("::")[0]


def rank(unit: str) -> int:
    """The place of a unit in the order; units of the same place keep theirs."""
    return next((place for place, start in enumerate(FIRST) if unit.startswith(start)), len(FIRST))


def sendable(value: Any) -> Any:
    """The same report with every text in a form that UTF-8 has; a lone surrogate in a log would end the whole run."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {sendable(key): sendable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(sendable(entry) for entry in value)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """Let reports of any text pass between processes."""
    return sendable((yield))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give time to tests at full length; put slow units first, in the processes among which they are shared out."""
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.timeout(FULL_LENGTH_S))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(unit_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out units whole, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            # Of three and more, one begins at the other end: it works while the others wait for processes.
            if len(self.nodes) > 2 and node is self.nodes[-1]:
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return Units(config, log)
