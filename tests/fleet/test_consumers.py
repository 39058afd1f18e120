"""The websocket, through the real application and the real channel layer: who gets in, what they hear, how it ends."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import OperationalError

from fleet import consumers
from fleet.consumers import LiveConsumer
from fleet.kit import live
from fleet.kit.live import Delta
from fleet.people.models import Membership, User
from sites.services.reports import record_reports
from tests.database import OWNER
from tests.sites.builders import polled
from tests.sockets import Page, headers_for, opened

QUIET_S = 0.4


async def publish(*deltas: Delta, hints: Any = ()) -> None:
    """As a poller does after its commit."""
    await database_sync_to_async(live.publish)(deltas, hints=hints)


def delta(site: Any, state: str = "down", since: int = 1_700_000_000) -> Delta:
    return Delta(site.pk, site.provider_id, state, "reachable", "unknown", since)


@pytest.fixture
def enter(signed_in: Any) -> Any:
    """The factory of signed-in clients, to be awaited."""
    return database_sync_to_async(signed_in)


@pytest.fixture
def fleet(make_provider: Callable[..., Any], make_site: Callable[..., Any]) -> dict[str, Any]:
    """Two providers; the first has sites in two regions."""
    ours, theirs = make_provider("ours"), make_provider("theirs")
    return {
        "ours": ours,
        "theirs": theirs,
        "south": make_site("south", ours, region="South", labels={"tier": "1"}),
        "north": make_site("north", ours, region="North"),
        "foreign": make_site("foreign", theirs, region="South"),
    }


# Who gets in ------------------------------------------------------------------------------------------------
async def refusal(headers: list[Any], path: str = "/ws/live/") -> tuple[list[str], int]:
    """Kinds of the messages before the close, and its code (0: not even accepted)."""
    page = Page(headers, path)
    if not await page.connect():
        return [], 0
    messages, code = await page.ending()
    return [message["t"] for message in messages], code


async def test_without_a_session_nothing_is_told_but_to_sign_in(database):
    assert await refusal(headers_for(None)) == (["bye"], 4401)


@pytest.mark.parametrize("cookie", ["forged", "x" * 3000, "", "' OR 1=1", "__Host-session=a; __Host-session=b"])
async def test_a_forged_session_is_none(database, cookie):
    headers = [*headers_for(None), (b"cookie", f"__Host-session={cookie}".encode())]
    assert await refusal(headers) == (["bye"], 4401)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "https://evil.example",
        "http://127.0.0.1.evil.example:8000",
        "http://evil.example/127.0.0.1:8000",
        "http://127.0.0.1:9999",
        "http://localhost:8000",
        "http://127.0.0.1:8000@evil.example",
        "127.0.0.1:8000",
        "",
        "file://",
    ],
)
async def test_a_foreign_origin_is_refused_even_with_a_session(enter, origin):
    assert await refusal(headers_for(await enter("viewer"), origin=origin)) == ([], 0)


async def test_a_foreign_host_name_is_refused_even_when_the_origin_agrees(enter):
    headers = headers_for(await enter("viewer"), origin="http://evil.example", host="evil.example")
    assert await refusal(headers) == ([], 0)


async def test_two_origins_are_none(enter):
    headers = [*headers_for(await enter("viewer")), (b"origin", b"https://evil.example")]
    assert await refusal(headers) == ([], 0)


@pytest.mark.parametrize("path", ["/ws/", "/ws/live", "/ws/live/x", "/", "/ws/fleet/", "/api/v1/sites"])
async def test_there_is_no_other_websocket(enter, path):
    assert await refusal(headers_for(await enter("admin")), path) == ([], 0)


async def test_somebody_inactive_or_without_a_membership_is_told_to_sign_in(enter):
    client = await enter("viewer", username="ada")
    await database_sync_to_async(Membership.objects.all().delete)()
    assert await refusal(headers_for(client)) == (["bye"], 4401)
    client = await enter("viewer", username="bob")
    await database_sync_to_async(User.objects.filter(username="bob").update)(is_active=False)
    assert await refusal(headers_for(client)) == (["bye"], 4401)


# What they hear ---------------------------------------------------------------------------------------------
HINTS = ("figures", "attention", "timeline")


async def test_a_viewer_of_the_fleet_hears_of_every_site(fleet, enter):
    async with opened(await enter("viewer")) as page:
        await publish(*(delta(fleet[name]) for name in ("south", "north", "foreign")))
        heard = await page.hear("d")
    ids = sorted(fleet[name].pk for name in ("south", "north", "foreign"))
    assert sorted(row[0] for row in heard["d"]) == ids
    assert heard["d"][0][1:] == ["down", "reachable", "unknown", 1_700_000_000]


@pytest.mark.parametrize("role", ["provider_viewer", "provider_operator", "viewer", "admin"])
async def test_a_viewer_of_a_provider_hears_of_its_own_sites_only(fleet, enter, role):
    async with opened(await enter(role, provider=fleet["ours"])) as page:
        await publish(
            *(delta(fleet[name]) for name in ("foreign", "south", "north")),
            hints=[(("site", fleet[name].pk), fleet[name].provider_id) for name in ("foreign", "south")]
            + [(("figures", 0), fleet["theirs"].pk), (("attention", 0), fleet["ours"].pk), (("timeline", 0), None)],
        )
        heard = [message for _, message in await page.hear_all()]
    assert [sorted(row[0] for row in message["d"]) for message in heard if message["t"] == "d"] == [
        sorted([fleet["south"].pk, fleet["north"].pk])
    ]
    assert [message["h"] for message in heard if message["t"] == "h"] == [
        [["site", fleet["south"].pk], ["attention", 0]]
    ]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({"regions": ["South"]}, ["foreign", "south"]),
        ({"regions": ["North"]}, ["north"]),
        ({"labels": {"tier": "1"}}, ["south"]),
        ({"regions": ["North"], "labels": {"tier": "1"}}, []),
        ({"provider": "ours", "regions": ["South"]}, ["south"]),
    ],
)
async def test_a_viewer_limited_by_region_or_label_hears_of_those_sites_only(fleet, enter, limits, names):
    limits = {**limits, "provider": fleet[limits["provider"]] if "provider" in limits else None}
    async with opened(await enter("viewer", **limits)) as page:
        sites = [fleet[name] for name in ("south", "north", "foreign")]
        await publish(*map(delta, sites), hints=[(("site", site.pk), site.provider_id) for site in sites])
        heard = [message for _, message in await page.hear_all()]
    expected = sorted(fleet[name].pk for name in names)
    assert sorted(row[0] for message in heard if message["t"] == "d" for row in message["d"]) == expected
    assert sorted(pk for message in heard if message["t"] == "h" for _, pk in message["h"]) == expected


async def test_a_provider_hears_at_once_of_a_site_that_is_new(fleet, enter, make_site):
    async with opened(await enter("provider_viewer", provider=fleet["ours"])) as page:
        new = await database_sync_to_async(make_site)("brand-new", fleet["ours"])
        await publish(delta(new))
        assert [row[0] for row in (await page.hear("d"))["d"]] == [new.pk]


async def test_a_poll_that_finds_a_change_reaches_the_page(fleet, enter):
    def poll(state: str) -> None:
        record_reports([polled(fleet["south"], state), polled(fleet["foreign"], state)], poller="test")

    async with opened(await enter("provider_viewer", provider=fleet["ours"])) as page:
        await database_sync_to_async(poll)("up")
        heard = await page.hear("d")
        assert [row[:3] for row in heard["d"]] == [[fleet["south"].pk, "up", "reachable"]]
        hints = [tuple(hint) for hint in (await page.hear("h"))["h"]]
        assert hints == [("site", fleet["south"].pk), *((topic, 0) for topic in HINTS)]


async def test_what_is_rolled_back_is_not_told(fleet, enter):
    def fail() -> None:
        from fleet.kit.tenancy import scope
        from tests.conftest import TEST

        with pytest.raises(ZeroDivisionError), scope(TEST):
            live.publish([delta(fleet["south"])])
            raise ZeroDivisionError

    async with opened(await enter("viewer")) as page:
        await database_sync_to_async(fail)()
        assert await page.hear_all() == []


# How often --------------------------------------------------------------------------------------------------
async def test_the_first_change_comes_at_once_and_then_four_times_a_second_at_most(fleet, enter):
    async with opened(await enter("viewer")) as page:
        came: list[tuple[float, Any]] = []
        listening = asyncio.create_task(page.listen(came))
        begun = time.monotonic()
        for number in range(100):
            site = fleet["south"] if number % 2 else fleet["north"]
            await publish(delta(site, since=number))
            await asyncio.sleep(0.015)
        async with asyncio.timeout(20):
            while not {(fleet["south"].pk, 99), (fleet["north"].pk, 98)} <= {
                (r[0], r[4]) for _, m in came for r in m["d"]
            }:
                await asyncio.sleep(0.05)
        lasted = time.monotonic() - begun
        listening.cancel()
    heard = [(at - begun, message["d"]) for at, message in came]
    assert heard[0][1] == [[fleet["north"].pk, "down", "reachable", "unknown", 0]]
    assert 3 <= len(heard) <= 2 + lasted / 0.25
    # The newest of each site, each once a message, and nothing is lost at the end.
    assert all(len({row[0] for row in rows}) == len(rows) for _, rows in heard)
    newest = {row[0]: row[4] for _, rows in heard for row in rows}
    assert newest == {fleet["south"].pk: 99, fleet["north"].pk: 98}


async def test_hints_are_said_once_a_message(fleet, enter):
    async with opened(await enter("viewer")) as page:
        await publish(hints=[(("figures", 0), None)])
        for _ in range(20):
            await publish(hints=[(("figures", 0), None), (("site", fleet["south"].pk), fleet["ours"].pk)])
        heard = [message["h"] for _, message in await page.hear_all(0.6)]
    assert heard[0] == [["figures", 0]]
    assert len(heard) <= 4
    assert all(sorted(hints) == [["figures", 0], ["site", fleet["south"].pk]] for hints in heard[1:])


async def test_a_heart_beats_with_the_servers_clock(fleet, enter, monkeypatch):
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    async with opened(await enter("viewer")) as page:
        beats = [(await page.hear("b"))["now"] for _ in range(4)]
    assert beats == sorted(beats)
    assert abs(beats[-1] / 1000 - time.time()) < 2


async def test_the_heart_beats_often_enough_for_the_page():
    assert consumers.HEARTBEAT_S == 2.0  # a page without a message for 5 s says that it is stale


# Abuse ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "frame",
    [{"text": "x" * 257}, {"text": "x" * 10_000_000}, {"data": b"x"}],
    ids=["257", "10 MB", "bytes"],
)
async def test_a_large_or_binary_frame_ends_the_connection(fleet, enter, frame):
    async with opened(await enter("viewer")) as page:
        await page.say(**frame)
        assert (await page.ending())[1] == 4408


async def test_pings_are_taken_and_a_flood_ends_the_connection(fleet, enter):
    async with opened(await enter("viewer")) as page:
        for _ in range(60):
            await page.say(text='{"t":"p"}')
        assert await page.hear_all(0.2) == []
        await page.say(text='{"t":"p"}')
        assert (await page.ending())[1] == 4408


async def test_a_thousand_frames_cost_one_close(fleet, enter):
    async with opened(await enter("viewer")) as page:
        for _ in range(1000):
            await page.say(text='{"group":"fleet"}')
        messages, code = await page.ending()
    assert code == 4408
    assert [message for message in messages if message["t"] != "b"] == []


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[" * 200, '{"join": "fleet"}', '{"type": "live.update", "deltas": []}']
)
async def test_nothing_that_a_browser_says_changes_what_it_hears(fleet, enter, text):
    async with opened(await enter("provider_viewer", provider=fleet["ours"])) as page:
        await page.say(text=text)
        await publish(delta(fleet["foreign"]))
        assert await page.hear_all() == []


# The end of a right -----------------------------------------------------------------------------------------
@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat and recheck in a moment rather than in a minute."""
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(consumers, "RECHECK_S", 0.1)


