"""CPU time and memory of process trees, from /proc."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree_cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds of these processes and all their descendants, those that ended and were waited for included."""
    times, children = _snapshot()
    todo, total_s = list(roots), 0.0
    while todo:
        pid = todo.pop()
        total_s += times.get(pid, 0.0)
        todo += children.get(pid, ())
    return total_s


def rss_bytes(pid: int) -> int:
    """Resident memory of one process, pages shared with others included. Raises OSError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _snapshot() -> tuple[Mapping[int, float], Mapping[int, list[int]]]:
    """CPU seconds by process (its own and of children it waited for), and children by parent."""
    times: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # The name, in parentheses, may hold anything: the fields are counted from behind it.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        pid = int(entry.name)
        times[pid] = sum(int(field) for field in fields[11:15]) * _TICK_S
        children[int(fields[1])].append(pid)
    return times, children
