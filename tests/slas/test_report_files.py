"""Signed files of reports: made by a worker, signed by the signer from its own reading of the row, checked offline."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import pem, x509
from django.db import IntegrityError, ProgrammingError, transaction
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from fleet.kit import signing
from fleet.kit.errors import Conflict
from fleet.kit.signing import SignerRefused
from fleet.kit.tenancy import scope
from slas.exports import files, zipapp
from slas.models import Report, ReportFile
from slas.selectors.report_files import file_to_sign, get_file
from slas.services import report_files
from slas.services.report_files import make_files, want_files
from slas.services.report_making import make_wanted
from slas.states import FileKind
from slas.verify import main
from tests.database import OWNER, rows, value
from tests.slas.factories import TEST
from tests.slas.signing import environment, signer_of_files, signer_process
from tests.slas.test_month import empty_python
from tests.slas.test_reports import ask, promised  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("plain_static", "database")
NOWHERE = Path("/nowhere/signer.sock")


@pytest.fixture
def report(promised: Any, settings: Any) -> Report:  # noqa: F811
    """Made, of two providers; its four files are not, and no signer answers."""
    settings.SIGNER_SOCKET = NOWHERE
    made = ask()
    make_wanted()
    return made


@pytest.fixture
def made(report: Report, tmp_path: Path) -> Report:
    """The same with its files."""
    with signer_of_files(tmp_path):
        assert make_files() == 4
    return report


def all_files() -> list[ReportFile]:
    with scope(TEST):
        return list(ReportFile.objects.select_related("provider").order_by("provider__slug", "-kind"))


def due_now() -> None:
    rows("UPDATE slas_reportfile SET due_at = now() WHERE due_at IS NOT NULL", using=OWNER)


def row_of(report: Report, provider: str, kind: str) -> ReportFile:
    with scope(TEST):
        return get_file(report, 1, provider, kind)


def checked(content: bytes, root: str) -> Any:
    trusted = ValidationContext(
        trust_roots=[x509.Certificate.load(pem.unarmor(root.encode())[2])], allow_fetching=False
    )
    (signature,) = PdfFileReader(BytesIO(content)).embedded_signatures
    return validate_pdf_signature(signature, trusted)


# By the process that it is in production -----------------------------------------------------------------------
def test_every_part_is_signed_by_the_signers_process_and_checked_outside(report, settings, tmp_path):
    with signer_process(tmp_path) as settings.SIGNER_SOCKET:
        assert make_files() == 4
        assert make_files() == 0
        keys = signing.report_keys()
    found = all_files()
    assert [(row.provider.slug, row.kind) for row in found] == [
        ("bad", "pdf"),
        ("bad", "bundle"),
        ("good", "pdf"),
        ("good", "bundle"),
    ]
    for row in found:
        content = files.file_of(row)
        assert (row.sha256, row.size_bytes) == (sha256(content).hexdigest(), len(content))
        assert (row.due_at, row.problem) == (None, "")
    bad = files.file_of(row_of(report, "bad", "pdf"))
    status = checked(bad, keys.root)
    assert (status.bottom_line, status.intact, status.coverage.name) == (True, True, "ENTIRE_FILE")
    for at in (bad.index(b"endstream") - 20, len(bad) // 2):
        changed = bad[:at] + bytes([bad[at] ^ 1]) + bad[at + 1 :]
        assert not checked(changed, keys.root).intact

    key = sha256(keys.bundle_key).hexdigest()
    (tmp_path / zipapp.NAME).write_bytes(zipapp.verifier())
    (tmp_path / "bundle.json").write_bytes(files.file_of(row_of(report, "bad", "bundle")))
    command = [empty_python(tmp_path / "empty"), "-I", tmp_path / zipapp.NAME, tmp_path / "bundle.json", "--key", key]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONTZPATH": ""}, check=False)
    assert (done.returncode, done.stderr) == (0, f"signature: valid, key sha256:{key}\n")
    (vector,) = map(json.loads, done.stdout.splitlines())
    assert (vector["name"], vector["ok"], vector["down_ms"]) == (
        "shops bad availability bad-site",
        True,
        15 * 3_600_000,
    )


def test_a_changed_byte_of_a_bundle_is_noticed(made, tmp_path, capsys):
    content = files.file_of(row_of(made, "bad", "bundle"))
    at = content.index(b'"payload":"') + 400
    (tmp_path / "changed.json").write_bytes(content[:at] + (b"A" if content[at] != 65 else b"B") + content[at + 1 :])
    assert main([str(tmp_path / "changed.json")]) == 2
    capsys.readouterr()


def test_a_bundle_holds_its_provider_alone(made):
    for own, other in (("bad", "good"), ("good", "bad")):
        payload = bytes(row_of(made, own, "bundle").content or b"")
        assert f"{own}-site".encode() in payload
        assert f"{other}-site".encode() not in payload
        told = json.loads(payload)
        assert {one["provider"] for one in told["evidence"] if "provider" in one} == {own}
        assert {one["type"] for one in told["evidence"]} >= {"report", "signing_key", "segment", "interval"}


# The signer's own look ------------------------------------------------------------------------------------------
def test_the_signer_signs_no_row_twice_and_none_that_has_nothing(report, tmp_path):
    with signer_of_files(tmp_path):
        with pytest.raises(SignerRefused) as refused:
            signing.sign_report(all_files()[0].pk)
        assert (refused.value.code, refused.value.message) == ("conflict", "there is nothing to be signed yet")
        make_files()
        for row in all_files():
            with pytest.raises(SignerRefused, match="signed already"):
                signing.sign_report(row.pk)
        with pytest.raises(SignerRefused) as refused:
            signing.sign_report(10**6)
        assert refused.value.code == "not_found"


@pytest.mark.parametrize("at", [5, -5])
def test_a_pdf_that_was_changed_since_its_attributes_were_made_is_not_signed(report, tmp_path, at):
    with signer_of_files(tmp_path):
        (row, *_) = all_files()
        report_files._prepare(row.pk, signing.report_keys())
        (content,) = rows("SELECT content FROM slas_reportfile WHERE id = %s", [row.pk], using=OWNER)[0]
        changed = bytearray(content)
        changed[at] ^= 1
        rows("UPDATE slas_reportfile SET content = %s WHERE id = %s", [bytes(changed), row.pk], using=OWNER)
        with pytest.raises(SignerRefused, match="of another file"):
            signing.sign_report(row.pk)


def test_what_is_signed_stays_as_it_is(made):
    for column, told in (("content", b"other"), ("sha256", "0" * 64), ("made_at", None), ("problem", "x")):
        with pytest.raises(IntegrityError, match="stays as it is"), scope(TEST), transaction.atomic():
            ReportFile.objects.update(**{column: told})


def test_a_file_that_is_damaged_where_it_is_kept_is_not_given_out(made):
    rows("ALTER TABLE slas_reportfile DISABLE TRIGGER USER", using=OWNER)
    rows("UPDATE slas_reportfile SET content = overlay(content placing 'x' from 9)", using=OWNER)
    rows("ALTER TABLE slas_reportfile ENABLE TRIGGER USER", using=OWNER)
    for row in all_files():
        with pytest.raises(Conflict, match="damaged"):
            files.file_of(row)


# Away, killed, too large ----------------------------------------------------------------------------------------
def test_while_the_signer_is_away_it_says_so_and_is_made_when_it_is_back(report, signed_in, tmp_path):
    client = signed_in("viewer")
    page = f"/slas/reports/{report.pk}/"
    assert client.get(page).content.count(b"Being made") == 4
    assert make_files() == 4
    assert make_files() == 0  # not before its time
    assert client.get(page).content.count(b"It waits for the signer, and is tried again") == 4
    for row in all_files():
        assert row.due_at is not None
    due_now()
    with signer_of_files(tmp_path):
        assert make_files() == 4
    content = client.get(page).content
    assert (content.count(b"It waits for"), content.count(b"Being made")) == (0, 0)
    assert all(row.made_at for row in all_files())


def test_a_signer_that_ends_between_two_questions_costs_a_later_round(report, tmp_path):
    """It answers which keys there are, and then no more."""
    with signer_of_files(tmp_path):
        keys = signing.report_keys()
    for row in all_files():
        assert report_files.make_file(row.pk, keys)
    assert all("waits for the signer" in row.problem for row in all_files())
    kept = {row.pk: bytes(row.content or b"") for row in all_files()}
    assert all(kept.values())
    due_now()
    with signer_of_files(tmp_path):
        make_files()
    assert {row.pk: bytes(row.content or b"") for row in all_files()} == kept


def test_a_signer_with_other_keys_gets_another_file_to_sign(report, tmp_path):
    with signer_of_files(tmp_path):
        keys = signing.report_keys()
    for row in all_files():
        report_files._prepare(row.pk, keys)
    (tmp_path / "other").mkdir()
    with signer_of_files(tmp_path / "other"):
        for row in all_files():
            report_files.make_file(row.pk, keys)
        assert all("other keys" in row.problem for row in all_files())
        due_now()
        make_files()
        root = signing.report_keys().root
    assert checked(files.file_of(row_of(report, "bad", "pdf")), root).bottom_line


KILLED = "import django; django.setup(); from slas.services.report_files import make_files; make_files()"


def test_a_worker_that_is_killed_while_it_waits_for_the_signer_is_no_loss(report, tmp_path):
    """A process is killed with SIGKILL when it has asked; the next one goes on with what is kept."""
    keys_answered = threading.Event()
    with signer_of_files(tmp_path) as real:
        with _Between(tmp_path / "b.sock", real, keys_answered) as between:
            environ = environment() | {"ARCHIPELAGO_SIGNER_SOCKET": str(between)}
            environ["DJANGO_SETTINGS_MODULE"] = "fleet.settings"
            worker = subprocess.Popen([sys.executable, "-c", KILLED], env=environ)
            assert keys_answered.wait(60)
            worker.send_signal(signal.SIGKILL)
            assert worker.wait() == -signal.SIGKILL
        first = next(row for row in all_files() if row.content is not None)
        assert (first.made_at, first.problem) == (None, "")
        assert make_files() == 3  # it is held for a while
        due_now()
        assert make_files() == 1
    again = next(row for row in all_files() if row.pk == first.pk)
    assert again.made_at is not None
    assert bytes(again.content or b"") == bytes(first.content or b"")


class _Between:
    """Hands the first question on to the signer, and leaves the second one without an answer."""

    def __init__(self, path: Path, to: Path, asked_again: threading.Event) -> None:
        self._path, self._to, self._asked_again = path, to, asked_again
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Path:
        self._socket.bind(os.fspath(self._path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self._path

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        caller, _ = self._socket.accept()
        with caller, socket.socket(socket.AF_UNIX) as signer:
            signer.connect(os.fspath(self._to))
            signer.sendall(caller.recv(1 << 16))
            with signer.makefile("rb") as lines:
                caller.sendall(lines.readline())
        caller, _ = self._socket.accept()
        with caller:
            caller.recv(1 << 16)
            self._asked_again.set()
            caller.recv(1)  # until it is gone


def test_what_cannot_be_made_is_tried_again_and_holds_up_no_other(report, tmp_path, monkeypatch):
    with signer_of_files(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(report_files, "evidence_of", _broken)
            make_files()
        assert [(row.kind, bool(row.made_at), row.problem[:21]) for row in all_files()] == [
            ("pdf", True, ""),
            ("bundle", False, "It could not be made;"),
        ] * 2
        due_now()
        make_files()
    assert all(row.made_at for row in all_files())


def _broken(*_: Any) -> Any:
    raise RuntimeError("odd")


@pytest.mark.parametrize(("most", "said"), [(2_000, "It comes to 0 MiB"), (128, "It comes to over 1 facts")])
def test_what_is_too_large_says_so_and_is_not_tried_again(report, tmp_path, monkeypatch, most, said):
    monkeypatch.setattr(files, "MOST_BYTES", most)
    with signer_of_files(tmp_path):
        make_files()
        due_now()
        assert make_files() == 0
    for row in all_files():
        assert row.problem.endswith("MiB at most: have reports made of shorter times.")
        assert row.made_at is None
        if row.kind == FileKind.BUNDLE:
            assert row.problem.startswith(said)


def test_a_bundle_that_says_other_than_the_revision_is_none(report, tmp_path):
    """What was recorded before, and committed after the revision was made, is in the next revision's."""
    rows(
        "UPDATE slas_reportline SET data = jsonb_set(data, '{totals,down_ms}', '1')"
        " WHERE kind = 'places' AND slug = 'bad-site'",
        using=OWNER,
    )
    with signer_of_files(tmp_path):
        make_files()
    found = {(row.provider.slug, row.kind): row for row in all_files()}
    assert "the next revision has its bundle" in found["bad", "bundle"].problem
    assert found["bad", "bundle"].due_at is None
    assert found["good", "bundle"].made_at


