"""What a plan would do, in words and numbers, before anything starts: who is in which wave, why, until when. Pure.

`cut` makes waves of a selection; `preview` says what a plan means for its sites. The expected finish is a range: from
the caps, the usual time of a step, soaks, windows, and how often sites are offline. The simulator is its long form.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from fleet.rollouts.counting import are
from fleet.rollouts.counting import sites as counted
from fleet.rollouts.engine.approvals import people_needed
from fleet.rollouts.engine.claims import DEFAULT_IN_FLIGHT, DEFAULT_SHARE
from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.gates import Gate, Human, MinSample, SlaBudget, Soak
from fleet.rollouts.plan import Plan, Wave
from fleet.rollouts.plan_check import placed_faults
from fleet.rollouts.windows import Calendar, next_open

_SHOWN: Final = 5


class PlanSite(Struct, frozen=True, kw_only=True):
    """A site as a plan sees it. `offline_share`: of the last weeks. Bytes are None where they are not known.

    `download_bytes`: what it would have to fetch. `other_rollout`: the name of one that has the site. `has_budget`:
    whether a contract promises its availability.
    """

    id: int
    name: str
    provider: int
    region: str = ""
    zone: str = "UTC"
    labels: Mapping[str, str] = {}
    reachable: bool = True
    offline_share: float = 0.0
    conforms: bool = False
    origin: Origin = Origin.PROVEN
    free_bytes: int | None = None
    download_bytes: int | None = None
    other_rollout: str = ""
    has_budget: bool = False


# Waves of a selection ---------------------------------------------------------------------------------------
class Cut(Struct, frozen=True, kw_only=True):
    """How to take a wave from what is left of a selection: the first that is given of the five ways."""

    name: str
    sites: frozenset[int] | None = None
    labels: Mapping[str, str] | None = None
    count: int | None = None
    share: float | None = None
    gates: tuple[Gate, ...] = ()
    canary: bool = False


class LeftOut(Struct, frozen=True):
    """A site that is in no wave, and why."""

    site: int
    reason: str


def cut(sites: Iterable[PlanSite], cuts: Sequence[Cut]) -> tuple[tuple[Wave, ...], tuple[LeftOut, ...]]:
    """Waves in the order of `cuts`, and what is left out. Shares are of the sites that need the change.

    A count or share takes sites of all providers in turn, so that a canary is not one provider's alone.
    """
    left_out, fit = [], []
    for site in sorted(sites, key=lambda site: site.id):
        reason = _unfit(site)
        if reason:
            left_out.append(LeftOut(site.id, reason))
        else:
            fit.append(site)
    left, waves = _in_turn(fit), []
    for how in cuts:
        taken, why = _take(how, left, len(fit))
        gone = {site.id for site in taken}
        left = [site for site in left if site.id not in gone]
        waves.append(Wave(how.name, tuple(sorted(gone)), how.gates, canary=how.canary, why=why))
    left_out += [LeftOut(site.id, "no wave takes it") for site in sorted(left, key=lambda site: site.id)]
    return tuple(waves), tuple(left_out)


def _unfit(site: PlanSite) -> str:
    if site.other_rollout:
        return f"rollout {site.other_rollout!r} has it"
    return "runs the standard already" if site.conforms else ""


def _in_turn(sites: Sequence[PlanSite]) -> list[PlanSite]:
    """Sites of all providers in turn."""
    seen: Counter[int] = Counter()
    ranked = []
    for site in sites:
        ranked.append((seen[site.provider], site.provider, site.id, site))
        seen[site.provider] += 1
    return [site for *_, site in sorted(ranked, key=lambda entry: entry[:3])]


def _take(how: Cut, left: list[PlanSite], total: int) -> tuple[list[PlanSite], str]:
    if how.sites is not None:
        return [site for site in left if site.id in how.sites], "named one by one"
    if how.labels is not None:
        wanted = how.labels.items()
        words = ", ".join(f"{key}={value}" for key, value in wanted)
        return [site for site in left if wanted <= site.labels.items()], f"labelled {words}"
    if how.count is not None:
        return left[: how.count], f"{counted(how.count)}, of all providers in turn"
    if how.share is not None:
        return left[: ceil(how.share * total - 1e-9)], f"{how.share:.0%} of the sites, of all providers in turn"
    return left, "all that are left"


# What a plan means ------------------------------------------------------------------------------------------
class Pace(Struct, frozen=True):
    """Seconds that a step takes from its claim to its proof, in good and in bad cases."""

    best_s: float = 60.0
    worst_s: float = 300.0


class WavePreview(Struct, frozen=True, kw_only=True):
    """What a wave means. `bytes_total` of those sites where it is known, all but `bytes_unknown`; `ends` is a range."""

    name: str
    why: str
    sites: int
    by_provider: dict[int, int]
    offline_now: int
    bytes_total: int
    bytes_unknown: int
    lack_space: tuple[int, ...]
    lack_origin: tuple[int, ...]
    ends: tuple[datetime, datetime]


class Note(Struct, frozen=True):
    """A sentence about the plan: a fault forbids it, a warning does not. `place`: the member that it is about."""

    level: Literal["fault", "warning"]
    sentence: str
    place: str = ""


class Preview(Struct, frozen=True, kw_only=True):
    """What the plan would do. `people` must approve it; `ends` is the range of the expected finish."""

    waves: tuple[WavePreview, ...]
    notes: tuple[Note, ...]
    people: int
    bytes_total: int
    ends: tuple[datetime, datetime]

    @property
    def may_start(self) -> bool:
        """Whether nothing forbids it."""
        return all(note.level != "fault" for note in self.notes)


def preview(
    plan: Plan,
    sites: Mapping[int, PlanSite],
    now: datetime,
    calendars: Mapping[int, Calendar] | None = None,
    pace: Pace = Pace(),  # noqa: B008  (frozen)
) -> Preview:
    """What `plan` means for `sites` (by id) at `now`. `calendars` are the providers' own."""
    notes = [Note("fault", sentence, place) for place, sentence in placed_faults(plan)]
    unknown = sum(1 for wave in plan.waves for site in wave.sites if site not in sites)
    if unknown:
        notes.append(Note("fault", f"The plan names {counted(unknown)} that {are(unknown)} not there.", "waves"))
    start = max(now, plan.start_at or now)
    ends, waves, memo = (start, start), [], _Openings(plan, calendars or {})
    for index, wave in enumerate(plan.waves):
        known = [sites[site] for site in wave.sites if site in sites]
        notes += [replace(note, place=f"waves[{index}]") for note in _notes(wave, known, memo, start)]
        if min(_openings(known, ends[0], memo), default=start) > ends[0] + timedelta(seconds=plan.patience.defer_s):
            words = "none of its sites is open before its patience is over, so it will be held"
            notes.append(Note("warning", f"Wave {wave.name!r}: {words}.", f"waves[{index}]"))
        ends = _ends(plan, wave, known, ends, memo, pace)
        waves.append(_wave(wave, known, ends))
    return Preview(
        waves=tuple(waves),
        notes=tuple(notes),
        people=people_needed(plan),
        bytes_total=sum(wave.bytes_total for wave in waves),
        ends=ends,
    )


