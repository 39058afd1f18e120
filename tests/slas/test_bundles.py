"""Evidence bundles: what a report rests on, signed by a real signer, and recomputed offline to the same figures."""

import base64
import json
import subprocess
import tomllib
import venv
import zipfile
from datetime import timedelta
from hashlib import sha256
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fleet.kit import signing
from fleet.kit.tenancy import scope
from fleet.signer.reports import ReportToSign
from sites.models import Site
from slas.envelope import seal_bundle
from slas.exports import zipapp
from slas.exports.bundle import canonical, payload_of
from slas.models import Incident
from slas.rounding import percent_4
from slas.selectors.evidence import evidence_of
from slas.selectors.figures import figures_of, told_of
from slas.services.deriving import derive_due
from slas.services.incidents import correct_cause
from slas.verify import main
from tests.conftest import everything
from tests.slas.factories import DECEMBER, NOVEMBER, TEST, make_contract, objective, segment, states, tenures
from tests.slas.signing import signer_of_reports

LATER = DECEMBER + timedelta(days=999)
HOURS = {"timezone": "site", "weekly": {day: [["08:00", "20:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}}


@pytest.fixture
def month(make_provider: Any, make_site: Any) -> Any:
    """A month with an outage that a person corrected, silence, service hours, and a site that began within it."""
    nord = make_provider("nord")
    shop, late = make_site("shop", nord), make_site("late", nord)
    for site, since in ((shop, NOVEMBER - timedelta(days=99)), (late, NOVEMBER - timedelta(days=99))):
        tenures(site, (nord, since, None))
    day = timedelta(days=1)
    states(
        shop,
        "availability",
        (NOVEMBER - 9 * day, "up"),
        (NOVEMBER + 2.5 * day, "down"),
        (NOVEMBER + 2.5 * day + timedelta(hours=2, milliseconds=1), "up"),
        (NOVEMBER + 9.4 * day, "unknown"),
        (NOVEMBER + 9.5 * day, "up"),
        (NOVEMBER + 16.5 * day, "down"),
        (NOVEMBER + 16.75 * day, "degraded"),
        (NOVEMBER + 17 * day, "up"),
    )
    states(late, "availability", (NOVEMBER + 10 * day, "up"))
    states(shop, "reachability", (NOVEMBER - 9 * day, "reachable"))
    version = make_contract(
        segment(
            nord,
            objectives=[objective(), objective(measure="reachability", target="99", scope="pooled", burden="open")],
            calendar={**HOURS, "holidays": {"country": "DE"}, "closed": ["2026-11-11"]},
        )
    )
    while derive_due():
        pass
    return version


@pytest.fixture
def made(month: Any, tmp_path: Path, settings: Any) -> Any:
    """The month's bundle: its payload, and the sealed file."""
    incident = Incident.objects.using("owner").filter(kind="down").order_by("spans__valid_from").first()
    assert incident is not None
    correct_cause(actor=TEST, rights=everything(), incident=incident, cause="workload", reason="the till froze it")
    files: dict[int, bytes] = {}
    with signer_of_reports(tmp_path, lambda file_id: ReportToSign("bundle", files[file_id])) as socket:
        settings.SIGNER_SOCKET = socket
        keys = signing.report_keys()
        with scope(TEST):
            sites = list(Site.objects.values_list("pk", flat=True))
            payload = files[1] = payload_of(
                told_of(month, month.segments.all(), NOVEMBER, DECEMBER, LATER),
                evidence_of(month, NOVEMBER, DECEMBER, LATER, sites),
                report={"contract": "shops", "revision": 1},
                keys=keys,
            )
        signed = signing.sign_report(1)
    return payload, seal_bundle(payload, keys.bundle_key, signed.signature), keys


def test_every_figure_of_a_report_is_recomputed_from_its_bundle(month: Any, made: Any, tmp_path: Path, capsys: Any):
    payload, sealed, _ = made
    path = tmp_path / "bundle.json"
    path.write_bytes(sealed)
    assert main([str(path)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("signature: valid, key sha256:")
    found = {one["name"]: one for one in map(json.loads, out.splitlines())}
    with scope(TEST):
        results = figures_of(month.contract, NOVEMBER, DECEMBER, LATER).results
    for result in results:
        for site in result.sites:
            told = found.pop(f"shops nord {result.objective.measure} {site.slug}")
            assert told["ok"]
            for name in ("measured", "floor", "ceiling", "coverage"):
                exact = percent_4(getattr(site.shares, name))
                assert told[name] == (None if exact is None else float(exact)), (site.slug, name)
            for name in ("scheduled_ms", "excluded_ms", "unknown_ms", "down_ms", "degraded_ms", "up_ms"):
                assert told[name] == getattr(site.totals, name), (site.slug, name)
    assert found == {}
    assert canonical(json.loads(payload)) == payload


def test_the_evidence_names_who_corrected_what_and_the_polls(made: Any):
    evidence = json.loads(made[0])["evidence"]
    kinds = {one["type"] for one in evidence}
    assert kinds == {"report", "signing_key", "segment", "interval", "outage"}
    (corrected,) = [one for one in evidence if any(f["is_correction"] for f in one.get("findings", ()))]
    assert corrected["findings"][-1] | {"at": ""} == {
        "cause": "workload",
        "charged_to": "operator",
        "is_correction": True,
        "by": "job:test",
        "at": "",
        "reason": "the till froze it",
        "proof": {},
    }
    vectors = {one["name"]: one for one in json.loads(made[0])["vectors"]}
    shop = vectors["shops nord availability shop"]
    assert shop["exclusions"] == [[1793707200, 1793714400.001, "cause: workload"]]
    assert shop["calendar"]["holidays"] == ["2026-11-11"]
    assert vectors["shops nord availability late"]["window"] == [1794355200, 1796083200]


def test_one_changed_byte_is_noticed(made: Any, tmp_path: Path, capsys: Any):
    sealed = bytearray(made[1])
    inner = base64.b64decode(json.loads(made[1])["payload"])
    for at in (sealed.index(b'"payload":"') + 40, len(sealed) - 20):
        changed = bytearray(sealed)
        changed[at] = ord("A") if changed[at] != ord("A") else ord("B")
        path = tmp_path / "changed.json"
        path.write_bytes(changed)
        assert main([str(path)]) == 2
    value = json.loads(made[1])
    value["payload"] = base64.b64encode(inner.replace(b'"state":"down"', b'"state":"up"  ', 1)).decode()
    path.write_bytes(json.dumps(value).encode())
    assert main([str(path)]) == 2
    assert "the signature does not fit" in capsys.readouterr().err


# The verifier as one file -----------------------------------------------------------------------------------
def test_the_verifier_holds_exactly_what_it_needs_and_is_the_same_each_time():
    zipapp.verifier.cache_clear()
    first = zipapp.verifier()
    zipapp.verifier.cache_clear()
    assert zipapp.verifier() == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        names = {name.removeprefix("slas/").removesuffix(".py") for name in archive.namelist()}
    assert names == {*zipapp.MODULES, "__main__", "__init__"}
    root = Path(zipapp.__file__).parents[2]
    offline = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = [one["source_modules"] for one in offline if one["name"].startswith("The SLA engine and its verif")]
    assert {f"slas.{name}" for name in zipapp.MODULES} <= set(listed)


def test_it_verifies_in_an_empty_environment(made: Any, tmp_path: Path):
    """With tzdata and cryptography alone, and unchecked without the latter."""
    app, bundle = tmp_path / zipapp.NAME, tmp_path / "bundle.json"
    app.write_bytes(zipapp.verifier())
    bundle.write_bytes(made[1])
    venv.create(tmp_path / "empty", with_pip=False, symlinks=True)
    python = tmp_path / "empty/bin/python"
    (packages,) = (tmp_path / "empty/lib").glob("python*/site-packages")

    def run(*arguments: str) -> tuple[int, str]:
        environ = {"PYTHONTZPATH": ""}  # the zones of tzdata, not the system's
        done = subprocess.run(
            [python, "-I", app, bundle, *arguments], capture_output=True, text=True, env=environ, check=False
        )
        assert len(done.stdout.splitlines()) == 4 or done.returncode == 2, done.stderr
        return done.returncode, done.stderr.splitlines()[0]

    link_package(packages, "tzdata")
    key = made[2]
    fingerprint = sha256(key.bundle_key).hexdigest()
    assert run() == (3, f"signature: unchecked, key sha256:{fingerprint}")
    for name in ("cryptography", "cffi", "pycparser"):
        link_package(packages, name)
    assert run("--key", fingerprint) == (0, f"signature: valid, key sha256:{fingerprint}")
    bundle.write_bytes(made[1].replace(b'"sig":"', b'"sig":"AA', 1))
    assert run()[0] == 2


def link_package(packages: Path, name: str) -> None:
    """Put what a distribution installed at its top into another environment."""
    found = distribution(name)
    for top in {file.parts[0] for file in found.files or () if ".." not in file.parts}:
        (packages / top).symlink_to(found.locate_file(top))
