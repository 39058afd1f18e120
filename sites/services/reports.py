"""record_reports(): a batch of poll results becomes rows, in one transaction.

Most results change nothing but figures: those go through one COPY into a temporary table and two set-based
statements. Only sites whose state, components or workloads changed are written one by one (still set-based).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import DataError, IntegrityError, connections

from agent.protocol import Report
from fleet.kit import counters, live
from fleet.kit.tenancy import DEFAULT, job, scope
from sites import health
from sites.agent_client import PollResult
from sites.health import Decision, Health
from sites.services import report_sql as sql
from sites.states import Compliance, Failure

logger = logging.getLogger(__name__)
POLLER = job("poller")


@dataclass(slots=True)
class Outcome:
    """One result, decided: what it does to the site's state."""

    result: PollResult
    decision: Decision
    backoff: int

    @property
    def report(self) -> Report | None:
        """The report, unless the poll failed."""
        return self.result.report

    @property
    def new_components(self) -> bool:
        """Whether the site runs another set of components than we know of."""
        return self.report is not None and self.report.components_digest != self.result.target.digest

    @property
    def new_desired(self) -> bool:
        """Whether the site says something else of its document than before."""
        return self.report is not None and desired_text(self.report) != self.result.target.desired

    @property
    def wide(self) -> bool:
        """Whether more than the figures of the state row change."""
        report, target = self.report, self.result.target
        if report is None:
            return True
        return (
            self.decision.visible
            or bool(self.decision.changes)
            or _counts(self.decision.health) != _counts(target.health)
            or self.new_components
            or self.result.keep_workloads
            or bool(target.last_error)
            or self.backoff != target.backoff
            or report.boot != target.boot
            or tuple(report.verdict.reasons) != tuple(target.reasons)
            or (report.busy is not None) != target.busy
            or self.new_desired
        )


def desired_text(report: Report) -> str:
    """What a report says of the site's document, as it is kept to be compared; empty before its first."""
    said = report.desired
    return f"{said.epoch}.{said.version}.{said.state}.{said.detail}"[:600] if said is not None and said.version else ""


def _counts(state: Health) -> tuple[int, str, int]:
    """What may change in a health that neither shows nor records a change."""
    return state.misses, state.candidate, state.candidate_count


def decide(result: PollResult) -> Outcome:
    """What a result does to its site's state (pure; see sites.health)."""
    before = result.target.health
    if result.report is not None:
        return Outcome(result, health.report(before, result.report.verdict.state, result.at), 1)
    if result.failure is Failure.NOT_ENROLLED and before.reachability == health.NEVER:
        return Outcome(result, Decision(before, (), visible=False), 1)  # nobody has tried to reach it yet
    decision = health.missed(before, result.at)
    return Outcome(result, decision, health.backoff(decision.health.misses))


def record_reports(results: Sequence[PollResult], *, poller: str) -> bool:
    """Write a batch: samples, current state, and for sites that changed intervals, outages and components.

    Returns whether any site said something new of its document.

    One transaction. Where the database refuses it, the batch is halved down to the row that it refuses; that one is
    recorded as a failed poll of class `rejected`. A row whose site was written by somebody else since it was read
    (another `version`) changes nothing. Publishes live deltas after commit, adds to the poller's beat and counters.
    """
    try:
        return _record(results, poller)
    except (DataError, IntegrityError, OverflowError) as error:
        if len(results) > 1:
            half = len(results) // 2
            parts = [record_reports(part, poller=poller) for part in (results[:half], results[half:])]
            return any(parts)
        logger.warning("a row was refused: %s", error, extra={"site": results[0].target.site_id})
        if results[0].failure is not Failure.REJECTED:
            poison = replace(results[0], report=None, failure=Failure.REJECTED, detail=str(error).split("\n")[0][:300])
            record_reports([poison], poller=poller)
        return False