class _Openings:
    """When sites of a provider in a zone may next be changed; asked once for each."""

    def __init__(self, plan: Plan, calendars: Mapping[int, Calendar]) -> None:
        self._plan, self._calendars = plan, calendars
        self._known: dict[tuple[int, str, datetime], datetime | None] = {}

    def next(self, site: PlanSite, at: datetime) -> datetime | None:
        key = (site.provider, site.zone, at)
        if key not in self._known:
            own = self._calendars.get(site.provider)
            self._known[key] = next_open((self._plan.calendar, own) if own else (self._plan.calendar,), site.zone, at)
        return self._known[key]


def _wave(wave: Wave, sites: Sequence[PlanSite], ends: tuple[datetime, datetime]) -> WavePreview:
    return WavePreview(
        name=wave.name,
        why=wave.why,
        sites=len(wave.sites),
        by_provider=dict(Counter(site.provider for site in sites)),
        offline_now=sum(not site.reachable for site in sites),
        bytes_total=sum(site.download_bytes or 0 for site in sites),
        bytes_unknown=sum(site.download_bytes is None for site in sites),
        lack_space=tuple(site.id for site in sites if _lacks_space(site)),
        lack_origin=tuple(site.id for site in sites if site.origin is Origin.NONE),
        ends=ends,
    )


