"""What the benchmarks measure with: CPU of process trees, percentiles, the table, the peer's sites."""

import json
import os
import subprocess
import sys
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from bench import __main__, peer
from bench.cpu import rss_bytes, tree_cpu_s
from bench.exporter import SERIES, Exporter
from bench.result import Figure, failed, percentile, table, write
from bench.stack import free_tcp_port
from fleet.stack.state import ROOT

BURN = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
KEYS = ["name", "value", "unit", "aim", "peer", "peer_value", "ratio", "conditions"]


def test_cpu_of_a_tree_counts_the_living_and_those_that_were_waited_for() -> None:
    before_s = tree_cpu_s([os.getpid()])
    subprocess.run([sys.executable, "-c", BURN], check=True)
    nested = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]);"
        " print('done', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        assert tree_cpu_s([child.pid]) >= 0.3
        assert rss_bytes(child.pid) > 1_000_000
        assert tree_cpu_s([os.getpid()]) - before_s >= 0.6
        child.communicate("")
    assert tree_cpu_s([child.pid]) == 0
    with pytest.raises(FileNotFoundError):
        rss_bytes(child.pid)


def test_percentile_is_the_smallest_value_that_enough_do_not_exceed() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, 0.95) == 95
    assert percentile(values, 0.5) == 50
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_figures_as_a_table_and_as_json(tmp_path: Path) -> None:
    figures = [
        Figure("cost", 0.15, "ms/poll", "at most 0.5", "quick", True, "Prometheus 2", 0.4, 0.375),
        failed("other", RuntimeError("no such thing")),
    ]
    write(tmp_path / "bench.json", figures)
    first, second = json.loads((tmp_path / "bench.json").read_text())
    assert list(first) == KEYS
    assert first["ratio"] == 0.375
    assert second == dict.fromkeys(KEYS) | {
        "name": "other", "unit": "", "aim": "", "conditions": "not measured: no such thing",
    }  # fmt: skip
    lines = table(figures).splitlines()
    assert " ".join(lines[1].split()) == "cost 0.15 ms/poll at most 0.5 Prometheus 2: 0.4 ms/poll 0.375 met"
    assert lines[4].strip() == "not measured: no such thing"


def test_the_command_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["nonsense"])
    assert ended.value.code == 2
    assert "no figure 'nonsense'" in capsys.readouterr().err


def test_a_broken_benchmark_says_why_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> list[Figure]:
        raise RuntimeError("broken")

    [figure] = __main__._guarded("this", breaks)
    assert (figure.name, figure.value, figure.conditions) == ("this", None, "not measured: broken")
    assert "RuntimeError: broken" in capsys.readouterr().err


# The peer's sites -------------------------------------------------------------------------------------------
def series(response: bytes) -> dict[str, float]:
    _, _, body = response.partition(b"\r\n\r\n")
    return {name: float(value) for name, _, value in (row.rpartition(" ") for row in body.decode().splitlines())}


def test_each_peer_site_has_its_own_series_and_they_move() -> None:
    exporter = Exporter()
    before, other = series(exporter.response(0)), series(exporter.response(1))
    exporter.refresh()
    after = series(exporter.response(0))
    assert len(before) == SERIES == len(other)
    assert before["site_cpu_ratio"] != other["site_cpu_ratio"]
    assert after["site_net_rx_bytes_total"] > before["site_net_rx_bytes_total"]
    assert exporter.scrapes == 3


def test_the_exporter_answers_at_every_address_of_the_block(tmp_path: Path) -> None:
    port = free_tcp_port()
    tls = peer._certify(tmp_path)
    command = [sys.executable, "-m", "bench.exporter", str(port), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            for host in ("127.64.0.10", "127.64.19.250"):
                connection = HTTPSConnection(host, port, timeout=5, context=tls)
                for _ in range(2):  # kept alive
                    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
                    response = connection.getresponse()
                    assert response.status == 200
                    assert len(response.read().splitlines()) == SERIES
                connection.close()
            assert peer.Prometheus(0, "", port, tls).scrapes() == 4
        finally:
            child.terminate()


def test_the_peer_scrapes_one_address_a_host(tmp_path: Path) -> None:
    config = peer._config(300, 9300, tmp_path)
    [job] = config["scrape_configs"]  # type: ignore[misc]  # a list, in this test
    [targets] = job["static_configs"]
    assert len(set(targets["targets"])) == 300
    assert all(target.startswith("127.64.") and target.endswith(":9300") for target in targets["targets"])
    assert config["global"] == {"scrape_interval": "30s", "scrape_timeout": "10s"}
