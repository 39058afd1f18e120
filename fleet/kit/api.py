"""Cursor paging, the same for every list of the API."""

import base64
import json
from collections.abc import Callable
from typing import Any

from django.db.models import IntegerField, Model, QuerySet

from fleet.kit.errors import Invalid

LIMIT_MAX = 1000
MAX_KEY_CHARS = 80
_INT64_MAX = 2**63 - 1


def page_of(
    found: QuerySet[Any], *, key: str, limit: int, cursor: str | None, out: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """`{"items": [...], "next": cursor or null}` of `found` in the order of the unique field `key` (`-key`: downwards).

    `limit` is clamped to 1..LIMIT_MAX. Keyset paging: rows that come or go between two pages move no others.
    Raises Invalid for a cursor that no page gave.
    """
    size = min(max(limit, 1), LIMIT_MAX)
    name, beyond = (key[1:], "lt") if key.startswith("-") else (key, "gt")
    if cursor:
        found = found.filter(**{f"{name}__{beyond}": _read_cursor(cursor, name, found.model)})
    rows = list(found.order_by(key)[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    return {"items": [out(row) for row in rows], "next": _cursor(getattr(rows[-1], name)) if more else None}


def _cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, key: str, model: type[Model]) -> int | str:
    try:
        value = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        found = model._meta.get_field(key)
        expected = int if isinstance(getattr(found, "target_field", found), IntegerField) else str
        if type(value) is not expected or not str(value).isprintable() or len(str(value)) > MAX_KEY_CHARS:
            raise ValueError("not what a page gives")
        if isinstance(value, int) and abs(value) > _INT64_MAX:
            raise ValueError("no key is so large")
    except Exception:  # noqa: BLE001  (hostile text: whatever goes wrong in reading it means the same)
        raise Invalid("This cursor is not one of ours.", details={"cursor": "take it from `next`"}) from None
    return value
