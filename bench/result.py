"""What a benchmark says: figures, as a table for people and as JSON for machines."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Figure:
    """One measured figure. `value` is None when it could not be measured; `conditions` says how, or why not.

    `ratio` is value / peer_value of a peer measured in the same run; `met` whether the aim is reached.
    """

    name: str
    value: float | None
    unit: str
    aim: str
    conditions: str
    met: bool | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None

    def as_json(self) -> dict[str, str | float | None]:
        """The entry of bench.json."""
        names = ("name", "value", "unit", "aim", "peer", "peer_value", "ratio", "conditions")
        return {name: getattr(self, name) for name in names}


def failed(name: str, error: Exception) -> Figure:
    """The entry of a benchmark that broke off."""
    text = str(error).strip() or type(error).__name__
    return Figure(name, None, "", "", conditions=f"not measured: {text}")


def write(path: Path, figures: Sequence[Figure]) -> None:
    """Write bench.json."""
    path.write_text(json.dumps([figure.as_json() for figure in figures], indent=1) + "\n")


def table(figures: Sequence[Figure]) -> str:
    """The figures as text: a row each, and its conditions below."""
    rows = [("figure", "value", "aim", "peer", "ratio", "")]
    rows += [(f.name, _with_unit(f.value, f.unit), f.aim, _peer(f), _number(f.ratio), _verdict(f)) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row, figure in zip(rows, [None, *figures], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if figure is not None:
            lines.append(f"    {figure.conditions}")
    return "\n".join(lines)


def machine() -> str:
    """The machine in a few words."""
    gib = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({_processor()}), {gib:.0f} GiB, Python {platform.python_version()}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _with_unit(value: float | None, unit: str) -> str:
    return f"{_number(value)} {unit}".strip() or "none"


def _peer(figure: Figure) -> str:
    return f"{figure.peer}: {_with_unit(figure.peer_value, figure.unit)}" if figure.peer_value is not None else ""


def _verdict(figure: Figure) -> str:
    return {True: "met", False: "MISSED", None: ""}[figure.met]
