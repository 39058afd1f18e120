"""A small SMTP server on loopback that keeps what it takes, and can be told to refuse or to fall silent."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default


class Server:
    """`taken` are the mails with their recipient. `refuses` answers a recipient with a line, or lets it pass."""

    def __init__(self) -> None:
        self.port = 0
        self.taken: list[tuple[str, Message]] = []
        self.refuses: Callable[[str], str] = lambda recipient: ""
        self.after_data: Callable[[], str] = lambda: "250 taken"

    def of(self, recipient: str) -> list[Message]:
        """What it took for somebody."""
        return [mail for to, mail in self.taken if to == recipient]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        to = ""
        writer.write(b"220 loopback\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line[:4].upper()
            answer = "250 well"
            if verb == "RCPT":
                to = line[line.index("<") + 1 : line.index(">")]
                answer = self.refuses(to) or answer
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                body = await reader.readuntil(b"\r\n.\r\n")
                self.taken.append((to, message_from_bytes(body[:-5].replace(b"\r\n..", b"\r\n."), policy=default)))
                answer = await asyncio.to_thread(self.after_data)
            elif verb == "QUIT":
                break
            writer.write(f"{answer}\r\n".encode())
            await writer.drain()
        writer.close()


@contextmanager
def smtp_server() -> Iterator[Server]:
    """A server that runs in a thread of its own until the block ends."""
    server, loop = Server(), asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.talk, "127.0.0.1", 0, limit=2**24))
    server.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
