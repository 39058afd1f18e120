"""The table of how sites compare: its columns, their order, how each reads."""

from collections.abc import Callable, Iterator
from typing import Any

import django_tables2 as tables
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fleet.kit.templatetags.ui import age, shape
from fleet.standards.models import SiteCompliance
from fleet.standards.present import LABELS, LOOKS, cause_of, kind_of, proven_at, words_of

SHOWN = 3
DASH = "—"
Text = SafeString | str
_NUMBER = {"td": {"class": "num"}, "th": {"class": "num"}}


def state_cell(kind: str) -> SafeString:
    """A state of compliance as shape and word."""
    return format_html('<span class="state is-{}">{}{}</span>', LOOKS[kind], shape(LOOKS[kind]), LABELS[kind])


def _differences(row: SiteCompliance) -> Text:
    lines = [(words_of(one),) for one in row.differences[:SHOWN]]
    more = len(row.differences) - SHOWN
    if more > 0:
        lines.append((f"and {more} more",))
    return format_html_join("", '<span class="diffline"><bdi>{}</bdi></span>', lines) if lines else DASH


def _site(row: SiteCompliance) -> Text:
    return format_html('<a class="rowlink" href="{}" data-row-link>{}</a>', row.site.get_absolute_url(), row.site.name)


def _standard(row: SiteCompliance) -> Text:
    if row.standard is None:
        return DASH
    return format_html('<a class="mono" href="{}">{}</a>', row.standard.get_absolute_url(), row.standard.name)


CELLS: dict[str, Callable[[SiteCompliance], Text]] = {
    "state": lambda row: state_cell(kind_of(row)),
    "site": _site,
    "provider": lambda row: row.site.provider.name,
    "ring": lambda row: row.ring.name if row.ring else DASH,
    "standard": _standard,
    "differences": _differences,
    "cause": lambda row: cause_of(row) or DASH,
    "since": lambda row: age(row.since, row.site.time_zone),
    "proof": lambda row: age(proven_at(row), row.site.time_zone),
}


class ComplianceTable(tables.Table):  # type: ignore[misc]  # carries no types
    """Sites beside their standards, one a row; the oldest first unless the URL says otherwise."""

    state = tables.Column(verbose_name="State")
    site = tables.Column(accessor="site__name", verbose_name="Site")
    provider = tables.Column(accessor="site__provider__name", verbose_name="Provider")
    ring = tables.Column(accessor="ring__position", verbose_name="Ring")
    standard = tables.Column(accessor="standard__name", verbose_name="Standard")
    differences = tables.Column(orderable=False, verbose_name="Differences", attrs={"td": {"class": "wraps"}})
    cause = tables.Column(verbose_name="Why", attrs={"td": {"class": "wraps quiet"}})
    since = tables.Column(verbose_name="For", attrs=_NUMBER)
    proof = tables.Column(accessor="site__state__last_good_at", verbose_name="Last proof", attrs=_NUMBER)

    class Meta:
        order_by = ("since",)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The page's rows: `record` (the site) and `cells`, each with its class and its text."""
        shown = [(column.column.attrs.get("td", {}).get("class", ""), CELLS[column.name]) for column in self.columns]
        for row in self.paginated_rows:
            yield {"record": row.record.site, "cells": [{"css": css, "text": cell(row.record)} for css, cell in shown]}
