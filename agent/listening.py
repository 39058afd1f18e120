"""The sockets an agent listens at."""

import ipaddress
import socket
from typing import Final

BACKLOG: Final = 16_384


class ListenError(Exception):
    """The address cannot be listened on; the message says why in one line."""


def bind_address(host: str, port: int) -> socket.socket:
    """A socket that listens on one address of this machine. Raises ListenError."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise ListenError(f"{host} is not an address") from None
    sock = _new_socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)  # here, for it too may find the address taken
    except (OSError, OverflowError) as error:
        sock.close()
        raise ListenError(f"cannot listen on {host}:{port}: {_why(error)}") from None
    return sock


def bind_block(addresses: list[str], port: int) -> list[socket.socket]:
    """Sockets that receive what is sent to any of these loopback addresses at `port`.

    One socket tied to the loopback device serves them all; where that is not permitted, each address gets
    its own, and nothing is ever bound to the wildcard address of a real device. Raises ListenError.
    """
    sock = _new_socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    except OSError:
        sock.close()
        return _bind_each(addresses, port)
    try:
        sock.bind(("0.0.0.0", port))  # noqa: S104  # bound to the device `lo` just above
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ListenError(f"cannot listen on port {port} of the loopback device: {_why(error)}") from None
    return [sock]


def _bind_each(addresses: list[str], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(bind_address(address, port))
    except ListenError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _new_socket(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def _why(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