def test_revisions_of_before_get_theirs_too(report):
    rows("DELETE FROM slas_reportfile", using=OWNER)
    assert want_files() == 4
    assert want_files() == 0
    assert value("SELECT count(*) FROM slas_reportfile WHERE due_at IS NOT NULL", using=OWNER) == 4


# Downloads ------------------------------------------------------------------------------------------------------
def test_they_are_downloaded_from_the_page_with_what_checks_them(made, signed_in):
    client = signed_in("viewer")
    content = client.get(f"/slas/reports/{made.pk}/").content.decode()
    for row in all_files():
        name = "report.pdf" if row.kind == "pdf" else "bundle.json"
        address = f"/slas/reports/{made.pk}/revisions/1/{row.provider.slug}/{name}"
        assert f'href="{address}"' in content
        assert row.sha256 in content
        response = client.get(address)
        assert sha256(response.content).hexdigest() == row.sha256
        assert response["Content-Disposition"].startswith('attachment; filename="shops-')
        assert response["Cache-Control"] == "private, no-store"
        prints = files.fingerprints_of(row)
        assert prints.root in content
        assert prints.key in content
    root = client.get(f"/slas/reports/{made.pk}/revisions/1/bad/root.pem").content.decode()
    assert files.root_sha256(root) == files.fingerprints_of(all_files()[0]).root
    assert client.get("/slas/reports/slas-verify.pyz").content == zipapp.verifier()
    for odd in ("revisions/2/bad/report.pdf", "revisions/0/bad/report.pdf", "revisions/1/nobody/bundle.json"):
        assert client.get(f"/slas/reports/{made.pk}/{odd}").status_code == 404


