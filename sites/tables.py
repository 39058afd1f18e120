"""The table of sites: its columns, how each reads, and which are shown at first."""

from typing import Any

import django_tables2 as tables
from django.db.models import F, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fleet.kit.templatetags.ui import age, percent, ratio_bar, shape
from sites.filters import BADNESS
from sites.models import Site
from sites.views.present import LABELS, kind_of, since_of

DEFAULT_COLUMNS = ("state", "name", "provider", "region", "ring", "cpu", "memory", "disk", "report")
DASH = "—"
_NUMBER = {"td": {"class": "num"}, "th": {"class": "num"}}


def _nulls_last(field: str, descending: bool) -> Any:
    return F(field).desc(nulls_last=True) if descending else F(field).asc(nulls_last=True)


class LoadColumn(tables.Column):  # type: ignore[misc]  # carries no types
    """A ratio as a bar and a percentage."""

    def __init__(self, field: str, label: str) -> None:
        super().__init__(accessor=f"state__{field}", verbose_name=label, attrs=_NUMBER)
        self.field, self.label = f"state__{field}", label

    def render(self, value: float) -> SafeString:
        """The bar is for the eye, the number for everyone."""
        return format_html('<span class="load">{}<span>{}</span></span>', ratio_bar(value, self.label), percent(value))

    def order(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Sites without a report come last either way."""
        return queryset.order_by(_nulls_last(self.field, is_descending), "id"), True


class SiteTable(tables.Table):  # type: ignore[misc]  # carries no types
    """Sites, one a row. `columns_shown` picks and keeps the order of the class."""

    state = tables.Column(empty_values=(), verbose_name="State")
    name = tables.Column(verbose_name="Site")
    place = tables.Column()
    country = tables.Column()
    provider = tables.Column(accessor="provider__name", verbose_name="Provider")
    region = tables.Column()
    ring = tables.Column()
    life = tables.Column()
    address = tables.Column(attrs={"td": {"class": "mono"}})
    cpu = LoadColumn("cpu_ratio", "CPU")
    memory = LoadColumn("mem_ratio", "Memory")
    disk = LoadColumn("disk_ratio", "Disk")
    temperature = tables.Column(accessor="state__temp_celsius", attrs=_NUMBER)
    latency = tables.Column(accessor="state__rtt_ms", attrs=_NUMBER)
    interval = tables.Column(accessor="poll_interval_s", attrs=_NUMBER)
    zone = tables.Column(accessor="time_zone", verbose_name="Time zone")
    report = tables.Column(accessor="state__last_good_at", verbose_name="Last report", attrs=_NUMBER)

    class Meta:
        template_name = "tables/table.html"
        order_by = ("name",)
        row_attrs = {"data-row": "", "data-site-id": lambda record: record.pk}
        default = DASH

    def render_state(self, record: Site) -> SafeString:
        """Shape, word and age; the browser changes them in place when the site changes."""
        kind = kind_of(record)
        return format_html(
            '<span class="state is-{}" data-state-cell>{}<span>{}</span></span> <span class="faint">{}</span>',
            kind,
            shape(kind),
            LABELS.get(kind, kind.capitalize()),
            age(since_of(record), record.time_zone) if since_of(record) else "",
        )

    def render_name(self, record: Site) -> SafeString:
        """The way to the site's page."""
        return format_html(
            '<a class="rowlink" href="{}" data-row-link>{}</a>{}',
            record.get_absolute_url(),
            record.name,
            format_html(' <span class="faint wide-only">{}</span>', record.place)
            if record.place not in record.name
            else "",
        )

    def render_temperature(self, value: float) -> str:
        """Degrees Celsius."""
        return f"{value:.0f} °C"

    def render_latency(self, value: int) -> str:
        """Milliseconds of the last poll."""
        return f"{value} ms"

    def render_interval(self, value: int) -> str:
        """Seconds between polls."""
        return f"{value} s"

    def render_report(self, value: Any, record: Site) -> SafeString | str:
        """Age of the last good report."""
        return age(value, record.time_zone)

    def order_state(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Worst first, the longest of each first."""
        ordered = queryset.annotate(badness=BADNESS)
        return ordered.order_by("-badness" if is_descending else "badness", "state__shown_since", "id"), True

    def order_report(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """The youngest report first when ascending: what is read is an age."""
        return queryset.order_by(_nulls_last("state__last_good_at", not is_descending), "id"), True

    def order_temperature(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Sites without a sensor last."""
        return queryset.order_by(_nulls_last("state__temp_celsius", is_descending), "id"), True

    def order_latency(self, queryset: QuerySet[Site], is_descending: bool) -> tuple[QuerySet[Site], bool]:
        """Sites without a report last."""
        return queryset.order_by(_nulls_last("state__rtt_ms", is_descending), "id"), True


def columns_chosen(wanted: list[str]) -> list[str]:
    """Names of the columns to show: those asked for that exist, else the default; the site itself always."""
    known = list(SiteTable.base_columns)
    chosen = [name for name in known if name in wanted or name == "name"]
    return chosen if len(chosen) > 1 else list(DEFAULT_COLUMNS)
