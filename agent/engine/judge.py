"""How a container is after a change, from what the engine says of it."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.apply.part import Check
from agent.engine.client import Engine
from agent.engine.errors import EngineError, one_line
from agent.engine.messages import Health, HealthTimes, Inspected, read_time
from agent.protocol.desired import DesiredWorkload

_SLACK_S: Final = 2.0
_DEFAULT_S: Final = 30.0
_SYSTEMD: Final = Path("/run/systemd/system")
log = logging.getLogger("agent")


def judge(workload: DesiredWorkload, found: Inspected, now: datetime) -> Check:
    """Well by its health check, or without one after `settle_s`; broken once it ended, even if it was started again."""
    state = found.state
    if found.restarts > 0 or not state.running:
        return Check("broken", _how_it_ended(found))
    started = read_time(state.started_at)
    age_s = (now - started).total_seconds() if started is not None else 0.0
    health = state.health
    if health is not None and health.status == "unhealthy":
        return Check("broken", _why_unhealthy(health))
    if workload.health is None:
        return Check("well") if age_s >= workload.settle_s else Check("waiting", "it has to settle")
    if health is not None and health.status == "healthy":
        return Check("well")
    check = workload.health
    if age_s > check.grace_s + check.retries * (check.interval_s + check.timeout_s) + _SLACK_S:
        return Check("broken", f"its health check has not passed within {age_s:.0f} s")
    return Check("waiting", "its health check has not passed yet")


def probe_if_due(engine: Engine, found: Inspected) -> bool:
    """Run a health check that nobody runs: Podman leaves them to timers of systemd, which is not everywhere.

    Nothing is done while an engine runs them by itself. True if one was run, or tried. Raises EngineError.
    """
    if not engine.is_podman or not found.state.running or found.state.health is None:
        return False
    times = found.config.healthcheck or HealthTimes()
    interval_s, timeout_s = (nanoseconds / 1e9 or _DEFAULT_S for nanoseconds in (times.interval, times.timeout))
    probes = found.state.health.log or ()
    last = read_time(probes[-1].end if probes else found.state.started_at)
    # Where a timer runs them, the last one is never older than this.
    limit_s = interval_s + timeout_s if _SYSTEMD.is_dir() else interval_s
    if last is None or (datetime.now(UTC) - last).total_seconds() < limit_s:
        return False
    try:
        engine.probe(found.id, timeout_s + _SLACK_S)
    except EngineError as error:
        # One that takes too long is an error here, and a failure in the state; one that hangs has not passed. An
        # engine that is gone, or a container that has ended, shows when the state is asked.
        log.debug("a health check was not run: %s", error)
    return True


def _how_it_ended(found: Inspected) -> str:
    state = found.state
    if state.running:
        return f"it ended and was started again {found.restarts} times"
    if state.out_of_memory:
        return "it was ended for want of memory"
    said = f"it is {state.status or 'not running'}, with the exit status {state.exit_code}"
    return f"{said}: {one_line(state.error, 200)}" if state.error else said


def _why_unhealthy(health: Health) -> str:
    said = f"its health check failed {health.failing_streak} times in a row"
    last = (health.log or ())[-1:]
    return said + "".join(f", at last with status {p.exit_code}: {one_line(p.output, 200) or 'no words'}" for p in last)