def test_they_are_downloaded_over_the_api(report, api_client, tmp_path):
    client = api_client("viewer")
    at = f"/api/v1/reports/{report.pk}/revisions/1"
    response = client.get(f"{at}/files/bad/pdf")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    (file, _) = client.get(at).json()["parts"][0]["files"]
    assert (file["kind"], file["state"], file["making"], file["sha256"]) == ("pdf", "making", True, "")
    make_files()
    (file, _) = client.get(at).json()["parts"][0]["files"]
    assert (file["state"], file["making"]) == ("problem", True)
    assert file["problem"] in client.get(f"{at}/files/bad/pdf").json()["error"]["message"]
    due_now()
    with signer_of_files(tmp_path):
        make_files()
    for part in client.get(at).json()["parts"]:
        assert [(one["kind"], one["state"]) for one in part["files"]] == [("pdf", "ready"), ("bundle", "ready")]
        for one in part["files"]:
            content = client.get(f"{at}/files/{part['provider']}/{one['kind']}").content
            assert (sha256(content).hexdigest(), len(content)) == (one["sha256"], one["size_bytes"])
            assert len(one["root_sha256"]) == 64
    assert client.get(f"{at}/files/bad/exe").status_code == 404
    assert client.get("/api/v1/reports/verifier").content == zipapp.verifier()


