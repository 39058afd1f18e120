"""What terms would have meant last month, had they been in force then: computed, and nothing kept of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import transaction

from fleet.kit.clock import database_now
from fleet.kit.tenancy import Rights, Scope, scope
from slas.agreements import Agreement, SegmentDraft
from slas.models import Contract
from slas.periods import begin_of, month_of, month_text
from slas.selectors.figures import figures_of
from slas.services.contracts import add_version, allow, read_or_refuse
from slas.services.scorecards import line_of


def preview(*, actor: Scope, rights: Rights, agreement: object) -> tuple[str, list[Mapping[str, Any]]]:
    """The month (`2026-10`) and a line for each objective of each provider's last segment, with `provider` and `fee`.

    Raises NotAllowed, Invalid (every fault in `details`).
    """
    allow(rights)
    with scope(actor):
        read = read_or_refuse(agreement)
        number = month_of(database_now(), read.zone) - 1
        begin, end = begin_of(number, read.zone), begin_of(number + 1, read.zone)
        latest: dict[int, SegmentDraft] = {one.provider_id: one for one in read.segments}
        then = tuple(replace(one, begins=begin, ends=end, gap_reason="") for one in latest.values())
        mark = transaction.savepoint()
        try:
            lines = _lines(actor, replace(read, segments=then))
        finally:
            transaction.savepoint_rollback(mark)
    return month_text(number), lines


def _lines(actor: Scope, read: Agreement) -> list[Mapping[str, Any]]:
    begin, end = read.segments[0].begins, read.segments[0].ends
    assert end is not None
    contract = Contract.objects.create(slug="what-it-would-mean", name="What it would mean", made_by=actor.name[:150])
    version = add_version(actor, contract, 1, read, "what it would mean")
    segments = {one.pk: one for one in version.segments.all()}
    report = figures_of(contract, begin, end, version.made_at + timedelta(seconds=1))
    found: list[Mapping[str, Any]] = []
    for result in report.results:
        segment = segments[result.segment_id]
        found.append(line_of(result, segment, begin, end) | {"provider": segment.provider.name})
    return found
