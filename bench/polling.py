"""What polling costs, and how much of it one machine can do."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import peer
from bench.cpu import rss_bytes, tree_cpu_s
from bench.result import Figure, machine
from bench.stack import INTERVAL_S, Stack
from fleet.stack.errors import StackError

CHURN_PER_MINUTE = 0.01
SITES_A_POLLER = 16_000
LATE_MS = 2_000
POLL_CPU, POLL_CPU_QUICK = (5_000, 600), (2_000, 75)  # sites, seconds
SITES_HELD, SITES_HELD_QUICK = (20_000, 40_000, 60_000, 80_000, 100_000), (5_000,)
SITES_HELD_S, SITES_HELD_QUICK_S = 180, 60
Say = Callable[[str], None]


@dataclass(frozen=True)
class Window:
    """What happened between two moments. `cpu_s` by process name, its children included; `pages` of journals."""

    seconds: float
    polls: int
    failures: int
    cpu_s: Mapping[str, float]
    pages: int

    @property
    def ms_a_poll(self) -> float:
        """CPU milliseconds a poll, everything counted."""
        return sum(self.cpu_s.values()) * 1000 / max(1, self.polls)

    @property
    def shares(self) -> str:
        """Who spent it, the largest first, in milliseconds a poll; pollers added up."""
        parts: dict[str, float] = {}
        for name, seconds in self.cpu_s.items():
            group = "pollers" if name.startswith("poller") else name
            parts[group] = parts.get(group, 0.0) + seconds * 1000 / max(1, self.polls)
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {ms:.3f}" for name, ms in ordered)


def watch(stack: Stack, seconds: float) -> Window:
    """Let the stack poll for `seconds` and add up what it spent."""
    pids = stack.pids()
    polls, failures = stack.polls()
    pages = stack.pages()
    began, before = time.monotonic(), {name: tree_cpu_s([pid]) for name, pid in pids.items()}
    stack.rest(seconds)
    spent = {name: tree_cpu_s([pid]) - before[name] for name, pid in pids.items()}
    passed = time.monotonic() - began
    polls_after, failures_after = stack.polls()
    return Window(passed, polls_after - polls, failures_after - failures, spent, stack.pages() - pages)


def pollers_for(sites: int) -> int:
    """Pollers for that many sites: the file limit of 20,000 a process leaves room for 16,000 uneven shards' worth."""
    return -(-sites // SITES_A_POLLER)


# CPU a poll, beside Prometheus ------------------------------------------------------------------------------
def poll_cpu(say: Say, *, quick: bool) -> Figure:
    """CPU a poll, with Prometheus at the same time on as many sites of its own."""
    sites, seconds = POLL_CPU_QUICK if quick else POLL_CPU
    program = peer.find_prometheus()
    scrapes = 0
    peer_s, version = 0.0, ""
    with Stack() as stack:
        say(f"{sites:,} sites; {'no Prometheus' if program is None else 'Prometheus beside us'}")
        stack.grow(sites)
        with _beside(program, stack, sites) as prometheus:
            stack.start(pollers=1, churn_per_minute=CHURN_PER_MINUTE)
            stack.warm_up(at_most_s=120, settle_s=2 * INTERVAL_S)
            if prometheus:
                version = prometheus.version
                scrapes, peer_s = -prometheus.scrapes(), -tree_cpu_s([prometheus.pid])
            say(f"measuring for {seconds} s")
            window = watch(stack, seconds)
            if prometheus:
                scrapes, peer_s = scrapes + prometheus.scrapes(), peer_s + tree_cpu_s([prometheus.pid])
    peer_ms = peer_s * 1000 / scrapes if scrapes > 0 else None
    ratio = window.ms_a_poll / peer_ms if peer_ms else None
    return Figure(
        "poll_cpu",
        round(window.ms_a_poll, 4),
        "ms/poll",
        "at most 0.6 of the peer",
        f"{sites:,} sites every {INTERVAL_S} s, {window.seconds:.0f} s, {window.polls:,} polls "
        f"({window.failures} failed), {CHURN_PER_MINUTE:.0%} of sites changing a minute, {window.pages:,} pages of "
        f"journals read; {window.shares}; the peer "
        f"scraped {scrapes:,} times 32 series at the same time, over mutual TLS too, storage included; {machine()}",
        met=None if ratio is None else ratio <= 0.6,
        peer=f"Prometheus {version}" if peer_ms else None,
        peer_value=round(peer_ms, 4) if peer_ms else None,
        ratio=round(ratio, 3) if ratio else None,
    )


@contextmanager
def _beside(program: Path | None, stack: Stack, hosts: int) -> Iterator[peer.Prometheus | None]:
    if program is None:
        yield None
        return
    with peer.running(program, stack, hosts=hosts) as prometheus:
        yield prometheus


# Sites held -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """One size of fleet that was tried: lateness of its polls, and the share of the polls due that were written."""

    sites: int
    pollers: int
    p99_ms: float
    written: float
    window: Window

    @property
    def is_held(self) -> bool:
        """Whether the fleet was polled on time, all of it."""
        return self.p99_ms < LATE_MS and self.written > 0.98 and self.window.failures < self.window.polls / 200

    def __str__(self) -> str:
        cores = sum(self.window.cpu_s.values()) / self.window.seconds
        return (
            f"{self.sites:,} with {self.pollers} pollers: p99 {self.p99_ms:,.0f} ms late, {self.written:.1%} of polls "
            f"written, {cores:.2f} cores ({self.window.ms_a_poll:.3f} ms a poll)"
        )


def sites_held(say: Say, *, quick: bool) -> Figure:
    """The greatest fleet that is polled on time."""
    sizes, seconds = (SITES_HELD_QUICK, SITES_HELD_QUICK_S) if quick else (SITES_HELD, SITES_HELD_S)
    steps: list[Step] = []
    with Stack() as stack:
        for sites in sizes:
            try:
                steps.append(_step(stack, sites, seconds))
            except StackError as error:
                say(f"{sites:,} sites: {error}")
                break
            say(str(steps[-1]))
            if not steps[-1].is_held:
                break
    held = max((step.sites for step in steps if step.is_held), default=0)
    return Figure(
        "sites_held",
        held,
        "sites",
        f"at least {sizes[0]:,}",
        f"p99 from due to stored below {LATE_MS} ms at {INTERVAL_S} s, simulated sites on the same machine, "
        f"{seconds} s a step, {CHURN_PER_MINUTE:.0%} of sites changing a minute; "
        f"{'; '.join(map(str, steps))}; {machine()}",
        met=held >= sizes[0],
    )


def _step(stack: Stack, sites: int, seconds: float) -> Step:
    pollers = pollers_for(sites)
    stack.grow(sites)
    stack.start(pollers=pollers, churn_per_minute=CHURN_PER_MINUTE)
    stack.warm_up(at_most_s=240, settle_s=2 * INTERVAL_S)
    since = stack.execute("SELECT now()")[0][0]
    window = watch(stack, seconds)
    p99_ms = _late_p99_ms(stack, since)
    return Step(sites, pollers, p99_ms, window.polls / (sites / INTERVAL_S * window.seconds), window)


def _late_p99_ms(stack: Stack, since: datetime) -> float:
    row = stack.execute(
        "SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY late_ms) FROM sample WHERE at >= %s", [since]
    )
    return float(row[0][0] or 0)


# Cost by size -----------------------------------------------------------------------------------------------
def cost_flat(say: Say, *, quick: bool) -> Figure:
    """How much dearer a poll is in a large fleet than in a small one."""
    small, large, seconds = (600, 3_000, 75) if quick else (1_000, 20_000, 300)
    windows = []
    with Stack() as stack:
        for sites in (small, large):
            stack.grow(sites)
            stack.start(pollers=pollers_for(sites), churn_per_minute=CHURN_PER_MINUTE)
            stack.warm_up(at_most_s=120, settle_s=2 * INTERVAL_S)
            windows.append(watch(stack, seconds))
            say(f"{sites:,} sites: {windows[-1].ms_a_poll:.3f} ms a poll")
    growth = windows[1].ms_a_poll / windows[0].ms_a_poll - 1
    return Figure(
        "cost_flat",
        round(growth * 100, 1),
        "%",
        "at most 20",
        f"growth of CPU a poll from {small:,} to {large:,} sites every {INTERVAL_S} s, {seconds} s each: "
        f"{windows[0].ms_a_poll:.3f} ms ({windows[0].shares}) and {windows[1].ms_a_poll:.3f} ms "
        f"({windows[1].shares}); {machine()}",
        met=growth <= 0.2,
    )


# Memory -----------------------------------------------------------------------------------------------------
def poller_memory(stack: Stack) -> Figure:
    """Resident memory of the one poller of a running stack."""
    rss_mib = rss_bytes(stack.pids()["poller0"]) / 2**20
    polls, _ = stack.polls()
    return Figure(
        "poller_memory",
        round(rss_mib, 1),
        "MiB",
        "below 700",
        f"resident set of a poller that holds {stack.sites:,} sites over mutual TLS, after {polls:,} polls; "
        f"{machine()}",
        met=rss_mib < 700,
    )
