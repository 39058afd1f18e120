from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import process_time, sleep
from uuid import uuid5

import pytest

from agent import __version__
from agent.backends.base import Backend
from agent.backends.catalogue import MAX_WORKLOADS
from agent.backends.curves import CURVES, Profile, utc_offset_s
from agent.backends.host import HostBackend
from agent.backends.simulated import REFRESH_S, SimulatedBackend
from agent.engine.backend import EngineBackend
from agent.engine.client import Engine
from agent.protocol import Report, decode_report
from tests.agent.factories import SITE
from tests.agent.wire import NAMESPACE
from tests.engine import Podman, podman_at

NOON_S = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()  # a Wednesday
DAY_S = 86_400


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now_s: float = NOON_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def make_site(
    seed: int = 1,
    profile: Profile = "shop",
    time_zone: str = "UTC",
    workloads: int = 5,
    now_s: Callable[[], float] | None = None,
) -> SimulatedBackend:
    return SimulatedBackend(
        uuid5(NAMESPACE, str(seed)),
        seed=seed,
        profile=profile,
        time_zone=time_zone,
        workloads=workloads,
        now_s=now_s or Clock(),
    )


def simulated() -> Backend:
    import time

    return SimulatedBackend(SITE, seed=3, profile="factory", time_zone="Asia/Tokyo", workloads=6, now_s=time.time)


def host() -> Backend:
    return HostBackend(SITE)


@pytest.fixture(scope="module")
def real_engine() -> Iterator[Podman]:
    with podman_at() as podman:
        yield podman


@pytest.fixture(params=["host", "simulated", "engine"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Backend]]:
    if request.param != "engine":
        yield {"host": host, "simulated": simulated}[request.param]
        return
    client = Engine(request.getfixturevalue("real_engine").socket)
    backend = EngineBackend(HostBackend(SITE), client, interval_s=0.1)
    yield lambda: backend
    backend.close()


class TestContract:
    """What every backend owes its callers."""

    def test_reports_decode_and_name_the_site(self, make: Callable[[], Backend]) -> None:
        backend = make()
        report = decode_report(backend.report(None))
        assert report.site == backend.site == SITE
        assert report.verdict.state == "up"
        assert abs((datetime.now(UTC) - report.at).total_seconds()) < 5

    def test_components_are_left_out_only_for_their_own_digest(self, make: Callable[[], Backend]) -> None:
        backend = make()
        full = decode_report(backend.report(None))
        assert full.components
        assert decode_report(backend.report(full.components_digest)).components is None
        assert decode_report(backend.report("sha256:" + "0" * 64)).components == full.components

    def test_kernel_os_and_agent_are_always_there(self, make: Callable[[], Backend]) -> None:
        components = decode_report(make().report(None)).components or ()
        assert {"kernel", "os", "agent"} <= {c.kind for c in components}
        assert all(c.version for c in components)

    def test_figures_make_sense_together(self, make: Callable[[], Backend]) -> None:
        figures = decode_report(make().report(None)).resources
        assert 0 < figures.mem_bytes <= figures.mem_total_bytes
        assert 0 < figures.disk_bytes <= figures.disk_total_bytes
        assert figures.load1 is not None

    def test_time_and_counters_only_grow_within_a_boot(self, make: Callable[[], Backend]) -> None:
        backend = make()
        first = decode_report(backend.report(None))
        sleep(0.01)
        second = decode_report(backend.report(None))
        assert first.boot == second.boot
        assert second.mono_ms >= first.mono_ms
        assert (second.resources.net_rx_bytes_total or 0) >= (first.resources.net_rx_bytes_total or 0)

    def test_a_report_takes_milliseconds(self, make: Callable[[], Backend]) -> None:
        backend = make()
        begin_s = process_time()
        for _ in range(20):
            backend.report(None)
        assert process_time() - begin_s < 20 * 0.005


