"""Webhooks before a real browser, with the real worker and a real receiver: from the form to a message that arrived."""

import base64
import hashlib
import hmac
from collections.abc import Iterator

import pytest
from django.db import connections
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import look_at
from tests.database import truncate
from tests.fleet.rollouts.receiver import Receiver, one_webhook, receiving

pytestmark = pytest.mark.browser


def _forget() -> None:
    truncate("rollouts_webhookendpoint, rollouts_webhookdelivery")


@pytest.fixture
def receiver(stage: Stage) -> Iterator[Receiver]:
    """A receiver, and the process that sends to it."""
    stage.start_worker("worker")
    with receiving() as found:
        yield found
    stage.end("worker")
    stage.ask(_forget)


@pytest.fixture
def kept(stage: Stage) -> Iterator[None]:
    """A webhook with a message that was given up, one that fails, and one that is off."""

    def make() -> None:
        for name in ("operations room", "pipeline", "tickets"):
            one_webhook(name)
        with connections["owner"].cursor() as cursor:
            cursor.execute("UPDATE rollouts_webhookendpoint SET failing_since = now() - interval '1 h' WHERE id = 2")
            cursor.execute(
                "UPDATE rollouts_webhookendpoint SET is_active = false, off_reason = 'The receiver answered 410: it"
                " wants no more messages.', kinds = '[\"rollout.started\"]' WHERE id = 3"
            )
            cursor.execute(
                "UPDATE rollouts_webhookdelivery SET problem = 'It did not answer within 10 s.', attempts = 13,"
                " tried_at = now(), latency_ms = 10001, answer = '<b>busy</b>'"
            )

    stage.ask(make)
    yield
    stage.ask(_forget)


PAGES = ("/webhooks/", "/webhooks/new/", "/webhooks/1/", "/webhooks/2/", "/webhooks/3/", "/webhooks/3/edit/")
PAGES += ("/webhooks/1/messages/1/",)


@pytest.mark.usefixtures("kept")
@LOOKS
def test_axe_finds_nothing_serious_and_phones_need_not_scroll_sideways(sign_in: SignIn, theme: str, width: int) -> None:
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, *PAGES)


def test_from_the_form_to_a_message_that_arrived(receiver: Receiver, sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("summary[aria-label='Your account']").click()
    page.get_by_role("link", name="Webhooks").click()
    page.get_by_role("link", name="New webhook").click()
    page.locator("#id_name").fill("operations room")
    page.locator("#id_url").fill(receiver.url)
    page.locator("input[value='rollout.wave.opened']").check()
    page.locator("#save-webhook").click()
    secret = page.locator("#webhook-secret").input_value()
    page.locator("#to-webhook").click()
    receiver.answer(500, b"not today")
    page.locator("#send-test").click()
    row = page.locator("#webhook-live tbody tr").first
    expect(row).to_contain_text("500")
    expect(row).to_contain_text("Waiting")
    expect(page.locator(".notice")).to_contain_text("Nothing has got through since")
    row.get_by_role("button").click()
    expect(page.locator("#webhook-live tbody tr").first).to_contain_text("Delivered")
    _, headers, body = receiver.got[-1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert len(set(receiver.ids())) == 1

    page.locator("#rotate").click()
    assert page.locator("#webhook-secret").input_value() != secret
    page.locator("#to-webhook").click()
    expect(page.locator("#webhook-live")).to_contain_text("Messages carry two signatures")
    page.locator("#switch-off").click()
    expect(page.locator("#webhook-live")).to_contain_text("Switched off by admin.")
    page.locator("#switch-on").click()
    expect(page.locator("#send-test")).to_be_visible()
    page.locator("#remove").click()
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
