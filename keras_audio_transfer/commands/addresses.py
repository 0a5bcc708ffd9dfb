"""Where a command serves: its flags, its socket, and what ends it."""

import signal
import socket
from collections.abc import Callable

from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError

_port = cli.number(int, lambda value: 0 <= value <= 65535, "0 to 65535; 0 for one that is free")


def add_arguments(parser, port):
    """--host and --port, of which `port` is the default."""
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen at; 0.0.0.0 lets other computers ask"
    )
    parser.add_argument("--port", type=_port, metavar="N", default=port, help="port to listen at")


def listening(host, port):
    """A socket at that address, and the address as a URL."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(place, family=family, backlog=2048)
        # Its connections have it, too; asyncio sets it for other sockets. Without it an answer takes 40 ms more.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, ValueError) as error:  # the latter for what is no name of a host
        why = f"{getattr(error, 'strerror', None) or error}".partition(" (")[0]
        raise InputError(
            f"--port: {port} at {host} cannot be listened at ({why}); name another --port or --host"
        ) from error
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def at_end(stop: Callable[[], object]):
    """Call this at Ctrl-C and SIGTERM, in the place of what Python does then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())
