"""Reads an evidence bundle strictly: what is wrong is said in one sentence, with its place. Standard library only.

A file is `{"vectors": [...]}`, or a DSSE envelope around `{"vectors", "evidence", "tzdata", "rule_version"}` (see
slas.envelope). Times are Unix seconds or RFC 3339; what is finer than a millisecond is cut off. Members that the format
does not name say nothing (a source, a remark), but a rule, a part of a calendar or a figure that it does not name is
refused: to leave it out would give another figure than was meant.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from slas.calendars import Calendar, CalendarError, make_calendar
from slas.engine import Change, Rules, State
from slas.spans import Span
from slas.version_sync import Owner, Sync

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
# The years 1 to 9999, a day inside so that every time zone can show them.
_FIRST_MS, _LAST_MS = -62_135_510_400_000, 253_402_214_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LARGEST, _MOST_PLACES = 10**15, 30
_TOTALS = ("scheduled_ms", "excluded_ms", "unknown_ms", "down_ms", "degraded_ms", "up_ms")
AVAILABILITY_FIELDS = (*_TOTALS, "measured", "floor", "ceiling", "coverage", "verdict")
SYNC_FIELDS = ("freeze_ms", "operator_ms", "network_ms", "provider_ms", "elapsed_ms", "charged_ms", "verdict")


class BundleError(ValueError):
    """What is wrong with a bundle, in a sentence; `place` says where (`vectors[3].states[0]`)."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)


@dataclass(frozen=True, slots=True)
class Availability:
    """One site over one window, as slas.engine takes it; `target` is a share or None."""

    name: str
    window: Span
    states: tuple[Change, ...]
    maintenance: tuple[Span, ...]
    exclusions: tuple[tuple[int, int, str], ...]
    calendar: Calendar | None
    rules: Rules
    target: Fraction | None
    expect: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class VersionSync:
    """One site and one standard, as slas.version_sync takes it."""

    name: str
    sync: Sync
    expect: Mapping[str, Any] | None


Vector = Availability | VersionSync


def read_json(text: bytes) -> Any:
    """The value of a JSON text; numbers that are no integers are Decimals. Raises BundleError."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise BundleError("", "this is not UTF-8") from None
    except RecursionError:
        raise BundleError("", "this is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BundleError("", f"this is no JSON: {error.msg} in line {error.lineno}") from None
    except BundleError:
        raise
    except ValueError:  # an integer with thousands of digits
        raise BundleError("", "a number is too large") from None


def read_vectors(value: Any) -> list[Vector]:
    """The vectors of a bundle's value. Raises BundleError for the first thing that is wrong."""
    bundle = _object(value, "")
    if "vectors" not in bundle:
        raise BundleError("", "there is no member `vectors`")
    vectors = _list(bundle["vectors"], "vectors")
    return [_vector(one, f"vectors[{number}]") for number, one in enumerate(vectors)]


# Vectors ----------------------------------------------------------------------------------------------------
def _vector(value: Any, place: str) -> Vector:
    given = _object(value, place)
    kind = given.get("kind", "availability")
    if kind == "availability":
        return _availability(given, place)
    if kind == "version_sync":
        return _version_sync(given, place)
    raise BundleError(f"{place}.kind", f"there is no kind {kind!r}")


def _availability(given: Mapping[str, Any], place: str) -> Availability:
    target = _number(given["target"], f"{place}.target") if given.get("target") is not None else None
    if target is not None and not 0 <= target <= 100:
        raise BundleError(f"{place}.target", "a target is a percentage between 0 and 100")
    return Availability(
        name=_name(given, place),
        window=_span(_needed(given, "window", place), f"{place}.window"),
        states=_states(_needed(given, "states", place), f"{place}.states"),
        maintenance=tuple(_span(one, at) for one, at in _each(given, "maintenance", place)),
        exclusions=tuple(_exclusion(one, at) for one, at in _each(given, "exclusions", place)),
        calendar=_calendar(given.get("calendar"), f"{place}.calendar"),
        rules=_rules(given.get("rules"), f"{place}.rules"),
        target=None if target is None else target / 100,
        expect=_expect(given, AVAILABILITY_FIELDS, place),
    )


def _version_sync(given: Mapping[str, Any], place: str) -> VersionSync:
    deadline = _number(_needed(given, "deadline_h", place), f"{place}.deadline_h")
    if deadline < 0:
        raise BundleError(f"{place}.deadline_h", "a deadline is not negative")
    rules = _object(given.get("rules") or {}, f"{place}.rules")
    _only(rules, ("network",), f"{place}.rules")
    network = _one_of(rules.get("network", "not_charged"), ("not_charged", "charged"), f"{place}.rules.network")
    spans = tuple(_owned(one, at) for one, at in _each(given, "spans", place))
    sync = Sync(
        published=_time(_needed(given, "published", place), f"{place}.published"),
        eligible=_time(_needed(given, "eligible", place), f"{place}.eligible"),
        sent=None if given.get("sent") is None else _time(given["sent"], f"{place}.sent"),
        proven=None if given.get("proven") is None else _time(given["proven"], f"{place}.proven"),
        as_of=_time(_needed(given, "as_of", place), f"{place}.as_of"),
        deadline_h=deadline,
        spans=spans,
        network=network,
    )
    return VersionSync(_name(given, place), sync, _expect(given, SYNC_FIELDS, place))