def _record(results: Sequence[PollResult], poller: str) -> bool:
    outcomes = [decide(result) for result in results]
    good = [outcome for outcome in outcomes if outcome.report is not None]
    wide = [outcome for outcome in outcomes if outcome.wide]
    with scope(POLLER), connections[DEFAULT].cursor() as cursor:
        if outcomes:
            cursor.execute(sql.BEGIN_BATCH, [sorted(outcome.result.target.site_id for outcome in outcomes)])
        if good:
            # Django does not translate the errors of a COPY by itself.
            with connections[DEFAULT].wrap_database_errors, cursor.copy(sql.COPY_BATCH) as copy:
                copy.set_types(sql.BATCH_TYPES)
                wide_ids = {id(outcome) for outcome in wide}
                for outcome in good:
                    copy.write_row(_figures(outcome, update=id(outcome) not in wide_ids))
        lag_max_ms = 0
        written: dict[int, str] = {}
        if wide:
            _write_components(cursor, wide)
            _write_image_sizes(cursor, wide)
            written = _write_states(cursor, wide)
            _write_facts(cursor, [outcome for outcome in wide if outcome.result.target.site_id in written])
        if good:
            cursor.execute(sql.STORE_BATCH)
            row = cursor.fetchone()
            lag_max_ms = row[0] or 0 if row else 0
        cursor.execute(sql.BEAT, [poller, len(outcomes), len(outcomes) - len(good), lag_max_ms])
        deltas, hints = _news(outcomes, written)
        live.publish(deltas, hints=hints)
    _count(outcomes, lag_max_ms)
    return any(outcome.new_desired for outcome in outcomes)


def _figures(outcome: Outcome, *, update: bool) -> tuple[Any, ...]:
    """One row of the temporary table; `update` says whether the state row takes its figures from here."""
    report, result = outcome.report, outcome.result
    assert report is not None
    figures = report.resources
    return (
        result.target.site_id,
        result.target.provider_id,
        result.target.version,
        update,
        result.at,
        result.target.due_at,
        result.rtt_ms,
        figures.cpu_count,
        figures.cpu_ratio,
        figures.load1,
        figures.mem_bytes,
        figures.mem_total_bytes,
        figures.disk_bytes,
        figures.disk_total_bytes,
        figures.net_rx_bytes_total,
        figures.net_tx_bytes_total,
        figures.temp_celsius,
        figures.power_watts,
        _clock_offset_ms(report, result.at),
        report.mono_ms,
        report.journal_seq,
        report.journal_head or "",
    )


def _clock_offset_ms(report: Report, at: datetime) -> int:
    """The site's clock minus ours at receipt, in milliseconds."""
    return round((report.at - at).total_seconds() * 1000)


def _write_components(cursor: Any, outcomes: Sequence[Outcome]) -> None:
    """Each distinct set of components once, before anything points at it."""
    sets = {
        outcome.report.components_digest: sorted(
            [c.kind, c.name, c.version, c.digest] for c in outcome.report.components or ()
        )
        for outcome in outcomes
        if outcome.report is not None and outcome.new_components
    }
    if sets:
        rows = [{"digest": digest, "components": components} for digest, components in sorted(sets.items())]
        cursor.execute(sql.INSERT_COMPONENT_SETS, [json.dumps(rows)])


def _write_image_sizes(cursor: Any, outcomes: Sequence[Outcome]) -> None:
    """Sizes of images that sites say together with a new set of components; of other digests they may say nothing."""
    rows = []
    for outcome in outcomes:
        report = outcome.report
        if report is None or not outcome.new_components or not report.image_bytes:
            continue
        named = {c.digest for c in report.components or () if c.kind == "workload"}
        provider = outcome.result.target.provider_id
        found = report.image_bytes.items()
        rows += [{"digest": one, "provider_id": provider, "bytes": size} for one, size in found if one in named]
    if rows:
        cursor.execute(sql.WRITE_IMAGE_SIZES, [json.dumps(rows)])


def _write_states(cursor: Any, outcomes: Sequence[Outcome]) -> dict[int, str]:
    """Update whole state rows, guarded by their versions, and back-offs. Returns compliance by id of each written."""
    cursor.execute(sql.UPDATE_STATES, [json.dumps([_state_row(outcome) for outcome in outcomes])])
    written: dict[int, str] = dict(cursor.fetchall())
    changed = [
        {"site_id": outcome.result.target.site_id, "backoff": outcome.backoff}
        for outcome in outcomes
        if outcome.backoff != outcome.result.target.backoff
    ]
    if changed:
        cursor.execute(sql.UPDATE_BACKOFF, [json.dumps(changed)])
    return written


