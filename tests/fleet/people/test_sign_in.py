"""Signing in and out, through the real pages: cookies, fixation, redirects, and guesses that are throttled."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from fleet.kit.models import AuditEntry
from fleet.people.adapter import KNOWN_COOKIE
from fleet.people.models import User
from tests.conftest import PASSWORD
from tests.database import OWNER

LOGIN = "/accounts/login/"
WRONG = b"The username and/or password you specified are not correct."
THROTTLED = b"Too many failed login attempts. Try again later."


def sign_in(client: Client, username: str = "ada", password: str = PASSWORD, **more: Any) -> Any:
    headers = more.pop("headers", {})
    query = more.pop("query", "")
    return client.post(LOGIN + query, {"login": username, "password": password}, headers=headers, **more)


@pytest.fixture
def ada(make_person: Any) -> User:
    return make_person("viewer", username="ada")


# In and out -------------------------------------------------------------------------------------------------
def test_signing_in_leads_to_the_overview_and_out_to_the_sign_in(ada):
    client = Client(enforce_csrf_checks=True)
    page = client.get(LOGIN)
    assert page.status_code == 200
    assert b'name="password"' in page.content
    token = client.cookies["__Host-csrf"].value
    response = client.post(LOGIN, {"login": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token})
    assert (response.status_code, response["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    token = client.cookies["__Host-csrf"].value
    response = client.post("/accounts/logout/", {"csrfmiddlewaretoken": token})
    assert (response.status_code, response["Location"]) == (302, LOGIN)
    assert client.get("/").status_code == 302


def test_a_visit_signs_nobody_out(ada):
    client = Client()
    client.force_login(ada)
    assert client.get("/accounts/logout/").status_code == 200
    assert client.get("/").status_code == 200


def test_cookies_are_bound_to_the_host_and_hidden_from_scripts(ada):
    client = Client()
    client.get(LOGIN)
    response = sign_in(client)
    assert set(response.cookies) >= {"__Host-session", "__Host-csrf", KNOWN_COOKIE}
    for name in ("__Host-session", "__Host-csrf", KNOWN_COOKIE):
        cookie = response.cookies[name]
        found = {key: cookie[key] for key in ("secure", "httponly", "samesite", "path", "domain")}
        assert found == {"secure": True, "httponly": True, "samesite": "Lax", "path": "/", "domain": ""}, name
    assert response.cookies["__Host-session"]["max-age"] in {"", 12 * 3600}


def test_a_session_key_from_before_is_not_kept(ada):
    """Fixation: whoever planted a session key before the sign-in does not hold it afterwards."""
    attacker = Client()
    planted = attacker.session
    planted["mine"] = "planted"
    planted.save()
    victim = Client()
    victim.cookies["__Host-session"] = planted.session_key
    sign_in(victim)
    assert victim.cookies["__Host-session"].value != planted.session_key
    attacker.cookies["__Host-session"] = planted.session_key
    assert attacker.get("/").status_code == 302


def test_signing_out_ends_the_session_on_the_server(ada):
    client, copy = Client(), Client()
    sign_in(client)
    copy.cookies["__Host-session"] = client.cookies["__Host-session"].value
    assert copy.get("/").status_code == 200
    client.post("/accounts/logout/")
    assert copy.get("/").status_code == 302


@pytest.mark.parametrize(
    "target",
    [
        *("https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example", "javascript:alert(1)"),
        *("http:evil.example", "\thttps://evil.example", "https://testserver@evil.example/", "data:text/html,x"),
    ],
)
def test_the_way_after_signing_in_leads_nowhere_else(ada, target):
    response = sign_in(Client(), query=f"?next={quote(target)}")
    assert (response.status_code, response["Location"]) == (302, "/")
    response = Client().post(LOGIN, {"login": "ada", "password": PASSWORD, "next": target})
    assert (response.status_code, response["Location"]) == (302, "/")


def test_the_way_after_signing_in_leads_back(ada):
    assert sign_in(Client(), query="?next=/sites/%3Fstate%3Ddown")["Location"] == "/sites/?state=down"


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ada", "wrong"),
        ("ada", ""),
        ("", PASSWORD),
        ("nobody", PASSWORD),
        ("ada", PASSWORD.upper()),
        ("ada\x00", PASSWORD),
    ],
)
def test_wrong_credentials_open_nothing(ada, username, password):
    client = Client()
    response = sign_in(client, username, password)
    assert response.status_code == 200
    assert client.get("/").status_code == 302


def test_a_wrong_password_and_an_unknown_name_read_the_same(ada):
    pages = [sign_in(Client(), name, "wrong-wrong-wrong").content for name in ("ada", "nobody")]
    assert all(WRONG in page for page in pages)
    own = re.compile(rb'value="(ada|nobody|[A-Za-z0-9]{64})"')
    assert own.sub(b"", pages[0]) == own.sub(b"", pages[1])


def test_somebody_inactive_gets_nowhere(ada):
    User.objects.update(is_active=False)
    client = Client()
    sign_in(client)
    assert client.get("/").status_code == 302


def test_an_inactive_user_loses_the_open_session(ada):
    client = Client()
    sign_in(client)
    assert client.get("/").status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/").status_code == 302
    assert client.get("/api/v1/summary").status_code == 401


def test_a_session_lasts_half_a_day():
    assert settings.SESSION_COOKIE_AGE == 12 * 3600


# Passwords --------------------------------------------------------------------------------------------------
NEW = "an-altogether-new-one"


def test_a_password_is_changed_by_whoever_knows_the_old_one(ada):
    client, elsewhere = Client(), Client()
    sign_in(client)
    sign_in(elsewhere)
    form = {"oldpassword": "wrong", "password1": NEW, "password2": NEW}
    assert client.post("/accounts/password/change/", form).status_code == 200
    assert sign_in(Client(), "ada").status_code == 302
    response = client.post("/accounts/password/change/", {**form, "oldpassword": PASSWORD})
    assert response.status_code == 302
    assert client.get("/").status_code == 200
    # Sessions that were opened with the old one are over.
    assert elsewhere.get("/").status_code == 302
    assert WRONG in sign_in(Client(), "ada", PASSWORD).content
    assert sign_in(Client(), "ada", NEW).status_code == 302


@pytest.mark.parametrize("role", ["viewer", "provider_viewer"])
def test_changing_a_password_is_audited(make_person, make_provider, role):
    provider = make_provider() if role.startswith("provider") else None
    make_person(role, username="eve", provider=provider)
    client = Client()
    sign_in(client, "eve")
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW})
    entry = AuditEntry.objects.using(OWNER).get(action="user.password")
    assert (entry.actor, entry.object_name, entry.address) == ("eve", "eve", "127.0.0.1")
    assert entry.provider_id == (provider.pk if provider else None)
    assert (entry.before, entry.after) == (None, None)


@pytest.mark.parametrize("password", ["short", "password123456", "ada-ada-ada", "123456789012"])
def test_weak_passwords_are_refused(ada, password):
    User.objects.filter(pk=ada.pk).update(username="ada-ada-ada")
    client = Client()
    sign_in(client, "ada-ada-ada")
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": password, "password2": password})
    assert User.objects.get().check_password(PASSWORD)


def test_production_hashes_passwords_slowly():
    from django.conf import global_settings

    import fleet.settings

    assert not hasattr(fleet.settings, "PASSWORD_HASHERS")
    assert global_settings.PASSWORD_HASHERS[0].endswith("PBKDF2PasswordHasher")


# Guessing (row 30 of the matrix, short form) ------------------------------------------------------------------
def guess(times: int, *, username: str = "ada", client: Client | None = None, **more: Any) -> list[bool]:
    """Whether each of so many wrong guesses was looked at."""
    client = client or Client()
    pages = [sign_in(client, username, f"guess-number-{number}", **more).content for number in range(times)]
    assert all((WRONG in page) != (THROTTLED in page) for page in pages)
    return [WRONG in page for page in pages]


def test_five_wrong_guesses_are_looked_at_and_no_more(ada):
    assert guess(50) == [True] * 5 + [False] * 45
    # Not even the right one is, from where the guesses came.
    assert THROTTLED in sign_in(Client()).content


def test_ten_guesses_a_minute_at_whatever_names_come_from_an_address(ada):
    looked_at = [guess(1, username=f"name-{number}")[0] for number in range(15)]
    assert looked_at == [True] * 10 + [False] * 5


def test_a_user_elsewhere_still_gets_in(ada):
    guess(20)
    assert sign_in(Client(REMOTE_ADDR="192.0.2.7")).status_code == 302


def test_a_user_in_a_known_browser_still_gets_in_even_from_the_same_address(ada):
    mine = Client()
    assert sign_in(mine).status_code == 302
    mine.post("/accounts/logout/")
    guess(20)
    assert sign_in(mine).status_code == 302


def test_a_known_browser_is_throttled_too(ada):
    mine = Client()
    sign_in(mine)
    mine.post("/accounts/logout/")
    assert guess(15, client=mine) == [True] * 10 + [False] * 5


def test_a_browser_is_known_for_its_own_user_only(ada, make_person):
    make_person("viewer", username="eve")
    eves = Client()
    sign_in(eves, "eve")
    eves.post("/accounts/logout/")
    assert guess(7, client=eves) == [True] * 5 + [False] * 2


@pytest.mark.parametrize("forged", ["x", "", "ada", '["ada", "x"]', "WyJhZGEiLCJ4Il0:1abc:forged", "W10:1abc:x"])
def test_a_forged_cookie_makes_no_browser_known(ada, forged):
    client = Client()
    client.cookies[KNOWN_COOKIE] = forged
    assert guess(7, client=client) == [True] * 5 + [False] * 2


def test_forwarded_addresses_are_ignored_unless_a_proxy_is_configured(ada):
    looked_at = [
        guess(1, headers={name: f"192.0.2.{number}"})[0]
        for number, name in enumerate(
            ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "Client-IP"] * 3
        )
    ]
    assert looked_at == [True] * 5 + [False] * 10


def test_behind_a_proxy_the_last_forwarded_address_counts(ada, settings):
    settings.TRUST_PROXY = True
    lies = [guess(1, headers={"X-Forwarded-For": f"203.0.113.{number}, 192.0.2.1"})[0] for number in range(8)]
    assert lies == [True] * 5 + [False] * 3
    assert guess(1, headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}) == [True]


def test_right_passwords_use_nothing_up(ada):
    for _ in range(30):
        assert sign_in(Client()).status_code == 302


def test_the_counts_survive_a_lost_redis_and_are_not_pushed_out_by_others(ada):
    from django.core.cache.backends.db import DatabaseCache

    assert isinstance(cache._connections["default"], DatabaseCache)  # type: ignore[attr-defined]
    guess(5)
    for number in range(600):
        cache.set(f"other-{number}", number, 60)
    assert guess(1) == [False]
