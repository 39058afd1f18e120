"""Pages for machines: /healthz (the process lives), /readyz (its parts answer), /metrics (Prometheus text format)."""

import hmac
import ipaddress
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse

from fleet.consumers import LiveConsumer
from fleet.kit import counters
from fleet.kit.tenancy import job, scope
from sites.models import PollerShard
from sites.selectors.fleet_wide import figures
from sites.selectors.polling import poll_lag_s

WATCH = job("metrics")
QUEUES = ("tick", "default", "slow")

HELP = {
    "archipelago_polls_total": ("counter", "Polls by outcome (ok, or the class of failure)."),
    "archipelago_poll_batches_total": ("counter", "Batches of polls written."),
    "archipelago_poll_batch_lag_seconds_total": ("counter", "Sum over batches of their greatest lateness."),
    "archipelago_sites": ("gauge", "Active sites by shown state."),
    "archipelago_poll_lag_seconds": ("gauge", "How late the most overdue site is."),
    "archipelago_queue_depth": ("gauge", "Messages that wait, by queue."),
    "archipelago_websocket_clients": ("gauge", "Browsers connected to this web process."),
    "archipelago_broker_up": ("gauge", "Whether Redis answers."),
}


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers at all."""
    return JsonResponse({"status": "ok"})


@login_not_required
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers; a lost broker is said, and degrades live updates and polling only."""
    parts = {"database": _database_up(), "broker": _broker_up()}
    status = "ok" if all(parts.values()) else "degraded" if parts["database"] else "down"
    return JsonResponse({"status": status, **parts}, status=200 if parts["database"] else 503)


@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Figures for Prometheus, to loopback or to whoever holds METRICS_TOKEN."""
    if not _may_read(request):
        return HttpResponse("metrics are for loopback, or for a bearer of METRICS_TOKEN\n", status=403)
    values: dict[str, float] = {"archipelago_websocket_clients": LiveConsumer.clients}
    try:
        values |= counters.read() | _queue_depths()
        values["archipelago_broker_up"] = 1
    except redis.RedisError:
        values["archipelago_broker_up"] = 0
    with scope(WATCH):
        for state, count in figures(WATCH).items():
            if state not in {"sites", "planned"}:
                values[f'archipelago_sites{{state="{state}"}}'] = count
        values["archipelago_poll_lag_seconds"] = poll_lag_s()
    return HttpResponse(_render(values), content_type="text/plain; version=0.0.4; charset=utf-8")


def _render(values: dict[str, float]) -> str:
    lines: list[str] = []
    described = ""
    for name in sorted(values):
        family = name.partition("{")[0]
        if family != described and family in HELP:
            kind, text = HELP[family]
            lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
            described = family
        lines.append(f"{name} {values[name]:g}" if abs(values[name]) < 1e5 else f"{name} {values[name]:.3f}")
    return "\n".join(lines) + "\n"


def _may_read(request: HttpRequest) -> bool:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN and hmac.compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
        return True
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback and not settings.TRUST_PROXY
    except ValueError:
        return False


def _database_up() -> bool:
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def _broker_up() -> bool:
    try:
        return bool(counters.client().ping())
    except redis.RedisError:
        return False


def _queue_depths() -> dict[str, float]:
    """Waiting messages by queue. Raises redis.RedisError."""
    with scope(WATCH):
        pollers = sorted(set(PollerShard.objects.values_list("poller", flat=True)))
    names = [*QUEUES, *(f"poll.{number}" for number in pollers)]
    broker: Any = counters.broker()
    return {f'archipelago_queue_depth{{queue="{name}"}}': float(broker.llen(name)) for name in names}
