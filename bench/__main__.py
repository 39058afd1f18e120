"""Command line: `python -m bench [NAME ...] [--quick] [--out bench.json]`."""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench import footprint, polling, rollouts, screens, slas
from bench.backfill import backfill
from bench.deliver import deliver
from bench.reconnect import reconnect
from bench.result import Figure, failed, table, write
from bench.stack import Stack
from fleet.stack.state import ROOT

SCREEN_SITES = 10_000
ALONE: dict[str, Callable[..., Figure | list[Figure]]] = {
    "poll_cpu": polling.poll_cpu,
    "cost_flat": polling.cost_flat,
    "sites_held": polling.sites_held,
    "backfill": backfill,
    "reconnect": reconnect,
    "deliver": deliver,
    "rollout": rollouts.rollout,
    "rollout_stop": rollouts.rollout_stop,
    "rollout_plan": rollouts.rollout_plan,
    "rollout_tick": rollouts.rollout_tick,
    "simulator": rollouts.simulator,
    "sla_month": slas.sla_month,
    "sla_counting": slas.sla_counting,
    "sla_pdf": slas.sla_pdf,
    "sla_page": slas.sla_page,
}
AGENT = "agent_footprint"
TOGETHER = ("poller_memory", "overview_10k", "sites_page", "change_to_pixel")
NAMES = (AGENT, *ALONE, *TOGETHER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write. 0 when everything asked for was measured, whether its aim is met or not; else 1."""
    options = _parser().parse_args(arguments)
    chosen = options.names or list(NAMES)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    figures: list[Figure] = []
    if AGENT in chosen:
        figures += _guarded(AGENT, partial(footprint.agent_footprint, partial(_say, AGENT), quick=options.quick))
    for name in ALONE:
        if name in chosen:
            figures += _guarded(name, partial(_alone, name, quick=options.quick))
    together = [name for name in TOGETHER if name in chosen]
    if together:
        figures += _together(together, quick=options.quick)
    print(f"\n{table(figures)}")
    write(options.out, figures)
    return int(any(figure.value is None for figure in figures))


def _alone(name: str, *, quick: bool) -> Iterable[Figure]:
    found = ALONE[name](partial(_say, name), quick=quick)
    yield from found if isinstance(found, list) else [found]


def _together(names: Sequence[str], *, quick: bool) -> list[Figure]:
    """The figures of one stack of SCREEN_SITES sites."""
    figures: list[Figure] = []
    try:
        with Stack() as stack:
            few = _few(stack) if "sites_page" in names else []
            _say("screens", f"{SCREEN_SITES:,} sites")
            stack.grow(SCREEN_SITES)
            stack.start(pollers=1, churn_per_minute=polling.CHURN_PER_MINUTE, with_web=True)
            stack.warm_up(at_most_s=180, settle_s=30)
            for name in names:
                figures += _guarded(name, partial(_screen, name, stack, few, quick=quick))
    except Exception as error:  # noqa: BLE001  (top of a run: the figures that were measured must be written)
        traceback.print_exc()
        figures += [failed(name, error) for name in names if not any(f.name.startswith(name) for f in figures)]
    return figures


def _few(stack: Stack) -> list[int]:
    stack.grow(screens.ONE_PAGE_SITES)
    return screens.query_counts(stack)


def _screen(name: str, stack: Stack, few: list[int], *, quick: bool) -> Iterator[Figure]:
    say = partial(_say, name)
    if name == "poller_memory":
        yield polling.poller_memory(stack)
    elif name == "overview_10k":
        yield from screens.overview_10k(say, stack, quick=quick)
    elif name == "sites_page":
        yield from screens.sites_page(stack, few, quick=quick)
    else:
        yield screens.change_to_pixel(stack, quick=quick)


def _guarded(name: str, measure: Callable[[], Iterable[Figure]]) -> list[Figure]:
    """The figures of one benchmark; one that breaks off says why in its place."""
    _say(name, "begins")
    try:
        return list(measure())
    except Exception as error:  # noqa: BLE001  (top of a benchmark: the others must still be measured)
        traceback.print_exc()
        return [failed(name, error)]


def _say(name: str, text: str) -> None:
    print(f"{name:<16}| {text}", flush=True)


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no figure {text!r}, only {', '.join(NAMES)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", type=_name, help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="short forms: minutes instead of an hour")
    parser.add_argument("--out", type=Path, default=ROOT / "bench.json", help="default: bench.json")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
