"""The server of `serve`: requests a second and latency for one client and for several, against the SavedModel."""

import base64
import http.client
import json
import multiprocessing
import subprocess
import sys
import time
import urllib.parse
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import largest_difference
from keras_audio_transfer.export.tf_serving import example_requests
from keras_audio_transfer.model_folder import Card, latest_saved_model

CLIENTS = (1, 8)
SIGNATURES = ("serving_default", "as_trained")  # numbers, joined; files, computed one by one
ROUNDS = 3  # of all ways in turn: other work on the machine comes and goes
WAYS = {"served": [], "served_not_joined": ["--max-batch", "1"]}
_direct = {}  # in the process that calls the SavedModel


def load_directly(saved_model, inputs):
    from keras_audio_transfer.extraction import use_one_thread_a_clip
    from keras_audio_transfer.servers.rest_server import ServedModel

    use_one_thread_a_clip(2)
    _direct.update(model=ServedModel(saved_model), inputs=inputs)


def ask_directly(signature, clients, requests):
    """See `timed`; and the features."""

    def call():
        return _direct["model"].run(signature, _direct["inputs"][signature])["features"]

    return *timed(lambda: call, clients, requests), call()


def ask_server(address, body, clients, requests):
    """The same, over HTTP, each client on a connection of its own."""
    place = urllib.parse.urlsplit(address)

    def client():
        connection = http.client.HTTPConnection(place.netloc)

        def call():
            connection.request("POST", f"{place.path}:predict", body)
            return connection.getresponse().read()

        return call

    return *timed(client, clients, requests), np.float32(json.loads(client()())["outputs"]["features"])


def timed(client, clients, requests):
    """The seconds of each request, and of all.

    Args:
        client: makes a function that makes a request.
        clients: how many make requests at the same time.
        requests: of all of them together.
    """

    def work(_):
        call, seconds = client(), []
        for _ in range(requests // clients):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        of_each = [seconds for of_client in pool.map(work, range(clients)) for seconds in of_client]
    return of_each, time.perf_counter() - start


@contextmanager
def server(model_dir, flags):
    """The address of the model on a server of its own."""
    command = [sys.executable, "-m", "keras_audio_transfer", "serve", str(model_dir), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def rest(options, model_dir):
    """The figures of one model folder: for each signature and number of clients those of each way."""
    model_dir = Path(model_dir)
    inputs = {name: values for name, values in example_requests(Card.read(model_dir).audio) if name in SIGNATURES}
    (wav,) = inputs["as_trained"]["audio_bytes"]
    values = {"serving_default": inputs["serving_default"]["waveform"].tolist()}
    values["as_trained"] = [{"b64": base64.b64encode(wav).decode()}]
    bodies = {name: json.dumps({"signature_name": name, "inputs": values[name]}) for name in SIGNATURES}
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=context) as direct,
        server(model_dir, WAYS["served"]) as joined,
        server(model_dir, WAYS["served_not_joined"]) as not_joined,
    ):
        direct.submit(load_directly, latest_saved_model(model_dir), inputs).result()
        figures = {}
        for name in SIGNATURES:
            ways = {
                "direct": lambda *how, name=name: direct.submit(ask_directly, name, *how).result(),
                "served": lambda *how, name=name: ask_server(joined, bodies[name], *how),
                "served_not_joined": lambda *how, name=name: ask_server(not_joined, bodies[name], *how),
            }
            for clients in CLIENTS:
                figures[f"{name}_{clients}_clients"] = compared(ways, clients, options.requests)
    return figures


def compared(ways, clients, requests):
    """The figures of ways to ask, in turn; the first one is what the others are compared with."""
    first, *others = ways
    rounds = [{way: ask(clients, requests) for way, ask in ways.items()} for _ in range(ROUNDS + 1)][1:]
    figures = {}
    for way in ways:
        seconds = np.concatenate([asked[way][0] for asked in rounds])
        figures[way] = {
            "requests_a_second": len(seconds) / sum(asked[way][1] for asked in rounds),
            "milliseconds_median": 1000 * float(np.median(seconds)),
            "milliseconds_95th_percentile": 1000 * float(np.percentile(seconds, 95)),
        }
    for way in others:
        figures[way]["ratio"] = figures[way]["requests_a_second"] / figures[first]["requests_a_second"]
        figures[way]["largest_difference"] = largest_difference(rounds[-1][way][2], rounds[-1][first][2])
    return figures
