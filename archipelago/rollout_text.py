"""A rollout in lines of text, and what changed between two looks at it. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archipelago.text import age, clock, counts, plain, sites, table, words

Rollout = dict[str, Any]
SUCCEEDED: Final = frozenset({"succeeded", "partially_succeeded"})
ENDED: Final = SUCCEEDED | {"failed", "aborted", "rejected", "expired", "rolled_back", "rollback_failed"}
_DONE: Final = ("proven", "skipped", "superseded", "rolled_back")
_LOST: Final = ("failed", "in_doubt", "rollback_failed")
_WAITING: Final = ("queued", "deferred", "catch_up", "rollback_waiting")
_BAR: Final = 24


def heading(row: Rollout) -> str:
    """Number, name, state."""
    pause = f" ({words(row['pause'])})" if row["pause"] else ""
    return f"Rollout {row['id']} {plain(row['name'])!r} to {plain(row['standard'])}: {words(row['state'])}{pause}"


def shown(row: Rollout, now: datetime) -> list[str]:
    """All of it, as `show` prints it."""
    lines = [heading(row), f"  since {clock(row['since'])} ({age(row['since'], now)})"]
    if row["reason"]:
        lines.append(f"  because {plain(row['reason'])}")
    if row["until"]:
        lines.append(f"  waits for people until {clock(row['until'])}")
    lines.append(f"  {sites(row['sites'])}: {counts(row['counts'])}")
    if row["lane"]:
        lines.append(f"  left behind ({words(row['lane_state'])}): {counts(row['lane'])}")
    if row["failures"]:
        lines.append(f"  failed: {counts(row['failures'])}")
    if row["asked"]["missing"]:
        lines.append(f"  still needed: {plain(row['asked']['missing'])}")
    lines += ["", *waves(row), ""]
    lines += [f"  {'yes' if one['yes'] else 'no'}: {_said(one)}" for one in row["approvals"]]
    return lines + _may(row)


def _said(one: Mapping[str, Any]) -> str:
    who = plain(one["person"]) + (f" for {plain(one['provider'])}" if one["provider"] else "")
    why = f": {plain(one['reason'])}" if one["reason"] else ""
    return f"{who}, {clock(one['at'])}{why}{'' if one['counts'] else ' (counts no more)'}"


def _may(row: Rollout) -> list[str]:
    if not row["effects"]:
        return ["You may do nothing to it now."]
    lines = ["You may now:"]
    for one in row["effects"]:
        choice = f" --choice {one['choice'].replace('_', '-')}" if one["choice"] else ""
        lines.append(f"  {command_of(one['verb'])}{choice}: {plain(one['words'][0])}")
    return lines


def command_of(verb: str) -> str:
    """The command that says it."""
    named = {"roll_back": "rollback", "roll_back_wave": "rollback-wave", "freeze": "pause --freeze"}
    return named.get(verb, verb.replace("_", "-"))


def waves(row: Rollout) -> list[str]:
    """A line for each wave, with a bar: `#` done, `>` at work, `!` failed or in doubt, `.` waiting."""
    rows = [
        (_number(wave), plain(wave["name"]), words(wave["state"]), bar(_together(wave)), counts(_together(wave)))
        for wave in row["waves"]
    ]
    lines = table(("WAVE", "NAME", "STATE", "SITES", ""), rows)
    held = [f"  wave {_number(wave)} is held: {plain(wave['reason'])}" for wave in row["waves"] if wave["reason"]]
    return lines + held


def _number(wave: Mapping[str, Any]) -> str:
    return str(wave["index"] + 1)


def _together(wave: Mapping[str, Any]) -> dict[str, int]:
    """Sites of a wave by state, those that were left behind too."""
    found = dict(wave["counts"])
    for state, count in wave["lane"].items():
        found[state] = found.get(state, 0) + count
    return found


def bar(found: Mapping[str, int], width: int = _BAR) -> str:
    """Counts as a bar. Whatever there is at all has one sign at the least, so that one failure is seen."""
    total = sum(found.values())
    if not total:
        return "[" + " " * width + "]"
    shares = {"#": 0, ">": 0, "!": 0, ".": 0}
    for state, count in found.items():
        kinds = (("#", _DONE), ("!", _LOST), (".", _WAITING))
        shares[next((sign for sign, states in kinds if state in states), ">")] += count
    signs = {sign: max(1, round(width * count / total)) for sign, count in shares.items() if count}
    while sum(signs.values()) != width:
        largest = max(signs, key=lambda sign: signs[sign])
        signs[largest] += 1 if sum(signs.values()) < width else -1
    return "[" + "".join(sign * signs.get(sign, 0) for sign in shares) + "]"


def changes(before: Rollout | None, after: Rollout) -> Iterator[str]:
    """A line for each thing that is not as it was: the rollout, a wave, how its sites are."""
    seen = ("state", "pause", "reason", "lane_state")
    if before is None or any(before[name] != after[name] for name in seen):
        why = f", because {plain(after['reason'])}" if after["reason"] else ""
        lane = f"; lane {words(after['lane_state'])}" if after["lane_state"] != "open" else ""
        yield f"{heading(after)}{why}{lane}"
    former = {wave["index"]: wave for wave in before["waves"]} if before else {}
    for wave in after["waves"]:
        old = former.get(wave["index"])
        if old is None or any(old[name] != wave[name] for name in ("state", "counts", "lane", "reason")):
            why = f" ({plain(wave['reason'])})" if wave["reason"] else ""
            name = f"wave {_number(wave)} {plain(wave['name'])!r}"
            yield f"{name} {words(wave['state'])}{why}: {counts(_together(wave))}"
