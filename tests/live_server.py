"""An ASGI application behind uvicorn, in a thread of the test's process."""

import socket
import threading
from contextlib import contextmanager

import uvicorn


@contextmanager
def live(app):
    """The address of a server of an application."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