def _state_row(outcome: Outcome) -> dict[str, Any]:
    result, after = outcome.result, outcome.decision.health
    row = {
        "site_id": result.target.site_id,
        "version": result.target.version,
        "at": result.at.isoformat(),
        "visible": outcome.decision.visible,
        "last_error": str(result.failure or ""),
        "last_error_detail": result.detail,
        **_health_row(after),
    }
    report = outcome.report
    if report is None:
        return row | {"ok": False}
    figures = report.resources
    return row | {
        "ok": True,
        "digest": report.components_digest,
        "reasons": list(report.verdict.reasons),
        "workloads": [_workload_row(w) for w in report.workloads] if result.keep_workloads else None,
        "boot": report.boot,
        "clock_offset_ms": _clock_offset_ms(report, result.at),
        "mono_ms": report.mono_ms,
        "journal_seq": report.journal_seq,
        "journal_head": report.journal_head or "",
        "busy_until": report.busy.until.isoformat() if report.busy else None,
        "busy_reason": report.busy.reason[:200] if report.busy else "",
        "desired": desired_text(report),
        "rtt_ms": result.rtt_ms,
        "cpu_ratio": figures.cpu_ratio,
        "mem_ratio": figures.mem_bytes / figures.mem_total_bytes if figures.mem_total_bytes else None,
        "disk_ratio": figures.disk_bytes / figures.disk_total_bytes if figures.disk_total_bytes else None,
        "temp_celsius": figures.temp_celsius,
    }


def _health_row(after: Health) -> dict[str, Any]:
    return {
        "availability": after.availability,
        "availability_since": after.availability_since.isoformat(),
        "reachability": after.reachability,
        "reachability_since": after.reachability_since.isoformat(),
        "shown": after.shown,
        "shown_since": after.shown_since.isoformat(),
        "candidate": after.candidate,
        "candidate_count": after.candidate_count,
        "candidate_since": after.candidate_since.isoformat() if after.candidate_since else None,
        "misses": after.misses,
        "last_good_at": after.last_good_at.isoformat() if after.last_good_at else None,
    }


def _workload_row(workload: Any) -> dict[str, Any]:
    return {
        "name": workload.name,
        "managed": workload.managed,
        "state": workload.state,
        "health": workload.health,
        "cpu_ratio": workload.cpu_ratio,
        "mem_bytes": workload.mem_bytes,
        "mem_limit_bytes": workload.mem_limit_bytes,
        "restarts": workload.restarts,
    }


def _write_facts(cursor: Any, outcomes: Sequence[Outcome]) -> None:
    """Close and open intervals, outages and component spans of the sites whose state row was written."""
    changes = [row for outcome in outcomes for row in _change_rows(outcome)]
    if changes:
        cursor.execute(sql.WRITE_CHANGES, [json.dumps(changes)] * 4)
    spans = [_span_row(outcome) for outcome in outcomes if outcome.new_components]
    if spans:
        cursor.execute(sql.WRITE_SPANS, [json.dumps(spans)] * 2)
    said = [_desired_row(outcome) for outcome in outcomes if outcome.new_desired]
    if said:
        cursor.execute(sql.NOTE_DESIRED, [json.dumps(said)])
    returned = [outcome.result.target.site_id for outcome in outcomes if _returned(outcome)]
    if returned:
        cursor.execute(sql.READ_JOURNALS, [returned])
    silent_since = {since for outcome in outcomes if (since := _silent_since(outcome)) is not None}
    if silent_since:
        cursor.execute(sql.POLL_SOON, [sorted(silent_since)])
    well = [outcome.result.target.site_id for outcome in outcomes if _became_well(outcome)]
    if well:
        cursor.execute(sql.CLEAR_ACKNOWLEDGEMENTS, [well])


