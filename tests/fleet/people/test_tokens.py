"""API tokens: shown once, kept as a digest, good until they end."""

import io
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from fleet.kit.errors import Invalid
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from fleet.people.models import ApiToken
from fleet.people.selectors import live_token, token_digest
from fleet.people.services import mint_token, note_use
from tests.conftest import TEST
from tests.database import OWNER, rows, tables

SHAPE = re.compile(r"arch_[A-Za-z0-9_-]{43}")


def call(token: str) -> int:
    client = Client(headers={"authorization": f"Bearer {token}"})
    response = client.get("/api/v1/summary")
    if response.status_code == 401:
        assert response.json()["error"]["code"] == "unauthenticated"
    return response.status_code


@pytest.fixture
def token(make_person):
    """A live token of a viewer, as its text and its row."""
    text = mint_token(actor=TEST, user=make_person("viewer", username="ada"), now=timezone.now())
    return text, ApiToken.objects.get()


def test_the_text_of_a_token_is_stored_nowhere(token):
    text, row = token
    assert SHAPE.fullmatch(text)
    assert row.digest == token_digest(text)
    assert row.digest != text
    secret = text.removeprefix("arch_")[5:]
    for table in tables():
        found = rows(f"SELECT t::text FROM {table} t", using=OWNER)
        assert not [line for (line,) in found if secret in line], table


def test_a_digest_needs_the_secret_key(settings):
    before = token_digest("arch_x")
    settings.SECRET_KEY = "another" * 8
    assert token_digest("arch_x") != before


def test_a_live_token_opens_the_api_and_its_use_is_noted(token):
    text, row = token
    assert row.last_used_at is None
    assert call(text) == 200
    row.refresh_from_db()
    assert (timezone.now() - row.last_used_at).total_seconds() < 60


def test_its_use_is_noted_once_a_minute(token):
    _, row = token
    first = timezone.now()
    for after_s, noted_s in ((0, 0), (59, 0), (61, 61)):
        note_use(ApiToken.objects.get(), now=first + timedelta(seconds=after_s))
        row.refresh_from_db()
        assert row.last_used_at == first + timedelta(seconds=noted_s)


@pytest.mark.parametrize(
    "wrong",
    [
        *("", " ", "arch_", "arch_" + "x" * 43, "x" * 100_000, "\u00e9", "' OR 1=1 --"),
        *("null", "%00", "Bearer"),
    ],
)
def test_a_guessed_token_is_refused(token, wrong):
    assert call(wrong) == 401


def test_a_token_is_good_until_it_expires(token):
    text, row = token
    assert row.expires_at - row.created_at == pytest.approx(timedelta(days=90), abs=timedelta(minutes=1))
    assert live_token(text, now=row.expires_at - timedelta(seconds=1)) == row
    assert live_token(text, now=row.expires_at) is None
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert call(text) == 401


def test_a_revoked_token_is_refused(token):
    text, _ = token
    ApiToken.objects.update(revoked_at=timezone.now())
    assert call(text) == 401


def test_the_token_of_somebody_inactive_or_gone_is_refused(token):
    text, row = token
    row.user.is_active = False
    row.user.save(update_fields=["is_active"])
    assert call(text) == 401
    row.user.is_active = True
    row.user.save(update_fields=["is_active"])
    assert call(text) == 200
    with scope(TEST):
        row.user.delete()
    assert call(text) == 401


def test_a_bad_token_is_refused_even_with_a_good_session(make_person, token):
    client = Client(headers={"authorization": "Bearer arch_wrong"})
    client.force_login(make_person("admin"))
    assert client.get("/api/v1/summary").status_code == 401
    assert client.get("/api/v1/summary", headers={"authorization": ""}).status_code == 200


@pytest.mark.parametrize("kind", ["Basic", "Token", "", "Bearer\t"])
def test_only_bearer_tokens_are_taken(token, kind):
    text, _ = token
    client = Client(headers={"authorization": f"{kind} {text}".strip()})
    assert client.get("/api/v1/summary").status_code == 401


def test_the_scheme_may_be_written_in_any_case(token):
    text, _ = token
    assert Client(headers={"authorization": f"bearer {text}"}).get("/api/v1/summary").status_code == 200


def test_a_token_opens_no_page(token):
    text, _ = token
    for path in ("/", "/sites/", "/map.json", "/api/docs"):
        assert Client(headers={"authorization": f"Bearer {text}"}).get(path).status_code == 302


def test_a_token_in_the_address_opens_nothing(token):
    text, _ = token
    for name in ("token", "access_token", "api_key", "authorization", "__Host-session"):
        assert Client().get("/api/v1/summary", {name: text}).status_code == 401


@pytest.mark.parametrize("days", [0, -1, 91, 3650])
def test_a_token_lives_ninety_days_at_most(make_person, days):
    with pytest.raises(Invalid):
        mint_token(actor=TEST, user=make_person("viewer"), now=timezone.now(), days=days)
    assert not ApiToken.objects.exists()


def test_minting_is_audited_without_the_text(token):
    text, row = token
    entry = AuditEntry.objects.using(OWNER).get(action="token.create")
    assert (entry.actor, entry.object_type, entry.object_id) == ("job:test", "token", str(row.pk))
    assert entry.object_name == f"{text[:10]}… of ada"
    assert entry.after == {"expires_at": row.expires_at.isoformat()}


# manage.py api_token ----------------------------------------------------------------------------------------
def printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command("api_token", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_prints_the_token_and_nothing_else(make_person):
    make_person("viewer", username="ada")
    out = printed("ada")
    assert SHAPE.fullmatch(out.removesuffix("\n"))
    assert out.count("\n") == 1
    assert call(out.strip()) == 200


def test_each_call_of_the_command_prints_another(make_person):
    make_person("viewer", username="ada")
    assert printed("ada") != printed("ada", "--days", "1")
    days = sorted(round((row.expires_at - row.created_at) / timedelta(days=1)) for row in ApiToken.objects.all())
    assert days == [1, 90]


@pytest.mark.parametrize("arguments", [("nobody",), (), ("ada", "--days", "91"), ("ada", "--days", "0")])
def test_the_command_refuses(make_person, arguments):
    make_person("viewer", username="ada")
    with pytest.raises(CommandError):
        printed(*arguments)
    assert not ApiToken.objects.exists()