class TestHost:
    def test_names_this_machine(self) -> None:
        report = decode_report(HostBackend(SITE).report(None))
        components = {c.kind: c for c in report.components or ()}
        assert components["kernel"].version == Path("/proc/sys/kernel/osrelease").read_text().strip()
        assert f"ID={components['os'].name}\n" in Path("/etc/os-release").read_text().replace('"', "")
        assert components["agent"].version == __version__
        assert report.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        assert abs(report.mono_ms / 1_000 - uptime_s) < 60

    def test_cpu_ratio_sees_work(self) -> None:
        backend = HostBackend(SITE)
        begin_s = process_time()
        while process_time() - begin_s < 1.1:
            pass
        assert decode_report(backend.report(None)).resources.cpu_ratio > 0.1


class TestSimulated:
    def test_is_a_function_of_seed_and_time(self) -> None:
        one, other = make_site(7), make_site(7)
        other.make(NOON_S - 12_345)  # what was asked before does not matter
        assert one.make(NOON_S) == other.make(NOON_S)
        assert one.make(NOON_S).resources != make_site(8).make(NOON_S).resources

    def test_bytes_are_kept_for_a_moment_and_then_made_anew(self) -> None:
        clock = Clock()
        site = make_site(now_s=clock)
        first = site.report(None)
        clock.now_s += REFRESH_S / 2
        assert site.report(None) is first
        clock.now_s += REFRESH_S
        assert decode_report(site.report(None)).at.timestamp() == clock.now_s

    def test_a_clock_set_back_is_followed(self) -> None:
        clock = Clock()
        site = make_site(now_s=clock)
        site.report(None)
        clock.now_s -= 3_600
        assert decode_report(site.report(None)).at.timestamp() == clock.now_s

    def test_shops_are_busy_by_day_and_warehouses_by_night_in_their_own_zone(self) -> None:
        tokyo_noon_s, tokyo_night_s = NOON_S - 9 * 3_600, NOON_S + 4 * 3_600
        shop, warehouse = make_site(profile="shop", time_zone="Asia/Tokyo"), make_site(2, "warehouse", "Asia/Tokyo")
        assert shop.make(tokyo_noon_s).resources.cpu_ratio > 3 * shop.make(tokyo_night_s).resources.cpu_ratio
        assert warehouse.make(tokyo_night_s).resources.cpu_ratio > 2 * warehouse.make(tokyo_noon_s).resources.cpu_ratio

    def test_heat_and_power_follow_the_load(self) -> None:
        site = make_site()
        busy, idle = site.make(NOON_S).resources, site.make(NOON_S - 9 * 3_600).resources
        assert busy.cpu_ratio > idle.cpu_ratio
        assert (busy.temp_celsius or 0) > (idle.temp_celsius or 0)
        assert (busy.power_watts or 0) > (idle.power_watts or 0)

    @pytest.mark.parametrize("time_zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
    def test_counters_and_time_grow_within_a_boot_through_a_year_of_clock_changes(self, time_zone: str) -> None:
        site = make_site(5, "factory", time_zone)
        for before, after in pairwise(site.make(NOON_S + hour * 1_800) for hour in range(2 * 24 * 365)):
            if before.boot != after.boot:
                assert after.mono_ms < 1_800_000
                continue
            assert after.mono_ms > before.mono_ms
            assert (after.resources.net_rx_bytes_total or 0) > (before.resources.net_rx_bytes_total or 0)
            assert (after.resources.net_tx_bytes_total or 0) > (before.resources.net_tx_bytes_total or 0)

    @pytest.mark.parametrize("profile", ["shop", "factory", "warehouse"])
    @pytest.mark.parametrize("workloads", range(MAX_WORKLOADS + 1))
    def test_every_size_stays_within_the_protocol(self, profile: Profile, workloads: int) -> None:
        for state in ("up", "degraded", "down"):
            clock = Clock()
            site = make_site(workloads, profile, workloads=workloads, now_s=clock)
            site.set_state(state)
            for step in range(40):
                clock.now_s = NOON_S + step * 17_000
                report = decode_report(site.report(None))
                assert len(report.workloads) == workloads
                assert bool(report.verdict.reasons) == (state != "up")

    def test_disks_fill_slowly_and_never_up(self) -> None:
        site = make_site()
        ratios = [
            (r := site.make(NOON_S + h * 3_600).resources).disk_bytes / r.disk_total_bytes for h in range(24 * 60)
        ]
        rises = [after - before for before, after in pairwise(ratios)]
        assert max(ratios) < 0.85
        assert sum(rise >= 0 for rise in rises) >= len(rises) - 6
        assert max(rises) < 0.002

    def test_most_sites_have_the_newest_and_a_few_an_old_kernel(self) -> None:
        kernels = Counter((make_site(seed).make(NOON_S).components or ())[0].version for seed in range(1_000))
        newest, *others = [count for _, count in kernels.most_common()]
        assert 820 < newest < 940
        assert all(10 < count < 200 for count in others)

    def test_digests_follow_from_name_and_version(self) -> None:
        digests: dict[tuple[str, str | None], set[str | None]] = {}
        for seed in range(50):
            for component in make_site(seed).make(NOON_S).components or ():
                digests.setdefault((component.name, component.version), set()).add(component.digest)
        assert all(len(found) == 1 for found in digests.values())

    def test_a_verdict_begins_when_it_is_set(self) -> None:
        clock = Clock()
        site = make_site(now_s=clock)
        assert decode_report(site.report(None)).verdict.since.timestamp() < NOON_S
        clock.now_s += 0.5
        site.set_state("down")
        verdict = decode_report(site.report(None)).verdict
        assert (verdict.state, verdict.since.timestamp()) == ("down", clock.now_s)
        clock.now_s += 0.25
        site.set_state("down")
        assert decode_report(site.report(None)).verdict == verdict

    def test_a_kernel_upgrade_reboots(self) -> None:
        clock = Clock()
        site = make_site(now_s=clock)
        before = site.make_now()
        assert site.upgrade("kernel", "linux", "6.12.57+deb13-amd64")
        clock.now_s += 60
        after = decode_report(site.report(before.components_digest))
        assert after.boot != before.boot
        assert after.mono_ms == 60_000
        assert after.components_digest != before.components_digest
        assert (after.components or ())[0].version == "6.12.57+deb13-amd64"

    def test_other_upgrades_do_not_reboot_and_unknown_ones_do_nothing(self) -> None:
        site = make_site()
        before = site.make_now()
        assert not site.upgrade("workload", "doom", "1.9")
        assert site.make_now() == before
        assert site.upgrade("workload", "pos", "9.0.0")
        after = site.make_now()
        assert after.boot == before.boot
        assert find(after, "pos") != find(before, "pos")

    def test_too_many_workloads_are_refused(self) -> None:
        with pytest.raises(ValueError, match="0 to 8"):
            make_site(workloads=MAX_WORKLOADS + 1)


def find(report: Report, name: str) -> tuple[str | None, str | None]:
    return next((c.version, c.digest) for c in report.components or () if c.name == name)


class TestCurves:
    @pytest.mark.parametrize("profile", ["shop", "factory", "warehouse"])
    def test_the_integral_is_that_of_the_curve(self, profile: Profile) -> None:
        curve = CURVES[profile]
        step_s = 60
        for begin_s in (NOON_S, NOON_S + 3.9 * DAY_S, -5_000.0):
            summed = sum(curve.at(begin_s + (i + 0.5) * step_s) * step_s for i in range(DAY_S // step_s))
            assert curve.integral_s(begin_s + DAY_S) - curve.integral_s(begin_s) == pytest.approx(summed, rel=1e-4)

    def test_offsets_follow_the_season(self) -> None:
        summer_s = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
        assert utc_offset_s("Europe/Berlin", int(summer_s // 900)) == 7_200
        assert utc_offset_s("Europe/Berlin", int(NOON_S // 900)) == 3_600
