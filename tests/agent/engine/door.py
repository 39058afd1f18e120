"""A TCP door before a server, through which bytes pass at a pace, and which can be shut."""

import contextlib
import socket
import threading
import time


class Door:
    """Listens at 127.0.0.1:`port` for what is at `behind`; answers pass at `bytes_per_s` (None: freely, 0: never)."""

    def __init__(self, port: int, behind: int, bytes_per_s: int | None = None) -> None:
        self._behind, self._pace = behind, bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._lock = threading.Condition()
        self._passed = 0
        self._threads[0].start()

    def wait_for(self, count: int, seconds: float = 20) -> bool:
        """Whether so many bytes of answers have passed within this time."""
        with self._lock:
            return self._lock.wait_for(lambda: self._passed >= count, seconds)

    def close(self) -> None:
        """Shut it, and cut what passes."""
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._open += [caller, server]
                for source, target, pace in ((caller, server, None), (server, caller, self._pace)):
                    thread = threading.Thread(target=self._pass, args=(source, target, pace), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, pace: int | None) -> None:
        answers = pace is self._pace
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if pace == 0:
                    continue
                if pace:
                    time.sleep(len(data) / pace)
                target.sendall(data)
                if answers:
                    with self._lock:
                        self._passed += len(data)
                        self._lock.notify_all()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
