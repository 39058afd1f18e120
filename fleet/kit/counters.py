"""Counters for /metrics, kept in Redis so that every process on every machine adds to the same figures."""

import logging
from collections.abc import Mapping
from functools import cache

import redis
from django.conf import settings

logger = logging.getLogger(__name__)
KEY = "archipelago:counters"


@cache
def client() -> redis.Redis:
    """This process's client; short time-outs, since figures may be lost but work may not wait."""
    return redis.Redis.from_url(settings.REDIS_COUNTERS_URL, socket_timeout=1, socket_connect_timeout=1)


def add(figures: Mapping[str, float]) -> None:
    """Add to counters, named as in the Prometheus text format (`name{label="value"}`). Never raises."""
    if not figures:
        return
    pipe = client().pipeline(transaction=False)
    for name, value in figures.items():
        pipe.hincrbyfloat(KEY, name, value)
    try:
        pipe.execute()
    except redis.RedisError as error:
        logger.warning("counters lost: %s", error)


def read() -> dict[str, float]:
    """All counters. Raises redis.RedisError."""
    found = client().hgetall(KEY)
    return {name.decode(): float(value) for name, value in found.items()}  # type: ignore[union-attr]  # sync client


@cache
def broker() -> redis.Redis:
    """A client of the broker's database, to look at its queues."""
    return redis.Redis.from_url(settings.REDIS_BROKER_URL, socket_timeout=1, socket_connect_timeout=1)
