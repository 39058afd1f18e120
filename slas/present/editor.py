"""A version of a contract as a form without end: each field is named by its path, so a fault finds its field.

Lists that are short are one line of text: hours `09:00-17:00, 18:00-20:00`, credits `99.5: 5`, one a line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from slas.budgets import DAY_MS, PAIRS, pairs_for
from slas.calendars import DAYS
from slas.currencies import PLACES
from slas.faults import Fault
from slas.present.words import BURDENS, MEASURES, SCOPES, trimmed
from slas.states import Cause
from slas.terms import EXCLUDED, FROM_STATES, WITHOUT_TARGET

Choices = Sequence[tuple[str, str]]
_DAY_WORDS: Final = dict(zip(DAYS, ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), strict=True))
FIGURES: Final = (
    ("mttr_h", "Mean time to restore, hours"),
    ("longest_h", "Longest outage, hours"),
    ("count", "Outages"),
    ("mtbf_h", "Mean time between, hours"),
)
_PER: Final = (("month", "a month"), ("quarter", "a quarter"), ("year", "a year"))
_COUNTS: Final = (("excluded", "excluded: as if it were not there"), ("counts_as_up", "as up"))


@dataclass
class Box:
    """A field: `kind` is text, select, area, check or datetime-local."""

    name: str
    label: str
    value: str = ""
    kind: str = "text"
    choices: Choices = ()
    hint: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        """Its id."""
        return self.name.replace(".", "-")


@dataclass
class Part:
    """A segment or an objective with its fields; `path` is what its buttons name."""

    path: str
    boxes: list[Box]
    more: list[Box] = field(default_factory=list)
    days: list[Box] = field(default_factory=list)
    parts: list["Part"] = field(default_factory=list)
    says: str = ""


@dataclass
class Editor:
    """The whole form. `faults` are those that no field bears."""

    head: list[Box]
    segments: list[Part]
    faults: list[str] = field(default_factory=list)

    def boxes(self) -> Iterable[Box]:
        """Every field."""
        yield from self.head
        for segment in self.segments:
            for part in (segment, *segment.parts):
                yield from (*part.boxes, *part.more, *part.days)

    def take(self, faults: Iterable[Fault]) -> None:
        """Put each fault at the field that its path names, or lies within."""
        by_name = {box.name: box for box in self.boxes()}
        for fault in faults:
            name = fault.path
            while name and name not in by_name:
                name = name.rpartition(".")[0]
            if name in by_name:
                by_name[name].error = f"{by_name[name].error} {fault.text}".strip()
            else:
                self.faults.append(f"{fault.path}: {fault.text}" if fault.path else fault.text)


def editor_of(value: Mapping[str, Any], providers: Choices) -> Editor:
    """The form of an agreement as people write it; odd values are shown as they are."""
    zone = str(value.get("zone") or "UTC")
    labels = _dict(value.get("labels"))
    head = [
        Box("zone", "Clock of the contract", zone, "select", [(one, one) for one in sorted(available_timezones())],
            "Months begin at midnight there."),
        Box("labels", "Only sites with these labels", "\n".join(f"{k}={v}" for k, v in labels.items()), "area",
            hint="One key=value a line; empty: any. A site's own ring is the label ring."),
        Box("regions", "Only sites in these regions", ", ".join(map(str, _list(value.get("regions")))),
            hint="Divided by commas; empty: any."),
    ]  # fmt: skip
    segments = [
        _segment(f"segments.{at}", one, zone, providers) for at, one in enumerate(_dicts(value.get("segments")))
    ]
    return Editor(head, segments)


def blank_segment() -> dict[str, Any]:
    """What a new segment begins with."""
    return {"provider": "", "begins": "", "ends": None, "fee": "", "currency": "EUR", "objectives": [blank_objective()]}


def blank_objective() -> dict[str, Any]:
    """What a new objective begins with."""
    return {"measure": "availability", "target": "99.5", "scope": "each_site", "burden": "open"}


# Writing ----------------------------------------------------------------------------------------------------
def _segment(path: str, value: Mapping[str, Any], zone: str, providers: Choices) -> Part:
    upkeep = _dict(value.get("maintenance"))
    calendar = value.get("calendar")
    hours = _dict(calendar)
    holidays, weekly = _dict(hours.get("holidays")), _dict(hours.get("weekly"))
    boxes = [
        Box(f"{path}.provider", "Provider", _text(value.get("provider")), "select", [("", "—"), *providers]),
        Box(f"{path}.begins", "Begins", _local(value.get("begins"), zone), "datetime-local"),
        Box(f"{path}.ends", "Ends", _local(value.get("ends"), zone), "datetime-local",
            hint="Empty: until it is changed."),
        Box(f"{path}.gap_reason", "Why nothing was agreed before it", _text(value.get("gap_reason")),
            hint="Only where a gap lies before it."),
        Box(f"{path}.fee", "Fee a month, all sites", _text(value.get("fee"))),
        Box(f"{path}.currency", "Currency", _text(value.get("currency")), "select",
            [(one, one) for one in sorted(PLACES)]),
    ]  # fmt: skip
    more = [
        Box(f"{path}.maintenance.counts", "Maintenance counts", _text(upkeep.get("counts", "excluded")), "select",
            _COUNTS),
        Box(f"{path}.maintenance.notice_h", "Notice, hours", _text(upkeep.get("notice_h", "0"))),
        Box(f"{path}.maintenance.cap_h", "At most, hours", _text(upkeep.get("cap_h")), hint="Empty: no cap."),
        Box(f"{path}.maintenance.cap_per", "At most, in", _text(upkeep.get("cap_per", "month")), "select", _PER),
        Box(f"{path}.excluded_causes", "Outages that do not count, by cause",
            ", ".join(map(str, _list(value.get("excluded_causes", [str(one) for one in EXCLUDED])))),
            hint=f"Out of {', '.join(Cause)}."),
        Box(f"{path}.includes_link", "The link is the provider's, too", "on" if value.get("includes_link") else "",
            "check"),
        Box(f"{path}.freezes", "Change freezes", _freezes(value.get("freezes")), "area",
            hint="One a line, first and last day: 2026-12-20 to 2027-01-06 Christmas"),
        Box(f"{path}.calendar", "Service hours", "hours" if calendar is not None else "", "select",
            [("", "always"), ("hours", "those below")]),
        Box(f"{path}.calendar.timezone", "On the clock of", _text(hours.get("timezone", "site")),
            hint="site: each site's own."),
        Box(f"{path}.calendar.holidays.country", "Closed on public holidays of", _text(holidays.get("country")),
            hint="A country's two letters, like DE."),
        Box(f"{path}.calendar.holidays.subdivision", "Part of the country", _text(holidays.get("subdivision")),
            hint="Like BY."),
        Box(f"{path}.calendar.closed", "Closed also on", ", ".join(map(str, _list(hours.get("closed")))),
            hint="Dates like 2026-12-24."),
    ]  # fmt: skip
    days = [Box(f"{path}.calendar.weekly.{day}", word, _slots(weekly.get(day))) for day, word in _DAY_WORDS.items()]
    parts = [_objective(f"{path}.objectives.{at}", one) for at, one in enumerate(_dicts(value.get("objectives")))]
    return Part(path, boxes, more, days, parts)


def _objective(path: str, value: Mapping[str, Any]) -> Part:
    measure, credits = _text(value.get("measure")), _dict(value.get("credits"))
    boxes = [Box(f"{path}.measure", "What is promised", measure, "select", list(MEASURES.items()))]
    if measure not in WITHOUT_TARGET:
        boxes.append(Box(f"{path}.target", "At least, %", _text(value.get("target")), hint="Below 100."))
    if measure == "restoration":
        boxes.append(Box(f"{path}.figure", "Figure", _text(value.get("figure", "mttr_h")), "select", FIGURES))
    if measure in {"restoration", "response", "latency"}:
        unit = {"response": "minutes", "latency": "milliseconds"}.get(measure, "in the figure's unit")
        boxes.append(Box(f"{path}.limit", f"Limit, {unit}", _text(value.get("limit"))))
    if measure == "version_sync":
        boxes.append(
            Box(
                f"{path}.limit",
                "Deadline, hours",
                _text(value.get("limit")),
                hint="From when a standard is sent; empty: the standard's own.",
            )
        )
    if measure == "latency":
        chosen = _text(value.get("percentile", "95"))
        boxes.append(
            Box(f"{path}.percentile", "Percentile", chosen, "select", [(one, one) for one in ("50", "90", "95", "99")])
        )
    more = [
        Box(f"{path}.scope", "Holds for", _text(value.get("scope", "each_site")), "select", list(SCOPES.items())),
        Box(f"{path}.share", "Share of sites, %", _text(value.get("share")), hint="Only for a share of the sites."),
        Box(f"{path}.burden", "Burden of proof", _text(value.get("burden", "open")), "select", list(BURDENS.items())),
        Box(f"{path}.degraded", "Degraded counts as", _text(value.get("degraded", "up")), "select",
            [("up", "up"), ("down", "down")]),
    ]  # fmt: skip
    if measure not in WITHOUT_TARGET:
        more += [
            Box(f"{path}.credits.tiers", "Credits", _tiers(credits.get("tiers")), "area",
                hint="One a line, below: credit, in %: 99.5: 5"),
            Box(f"{path}.credits.cap", "Credits at most, % of the fee", _text(credits.get("cap")), hint="Empty: 100."),
        ]  # fmt: skip
    if measure in FROM_STATES:
        rates = ", ".join(_text(one) for one in _list(value.get("burn")))
        hint = "Four rates, the shortest window first; empty: 14.4, 6, 3, 1."
        more.append(Box(f"{path}.burn", "Burn alerts at", rates, hint=hint))
    watched = measure in FROM_STATES and not value.get("burn")
    return Part(path, boxes, more, says=capped_words(_text(value.get("target"))) if watched else "")


def capped_words(target: str) -> str:
    """What the editor says of alerts whose usual threshold a target makes impossible; empty where none is."""
    try:
        share = Fraction(target) / 100
    except (ValueError, ZeroDivisionError):
        return ""
    if not 0 < share < 1:
        return ""
    pairs = pairs_for(30 * DAY_MS, share)
    capped = [pair for pair in pairs if pair.is_capped]
    if not capped:
        return ""
    usual = ", ".join(
        trimmed(f"{float(one.threshold):g}") for one, two in zip(PAIRS, pairs, strict=True) if two.is_capped
    )
    most = trimmed(f"{float(capped[0].threshold):.4g}")
    return (
        f"At this target all being down burns {most} times as fast as allowed: alerts at {usual} are capped to {most}."
    )


def _freezes(found: Any) -> str:
    lines = ((_text(one.get(name)) for name in ("first", "last", "name")) for one in _dicts(found))
    return "\n".join(f"{first} to {last} {name}" for first, last, name in lines)


def _tiers(found: Any) -> str:
    return "\n".join(f"{_text(one.get('below'))}: {_text(one.get('credit'))}" for one in _dicts(found))


def _slots(found: Any) -> str:
    return ", ".join("-".join(map(str, one)) if isinstance(one, list) else str(one) for one in _list(found))


def _local(found: Any, zone: str) -> str:
    """A moment on the contract's clock, as `datetime-local` takes it; what is none stays as it is."""
    text = _text(found)
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is None else moment.astimezone(ZoneInfo(zone))
        return local.strftime("%Y-%m-%dT%H:%M")
    except (ValueError, OverflowError, OSError, KeyError):
        return text


def _text(found: Any) -> str:
    return "" if found is None else str(found)[:2000]


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else []


def _dict(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _dicts(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(found) if isinstance(one, Mapping)]