def test_a_provider_gets_its_own_and_no_other(made, promised, signed_in, api_client):  # noqa: F811
    client, program = (make("provider_viewer", provider=promised[1]) for make in (signed_in, api_client))
    page, at = f"/slas/reports/{made.pk}", f"/api/v1/reports/{made.pk}/revisions/1"
    assert all_files()[0].sha256 not in client.get(f"{page}/").content.decode()
    for provider, told in (("good", 200), ("bad", 404)):
        for name in ("report.pdf", "bundle.json", "root.pem"):
            assert client.get(f"{page}/revisions/1/{provider}/{name}").status_code == told
        for kind in FileKind:
            assert program.get(f"{at}/files/{provider}/{kind}").status_code == told
    assert [part["provider"] for part in program.get(at).json()["parts"]] == ["good"]


def test_who_sees_no_report_gets_no_file(made, signed_in, api_client, make_provider):
    outsiders: list[dict[str, Any]] = [
        {"role": "provider_operator", "provider": make_provider("other")},
        {"role": "manager", "regions": ["DACH"]},
        {"role": "operator", "labels": {"tier": "1"}},
    ]
    for number, member in enumerate(outsiders):
        role = member.pop("role")
        client = signed_in(role, username=f"out-{number}", **member)
        program = api_client(role, username=f"programs-{number}", **member)
        for name in ("report.pdf", "bundle.json", "root.pem"):
            assert client.get(f"/slas/reports/{made.pk}/revisions/1/bad/{name}").status_code == 404
        assert program.get(f"/api/v1/reports/{made.pk}/revisions/1/files/bad/pdf").status_code == 404


def test_nothing_is_read_for_the_signer_without_a_scope(made, access, promised):  # noqa: F811
    with pytest.raises(ProgrammingError, match="permission denied"):
        file_to_sign(all_files()[0].pk)
    who, _ = access("provider_operator", provider=promised[1])
    with scope(who):
        assert {row.provider_id for row in ReportFile.objects.all()} == {promised[1].pk}
