"""The screens of what sites are told to run: the card, the history, the form, JSON, the preview, freezes."""

import html
import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from agent.protocol.desired import decode_config
from sites.models import Blob, DesiredDocument
from tests.database import OWNER
from tests.sites.told import IMAGE, WORKLOADS, document, receipt, standing

pytestmark = pytest.mark.usefixtures("plain_static")
APPLY = "/sites/oslo/desired/apply/"


def text_of(response: Any) -> str:
    """What a page says, without markup and doubled blanks."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())))


def fields(**values: Any) -> dict[str, Any]:
    """The form with one workload, as a browser sends it."""
    sent = {"w-TOTAL_FORMS": "1", "w-INITIAL_FORMS": "0", "w-0-name": "pos", "w-0-image": IMAGE, "w-0-version": "4.2.1"}
    sent |= {"w-0-network": "bridge", "w-0-settle_s": "3", "reboot": "never", "reason": "new tills", "expect": "0"}
    return sent | {"do": "preview"} | values


@pytest.fixture
def oslo(make_site: Any) -> Any:
    return make_site("oslo", name="Oslo Shop", life="active")


def apply_preview(client: Any, page: Any) -> Any:
    """Press the preview's button."""
    sent = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode()))
    sent = {name: html.unescape(value) for name, value in sent.items()}
    return client.post(APPLY, sent | {"do": "apply"})


def test_the_card_of_a_site_that_was_told_nothing(oslo, signed_in):
    shown = text_of(signed_in("admin").get("/sites/oslo/desired/card/"))
    assert "Never told" in shown
    assert "Apply a document" in shown
    assert "Freeze" not in shown
    assert "Apply a document" not in text_of(signed_in("operator").get("/sites/oslo/desired/card/"))


@pytest.mark.parametrize(
    ("values", "label", "more"),
    [
        ({"answer": "accepted"}, "Accepted", ""),
        ({"answer": "refused", "answer_reason": "equivocation"}, "Refused", "Find out who signed it"),
        ({"reported_epoch": 1, "reported_version": 1, "reported_state": "applied"}, "Applied", ""),
        (
            {"reported_epoch": 1, "reported_version": 1, "reported_state": "applying", "done": 2, "total": 7},
            "Applying",
            "2 of 7 steps",
        ),
        (
            {"reported_epoch": 1, "reported_version": 1, "reported_state": "rolled_back"}
            | {"reported_detail": "<b>no</b>"},
            "Rolled back",
            "<b>no</b>",
        ),
        ({"reported_epoch": 1, "reported_version": 4, "reported_state": "applied"}, "Being handed over", "1.4, given"),
        ({"recovering": True}, "Recovering", "until it has told its counters"),
        (
            {"recovering": True, "answer_reason": "counters", "answer_detail": "it shows <b>no</b> receipt"},
            "Recovering",
            "What it tells is not believed: it shows <b>no</b> receipt.",
        ),
    ],
)  # fmt: skip
def test_the_card_says_what_became_of_it(oslo, signed_in, values, label, more):
    document(oslo)
    standing(oslo, **values)
    response = signed_in("operator").get("/sites/oslo/desired/card/")
    assert label in text_of(response)
    assert more in text_of(response)
    assert b"<b>no</b>" not in response.content
    assert ("Freeze…" in text_of(response)) == ("recovering" not in values and values.get("reported_version") != 4)


def test_freeze_and_thaw_by_their_buttons(oslo, signed_in):
    document(oslo)
    standing(oslo, reported_epoch=1, reported_version=1, reported_state="applied")
    client = signed_in("operator")
    assert client.post("/sites/oslo/desired/freeze/", {"reason": "storm"}).status_code == 302
    assert DesiredDocument.objects.using(OWNER).latest("pk").hold
    assert "Frozen" in text_of(client.get("/sites/oslo/desired/card/"))
    DesiredDocument.objects.using(OWNER).filter(envelope=None).update(refused="no")
    assert client.post("/sites/oslo/desired/thaw/", {"reason": "calm"}).status_code == 302
    assert not DesiredDocument.objects.using(OWNER).latest("pk").hold


def test_the_history_says_who_why_what_changed_and_the_evidence(oslo, signed_in):
    document(oslo, 1, reason="first tills", made_by="nina")
    document(oslo, 2, {"workloads": [{**WORKLOADS[0], "version": "4.2.1"}]}, reason="patch", made_by="ole")
    document(oslo, 3, {"workloads": [{**WORKLOADS[0], "version": "4.2.1"}]}, reason="storm", hold=True)
    row = receipt(oslo, 1, detail="all well")
    shown = text_of(signed_in("viewer").get("/sites/oslo/desired/"))
    assert "patch · ole" in shown
    assert "pos: 4.2.0 → 4.2.1" in shown
    assert "pos: new, at 4.2.0" in shown
    assert "Freezes the site." in shown
    assert "1.1 applied" in shown
    page = signed_in("viewer").get("/sites/oslo/desired/").content.decode()
    assert f"/api/v1/sites/oslo/desired/receipts/{row.pk}/envelope" in page
    assert "/api/v1/sites/oslo/desired/documents/1.2/envelope" in page


