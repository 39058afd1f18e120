"""One machine joins as an operator would have it join: enrol, a person's look, run, polled, judged by its probes."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.status import ask, read_identity
from fleet.kit import signing
from sites.models import Provider
from sites.services.joining import accept, freeze, make_join
from sites.services.sites import create_sites
from tests.agent.wire import ROOT
from tests.conftest import TEST, everything
from tests.flows.system import System, free_port, query, wait_for

Make = Callable[..., Provider]


class Shop(http.server.BaseHTTPRequestHandler):
    """What the site is there for."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(Shop.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def agent(*arguments: str, config: Path, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", *arguments, "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]  # whatever run() takes


def test_a_machine_joins_is_judged_by_its_probes_and_is_frozen(system: System, make_provider: Make) -> None:
    port, shop = free_port(), http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    row = {"slug": "one", "name": "One", "lat": 50.0, "lon": 10.0, "provider_id": make_provider().pk, "life": "active"}
    row |= {"address": f"127.64.9.9:{port}", "poll_interval_s": 1}
    (site,) = create_sites(actor=TEST, rights=everything(), rows=[row])
    root = bytes.fromhex(signing.roots().root_sha256)
    folder, config = system.folder / "machine", system.folder / "machine.toml"
    config.write_text(
        f'state = "{folder}"\nlisten = "127.64.9.9:{port}"\n[[probes]]\nkind = "http"\nname = "shop"\n'
        f'url = "http://127.0.0.1:{shop.server_port}/"\ninterval_s = 0.2\ntimeout_s = 0.2\n'
    )

    join = make_join(actor=TEST, rights=everything(), site=site, root_sha256=root)
    # The gateway may still be starting: then nothing was presented, and it is said so.
    enrol = partial(agent, "enrol", "--no-wait", "-", config=config, input=join)
    told = wait_for(lambda: (told := enrol()).returncode != 3 and told, what="the gateway answers")
    assert (told.returncode, told.stderr) == (0, "")
    identity = read_identity(folder)
    assert identity is not None
    accept(actor=TEST, rights=everything(), site=site, fingerprint=identity.keys.fingerprint)

    process = subprocess.Popen([sys.executable, "-m", "agent", "run", "--config", str(config)], cwd=ROOT)
    try:
        shown = "SELECT shown FROM edge_sites_sitestate WHERE site_id = %s"
        wait_for(lambda: query(shown, site.pk) == [("up",)], what="the site is up")
        Shop.status = 500
        wait_for(lambda: query(shown, site.pk) == [("down",)], what="its probe says that it is down")
        Shop.status = 200
        wait_for(lambda: query(shown, site.pk) == [("up",)], what="it is well again")
        status = ask(folder / "agent.sock")
        assert status is not None
        assert status.last_poll_at is not None
        found = agent("doctor", config=config)
        assert found.returncode == 0, found.stdout
    finally:
        process.terminate()
        assert process.wait(20) == 0
        shop.shutdown()
        shop.server_close()

    freeze(actor=TEST, rights=everything(), site=site, reason="stolen")
    told = agent("enrol", "--again", "-", config=config, input=join)
    assert (told.returncode, told.stderr.splitlines()[0]) == (
        5,
        "archipelago-agent: the site is frozen: by its operators, or as a join string was used with other keys.",
    )