def _states(value: Any, place: str) -> tuple[Change, ...]:
    found: dict[int, State] = {}
    for number, one in enumerate(_list(value, place)):
        at = f"{place}[{number}]"
        pair = _list(one, at)
        if len(pair) != 2:
            raise BundleError(at, "a state is a time and a word")
        moment = _time(pair[0], at)
        state = State(_one_of(pair[1], tuple(State), at))
        if moment in found:
            raise BundleError(at, "there are two states at one instant")
        found[moment] = state
    return tuple(sorted(found.items()))


def _exclusion(value: Any, place: str) -> tuple[int, int, str]:
    parts = _list(value, place)
    if len(parts) != 3 or not isinstance(parts[2], str) or not parts[2].strip():
        raise BundleError(place, "an exclusion is a begin, an end and a reason")
    return (*_span(parts[:2], place), parts[2])


def _owned(value: Any, place: str) -> tuple[int, int, Owner]:
    parts = _list(value, place)
    if len(parts) != 3:
        raise BundleError(place, "a span is a begin, an end and whose it is")
    return (*_span(parts[:2], place), Owner(_one_of(parts[2], tuple(Owner), place)))


def _calendar(value: Any, place: str) -> Calendar | None:
    if value is None:
        return None
    given = _object(value, place)
    _only(given, ("timezone", "weekly", "holidays"), place)
    weekly = _object(_needed(given, "weekly", place), f"{place}.weekly")
    for day, slots in weekly.items():
        _list(slots, f"{place}.weekly.{day}")
    holidays = _list(given.get("holidays") or [], f"{place}.holidays")
    try:
        return make_calendar(_needed(given, "timezone", place), weekly, holidays)
    except CalendarError as error:
        raise BundleError(place, str(error)) from None


def _rules(value: Any, place: str) -> Rules:
    given = _object(value or {}, place)
    _only(given, ("maintenance", "degraded"), place)
    maintenance = given.get("maintenance", "excluded")
    degraded = given.get("degraded", "up")
    return Rules(
        _one_of(maintenance, ("excluded", "counts_as_up"), f"{place}.maintenance"),
        _one_of(degraded, ("up", "down"), f"{place}.degraded"),
    )


def _expect(given: Mapping[str, Any], fields: Sequence[str], place: str) -> Mapping[str, Any] | None:
    if given.get("expect") is None:
        return None
    expect = _object(given["expect"], f"{place}.expect")
    _only(expect, fields, f"{place}.expect")
    return expect


# Values -----------------------------------------------------------------------------------------------------
def _time(value: Any, place: str) -> int:
    """Milliseconds since 1970 of Unix seconds or a text of RFC 3339."""
    if isinstance(value, str):
        moment = _text_time(value, place)
    else:
        exact = _number(value, place) * 1000
        moment = exact.numerator // exact.denominator
    if not _FIRST_MS <= moment <= _LAST_MS:
        raise BundleError(place, "this time lies beyond the years that can be counted with")
    return moment


def _text_time(text: str, place: str) -> int:
    found = _RFC3339.fullmatch(text)
    try:
        if found:
            *fields, fraction, sign, hours, minutes = found.groups()
            year, month, day, hour, minute, second = map(int, fields)
            local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            offset = (int(hours) * 60 + int(minutes)) * 60_000 if sign else 0
            milliseconds = int((fraction or "0").ljust(3, "0")[:3])
            return (local - _EPOCH) // _MS + milliseconds - (offset if sign != "-" else -offset)
    except ValueError:
        pass
    raise BundleError(place, f"{text[:40]!r} is no time: write it like 2026-05-01T00:00:00Z, or as Unix seconds")


def _span(value: Any, place: str) -> Span:
    pair = _list(value, place)
    if len(pair) != 2:
        raise BundleError(place, "a span is a begin and an end")
    begin, end = _time(pair[0], place), _time(pair[1], place)
    if end <= begin:
        raise BundleError(place, "it ends at or before its start")
    return begin, end


def _number(value: Any, place: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise BundleError(place, "a number is needed")
    exact = Decimal(value)
    if not -_LARGEST <= exact <= _LARGEST:
        raise BundleError(place, "this number is too large")
    if len(exact.as_tuple().digits) - min(exact.adjusted(), 0) > _MOST_PLACES:
        raise BundleError(place, "this number has too many places")
    return Fraction(exact)


def _name(given: Mapping[str, Any], place: str) -> str:
    name = given.get("name", "")
    if not isinstance(name, str):
        raise BundleError(f"{place}.name", "a name is a text")
    return name


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BundleError(place, "an object is needed")
    return value


def _list(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise BundleError(place, "a list is needed")
    return value


def _each(given: Mapping[str, Any], name: str, place: str) -> Iterable[tuple[Any, str]]:
    values = _list(given.get(name) or [], f"{place}.{name}")
    return [(value, f"{place}.{name}[{number}]") for number, value in enumerate(values)]


def _needed(given: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in given:
        raise BundleError(place, f"the member `{name}` is missing")
    return given[name]


def _only(given: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BundleError(place, f"there is no member {unknown[0]!r}")


def _one_of(value: Any, words: Sequence[str], place: str) -> Any:
    if not isinstance(value, str) or value not in tuple(str(word) for word in words):
        raise BundleError(place, f"{str(value)[:40]!r} is none of {', '.join(words)}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BundleError("", f"the member {twice!r} is there twice in one object")
    return found


def _no_constant(word: str) -> Any:
    raise BundleError("", f"{word} is not a number")
