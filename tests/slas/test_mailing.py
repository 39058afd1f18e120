"""Reports by e-mail: what is written, sent over a real SMTP server, refused, tried again, and what a kill costs."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.message import Message
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import openpyxl
import pytest
from django.db import connections

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import scope
from slas.mails import AddressError, address_of, next_try
from slas.models import MailDelivery, MailSchedule, Report
from slas.selectors.mailing import get_schedule, mails_of, schedules_in
from slas.services.mail_log import MAILER, claim, record_told
from slas.services.mail_log import Told as Tried
from slas.services.mailing import delete_schedule, save_schedule, send_again, switch_schedule
from slas.services.posting import send_due
from slas.services.report_files import make_files
from slas.services.report_making import keep_reports, make_wanted
from tests.database import OWNER, rows, value
from tests.slas.factories import TEST, states
from tests.slas.signing import signer_of_files
from tests.slas.smtp import Server, smtp_server
from tests.slas.test_reports import LAST, ask, at, derive, promised  # noqa: F401  (a fixture)

BOSS = {"user": "boss", "address": "boss@merrow.example"}
DESK = {"provider": "bad", "name": "Duty desk", "address": "desk@bad.example"}
GOOD = {"provider": "good", "address": "desk@good.example"}


@pytest.fixture
def smtp(settings: Any) -> Any:
    with smtp_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", server.port, False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        settings.DASHBOARD_URL = "https://fleet.example.com"
        settings.DEFAULT_FROM_EMAIL = "Archipelago <reports@fleet.example.com>"
        yield server


@pytest.fixture
def worker_environ() -> dict[str, str]:
    """What a process needs to work on the database of the tests."""
    environ = dict(os.environ) | {"DJANGO_SETTINGS_MODULE": "fleet.settings"}
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL"):
        path = "/" + str(connections["default"].settings_dict["NAME"])
        environ[name] = urlsplit(environ[name])._replace(path=path).geturl()
    return environ


@pytest.fixture
def boss(make_person: Any, promised: Any, access: Any) -> Any:  # noqa: F811
    make_person("manager", username="boss")
    return access("manager")


def schedule(who: Any, *recipients: Any, row: Any = None, **values: Any) -> MailSchedule:
    given = {"contract": "shops", "each": "month", "lives": ["final", "restated"], "recipients": recipients, **values}
    return save_schedule(actor=who[0], rights=who[1], values=given, schedule=row)


def settle() -> None:
    """Make what is wanted; its signed documents never come, and no mail waits for them."""
    make_wanted()
    rows("UPDATE slas_reportfile SET due_at = NULL", using=OWNER)


def make() -> Report:
    report = ask()
    settle()
    return report


def log() -> list[tuple[str, str, int]]:
    with scope(TEST):
        return list(MailDelivery.objects.order_by("id").values_list("address", "state", "attempts"))


def due_now() -> None:
    rows("UPDATE slas_maildelivery SET next_at = now() WHERE state = 'waiting'", using=OWNER)


def text_of(mail: Message) -> str:
    part = mail.get_body(("plain",))  # type: ignore[attr-defined]
    return str(part.get_content())


# Pure -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a@b", "@b.example", "a@b.example\nBcc: c@d.example", "a@b.example\r\nX: y", "a b@c.example"),
        *("a@b.example, c@d.example", "<a@b.example>", '"a b"@c.example', "a@-b.example", "a@b..example"),
        *("a@b.example\x00", ".a@b.example", "a..b@c.example", f"{'a' * 65}@b.example", f"a@{'b.' * 130}example"),
        *("a@b.example;c@d.example", "a@[127.0.0.1]", "a@b@c.example", "a@b.example\u2028x", "ä@b.example"),
    ],
)
def test_what_is_no_plain_address_is_refused(text):
    with pytest.raises(AddressError):
        address_of(text)


def test_an_address_is_kept_with_its_domain_in_lower_case():
    assert address_of(" Some.One+x@Example.COM ") == "Some.One+x@example.com"


def test_tries_are_ever_longer_apart_and_end():
    now = datetime(2026, 11, 1, tzinfo=UTC)
    end = now + timedelta(days=3)
    waits = [(next_try(now, tries, 0.5, end) or end) - now for tries in (1, 2, 3, 20)]
    assert waits == [timedelta(seconds=seconds) for seconds in (60, 180, 540, 14400)]
    assert next_try(end, 1, 0.5, end) is None


# Sent -------------------------------------------------------------------------------------------------------
def test_everybody_gets_one_mail_and_a_provider_its_own_part(boss, smtp: Server):
    schedule(boss, BOSS, DESK, GOOD)
    report = make()
    assert send_due() == 3
    assert send_due() == 0
    assert [state for _, state, _ in log()] == ["sent"] * 3
    whole, bad, good = (smtp.of(one)[0] for one in ("boss@merrow.example", "desk@bad.example", "desk@good.example"))
    assert len(smtp.taken) == 3
    assert "Missed" in str(whole["Subject"])
    assert whole["From"] == "Archipelago <reports@fleet.example.com>"
    assert whole["To"] == "boss@merrow.example"
    text = text_of(whole)
    assert "1 of 2 promises were kept, 1 missed." in text
    assert f"https://fleet.example.com/slas/reports/{report.pk}/?revision=1" in text
    assert "What changed" not in text
    assert "Bad Hosting: Missed" in text
    assert "Bad Hosting" in text_of(bad)
    for word in ("Bad Hosting", "bad-site"):
        assert word not in good.as_string()
    files = {part.get_filename(): part for part in good.iter_attachments()}  # type: ignore[attr-defined]
    assert list(files) == [f"shops-{LAST}-r1.xlsx"]
    book = openpyxl.load_workbook(BytesIO(files[f"shops-{LAST}-r1.xlsx"].get_content()))
    assert {row[2].value for row in book["Sites"].iter_rows(min_row=2)} == {"good-site"}


def test_a_mail_waits_for_the_signed_documents_that_are_being_made_and_takes_them_along(boss, smtp: Server, tmp_path):
    schedule(boss, BOSS, DESK)
    ask()
    make_wanted()
    assert send_due() == 0
    with signer_of_files(tmp_path):
        make_files()
    assert send_due() == 2
    names = {
        to: [part.get_filename() for part in smtp.of(to)[0].iter_attachments()]  # type: ignore[attr-defined]
        for to in ("boss@merrow.example", "desk@bad.example")
    }
    book = f"shops-{LAST}-r1.xlsx"
    bad, good = (f"shops-{slug}-{LAST}-r1.pdf" for slug in ("bad", "good"))
    assert names == {"boss@merrow.example": [book, bad, good], "desk@bad.example": [book, bad]}
    (kept,) = rows("SELECT sha256 FROM slas_reportfile WHERE kind = 'pdf' ORDER BY id LIMIT 1", using=OWNER)[0]
    sent = {sha256(part.get_content()).hexdigest() for part in smtp.of("desk@bad.example")[0].iter_attachments()}  # type: ignore[attr-defined]
    assert kept in sent


def test_a_mail_waits_for_them_no_longer_than_ten_minutes(boss, smtp: Server):
    schedule(boss, DESK)
    ask()
    make_wanted()
    assert send_due() == 0
    rows("UPDATE slas_maildelivery SET made_at = now() - interval '11 min'", using=OWNER)
    assert send_due() == 1


def test_a_restated_one_says_what_changed(boss, smtp, promised, make_site):  # noqa: F811
    schedule(boss, BOSS, GOOD)
    make()
    send_due()
    with scope(TEST):
        from sites.models import Site

        site = Site.objects.get(slug="bad-site")
    states(site, "availability", (at(1), "up"), (at(3), "down"), (at(3, 16), "up"))
    derive()
    rows("UPDATE slas_report SET due_at = now()", using=OWNER)
    assert keep_reports() == 1
    settle()
    assert send_due() == 2
    first, second = smtp.of("boss@merrow.example")
    assert "(restated)" in str(second["Subject"])
    assert "What changed since the revision before" in text_of(second)
    assert "down +3,600 s" in text_of(second)
    assert first["Message-ID"] != second["Message-ID"]
    assert "No figure differs" in text_of(smtp.of("desk@good.example")[1])


def test_only_what_is_wanted_is_mailed(boss, promised, settings, smtp):  # noqa: F811
    schedule(boss, BOSS, lives=["restated"])
    schedule(boss, GOOD, lives=["final"], contract="", provider="good")
    schedule(boss, DESK, provider="bad", each="quarter")
    make()
    assert [address for address, *_ in log()] == ["desk@good.example"]
    settings.REPORT_GRACE_H = 8000
    rows("UPDATE slas_report SET state = 'provisional'", using=OWNER)
    ask()
    settle()
    assert len(log()) == 1


def test_a_quarter_is_made_for_who_has_it_mailed(boss, promised, smtp):  # noqa: F811
    keep_reports()
    assert value("SELECT count(*) FROM slas_report WHERE period LIKE '%%-Q%%'", using=OWNER) == 0
    schedule(boss, BOSS, each="quarter", lives=["provisional", "final"])
    # The contract must have begun within the last whole quarter for there to be one.
    rows("UPDATE slas_segment SET begins = begins - interval '120 days'", using=OWNER)
    keep_reports()
    assert value("SELECT count(*) FROM slas_report WHERE period LIKE '%%-Q%%'", using=OWNER) == 1
    while settle():
        pass
    with scope(TEST):
        assert {one.revision.report.period[4:6] for one in MailDelivery.objects.all()} == {"-Q"}


# What goes wrong --------------------------------------------------------------------------------------------
def test_a_server_that_is_away_is_tried_again_and_ends_the_pass(boss, smtp, settings):
    schedule(boss, BOSS, DESK)
    make()
    settings.EMAIL_PORT = 1
    assert send_due() == 1
    assert sorted(log()) == [("boss@merrow.example", "waiting", 1), ("desk@bad.example", "waiting", 0)]
    assert "cannot be reached" in value("SELECT problem FROM slas_maildelivery WHERE attempts = 1", using=OWNER)
    settings.EMAIL_PORT = smtp.port
    due_now()
    send_due()
    assert [state for _, state, _ in log()] == ["sent", "sent"]
    assert len(smtp.taken) == 2


def test_it_is_given_up_in_the_end(boss, smtp, settings):
    schedule(boss, BOSS)
    make()
    settings.EMAIL_PORT = 1
    rows("UPDATE slas_maildelivery SET made_at = now() - interval '4 days', give_up_at = now()", using=OWNER)
    send_due()
    assert [state for _, state, _ in log()] == ["given_up"]


def test_a_refused_recipient_is_not_tried_again_and_holds_up_nobody(boss, smtp: Server):
    smtp.refuses = lambda to: "550 no such mailbox" if to.startswith("desk") else ""
    schedule(boss, DESK, BOSS)
    make()
    assert send_due() == 2
    assert log() == [("desk@bad.example", "refused", 1), ("boss@merrow.example", "sent", 1)]
    assert "550 no such mailbox" in value("SELECT problem FROM slas_maildelivery WHERE state = 'refused'", using=OWNER)
    smtp.refuses = lambda to: "451 try later"
    with scope(TEST):
        row = MailSchedule.objects.get()
    send_again(actor=boss[0], rights=boss[1], schedule=row)
    send_due()
    assert {state for _, state, _ in log()} == {"waiting"}


def test_a_mail_that_the_server_refuses_is_final(boss, smtp: Server):
    smtp.after_data = lambda: "554 too large"
    schedule(boss, BOSS)
    make()
    send_due()
    assert [state for _, state, _ in log()] == ["refused"]


KILLED = """
import django; django.setup()
from slas.services.posting import send_due
send_due()
"""


def test_a_killed_worker_loses_none_and_doubles_only_what_the_server_had(boss, smtp: Server, worker_environ):
    schedule(boss, BOSS, DESK, GOOD)
    make()
    has_it, go_on = threading.Event(), threading.Event()

    def hang() -> str:
        if len(smtp.taken) == 2:
            has_it.set()
            go_on.wait(60)
        return "250 taken"

    smtp.after_data = hang
    environ = worker_environ | {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(smtp.port), "SMTP_TLS": "none"}
    environ["MAIL_FROM"] = "Archipelago <reports@fleet.example.com>"
    worker = subprocess.Popen([sys.executable, "-c", KILLED], env=environ)
    assert has_it.wait(60)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    go_on.set()
    assert [state for _, state, _ in log()] == ["sent", "waiting", "waiting"]
    send_due()
    assert [state for _, state, _ in log()] == ["sent", "waiting", "waiting"]  # its lease lasts
    rows("UPDATE slas_maildelivery SET leased_until = now()", using=OWNER)
    send_due()
    assert [state for _, state, _ in log()] == ["sent"] * 3
    assert [to for to, _ in smtp.taken].count("boss@merrow.example") == 1
    assert [to for to, _ in smtp.taken].count("desk@good.example") == 1
    once, twice = smtp.of("desk@bad.example")
    assert once["Message-ID"] == twice["Message-ID"]


def test_a_late_sender_writes_nothing(boss, smtp):
    schedule(boss, BOSS)
    make()
    sending = claim()
    assert sending is not None
    rows("UPDATE slas_maildelivery SET leased_until = now()", using=OWNER)
    assert send_due() == 1
    assert not record_told(sending, Tried(problem="too late"))
    assert log() == [("boss@merrow.example", "sent", 2)]


def test_one_sends_at_a_time_so_that_a_server_that_hangs_takes_one_worker(boss, smtp):
    schedule(boss, BOSS, DESK)
    make()
    first = claim()
    assert first is not None
    assert claim() is None
    assert send_due() == 0
    assert record_told(first, Tried(is_sent=True))
    second = claim()
    assert second is not None
    assert (first.address, second.address) == ("boss@merrow.example", "desk@bad.example")


# Who may, and who may not any more --------------------------------------------------------------------------
def test_whoever_lost_the_right_gets_none(boss, smtp):
    schedule(boss, BOSS, DESK)
    make()
    rows("DELETE FROM people_membership USING people_user u WHERE user_id = u.id AND username = 'boss'", using=OWNER)
    send_due()
    assert [state for _, state, _ in log()] == ["cancelled", "sent"]
    assert [to for to, _ in smtp.taken] == ["desk@bad.example"]


@pytest.mark.parametrize("how", ["pause", "delete", "take off"])
def test_what_waits_is_cancelled(boss, smtp, how):
    row = schedule(boss, BOSS, DESK)
    make()
    who = {"actor": boss[0], "rights": boss[1], "schedule": row}
    if how == "pause":
        switch_schedule(**who, on=False)
    elif how == "delete":
        delete_schedule(**who)
    else:
        schedule(boss, DESK, row=row)
    send_due()
    assert [state for _, state, _ in log()] == ["cancelled", "sent" if how == "take off" else "cancelled"]


def test_the_last_one_is_sent_again(boss, smtp):
    row = schedule(boss, BOSS)
    who = {"actor": boss[0], "rights": boss[1], "schedule": row}
    with pytest.raises(Conflict, match="no report yet"):
        send_again(**who)
    make()
    send_due()
    schedule(boss, BOSS, GOOD, row=row)
    assert send_again(**who) == 2
    send_due()
    first, second = smtp.of("boss@merrow.example")
    assert first["Message-ID"] != second["Message-ID"]
    assert len(smtp.of("desk@good.example")) == 1
    switch_schedule(**who, on=False)
    with pytest.raises(Conflict, match="paused"):
        send_again(**who)
    actions = {name for (name,) in rows("SELECT DISTINCT action FROM kit_auditentry", using=OWNER)}
    assert {"report.schedule_new", "report.schedule", "report.mail_again"} <= actions


@pytest.mark.parametrize("role", ["viewer", "operator", "provider_operator", "manager of a provider"])
def test_who_may_not(boss, promised, access, role):  # noqa: F811
    row = schedule(boss, BOSS)
    if role.endswith("provider"):
        who = access("manager", provider=promised[0])
    else:
        who = access(role, provider=promised[0]) if role.startswith("provider") else access(role)
    acts: list[Any] = [
        lambda: schedule(who, BOSS),
        lambda: schedule(who, BOSS, row=row),
        lambda: switch_schedule(actor=who[0], rights=who[1], schedule=row, on=False),
        lambda: send_again(actor=who[0], rights=who[1], schedule=row),
        lambda: delete_schedule(actor=who[0], rights=who[1], schedule=row),
    ]
    for act in acts:
        with pytest.raises(NotAllowed):
            act()


def test_a_provider_sees_what_is_mailed_to_it_and_no_more(boss, promised, access, smtp):  # noqa: F811
    both, bad_only = schedule(boss, BOSS, DESK, GOOD), schedule(boss, DESK)
    make()
    good = access("provider_viewer", provider=promised[1])
    with scope(good[0]):
        (seen,) = schedules_in(*good)
        assert seen.pk == both.pk
        assert [one.address for one in seen.recipients.all()] == ["desk@good.example"]
        assert [one.address for one in mails_of(seen)] == ["desk@good.example"]
        with pytest.raises(NotFound):
            get_schedule(scope=good[0], rights=good[1], pk=bad_only.pk)
    viewer = access("viewer")
    with scope(viewer[0]), pytest.raises(NotAllowed):
        schedules_in(*viewer)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"contract": ""}, "contract"),
        ({"contract": "nowhere"}, "contract"),
        ({"provider": "nowhere"}, "provider"),
        ({"provider": "third"}, "provider"),
        ({"lives": []}, "lives"),
        ({"lives": ["final", "never"]}, "lives"),
        ({"each": "year"}, "each"),
        ({"recipients": []}, "recipients"),
        ({"recipients": [BOSS, BOSS]}, "recipients.1"),
        ({"recipients": [{"user": "nobody", "address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [{"user": "boss"}]}, "recipients.0"),
        ({"recipients": [{"user": "boss", "provider": "good", "address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [{"user": "hosted", "address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [{"address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [{"provider": "third", "address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [{"provider": "bad", "address": "a@b.example\nBcc: x@y.example"}]}, "recipients.0"),
        ({"recipients": [{"provider": "bad", "name": "a\x00b", "address": "a@b.example"}]}, "recipients.0"),
        ({"recipients": [GOOD], "provider": "bad"}, "recipients.0"),
    ],
)
def test_what_cannot_be_is_said_at_its_place(boss, promised, make_person, make_provider, values, where):  # noqa: F811
    make_provider("third")
    make_person("provider_viewer", username="hosted", provider=promised[0])
    with pytest.raises(Invalid) as refused:
        schedule(boss, *values.pop("recipients", [BOSS]), **values)
    assert list(refused.value.details or {}) == [where]
    assert value("SELECT count(*) FROM slas_mailschedule", using=OWNER) == 0


def test_a_providers_own_login_may_be_mailed_its_part(boss, promised, make_person, smtp):  # noqa: F811
    make_person("provider_viewer", username="hosted", provider=promised[1], email="hosted@good.example")
    schedule(boss, {"user": "hosted", "provider": "good"})
    make()
    send_due()
    (mail,) = smtp.of("hosted@good.example")
    assert "Bad Hosting" not in mail.as_string()


def test_a_contract_with_a_hostile_name_makes_one_header(boss, smtp):
    rows("UPDATE slas_contract SET name = E'Shops\\r\\nBcc: evil@x.example'", using=OWNER)
    schedule(boss, BOSS)
    make()
    send_due()
    (mail,) = smtp.of("boss@merrow.example")
    assert mail["Bcc"] is None
    assert "Bcc: evil@x.example" in str(mail["Subject"])


def test_without_a_server_mails_are_files(boss, settings, tmp_path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
    schedule(boss, BOSS)
    make()
    send_due()
    (file,) = (tmp_path / "mail").iterdir()
    assert b"To: boss@merrow.example" in file.read_bytes()
    assert MAILER.wide