def test_rights_are_asked_again_every_minute():
    assert consumers.RECHECK_S <= 60


ENDS: dict[str, Callable[[User], object]] = {
    "membership gone": lambda user: user.memberships.all().delete(),
    "narrower": lambda user: user.memberships.update(regions=["South"]),
    "wider": lambda user: Membership.objects.create(user=user, role="viewer"),
    "inactive": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "password changed": lambda user: (user.set_password("another-long-secret"), user.save()),
}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("end", ENDS)
async def test_a_right_that_ends_closes_the_connection(fleet, enter, end):
    client = await enter("viewer", username="ada", provider=fleet["ours"])
    person = await database_sync_to_async(User.objects.get)(username="ada")
    async with opened(client) as page:
        await asyncio.sleep(0.3)
        assert await page.hear_all(0.1) == []
        await database_sync_to_async(ENDS[end])(person)
        messages, code = await page.ending()
        assert (messages[-1]["t"], code) == ("bye", 4401)
        await publish(delta(fleet["south"]))
        assert await page.app.receive_nothing(QUIET_S)


@pytest.mark.usefixtures("soon")
async def test_signing_out_closes_the_connection(fleet, enter):
    client = await enter("viewer")
    async with opened(client) as page:
        signed_out = await database_sync_to_async(client.post)("/accounts/logout/")
        assert signed_out.status_code == 302
        messages, code = await page.ending()
    assert (messages[-1]["t"], code) == ("bye", 4401)


