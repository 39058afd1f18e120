"""The table of sites: its columns, how each reads, and which are shown at first."""

from collections.abc import Callable, Iterator
from typing import Any

import django_tables2 as tables
from django.db.models import F, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fleet.kit.templatetags.ui import age, percent, ratio_bar, shape
from sites.filters import BADNESS
from sites.models import Site, SiteState
from sites.present import LABELS, kind_of, since_of, state_of

DEFAULT_COLUMNS = ("state", "name", "provider", "region", "ring", "cpu", "memory", "disk", "report")
DASH = "—"
_NUMBER = {"td": {"class": "num"}, "th": {"class": "num"}}
Text = SafeString | str


# Cells ------------------------------------------------------------------------------------------------------
def _state(site: Site) -> Text:
    """Shape, word and age; the browser changes them in place when the site changes."""
    kind, since = kind_of(site), since_of(site)
    return format_html(
        '<span class="state is-{}" data-state-cell>{}<span>{}</span></span> <span class="faint">{}</span>',
        kind,
        shape(kind),
        LABELS.get(kind, kind.capitalize()),
        age(since, site.time_zone) if since else "",
    )


def _name(site: Site) -> Text:
    """The way to the site's page; the place, unless the name says it."""
    place = "" if site.place in site.name else format_html(' <span class="faint wide-only">{}</span>', site.place)
    return format_html('<a class="rowlink" href="{}" data-row-link>{}</a>{}', site.get_absolute_url(), site.name, place)


def _load(label: str, field: str) -> Callable[[Site], Text]:
    """A ratio as a bar for the eye and a percentage for everyone."""

    def cell(site: Site) -> Text:
        ratio = getattr(state_of(site), field, None)
        if ratio is None:
            return DASH
        return format_html('<span class="load">{}<span>{}</span></span>', ratio_bar(ratio, label), percent(ratio))

    return cell


def _of_state(show: Callable[[SiteState], Text | None]) -> Callable[[Site], Text]:
    """A figure of the site's state; a dash for a site that has none."""

    def cell(site: Site) -> Text:
        state = state_of(site)
        return (show(state) if state else None) or DASH

    return cell


CELLS: dict[str, Callable[[Site], Text]] = {
    "state": _state,
    "name": _name,
    "place": lambda site: site.place,
    "country": lambda site: site.country,
    "provider": lambda site: site.provider.name,
    "region": lambda site: site.region,
    "ring": lambda site: site.ring,
    "life": lambda site: site.get_life_display(),
    "address": lambda site: site.address,
    "cpu": _load("CPU", "cpu_ratio"),
    "memory": _load("Memory", "mem_ratio"),
    "disk": _load("Disk", "disk_ratio"),
    "temperature": _of_state(lambda state: f"{state.temp_celsius:.0f} °C" if state.temp_celsius is not None else None),
    "latency": _of_state(lambda state: f"{state.rtt_ms} ms" if state.rtt_ms is not None else None),
    "interval": lambda site: f"{site.poll_interval_s} s",
    "zone": lambda site: site.time_zone,
    "report": lambda site: age(getattr(state_of(site), "last_good_at", None), site.time_zone),
}


# Order ------------------------------------------------------------------------------------------------------
class _NullsLast(tables.Column):  # type: ignore[misc]  # carries no types
    """A column in which sites without a value come last either way."""

    falling_first = False

    def order(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Ties go by id, so that pages never overlap."""
        field = F(str(self.accessor))
        down = is_descending != self.falling_first
        first = field.desc(nulls_last=True) if down else field.asc(nulls_last=True)
        return queryset.order_by(first, "id"), True


class _Age(_NullsLast):
    """What is read is an age, so ascending begins with the youngest."""

    falling_first = True


class SiteTable(tables.Table):  # type: ignore[misc]
    """Sites, one a row: sorting and paging. What stands in a cell is said by CELLS.

    The library calls a renderer a cell through `inspect`, which took half of the page's time; lines() does not.
    """

    state = tables.Column(verbose_name="State")
    name = tables.Column(verbose_name="Site")
    place = tables.Column()
    country = tables.Column()
    provider = tables.Column(accessor="provider__name", verbose_name="Provider")
    region = tables.Column()
    ring = tables.Column()
    life = tables.Column()
    address = tables.Column(attrs={"td": {"class": "mono"}})
    cpu = _NullsLast(accessor="state__cpu_ratio", verbose_name="CPU", attrs=_NUMBER)
    memory = _NullsLast(accessor="state__mem_ratio", verbose_name="Memory", attrs=_NUMBER)
    disk = _NullsLast(accessor="state__disk_ratio", verbose_name="Disk", attrs=_NUMBER)
    temperature = _NullsLast(accessor="state__temp_celsius", verbose_name="Temperature", attrs=_NUMBER)
    latency = _NullsLast(accessor="state__rtt_ms", verbose_name="Latency", attrs=_NUMBER)
    interval = tables.Column(accessor="poll_interval_s", verbose_name="Interval", attrs=_NUMBER)
    zone = tables.Column(accessor="time_zone", verbose_name="Time zone")
    report = _Age(accessor="state__last_good_at", verbose_name="Last report", attrs=_NUMBER)

    class Meta:
        order_by = ("name",)

    def order_state(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Worst first, the longest of each first."""
        ordered = queryset.annotate(badness=BADNESS)
        return ordered.order_by("-badness" if is_descending else "badness", "state__shown_since", "id"), True

    def lines(self) -> Iterator[dict[str, Any]]:
        """The page's rows: `record` and `cells`, each with its class and its text."""
        shown = [(column.column.attrs.get("td", {}).get("class", ""), CELLS[column.name]) for column in self.columns]
        for row in self.paginated_rows:
            site = row.record
            yield {"record": site, "cells": [{"css": css, "text": cell(site)} for css, cell in shown]}


def columns_chosen(wanted: list[str]) -> list[str]:
    """Names of the columns to show: those asked for that exist, else the default; the site itself always."""
    known = list(SiteTable.base_columns)
    chosen = [name for name in known if name in wanted or name == "name"]
    return chosen if len(chosen) > 1 else list(DEFAULT_COLUMNS)
