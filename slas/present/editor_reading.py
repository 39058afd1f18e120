"""The agreement in what the form of a contract sent: `slas.present.editor` names its fields."""

import re
from collections.abc import Mapping
from typing import Any, Final

from slas.calendars import DAYS
from slas.terms import FROM_STATES, WITHOUT_TARGET

_INDEX: Final = re.compile(r"segments\.(\d{1,3})\.provider")


def agreement_in(given: Mapping[str, str]) -> dict[str, Any]:
    """The agreement in what was posted."""
    numbers = sorted({int(found[1]) for name in given if (found := _INDEX.fullmatch(name))})
    return {
        "zone": given.get("zone", ""),
        "labels": dict(_pair(line) for line in given.get("labels", "").splitlines() if line.strip()),
        "regions": [one.strip() for one in given.get("regions", "").split(",") if one.strip()],
        "segments": [_segment_in(given, f"segments.{at}") for at in numbers],
    }


# ------------------------------------------------------------------------------------------------------------
def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()


def _segment_in(given: Mapping[str, str], path: str) -> dict[str, Any]:
    def get(name: str) -> str:
        return given.get(f"{path}.{name}", "").strip()

    found: dict[str, Any] = {name: get(name) for name in ("provider", "begins", "fee", "currency", "gap_reason")}
    found["ends"] = get("ends") or None
    found["fee"] = found["fee"] or "0"
    pattern = re.compile(rf"{re.escape(path)}\.objectives\.(\d{{1,3}})\.measure")
    numbers = sorted({int(one[1]) for name in given if (one := pattern.fullmatch(name))})
    found["objectives"] = [_objective_in(given, f"{path}.objectives.{at}") for at in numbers]
    found["maintenance"] = {name: get(f"maintenance.{name}") for name in ("counts", "notice_h", "cap_per")}
    found["maintenance"]["notice_h"] = found["maintenance"]["notice_h"] or "0"
    found["maintenance"]["cap_h"] = get("maintenance.cap_h") or None
    found["excluded_causes"] = _words(get("excluded_causes"))
    found["includes_link"] = bool(get("includes_link"))
    freezes = [_freeze_in(line) for line in get("freezes").splitlines() if line.strip()]
    if freezes:
        found["freezes"] = freezes
    found["calendar"] = _hours_in(get) if get("calendar") else None
    return found


def _freeze_in(line: str) -> dict[str, str]:
    first, _, rest = line.strip().partition(" to ")
    last, _, name = rest.strip().partition(" ")
    return {"first": first.strip(), "last": last, "name": name.strip()}


def _hours_in(get: Any) -> dict[str, Any]:
    weekly = {day: [one.strip().split("-") for one in _words(get(f"calendar.weekly.{day}"))] for day in DAYS}
    found: dict[str, Any] = {
        "timezone": get("calendar.timezone") or "site",
        "weekly": {day: [[part.strip() for part in slot] for slot in slots] for day, slots in weekly.items() if slots},
        "closed": _words(get("calendar.closed")),
    }
    country, part = get("calendar.holidays.country"), get("calendar.holidays.subdivision")
    if country or part:
        found["holidays"] = {"country": country, "subdivision": part}
    return found


def _objective_in(given: Mapping[str, str], path: str) -> dict[str, Any]:
    names = ("measure", "target", "scope", "share", "burden", "degraded", "figure", "limit")
    found: dict[str, Any] = {name: given.get(f"{path}.{name}", "").strip() for name in names}
    found = {name: value for name, value in found.items() if value}
    # What was written while another measure was chosen is not meant any more.
    is_from_states, has_target = found.get("measure") in FROM_STATES, found.get("measure") not in WITHOUT_TARGET
    if is_from_states:
        found.pop("limit", None)
    if not has_target:
        found.pop("target", None)
    if found.get("measure") != "restoration":
        found.pop("figure", None)
    if found.get("scope") != "share_of_sites":
        found.pop("share", None)
    percentile = given.get(f"{path}.percentile", "")
    if percentile and found.get("measure") == "latency":
        found["percentile"] = int(percentile) if percentile.isascii() and percentile.isdigit() else percentile
    tiers = [line.partition(":") for line in given.get(f"{path}.credits.tiers", "").splitlines() if line.strip()]
    credits: dict[str, Any] = {"tiers": [{"below": a.strip(), "credit": b.strip()} for a, _, b in tiers]}
    cap = given.get(f"{path}.credits.cap", "").strip()
    if cap:
        credits["cap"] = cap
    if has_target and (tiers or cap):
        found["credits"] = credits
    burn = _words(given.get(f"{path}.burn", ""))
    return found | ({"burn": burn} if burn and is_from_states else {})


def _words(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