def _returned(outcome: Outcome) -> bool:
    """Whether the site has something to tell: it was out of reach, or has booted."""
    report, target = outcome.report, outcome.result.target
    return report is not None and (
        (report.boot != target.boot) or any(change.state == health.REACHABLE for change in outcome.decision.changes)
    )


def _silent_since(outcome: Outcome) -> datetime | None:
    """The minute since when a site had been out of reach that answers again now."""
    before = outcome.result.target.health
    if outcome.report is None or before.reachability != health.UNREACHABLE:
        return None
    return before.reachability_since.replace(second=0, microsecond=0)


def _became_well(outcome: Outcome) -> bool:
    after = outcome.decision.health
    return outcome.decision.visible and after.shown == health.UP and after.reachability == health.REACHABLE


def evidence(result: PollResult) -> dict[str, Any]:
    """The poll that proves a fact, as it is stored with it."""
    if result.report is None:
        return {"poll": result.at.isoformat(), "failure": result.failure, "detail": result.detail}
    return {
        "poll": result.at.isoformat(),
        "verdict": result.report.verdict.state,
        "since": result.report.verdict.since.isoformat(),
        "reasons": list(result.report.verdict.reasons),
        "boot": result.report.boot,
        "mono_ms": result.report.mono_ms,
    }


def _change_rows(outcome: Outcome) -> list[dict[str, Any]]:
    target = outcome.result.target
    return [
        {
            "site_id": target.site_id,
            "provider_id": target.provider_id,
            "axis": change.axis,
            "state": change.state,
            "at": change.at.isoformat(),
            "evidence": evidence(outcome.result),
        }
        for change in outcome.decision.changes
    ]


def _span_row(outcome: Outcome) -> dict[str, Any]:
    assert outcome.report is not None
    return {
        "site_id": outcome.result.target.site_id,
        "provider_id": outcome.result.target.provider_id,
        "digest": outcome.report.components_digest,
        "at": outcome.result.at.isoformat(),
        "evidence": {"poll": outcome.result.at.isoformat(), "boot": outcome.report.boot},
    }


def _desired_row(outcome: Outcome) -> dict[str, Any]:
    assert outcome.report is not None
    said = outcome.report.desired
    return {
        "site_id": outcome.result.target.site_id,
        "epoch": said.epoch if said else 0,
        "version": said.version if said else 0,
        "state": said.state[:16] if said else "",
        "detail": said.detail if said else "",
        "at": outcome.result.at.isoformat(),
    }


def _news(
    outcomes: Sequence[Outcome], written: Mapping[int, str]
) -> tuple[list[live.Delta], list[tuple[live.Hint, int | None]]]:
    """Deltas for the map, and hints for whoever has the site or the overview open; `written` is compliance by site."""
    deltas: list[live.Delta] = []
    hints: list[tuple[live.Hint, int | None]] = []
    for outcome in outcomes:
        target, after = outcome.result.target, outcome.decision.health
        if outcome.decision.visible:
            since = int(after.shown_since.timestamp())
            compliance = written.get(target.site_id, Compliance.UNKNOWN)
            deltas.append(
                live.Delta(target.site_id, target.provider_id, after.shown, after.reachability, compliance, since)
            )
        if outcome.decision.changes or outcome.new_components or outcome.new_desired:
            hints.append((("site", target.site_id), target.provider_id))
    if deltas:
        for provider_id in sorted({delta.provider_id for delta in deltas}):
            hints += [((topic, 0), provider_id) for topic in ("figures", "attention", "timeline")]
    return deltas, hints


def _count(outcomes: Sequence[Outcome], lag_max_ms: int) -> None:
    """Add to the counters behind /metrics."""
    figures: dict[str, float] = {}
    for outcome in outcomes:
        name = f'archipelago_polls_total{{outcome="{outcome.result.failure or "ok"}"}}'
        figures[name] = figures.get(name, 0) + 1
    figures["archipelago_poll_batches_total"] = 1
    figures["archipelago_poll_batch_lag_seconds_total"] = lag_max_ms / 1000
    counters.add(figures)
