"""Small parts of pages: icons, states, times, loads, form fields."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django import template
from django.forms import BaseForm, BoundField, CheckboxInput, FileInput, Select
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fleet.kit.tenancy import Rights

register = template.Library()

STATE_LABELS = {
    "up": "Up",
    "degraded": "Degraded",
    "down": "Down",
    "unreachable": "Unreachable",
    "unknown": "Unknown",
    "planned": "Planned",
    "retired": "Retired",
    "reachable": "Reachable",
    "centre_blind": "Centre blind",
}
# States of the reachability axis are drawn with the shapes of the availability axis.
_SHAPES = {"reachable": "up", "centre_blind": "unknown", "": "unknown"}
HOT_RATIO = 0.85
FULL_RATIO = 0.95


@lru_cache(maxsize=1024)
def _drawn(classes: str, href: str) -> SafeString:
    """A symbol of a sprite; a page has dozens, mostly the same few."""
    return format_html('<svg class="{}" aria-hidden="true"><use href="{}"></use></svg>', classes, href)


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite, for the eye only: whatever holds it carries the words."""
    return _drawn(f"icon {css}".strip(), f"{static('vendor/icons.svg')}#{name}")


@register.simple_tag
def shape(kind: str) -> SafeString:
    """The shape of a state, without a word."""
    name = _SHAPES.get(kind, kind)
    return _drawn(f"shape is-{name}", f"{static('img/states.svg')}#{name}")


@register.simple_tag
def step_shape(group: str) -> SafeString:
    """The shape of a group of rollout steps, without a word."""
    href = f"{static('img/steps.svg')}#{group}"
    return format_html('<svg class="shape st-{}" aria-hidden="true"><use href="{}"></use></svg>', group, href)


@register.simple_tag
def state(kind: str, css: str = "") -> SafeString:
    """A state as shape and word."""
    name = _SHAPES.get(kind, kind)
    label = STATE_LABELS.get(kind, "Not yet known")
    return format_html('<span class="state is-{} {}">{}{}</span>', name, css, shape(kind), label)


@register.filter
def may(rights: Rights, action: str) -> bool:
    """Whether the viewer may do this somewhere, so that its button is worth drawing."""
    return rights.may(action)


def age_text(age_s: float) -> str:
    """An age as a short text, as static/js/format.js writes it."""
    age = max(0, int(age_s))
    if age < 60:
        return f"{age} s"
    if age < 3600:
        return f"{age // 60} min"
    if age < 86400:
        return f"{age // 3600} h {age % 3600 // 60:02} min"
    days, hours = age // 86400, age % 86400 // 3600
    return f"{days} d {hours} h" if days < 14 and hours else f"{days} d"


@register.simple_tag
def age(at: datetime | None, zone: str = "") -> SafeString | str:
    """The age of a moment; it ticks in the browser. Nothing for None."""
    if at is None:
        return "—"
    text = age_text((timezone.now() - at).total_seconds())
    return format_html('<time datetime="{}" data-zone="{}" data-age>{}</time>', at.isoformat(), zone, text)


@register.simple_tag
def moment(at: datetime | None, zone: str = "") -> SafeString | str:
    """A moment: in the viewer's zone once the browser has painted it, in UTC before. Nothing for None."""
    if at is None:
        return "—"
    text = f"{at.astimezone(timezone.get_default_timezone()):%-d %b %H:%M} UTC"
    return format_html('<time datetime="{}" data-zone="{}" data-at>{}</time>', at.isoformat(), zone, text)


@register.simple_tag
def ratio_bar(ratio: float | None, label: str) -> SafeString | str:
    """A load bar with its percentage for those who cannot see it. Nothing for None."""
    if ratio is None:
        return ""
    heat = "full" if ratio >= FULL_RATIO else "hot" if ratio >= HOT_RATIO else ""
    return format_html(
        '<progress class="bar {}" max="1" value="{}" aria-label="{} {} %"></progress>',
        heat,
        f"{min(1.0, max(0.0, ratio)):.3f}",
        label,
        round(ratio * 100),
    )


@register.filter
def percent(ratio: float | str | None) -> str:
    """A ratio 0..1 as a percentage; a dash where there is none (a template gives "" for what is missing)."""
    return f"{round(ratio * 100)} %" if isinstance(ratio, (int, float)) else "—"


@register.filter
def grouped(number: Decimal | float | str | None) -> str:
    """A number with its thousands apart (12,000.00); what is none is nothing."""
    return f"{Decimal(str(number)):,}" if number not in (None, "") else ""


@register.filter
def get(mapping: Mapping[str, Any], key: str) -> Any:
    """A value of a mapping, or nothing."""
    return mapping.get(key, "")


@register.inclusion_tag("kit/_field.html")
def field(bound: BoundField, wide: bool = False, cue: str = "") -> dict[str, Any]:
    """A form field with its label, hint and errors."""
    widget = bound.field.widget
    is_check = isinstance(widget, CheckboxInput)
    if is_check:
        css = "form-check-input"
    elif isinstance(widget, Select):
        css = "form-select"
    else:
        css = "form-control"
    if bound.errors:
        css += " is-invalid"
    extra = widget.attrs.get("class", "")
    markup = bound.as_widget(attrs={"class": f"{css} {extra}".strip()})
    return {
        "bound": bound,
        "markup": markup,
        "is_check": is_check,
        "is_file": isinstance(widget, FileInput),
        "wide": wide,
        "cue": cue,
    }


@register.simple_tag
def plain_field(bound: BoundField, css: str, label: str = "") -> SafeString:
    """The control of a form field alone; `label` is read out where nothing beside it says what it is."""
    name = label or str(bound.label)
    attrs: dict[str, str | bool] = {"class": f"{css} is-invalid" if bound.errors else css, "aria-label": name}
    return bound.as_widget(attrs=attrs)


@register.filter
def bound(form: BaseForm, name: str) -> BoundField:
    """A field of a form by its name."""
    return form[name]


@register.filter
def words(text: str) -> list[str]:
    """The words of a text, to loop over."""
    return text.split()


@register.filter
def spoken(name: str) -> str:
    """A name of the protocol as people say it: `rolled_back` is rolled back."""
    return name.replace("_", " ")


@register.filter
def shape_name(state_name: str) -> str:
    """The state whose look another state borrows (`reachable` looks like `up`)."""
    return _SHAPES.get(state_name, state_name)


@register.filter
def duration(seconds: float) -> str:
    """A span of time as a short text."""
    return age_text(seconds)


@register.filter("bytes")
def bytes_text(size: float | str | None) -> str:
    """Bytes with a binary unit and three figures; a dash where there are none."""
    if not isinstance(size, (int, float)):
        return "—"
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1024
    return ""


@register.filter
def body_schema(operation: Mapping[str, Any]) -> str:
    """Name of the schema of an OpenAPI operation's body, or nothing."""
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return str(reference).rpartition("/")[2]
