"""Facts of sites put into words and shapes for pages. Pure: no query is made here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.kit.templatetags.ui import age_text
from fleet.kit.tenancy import Rights
from sites.models import Site, SiteState, StateInterval
from sites.states import Axis, Failure, Life, Reachability

# From worst to best, as static/js/states.js has them.
KINDS = ("down", "unreachable", "degraded", "unknown", "up")
# In the order in which figures are read.
FIGURES = ("up", "degraded", "down", "unreachable", "unknown")
LABELS = {
    "up": "Up",
    "degraded": "Degraded",
    "down": "Down",
    "unreachable": "Unreachable",
    "unknown": "Unknown",
}
_FAILURES = {
    Failure.ADDRESS_REFUSED: "Its address is not one that may be polled",
    Failure.UNREACHABLE: "No connection",
    Failure.TIMEOUT: "No answer in time",
    Failure.PROTOCOL_ERROR: "Its answer cannot be read",
    Failure.IDENTITY_MISMATCH: "Another site answers at its address",
    Failure.REJECTED: "Its report could not be stored",
}


def state_of(site: Site) -> SiteState | None:
    """The site's state, or None for one that was never active."""
    return getattr(site, "state", None)


def kind_of(site: Site) -> str:
    """The one word (and shape) that a site is shown by: one of KINDS, or its life when it is not active."""
    state = state_of(site)
    if site.life != Life.ACTIVE:
        return site.life
    if state is None:
        return "unknown"
    return "unreachable" if state.reachability == Reachability.UNREACHABLE else state.shown


def since_of(site: Site) -> datetime | None:
    """Since when the site is of its kind."""
    state = state_of(site)
    if state is None or site.life != Life.ACTIVE:
        return None
    return state.reachability_since if state.reachability == Reachability.UNREACHABLE else state.shown_since


def why_of(site: Site) -> str:
    """Why the site is not up, in one line: its own reasons, or what went wrong when it was asked."""
    state, kind = state_of(site), kind_of(site)
    if state is None or kind in ("up", Life.PLANNED, Life.RETIRED):
        return ""
    if kind == "unreachable" or (kind == "unknown" and state.last_error):
        text = _FAILURES.get(Failure(state.last_error), "No answer") if state.last_error else "No answer"
        return f"{text}: {state.last_error_detail}" if state.last_error_detail else text
    if kind == "unknown":
        return "Not polled yet"
    if state.candidate:
        return "Its last report was better; the next one decides"
    return "; ".join(str(reason) for reason in state.reasons) or "The site gives no reason"


# Above this a site's own times are too uncertain to be shown without a word (docs on the agent's protocol, clocks).
CLOCK_OFF_S = 5.0


def clock_of(site: Site) -> str:
    """`clock`: how far the site's own clock was off at its last report, in words; nothing while it is right enough."""
    state = state_of(site)
    off_s = (state.clock_offset_ms or 0) / 1000 if state is not None else 0.0
    if abs(off_s) <= CLOCK_OFF_S:
        return ""
    return f"Its clock is {age_text(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} ours"


@dataclass(frozen=True, slots=True)
class Load:
    """A resource and how much of it is used, 0..1."""

    label: str
    ratio: float


def loads_of(site: Site) -> list[Load]:
    """CPU, memory and disk of the last report."""
    state = state_of(site)
    if state is None:
        return []
    pairs = (("CPU", state.cpu_ratio), ("Memory", state.mem_ratio), ("Disk", state.disk_ratio))
    return [Load(label, ratio) for label, ratio in pairs if ratio is not None]


@dataclass(frozen=True, slots=True)
class Component:
    """One thing with a version on a site."""

    kind: str
    name: str
    version: str
    digest: str


def components_of(site: Site) -> list[Component]:
    """What the site said it runs: kernel and OS first, then agent, workloads, configuration."""
    state = state_of(site)
    if state is None or state.component_set is None:
        return []
    order = {"kernel": 0, "os": 1, "agent": 2, "workload": 3, "config": 4}
    rows = (Component(kind, name, version, digest or "") for kind, name, version, digest in _components(state))
    return sorted(rows, key=lambda row: (order.get(row.kind, 9), row.name))


def _components(state: SiteState) -> list[Any]:
    return state.component_set.components if state.component_set else []


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a site, in words."""

    at: datetime
    state: str
    text: str


_BEGAN = {
    "up": "is up",
    "degraded": "is degraded",
    "down": "is down",
    "unknown": "state unknown",
    "reachable": "answers",
    "unreachable": "does not answer",
    "centre_blind": "the centre could not watch",
}


def events_of(intervals: Iterable[StateInterval], *, limit: int) -> list[Event]:
    """The newest beginnings of states, newest first. Availability lost with the connection is said once."""
    rows = sorted(intervals, key=lambda row: (row.valid_from, row.pk), reverse=True)
    cut = {row.valid_from for row in rows if row.state == Reachability.UNREACHABLE}
    told = [row for row in rows if not (row.state == "unknown" and row.valid_from in cut)]
    return [Event(row.valid_from, row.state, _BEGAN.get(row.state, row.state).capitalize()) for row in told[:limit]]


# Pictures ---------------------------------------------------------------------------------------------------
LANE_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of an SVG, with the words that explain it."""

    kind: str
    x: float
    width: float
    title: str
    y: float = 0
    height: float = 0


