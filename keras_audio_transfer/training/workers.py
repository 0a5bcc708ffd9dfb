"""The processes that train one network together, as `TF_CONFIG` names them, and whether all are there.

Without TensorFlow, which waits for a missing one for ever.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from keras_audio_transfer.errors import InputError

VARIABLE = "TF_CONFIG"
START_WITHIN = 120.0  # seconds
_GREETING = b"keras_audio_transfer worker "  # and its index
_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:7070", "10.0.0.2:7070"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Workers:
    """Processes that train together.

    Attributes:
        addresses: of all of them, 'host:port'; the first one writes the model.
        index: of this process.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def wait(self, seconds: float = START_WITHIN) -> None:
        """Return when all are there. Each opens its port, which TensorFlow has to open next, and tries the others'.

        Raises:
            InputError: the own port is taken; the others are not there in time, or one is started as another of them.
        """
        _, port = _host_and_port(self.addresses[self.index])
        missing = {index: address for index, address in enumerate(self.addresses) if index != self.index}
        end = time.monotonic() + seconds
        family = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
        try:
            listening = socket.create_server(("", port), backlog=len(self.addresses), **family)
        except OSError as error:
            what = f"port {port} of this worker cannot be opened ({error.strerror})"
            raise InputError(f"{VARIABLE}: {what}; end what uses it, or name another port") from error
        with listening, _greeting(listening, self.index):
            while missing := {index: address for index, address in missing.items() if not _answers(index, address)}:
                if time.monotonic() > end:
                    what = f"no worker answers at {', '.join(sorted(missing.values()))} within {seconds:.0f} s"
                    raise InputError(f"{VARIABLE}: {what}; start the same command on all machines")
                time.sleep(0.2)


def from_environment() -> Workers:
    """The workers that `TF_CONFIG` names.

    Raises:
        InputError: it is missing, or not of the form that TensorFlow documents, with tasks `chief` and `worker` only.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        raise InputError(f"{VARIABLE}: is not set; expected in the environment of each worker, such as {_EXAMPLE}")
    try:
        config = json.loads(text)
        cluster, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
        addresses = (*chiefs, *workers)
        if {*cluster} - {"chief", "worker"} or len(chiefs) > 1 or len({*addresses}) < len(addresses):
            raise ValueError("other tasks than a chief and workers, or two at one address")
        if len(addresses) < 2:
            raise ValueError("one worker only, for which the strategy mirrored is meant")
        for address in addresses:
            _host_and_port(address)
        index += len(chiefs) * (kind == "worker")
        if addresses[index] != cluster[kind][config["task"]["index"]] or config["task"]["index"] < 0:
            raise ValueError("the task is not in the cluster")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        what = f"{text[:100]!r} is no description of workers ({type(error).__name__}: {error})"
        raise InputError(f"{VARIABLE}: {what}; expected such as {_EXAMPLE}") from error
    return Workers(addresses, index)


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 2**16:
        raise ValueError(f"{address} is no address, such as 10.0.0.1:7070")
    return host.strip("[]"), int(port)


@contextmanager
def _greeting(listening: socket.socket, index: int) -> Iterator[None]:
    """Tell whoever asks meanwhile which worker this is."""
    listening.settimeout(0.1)
    is_over = threading.Event()

    def greet():
        while not is_over.is_set():
            with suppress(OSError):  # nobody has asked, or does not wait for the answer
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(_GREETING + b"%d" % index)

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _answers(index, address):
    """Whether something answers: a worker that waits, too, or TensorFlow's server, which comes next."""
    try:
        connection = socket.create_connection(_host_and_port(address), timeout=1.0)
    except OSError:
        return False
    said = b""
    with connection, suppress(OSError):
        said = connection.recv(100)
    if said.startswith(_GREETING) and said != _GREETING + b"%d" % index:
        other = said.removeprefix(_GREETING).decode(errors="replace")
        what = f"{address} is worker {index} here, and is started as worker {other}"
        raise InputError(f"{VARIABLE}: {what}; expected the same cluster in all, and in each an index of its own")
    return True