def _lacks_space(site: PlanSite) -> bool:
    known = site.free_bytes is not None and site.download_bytes is not None
    return known and (site.free_bytes or 0) < (site.download_bytes or 0)


def _notes(wave: Wave, sites: Sequence[PlanSite], memo: _Openings, start: datetime) -> Iterator[Note]:
    closed = [site for site in sites if memo.next(site, start) is None]
    if closed:
        yield Note("fault", f"Wave {wave.name!r}: the windows of {_named(closed)} never open.")
    taken = [site for site in sites if site.other_rollout]
    if taken:
        yield Note("fault", f"Wave {wave.name!r}: another rollout has {_named(taken)}.")
    for reason, found in {
        "too little disk space": [site for site in sites if _lacks_space(site)],
        "nothing to roll back to": [site for site in sites if site.origin is Origin.NONE],
    }.items():
        if found:
            yield Note("warning", f"Wave {wave.name!r}: {reason}: {_named(found)}.")
    answering = sum(site.reachable for site in sites)
    for gate in wave.all_gates:
        match gate:
            case MinSample(needed) if answering < needed <= len(wave.sites):
                words = f"{answering} of its sites answer now, and its sample needs {needed}"
                yield Note("warning", f"Wave {wave.name!r}: {words}.")
            case Human():
                yield Note("warning", f"Wave {wave.name!r}: a person is asked; the finish waits for the answer.")
            case SlaBudget() if not any(site.has_budget for site in sites):
                yield Note("warning", f"Wave {wave.name!r}: the SLA budget is not configured, so its gate will hold.")


def _named(sites: Sequence[PlanSite]) -> str:
    names = ", ".join(site.name for site in sites[:_SHOWN])
    more = len(sites) - _SHOWN
    return f"{counted(len(sites))} ({names}{f' and {more} more' if more > 0 else ''})"


# When it ends -----------------------------------------------------------------------------------------------
def _ends(
    plan: Plan,
    wave: Wave,
    sites: Sequence[PlanSite],
    begins: tuple[datetime, datetime],
    memo: _Openings,
    pace: Pace,
) -> tuple[datetime, datetime]:
    """A wave's end: at best its sites are open and quick, at worst slow, late, and waited for as patience allows."""
    soak_s = max([plan.times.soak_s, *(gate.seconds for gate in wave.gates if isinstance(gate, Soak))])
    answering = sum(site.reachable for site in sites)
    best_s = _work_s(plan, wave, answering, pace.best_s) + soak_s
    awake = len(sites) - sum(site.offline_share for site in sites)
    worst_s = _work_s(plan, wave, max(answering, ceil(awake)), pace.worst_s) + soak_s
    first = _openings(sites, begins[0], memo)
    last = _openings(sites, begins[1], memo)
    patience = begins[1] + timedelta(seconds=plan.patience.defer_s)
    opens_first = min(first, default=begins[0])
    opens_last = max((min(at, patience) for at in last), default=begins[1])
    last_end = opens_last + timedelta(seconds=worst_s)
    return min(opens_first + timedelta(seconds=best_s), last_end), last_end


def _openings(sites: Sequence[PlanSite], at: datetime, memo: _Openings) -> set[datetime]:
    groups = {(site.provider, site.zone): site for site in sites}
    return {opens for opens in (memo.next(site, at) for site in groups.values()) if opens}


def _work_s(plan: Plan, wave: Wave, sites: int, step_s: float) -> float:
    """Seconds in which `sites` are changed, within the caps."""
    if not sites:
        return 0.0
    cap = plan.caps.in_flight or min(DEFAULT_IN_FLIGHT, max(1, ceil(len(wave.sites) * DEFAULT_SHARE)))
    rounds_s = ceil(sites / cap) * step_s
    rate = plan.caps.starts_per_minute
    return max(rounds_s, (sites - 1) * 60 / rate + step_s) if rate else rounds_s
