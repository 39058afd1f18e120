"""The preview of a plan as a page shows it: waves with their sites and times, what is left out, who must agree."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fleet.rollouts.plan import Plan
from fleet.rollouts.present_plan import gates_text, joined
from fleet.rollouts.preview import Preview, WavePreview
from fleet.rollouts.selectors.drafting import Drafted

WIDTH: Final = 1000
SHOWN: Final = 5
PROVIDERS_SHOWN: Final = 6
_LEAST: Final = 6


def preview_context(
    preview: Preview | None, drafted: Drafted | None, providers: Mapping[int, str], now: datetime
) -> dict[str, Any]:
    """What the page's template reads; `preview` is None while there is no plan. `providers`: names by id."""
    if preview is None or drafted is None or drafted.plan is None:
        return {"waves_seen": [], "left_out": _left_out(drafted)}
    plan = drafted.plan
    begins = max(now, plan.start_at or now)
    return {
        "waves_seen": _waves(preview, plan, providers, begins),
        "left_out": _left_out(drafted),
        "warnings": [note.sentence for note in preview.notes if note.level == "warning"],
        "planned": plan.site_count,
        "unchanged": sum(site.conforms for site in drafted.sites.values()),
        "begins": begins,
        "scheduled": plan.start_at is not None and plan.start_at > now,
        "ends": preview.ends,
        "people": preview.people,
        "must_agree": joined((providers.get(pk, "a provider") for pk in plan.approvals.providers), "and"),
        "bytes_total": preview.bytes_total,
        "bytes_unknown": sum(wave.bytes_unknown for wave in preview.waves),
    }


def _waves(preview: Preview, plan: Plan, providers: Mapping[int, str], begins: datetime) -> list[dict[str, Any]]:
    span_s = max(1.0, (preview.ends[1] - begins).total_seconds())
    rows, before = [], (begins, begins)
    for seen, wave in zip(preview.waves, plan.waves, strict=True):
        rows.append(
            {
                "seen": seen,
                "canary": wave.canary,
                "gates": gates_text(wave.gates, canary=wave.canary),
                "providers": _providers(seen, providers),
                "lack_space": len(seen.lack_space),
                "lack_origin": len(seen.lack_origin),
                **_bars(seen, before, begins, span_s),
            }
        )
        before = seen.ends
    return rows


def _bars(
    seen: WavePreview, before: tuple[datetime, datetime], begins: datetime, span_s: float
) -> dict[str, dict[str, float]]:
    """When a wave is under way, at best and at worst, in a picture that is WIDTH wide."""

    def at(moment: datetime) -> float:
        return (moment - begins).total_seconds() / span_s * WIDTH

    bars = {}
    for name, begin, end in (("best", before[0], seen.ends[0]), ("worst", before[0], seen.ends[1])):
        x = min(at(begin), WIDTH - _LEAST)
        bars[name] = {"x": round(x, 1), "width": round(max(_LEAST, at(end) - x), 1)}
    return bars


def _providers(seen: WavePreview, names: Mapping[int, str]) -> dict[str, Any]:
    """Those with the most sites, and how many others there are."""
    ordered = sorted(seen.by_provider.items(), key=lambda pair: (-pair[1], names.get(pair[0], "")))
    shown = [{"name": names.get(pk, "?"), "sites": count} for pk, count in ordered[:PROVIDERS_SHOWN]]
    return {"shown": shown, "more": len(ordered) - len(shown)}


def _left_out(drafted: Drafted | None) -> list[dict[str, Any]]:
    """Why sites are in no wave: counts, with the names of some."""
    groups: dict[str, list[str]] = {}
    for one in drafted.left_out if drafted else ():
        groups.setdefault(one.reason, []).append(drafted.sites[one.site].name if drafted else "")
    return [
        {"reason": reason, "count": len(names), "names": names[:SHOWN], "more": max(0, len(names) - SHOWN)}
        for reason, names in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]
