"""The one websocket: deltas for the map, hints for fragments, a heartbeat; nothing is rendered here."""

import asyncio
import json
import logging
import time
from typing import Any, ClassVar

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.security.websocket import WebsocketDenier
from channels.sessions import SessionMiddlewareStack
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest

from fleet.kit.tenancy import NOBODY, Scope, scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from sites.selectors.access import visible_site_ids

logger = logging.getLogger(__name__)
HEARTBEAT_S = 2.0
RECHECK_S = 60.0
COALESCE_S = 0.25
MAX_FRAME_CHARS = 256
MAX_FRAMES_A_MINUTE = 60
MAX_PENDING = 200_000
CLOSE_TRY_AGAIN = 1013
CLOSE_UNAUTHORISED = 4401
CLOSE_ABUSE = 4408


def SessionUserMiddleware(app: Any) -> Any:
    """The session from the cookie; who it belongs to is asked by the consumer, again and again."""
    return SessionMiddlewareStack(app)


class SameOriginOnly:
    """Refuses a websocket that another page opens: cookies tell hosts apart, but not the ports of one host."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Go on if there is one Origin and it is the host that was called."""
        origins, hosts = ([v for k, v in scope["headers"] if k == name] for name in (b"origin", b"host"))
        is_same = len(origins) == len(hosts) == 1 and origins[0].lower().partition(b"://")[2] == hosts[0].lower()
        return await (self.app if is_same else WebsocketDenier())(scope, receive, send)


@database_sync_to_async
def access_by_session(session_key: str | None) -> tuple[Scope, frozenset[int] | None]:
    """Scope of the session's user as of now, and the ids a limited viewer may hear of. NOBODY when it is over."""
    if not session_key:
        return NOBODY, None
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    if not isinstance(user, User):
        return NOBODY, None
    who, _ = access_of(user)
    if not who.narrowed:
        return who, None
    with scope(who):
        return who, visible_site_ids(who)


class LiveConsumer(AsyncWebsocketConsumer):
    """One browser. Authorised when it connects and again every minute; the server picks its groups."""

    clients: ClassVar[int] = 0

    async def connect(self) -> None:
        """Accept a signed-in viewer and join the groups of its scope."""
        self.who = NOBODY
        self.only: frozenset[int] | None = None
        self.pending: dict[int, list[Any]] = {}
        self.hints: dict[tuple[str, int], None] = {}
        self.last_flush = 0.0
        self.flusher: asyncio.Task[None] | None = None
        self.minder: asyncio.Task[None] | None = None
        self.frames: list[float] = []
        self.counted = False
        self.over = False
        self.who, self.only = await access_by_session(self.scope["session"].session_key)
        if self.who.user_id is None:
            await self.accept()
            await self._bye("Sign in again.")
            return
        await self.accept()
        for group in self.who.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        LiveConsumer.clients += 1
        self.counted = True
        self.minder = asyncio.create_task(self._mind())

    async def disconnect(self, code: int) -> None:
        """Leave everything."""
        for task in (self.flusher, self.minder):
            if task is not None:
                task.cancel()
        for group in self.who.groups:
            await self.channel_layer.group_discard(group, self.channel_name)
        if self.counted:
            LiveConsumer.clients -= 1

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Browsers have nothing to say but a ping; anything large or frequent ends the connection."""
        if self.over:
            return
        now = time.monotonic()
        self.frames = [at for at in self.frames if now - at < 60] + [now]
        if bytes_data is not None or len(text_data or "") > MAX_FRAME_CHARS or len(self.frames) > MAX_FRAMES_A_MINUTE:
            await self._end(CLOSE_ABUSE)

    async def live_update(self, event: dict[str, Any]) -> None:
        """A group message: keep the newest state of each site, send the first at once, the rest four times a second."""
        for row in event["deltas"]:
            if (self.only is None or row[0] in self.only) and len(self.pending) < MAX_PENDING:
                self.pending[row[0]] = row
        for topic, pk in event["hints"]:
            if topic != "site" or self.only is None or pk in self.only:
                self.hints[(topic, pk)] = None
        if (self.pending or self.hints) and self.flusher is None:
            wait_s = max(0.0, self.last_flush + COALESCE_S - time.monotonic())
            if wait_s == 0.0:
                await self._flush()
            else:
                self.flusher = asyncio.create_task(self._flush_in(wait_s))

    async def _flush_in(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self.flusher = None
        await self._flush()

    async def _flush(self) -> None:
        self.last_flush = time.monotonic()
        if self.pending:
            rows, self.pending = list(self.pending.values()), {}
            await self._say({"t": "d", "d": rows})
        if self.hints:
            hints, self.hints = [list(hint) for hint in self.hints], {}
            await self._say({"t": "h", "h": hints})

    async def _mind(self) -> None:
        """Whoever cannot be asked about any more gets nothing more: the browser comes back when we can tell again."""
        try:
            await self._beat_and_recheck()
        except Exception as error:  # noqa: BLE001  (the top of a task: nobody else would end the connection)
            logger.warning("a live connection ends: %s", str(error).split("\n")[0])
            await self._end(CLOSE_TRY_AGAIN)

    async def _beat_and_recheck(self) -> None:
        """Heartbeat every HEARTBEAT_S; every RECHECK_S ask anew what the viewer may see."""
        checked = time.monotonic()
        while True:
            await self._say({"t": "b", "now": int(time.time() * 1000)})
            await asyncio.sleep(HEARTBEAT_S)
            if time.monotonic() - checked < RECHECK_S:
                continue
            checked = time.monotonic()
            who, only = await access_by_session(self.scope["session"].session_key)
            if who != self.who:
                await self._bye("Your rights have changed.")
                return
            self.only = only

    async def _bye(self, why: str) -> None:
        await self._say({"t": "bye", "why": why})
        await self._end(CLOSE_UNAUTHORISED)

    async def _end(self, code: int) -> None:
        """Close from our side, once; what groups still send until the server has said goodbye is dropped."""
        if not self.over:
            self.over = True
            await self.close(code=code)

    async def _say(self, message: dict[str, Any]) -> None:
        if not self.over:
            await self.send(text_data=json.dumps(message, separators=(",", ":")))