def test_long_histories_are_read_page_by_page(oslo, signed_in):
    for version in range(1, 24):
        document(oslo, version)
    client = signed_in("viewer")
    first = client.get("/sites/oslo/desired/")
    assert first.content.count(b'<li id="v1.') == 20
    rest = client.get(f"/sites/oslo/desired/?before={first.context['next']}")
    assert re.findall(r'<li id="v1\.(\d+)"', rest.content.decode()) == ["3", "2", "1"]
    for nonsense in ("x", "-1", "9" * 30, "²"):
        assert client.get(f"/sites/oslo/desired/?before={nonsense}").status_code == 200


# The form ---------------------------------------------------------------------------------------------------
def test_from_the_form_over_the_preview_to_a_version(oslo, signed_in):
    client = signed_in("admin")
    values = {"w-0-env": "TZ=Europe/Oslo\nMODE=a=b", "w-0-ports": "8080:80\n127.0.0.1:53:53/udp"}
    values |= {"w-0-mounts": "data:/var/lib/pos\n/srv/x:/x:ro", "w-0-command": "pos\n--fast", "w-0-mem_mib": "512"}
    values |= {"w-0-health_command": "pos\nhealth", "packages": "curl=8.5.0-2", "kernel": "6.8.0-51-generic"}
    preview = client.post(APPLY, fields(**values))
    assert preview.status_code == 200
    shown = text_of(preview)
    for words in ("pos: new, at 4.2.1", "Nothing else changes.", "The site starts 1 container.", "version 1.1"):
        assert words in shown
    assert not DesiredDocument.objects.using(OWNER).exists()
    assert not Blob.objects.using(OWNER).exists()
    done = apply_preview(client, preview)
    assert (done.status_code, done["Location"]) == (302, "/sites/oslo/desired/")
    row = DesiredDocument.objects.using(OWNER).get()
    (workload,) = row.content["workloads"]
    assert (row.reason, workload["limits"]["mem_bytes"]) == ("new tills", 512 << 20)
    assert row.content["os"] == {"packages": {"curl": "8.5.0-2"}, "kernel": "6.8.0-51-generic", "reboot": "never"}
    config = decode_config(bytes(Blob.objects.using(OWNER).get(digest=workload["config_sha256"]).body))
    assert config.env == {"TZ": "Europe/Oslo", "MODE": "a=b"}
    assert [(port.address, port.host, port.protocol) for port in config.ports] == [
        ("", 8080, "tcp"),
        ("127.0.0.1", 53, "udp"),
    ]
    assert [(one.volume, one.folder, one.read_only) for one in config.mounts] == [
        ("data", None, False),
        (None, "/srv/x", True),
    ]
    assert config.command == ("pos", "--fast")


def test_the_form_begins_from_what_the_site_has_and_changes_nothing_by_itself(oslo, signed_in):
    client = signed_in("admin")
    text = json.dumps(
        {
            "workloads": [{**WORKLOADS[0], "config": {"env": {"A": "1"}, "ports": [{"host": 80, "container": 8080}]}}],
            "os": {"packages": {"curl": "8"}, "reboot": "window"},
        }
    )
    made = client.post(APPLY, {"text": text, "reason": "first", "expect": "0", "do": "apply"})
    assert made.status_code == 302
    DesiredDocument.objects.using(OWNER).update(refused="")
    page = client.get(APPLY)
    sent = {"reason": "once more", "expect": "1", "do": "preview"}
    for form in (*page.context["workloads"], page.context["workloads"].management_form, page.context["machine"]):
        sent |= {form.add_prefix(name): form[name].value() for name in form.fields if name != "wheel"}
    sent = {name: value for name, value in sent.items() if value not in (None, False)}
    sent["w-0-env"], sent["w-0-ports"], sent["packages"] = "A=1", "80:8080", "curl=8"
    for name in ("w-0-command", "w-0-mounts", "w-0-health_command"):
        sent[name] = ""
    assert "Nothing changes" in text_of(client.post(APPLY, sent))


def test_a_version_in_words(oslo, signed_in):
    document(oslo)
    preview = signed_in("admin").post(APPLY, fields(expect="1"))
    shown = text_of(preview)
    assert "pos: 4.2.0 → 4.2.1" in shown
    assert "Nothing else changes. The site restarts 1 container." in shown
    assert "version 1.2" in shown


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"w-0-image": "pos:latest"}, "an image is named with its digest"),
        ({"w-0-ports": "eighty"}, "“eighty” is no port"),
        ({"w-0-mounts": "data"}, "“data” is no mount"),
        ({"w-0-env": "A B=1"}, "no variable of an environment"),
        ({"w-0-env": "novalue"}, "has no ="),
        ({"packages": "bad name=1"}, "no package and version"),
        ({"w-0-name": ""}, "This field is required"),
        ({"reason": ""}, "This field is required"),
        ({"w-TOTAL_FORMS": "x"}, "ManagementForm"),
        ({"w-0-cpus": "9999"}, "Expected `float` <= 1024"),
    ],
)
def test_what_is_wrong_is_said_in_the_form(oslo, signed_in, values, said):
    response = signed_in("admin").post(APPLY, fields(**values))
    assert response.status_code == 422
    assert said in text_of(response)
    assert not Blob.objects.using(OWNER).exists()


