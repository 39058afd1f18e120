"""`Idempotency-Key`: a create that is sent twice is done once, and answered alike both times, for 24 hours."""

import functools
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.utils import timezone
from ninja.responses import Status

from fleet.kit.errors import Conflict, Invalid
from fleet.kit.http import ScopedRequest
from fleet.kit.models import KeptAnswer
from fleet.kit.tenancy import DEFAULT

HEADER: Final = "Idempotency-Key"
KEPT_FOR: Final = timedelta(hours=24)
MAX_KEY_CHARS: Final = 100
Operation = Callable[..., Status[Any]]

_INSERT: Final = """
INSERT INTO kit_keptanswer (user_id, key, request, status, body, at) VALUES (%s, %s, %s, 0, 'null', now())
ON CONFLICT (user_id, key) DO NOTHING RETURNING id
"""


def idempotent(operation: Operation) -> Operation:
    """Have an operation of the API heed the header Idempotency-Key, if it is sent: at most 100 printable characters.

    The first request with a key does its work; while it runs, others wait. What it answers is kept for whoever sent
    it, in the transaction of the work: a request that fails keeps nothing, and may be sent again. The same request
    again gets that answer; another one under the same key raises Conflict. Keys are each person's own.
    """

    @functools.wraps(operation)
    def once(request: ScopedRequest, *args: Any, **kwargs: Any) -> Status[Any]:
        key = request.headers.get(HEADER, "")
        if not key:
            return operation(request, *args, **kwargs)
        if len(key) > MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
            raise Invalid(f"{HEADER} has at most {MAX_KEY_CHARS} printable characters.", details={HEADER: "invalid"})
        user_id = request.who.user_id
        assert user_id is not None  # the API answers people alone
        KeptAnswer.objects.filter(at__lt=timezone.now() - KEPT_FOR).delete()
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_INSERT, [user_id, key, _digest(request)])
            row = cursor.fetchone()
        if row is None:
            return _kept(request, user_id, key)
        answer = operation(request, *args, **kwargs)
        body = json.loads(json.dumps(answer.value, cls=DjangoJSONEncoder))
        KeptAnswer.objects.filter(pk=row[0]).update(status=answer.status_code, body=body)
        return Status(answer.status_code, body)

    return once


def _kept(request: ScopedRequest, user_id: int, key: str) -> Status[Any]:
    kept = KeptAnswer.objects.get(user_id=user_id, key=key)
    if kept.request != _digest(request):
        raise Conflict("This key was used for another request.", details={HEADER: "used"})
    return Status(kept.status, kept.body)


def _digest(request: ScopedRequest) -> str:
    return hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode() + request.body).hexdigest()