def lane(intervals: Sequence[StateInterval], axis: str, *, since: datetime, until: datetime) -> list[Bar]:
    """Bars of one axis over a span, LANE_WIDTH wide; the shortest is still seen, and drawn last."""
    span_s = (until - since).total_seconds()
    bars = []
    for row in intervals:
        if row.axis != axis:
            continue
        begin, end = max(row.valid_from, since), min(row.valid_to or until, until)
        x = (begin - since).total_seconds() / span_s * LANE_WIDTH
        width = max(2.0, (end - begin).total_seconds() / span_s * LANE_WIDTH)
        title = f"{row.state} from {row.valid_from:%d %b %H:%M} to "
        title += f"{row.valid_to:%d %b %H:%M} UTC" if row.valid_to else "now"
        bars.append(Bar(row.state, round(x, 2), round(width, 2), title))
    return sorted(bars, key=lambda bar: -bar.width)


TIMELINE_BINS = 144
TIMELINE_BIN_S = 86400 // TIMELINE_BINS
TIMELINE_HEIGHT = 34
_BIN_PX = 10


def timeline_of(
    bins: Iterable[tuple[int, str, int]], changes: Sequence[StateInterval], *, since: datetime, last: int = 3
) -> dict[str, Any]:
    """24 hours from `since` as stacked bars, and the newest few changes.

    `bins` are (number of the bin, state, count) of failures; recoveries are not drawn, since colour is for what needs
    somebody. `changes`, of any state, come newest first.
    """
    stacks: dict[int, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for place, state, count in bins:
        stacks.setdefault(min(place, TIMELINE_BINS - 1), {})[state] = count
        totals[state] = totals.get(state, 0) + count
    most = max((sum(counts.values()) for counts in stacks.values()), default=0)
    words = ", ".join(f"{count} {_BEGAN.get(state, state)}" for state, count in sorted(totals.items()))
    first_hour = since.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    hours = [hour for step in range(24) if (hour := first_hour + timedelta(hours=step)).hour % 6 == 0]
    told = [row for row in changes if row.state not in ("unknown", "reachable")]
    return {
        "bars": [bar for place, counts in sorted(stacks.items()) for bar in _stack(place, counts, most, since)],
        "hours": [{"x": round((hour - since).total_seconds() / TIMELINE_BIN_S * _BIN_PX)} for hour in hours],
        "width": TIMELINE_BINS * _BIN_PX,
        "total": sum(totals.values()),
        "summary": f"{sum(totals.values())} failures in 24 hours: {words or 'none'}",
        "last": [{"site": row.site, "kind": row.state, "at": row.valid_from} for row in told[:last]],
    }


def _stack(place: int, counts: Mapping[str, int], most: int, since: datetime) -> list[Bar]:
    bars, top = [], float(TIMELINE_HEIGHT + 1)
    at = since + timedelta(seconds=place * TIMELINE_BIN_S)
    for kind in reversed(KINDS):
        count = counts.get(kind, 0)
        if not count:
            continue
        height = max(3.0, count / most * TIMELINE_HEIGHT)
        top = max(0.0, top - height)
        title = f"{at:%H:%M} UTC: {count} {LABELS[kind].lower()}"
        bars.append(Bar(kind, place * _BIN_PX + 1, _BIN_PX - 2, title, round(top, 1), round(height, 1)))
    return bars


def bands_of(intervals: Iterable[StateInterval]) -> list[dict[str, Any]]:
    """Times in which a site was not well, for charts: `{from, to (null: still), kind}` in epoch seconds."""
    return [
        {
            "from": row.valid_from.timestamp(),
            "to": row.valid_to.timestamp() if row.valid_to else None,
            "kind": row.state,
        }
        for row in intervals
        if row.state in ("down", "degraded", "unreachable")
    ]


def evidence_text(evidence: Mapping[str, Any] | None) -> str:
    """What proves a fact, in one line."""
    journal = (evidence or {}).get("journal")
    if isinstance(journal, dict):
        why = {"verdict": "its own verdict", "silence": "it was silent", "reboot": "it came back in another boot"}
        return (
            f"journal entries {journal['from_seq']} to {journal['to_seq']}: {why.get(journal['why'], journal['why'])}"
        )
    return ", ".join(f"{key} {value}" for key, value in (evidence or {}).items())


def may_on(rights: Rights, action: str, site: Site) -> bool:
    """Whether the viewer may do this to this site."""
    return rights.may_on(action, provider_id=site.provider_id, region=site.region, labels=site.labels)


AXES = ((Axis.AVAILABILITY, "Availability"), (Axis.REACHABILITY, "Reachability"))


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
