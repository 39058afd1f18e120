"""The picture of what may follow what, drawn from the table in states.py as Mermaid text. Pure."""

from enum import StrEnum

from fleet.rollouts.states import TABLES, Thing

BEGIN, END = "<!-- drawn: begin -->", "<!-- drawn: end -->"


def picture() -> str:
    """Mermaid diagrams of every state machine, in the order of TABLES, as they stand in docs/rollouts.md."""
    return "\n\n".join(f"**{name}**\n```mermaid\n{_diagram(thing)}\n```" for name, thing in TABLES.items())


def _diagram(thing: Thing) -> str:
    arrows: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for line in thing.lines:
        arrows.setdefault((line.source, line.target), []).append(line.event)
    ends = [state for state in type(thing.begins) if state in thing.ends]
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {thing.begins}",
            *(f"    {source} --> {target}: {' / '.join(events)}" for (source, target), events in arrows.items()),
            *(f"    {state} --> [*]" for state in ends),
        ]
    )