@pytest.mark.usefixtures("soon")
async def test_a_limited_viewer_hears_of_a_site_that_came_into_its_reach(fleet, enter):
    from sites.models import Site

    async with opened(await enter("viewer", regions=["South"])) as page:
        await publish(delta(fleet["north"]))
        assert await page.hear_all() == []
        await database_sync_to_async(Site.objects.using(OWNER).filter(slug="north").update)(region="South")
        await asyncio.sleep(0.5)
        await publish(delta(fleet["north"]))
        assert [row[0] for row in (await page.hear("d"))["d"]] == [fleet["north"].pk]


@pytest.mark.usefixtures("soon")
async def test_whoever_cannot_be_asked_about_hears_nothing_more(fleet, enter, monkeypatch):
    async with opened(await enter("viewer")) as page:

        async def gone(session_key: str) -> None:
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(consumers, "access_by_session", gone)
        assert (await page.ending())[1] == 1013
        await publish(delta(fleet["south"]))
        assert await page.app.receive_nothing(QUIET_S)


async def test_connections_are_counted_for_the_metrics(fleet, enter):
    before = LiveConsumer.clients
    client = await enter("viewer")
    async with opened(client), opened(client):
        assert LiveConsumer.clients == before + 2
    assert await refusal(headers_for(None)) == (["bye"], 4401)
    assert LiveConsumer.clients == before


async def test_a_lost_broker_costs_the_page_its_news_and_the_change_nothing(fleet, enter, monkeypatch, caplog):
    from channels.layers import channel_layers
    from channels_redis.pubsub import RedisPubSubChannelLayer

    layer = RedisPubSubChannelLayer(hosts=["redis://127.0.0.1:9/1"])
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    await publish(delta(fleet["south"]))
    assert "live update lost" in caplog.text