def test_workloads_are_added_and_taken_out_without_a_script(oslo, signed_in):
    client = signed_in("admin")
    added = client.post(APPLY, fields(do="add"))
    assert (added.status_code, added.content.count(b"Take out")) == (200, 2)
    preview = client.post(APPLY, fields(**{"w-0-DELETE": "on"}))
    assert preview.status_code == 200
    document(oslo)
    preview = client.post(APPLY, fields(**{"w-0-DELETE": "on", "expect": "1"}))
    assert "The site stops and removes 1 container." in text_of(preview)


def test_a_wheel_comes_with_the_form(oslo, signed_in):
    wheel = SimpleUploadedFile("archipelago_agent-1.4.0-py3-none-any.whl", b"PK wheel")
    preview = signed_in("admin").post(APPLY, fields(wheel=wheel))
    assert "agent: as it is → 1.4.0" in text_of(preview)
    assert bytes(Blob.objects.using(OWNER).get().body) == b"PK wheel"
    wrong = signed_in("admin").post(APPLY, fields(wheel=SimpleUploadedFile("x.whl", b"no")))
    assert "This is no wheel" in text_of(wrong)


# JSON -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, column 2"),
        ('{"workloads": 1}', "workloads : Expected `array`"),
        ('{"workloads": [{"name": "pos", "image": "x"}]}', "workloads[0].image : an image is named"),
        ('{"workloads": [], "workloads": []}', "workloads : it is there twice"),
        ('{"standard": {"id": 1}}', "standard : Expected `null`"),
        ('{"nothing": 1}', "unknown field `nothing`"),
        ("[" * 100_000, "nested too deeply"),
        ('{"os": {"packages": {"a": NaN}}}', "NaN is no number"),
    ],
)
def test_what_is_wrong_with_the_text_is_said_with_its_place(oslo, signed_in, text, said):
    response = signed_in("admin").post(APPLY, {"text": text, "reason": "because", "expect": "0", "do": "preview"})
    assert response.status_code == 422
    assert said in text_of(response)


def test_form_and_text_take_along_what_was_typed(oslo, signed_in):
    client = signed_in("admin")
    as_text = client.post(APPLY, fields(do="json", **{"w-0-env": "A=1"}))
    assert as_text.status_code == 200
    draft = json.loads(as_text.context["text"])
    assert draft["workloads"][0]["config"]["env"] == {"A": "1"}
    as_form = client.post(APPLY, {"text": as_text.context["text"], "reason": "r", "expect": "0", "do": "form"})
    assert as_form.context["workloads"].forms[0]["env"].value() == "A=1"
    assert b"A=1</textarea>" in as_form.content


def test_somebody_was_faster(oslo, signed_in):
    client = signed_in("admin")
    preview = client.post(APPLY, fields())
    document(oslo)
    refused = apply_preview(client, preview)
    assert refused.status_code == 409
    assert "Nothing was given out. Somebody else" in text_of(refused)
    assert DesiredDocument.objects.using(OWNER).count() == 1
    assert not Blob.objects.using(OWNER).exists()
    assert "Another version was given out since you began" in text_of(client.post(APPLY, fields()))


def test_after_an_undone_version_the_form_begins_from_the_one_before(oslo, signed_in):
    document(oslo, 1)
    receipt(oslo, 1)
    document(oslo, 2, {"workloads": [{**WORKLOADS[0], "version": "bad"}]})
    standing(oslo, reported_epoch=1, reported_version=2, reported_state="rolled_back")
    page = signed_in("admin").get(APPLY)
    assert "Begins from version 1.1, which the site ran before" in text_of(page)
    assert page.context["workloads"].forms[0]["version"].value() == "4.2.0"


# After a restore --------------------------------------------------------------------------------------------
def test_the_banner_the_list_and_the_entry_count_those_who_have_told(oslo, make_site, signed_in):
    document(oslo)
    other = make_site("bergen", name="Bergen Shop", life="active")
    standing(other, recovering=True, tries=3)
    client = signed_in("viewer")
    for path in ("/sites/", "/"):
        assert "1 of 2 sites has told its counters" in text_of(client.get(path))
    assert "1 of 2 sites have told their counters" in text_of(client.get("/overview/attention/"))
    shown = text_of(client.get("/sites/recovery/"))
    assert "Bergen Shop" in shown
    assert "3 times, in vain" in shown
    assert "Oslo Shop" not in shown
    standing(other, answer_reason="counters", answer_detail="it shows no receipt")
    assert "Not believed: it shows no receipt" in text_of(client.get("/sites/recovery/"))
    standing(other, recovering=False)
    assert "counters" not in text_of(client.get("/sites/"))
    assert "No site recovers" in text_of(client.get("/sites/recovery/"))
