"""TensorFlow Serving's REST interface from our own server: messages, requests computed together, the command."""

import asyncio
import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT, run_main
from google.protobuf import json_format
from live_server import live
from serving_stub import signatures_of
from sounds import CONFIG, noise

from keras_audio_transfer.commands import serve
from keras_audio_transfer.commands.benchmarks.measuring import largest_difference
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.tf_serving import example_requests
from keras_audio_transfer.servers import rest_server
from keras_audio_transfer.servers.request_batching import Batcher
from keras_audio_transfer.servers.rest_messages import Refused, read_question, write_answer
from keras_audio_transfer.servers.rest_server import ServedModel, build_app

# ---- messages

WAVEFORM, BYTES, NUMBER = np.dtype(np.float32), np.dtype(object), np.dtype(np.int32)
TYPES = {
    "serving_default": {"waveform": WAVEFORM},
    "padded": {"waveform": WAVEFORM, "num_samples": NUMBER},
    "audio_bytes": {"audio_bytes": BYTES},
    "info": {"query": NUMBER},
}


def question(signature=None, **content):
    return json.dumps(content if signature is None else {"signature_name": signature, **content}).encode()


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (question(instances=[[0.1, 2]]), {"waveform": np.float32([[0.1, 2]])}),
        (question("", instances=[{"waveform": [1, 2]}]), {"waveform": np.float32([[1, 2]])}),
        (question(inputs=[[1, 2]]), {"waveform": np.float32([[1, 2]])}),
        (question(inputs={"waveform": [[1], [2]], "other": 3}), {"waveform": np.float32([[1], [2]])}),
        (question(inputs=5), {"waveform": np.float32(5)}),
        (b'{"inputs": [[NaN, -Infinity]]}', {"waveform": np.float32([[np.nan, -np.inf]])}),
        (
            question(
                "padded", instances=[{"num_samples": 1, "waveform": [1, 2]}, {"waveform": [3, 4], "num_samples": 2}]
            ),
            {"waveform": np.float32([[1, 2], [3, 4]]), "num_samples": np.int32([1, 2])},
        ),
        (question("audio_bytes", instances=["é", {"b64": "/+8 ="}]), {"audio_bytes": ["é".encode(), b"\xff\xef"]}),
        (question("audio_bytes", inputs={"b64": "AAE"}), {"audio_bytes": b"\0\1"}),
    ],
)
def test_requests_in_rows_and_columns(body, inputs):
    asked = read_question(body, TYPES)
    assert asked.in_rows == (b"instances" in body)
    assert {*asked.inputs} == {*inputs}
    for name, values in inputs.items():
        np.testing.assert_array_equal(asked.inputs[name], np.array(values, TYPES[asked.signature][name]))
        assert asked.inputs[name].dtype == TYPES[asked.signature][name]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: "),
        (b"\xff", "JSON Parse error: "),
        (b"[" * 100_000, "JSON Parse error: "),
        (b'{"a":' * 100_000, "JSON Parse error: "),
        (b"[]", "JSON Value: is not an object"),
        (question("other", instances=[[1]]), 'Serving signature name: "other" not found in signature def'),
        (question(5, instances=[[1]]), 'Serving signature name: "5" not found'),
        (question("info"), "expected one of the keys 'instances' and 'inputs'"),
        (question(instances=[[1]], inputs=[[1]]), "expected one of the keys 'instances' and 'inputs'"),
        (question(instances=[]), "expected 'instances' to be a list with values"),
        (question(instances="a"), "expected 'instances' to be a list with values"),
        (question(instances=[[1], {"waveform": [1]}]), "Failed to process element: 0 of 'instances' list; expected an"),
        (
            question(instances=[{"wave": [1]}]),
            "Failed to process element: 0 of 'instances' list; expected an object of",
        ),
        (
            question("padded", instances=[[1]]),
            "a plain value or list, but expecting objects of the inputs waveform, num",
        ),
        (question("padded", inputs={"waveform": [[1]]}), "Missing named input: num_samples; expected waveform, num_s"),
        (question(instances=[[1, 2], [3]]), "waveform: setting an array element with a sequence"),
        (question(inputs=[[1, 2], 3]), "waveform: setting an array element with a sequence"),
        (question(inputs=[1, [2]]), "waveform: holds JSON values of type list; expected float32 of one shape"),
        (question(instances=[["1"]]), "waveform: holds JSON values of type str; expected float32 of one shape"),
        (question(instances=[[None, 1.0]]), "waveform: holds JSON values of type NoneType"),
        (question(instances=[[True]]), "waveform: holds JSON values of type bool"),
        (question(instances=[[1e39]]), "waveform: holds numbers that float32 does not"),
        (question(instances=[{"b64": "AAAA"}]), "waveform: holds JSON values of type dict"),
        (question("info", instances=[2**31]), "query: holds numbers that int32 does not"),
        (question("info", instances=[2**63]), "query: "),
        (question("info", instances=[1.0]), "query: holds JSON values of type float; expected int32"),
        (question("audio_bytes", instances=[5]), "audio_bytes: holds JSON values of type int; expected strings"),
        (question("audio_bytes", instances=[{"b64": "AA!A"}]), "audio_bytes: Unable to base64 decode"),
        (
            question("audio_bytes", inputs=[{"b64": "A", "c": 1}]),
            "audio_bytes: not formatted correctly for base64 data",
        ),
        (
            question("audio_bytes", inputs=[["a"], ["b", "c"]]),
            "audio_bytes: lists of different lengths; expected strings",
        ),
        (question("audio_bytes", inputs=["\ud800"]), "audio_bytes: 'utf-8' codec can't encode"),
        (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", "waveform: "),
    ],
)
def test_requests_that_are_refused(body, message):
    with pytest.raises(Refused) as error:
        read_question(body, TYPES)
    assert (error.value.status, str(error.value)[: len(message)]) == (400, message)
    assert len(str(error.value).splitlines()) == 1


def test_answers_have_the_digits_of_float32():
    values = np.concatenate([noise(500), np.float32([0.2, 3, 1e-30, 3.4e38, 0, -0.0])])
    texts = re.findall(r"[-+.e\d]+", write_answer({"scores": values}, in_rows=False).decode())
    assert [*map(np.float32, texts)] == values.tolist()
    assert texts[500:502] == ["0.2", "3.0"]
    assert max(map(len, texts)) < 16


def test_answers_in_rows_and_columns():
    outputs = {
        "scores": np.float32([[0.5, np.nan], [np.inf, -np.inf]]),
        "labels": np.array(["ç".encode(), b"b"], object),
    }
    nan, inf = pytest.approx(np.nan, nan_ok=True), np.inf
    assert json.loads(write_answer(outputs, in_rows=False)) == {
        "outputs": {"scores": [[0.5, nan], [inf, -inf]], "labels": ["ç", "b"]}
    }
    assert json.loads(write_answer(outputs, in_rows=True)) == {
        "predictions": [{"scores": [0.5, nan], "labels": "ç"}, {"scores": [inf, -inf], "labels": "b"}]
    }
    assert write_answer({"card": outputs["labels"][1:]}, in_rows=True) == b'{"predictions":["b"]}'
    assert b"[[0.5, NaN], [Infinity, -Infinity]]" in write_answer(outputs, in_rows=False)


# ---- requests computed together


class Doubling:
    """Doubles what it is given, and remembers how many rows each call had; negative numbers are an error."""

    def __init__(self):
        self.calls = []

    def __call__(self, signature, inputs):
        self.calls.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise Refused(400, f"negative, in {signature}")
        return {"y": 2 * inputs["x"]}


def answers(run, requests, max_rows=8, wait_seconds=5.0, most_waiting=100):
    """What a Batcher answers requests (signature, x) that come at once: outputs or errors."""

    async def all_at_once():
        batcher = Batcher(run, 2, max_rows, wait_seconds, most_waiting)

        async def one(signature, x):
            with batcher.coming():
                await asyncio.sleep(0.01)
                return (await batcher.ask(signature, {"x": x}))["y"]

        try:
            return await asyncio.gather(*(one(*request) for request in requests), return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(all_at_once())


def test_requests_of_one_kind_are_joined_and_nobody_waits_in_vain():
    run, requests = Doubling(), [("a", np.full((rows, 3), float(rows))) for rows in (1, 2, 3)]
    requests += [("a", np.ones((1, 4))), ("b", np.ones((1, 3)))]  # of another shape, of another signature
    began = time.monotonic()
    for (_, x), y in zip(requests, answers(run, requests, wait_seconds=100.0), strict=True):
        np.testing.assert_array_equal(y, 2 * x)
    assert sorted(run.calls) == [1, 1, 6]
    assert time.monotonic() - began < 50, "all had come: the wait of 100 s was in vain"


def test_no_more_rows_are_joined_than_allowed_and_what_cannot_be_is_not():
    run = Doubling()
    objects, rows = np.array([1, 2], object), [np.ones((n, 2)) for n in (5, 5, 9, 0)]
    for x, y in zip(rows, answers(run, [("a", x) for x in rows]), strict=True):
        np.testing.assert_array_equal(y, 2 * x)
    assert sorted(run.calls) == [0, 5, 5, 9]
    run.calls.clear()
    assert len(answers(run, [("a", objects), ("a", objects)])) == 2
    assert run.calls == [2, 2]


def test_a_request_fails_for_itself_only():
    requests = [("a", np.full((1, 2), value)) for value in (1.0, -1.0, 3.0)]
    first, error, last = answers(Doubling(), requests)
    assert (first.tolist(), last.tolist()) == ([[2, 2]], [[6, 6]])
    assert (error.status, str(error)) == (400, "negative, in a")


def test_only_so_many_requests_wait():
    found = answers(Doubling(), [("a", np.ones((1, 2)))] * 5, most_waiting=3)
    refused = [answer for answer in found if isinstance(answer, Refused)]
    assert [error.status for error in refused] == [503, 503]


def test_while_the_threads_work_requests_gather():
    run, go_on = Doubling(), threading.Event()

    def slow(signature, inputs):
        go_on.wait(30)
        return run(signature, inputs)

    async def all_at_once():
        batcher = Batcher(slow, 1, 8, 0.0, 100)

        async def one(after):
            with batcher.coming():
                await asyncio.sleep(after)
                return await batcher.ask("a", {"x": np.ones((1, 2))})

        waiting = [asyncio.ensure_future(one(0.05 * number)) for number in range(5)]
        await asyncio.sleep(0.5)
        go_on.set()
        return await asyncio.gather(*waiting)

    assert len(asyncio.run(all_at_once())) == 5
    assert run.calls == [1, 4]


def test_who_has_gone_away_is_not_computed():
    run = Doubling()

    async def two_of_which_one_goes():
        batcher = Batcher(run, 1, 8, 0.2, 100)
        with batcher.coming(), batcher.coming(), batcher.coming():
            stays, goes = (asyncio.ensure_future(batcher.ask("a", {"x": np.ones((1, 2))})) for _ in range(2))
            await asyncio.sleep(0.05)
            goes.cancel()
            return await stays

    assert asyncio.run(two_of_which_one_goes())["y"].tolist() == [[2, 2]]
    assert run.calls == [1]


# ---- the server


@pytest.fixture(scope="module")
def model(exported):
    return ServedModel(exported / "1")


@pytest.fixture(scope="module")
def address(model):
    with live(build_app(model, "tones", max_request_bytes=2**20)) as at:
        yield at


def ask(address, method, path, body=None, **headers):
    """Status and JSON of an answer."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
    with connection.getresponse() as answer:
        assert answer.getheader("content-type") == "application/json"
        content = answer.status, json.loads(answer.read())
    connection.close()
    return content


PREDICT = "/v1/models/tones:predict"


def inputs_as_json(inputs):
    return {
        name: [{"b64": base64.b64encode(v).decode()} for v in values] if values.dtype == object else values.tolist()
        for name, values in inputs.items()
    }


def test_answers_are_those_of_the_saved_model(address, model):
    for signature, inputs in example_requests(CONFIG):
        expected = model.run(signature, inputs)
        plain = inputs_as_json(inputs)
        rows = [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
        if len(plain) == 1:
            (rows,) = plain.values()
        status, columns = ask(address, "POST", PREDICT, question(signature, inputs=plain))
        assert status == 200, columns
        status, by_row = ask(address, "POST", PREDICT, question(signature, instances=rows))
        assert status == 200, by_row
        if len(expected) == 1:
            columns, by_row = (
                {"outputs": {"card": columns["outputs"]}},
                {"predictions": [{"card": by_row["predictions"][0]}]},
            )
        assert {*columns["outputs"]} == {*expected} == {*by_row["predictions"][0]}
        for name, values in expected.items():
            if values.dtype == object:
                assert columns["outputs"][name] == np.vectorize(bytes.decode)(values).tolist()
            else:
                assert np.array_equal(np.float32(columns["outputs"][name]), values), (signature, name)
            assert [row[name] for row in by_row["predictions"]] == columns["outputs"][name]


def test_clips_that_are_joined_get_what_they_get_alone(model):
    clips = [0.1 * noise(1, 500, seed=seed) for seed in range(24)]
    expected = [model.run("serving_default", {"waveform": clip}) for clip in clips]
    calls = []

    def run(signature, inputs):
        calls.append(len(inputs["waveform"]))
        return ServedModel.run(model, signature, inputs)

    joined = SimpleModel(model, run)
    with live(build_app(joined, "tones", max_batch=8, batch_wait_seconds=1)) as at, ThreadPoolExecutor(24) as pool:
        bodies = [question(inputs=clip.tolist()) for clip in clips]
        found = [*pool.map(lambda body: ask(at, "POST", PREDICT, body), bodies)]
    assert max(calls) > 1
    assert sum(calls) == 24
    for (status, content), alone in zip(found, expected, strict=True):
        assert status == 200
        for name, values in content["outputs"].items():
            if name == "labels":
                assert values == [alone[name][0].decode()]
            else:
                assert largest_difference(np.float32(values), alone[name]) < 1e-4  # as an export may differ


class SimpleModel:
    """A model whose calls are watched."""

    def __init__(self, model, run):
        self.version, self.types, self.signature_def, self.run = model.version, model.types, model.signature_def, run


def test_status_metadata_and_health(address, exported):
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for place in ("", "/versions/1"):
        assert ask(address, "GET", f"/v1/models/tones{place}") == (200, {"model_version_status": [version]})
        status, metadata = ask(address, "GET", f"/v1/models/tones{place}/metadata")
        assert (status, metadata["model_spec"]["name"], metadata["model_spec"]["version"]) == (200, "tones", "1")
    described = metadata["metadata"]["signature_def"]["signature_def"]
    expected = signatures_of(exported / "1")
    assert {*described} == {*expected}
    for name, signature in expected.items():
        parsed = json_format.ParseDict(described[name], type(signature)())
        assert parsed == signature
    assert ask(address, "GET", "/healthz") == (200, {"status": "ok"})


def test_places_that_are_not_there(address):
    body = question(inputs=noise(1, 500).tolist())
    for path, what in (
        ("/v1/models/other:predict", "Latest(other)"),
        ("/v1/models/tones/versions/2:predict", "Specific(tones, 2)"),
        (f"/v1/models/tones/versions/{'9' * 5000}:predict", f"Specific(tones, {'9' * 5000}"[:200]),
    ):
        assert ask(address, "POST", path, body) == (404, {"error": f"Servable not found for request: {what}"})
    assert (
        ask(address, "GET", "/v1/models/other")[0] == ask(address, "GET", "/v1/models/a/versions/x/metadata")[0] == 404
    )
    for path in ("/v1/models/tones:classify", "/v1/models", "/v1/models/tones/labels/stable:predict"):
        assert ask(address, "POST", path, body) == (400, {"error": f"Malformed request: POST {path}"})
    assert ask(address, "POST", "/elsewhere", body) == (404, {"error": "Malformed request: POST /elsewhere"})
    assert ask(address, "POST", "/v1/models/tones/versions/1:predict", body)[0] == 200


def test_what_the_graph_refuses_is_one_line_and_serving_goes_on(address):
    for content, message in (
        (
            {"inputs": noise(500).tolist()},
            "[waveform: has another rank; expected float32 [batch, samples], received the",
        ),
        ({"instances": noise(1, 63).tolist()}, "[waveform: is shorter than a frame; expected at least 64 samples at "),
        ({"signature_name": "audio_bytes", "instances": ["x"]}, "[audio_bytes: is no WAV file; expected WAV of PCM"),
    ):
        status, answer = ask(address, "POST", PREDICT, json.dumps(content).encode())
        assert (status, answer["error"].count("\n")) == (400, 0)
        assert answer["error"].startswith(f"assertion failed: {message}"), answer
    assert ask(address, "POST", PREDICT, question(inputs=noise(1, 500).tolist()))[0] == 200


def test_large_requests_are_refused_while_they_are_read(address):
    too_large = {"error": "the request is larger than 1048576 bytes; send less at a time"}
    assert ask(address, "POST", PREDICT, b" " * (2**20 + 1)) == (413, too_large)
    pieces = (b" " * 2**17 for _ in range(9))
    assert ask(address, "POST", PREDICT, pieces, **{"Transfer-Encoding": "chunked"}) == (413, too_large)
    assert ask(address, "POST", PREDICT, b" " * 2**20)[0] == 400


def sent(address, body, of_bytes):
    """A connection on which a request of so many bytes was begun."""
    place = urllib.parse.urlsplit(address)
    connection = socket.create_connection((place.hostname, place.port), timeout=60)
    connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {of_bytes}\r\n\r\n".encode() + body)
    return connection


def test_slow_and_cut_connections_keep_nobody_waiting(model, monkeypatch):
    monkeypatch.setattr(rest_server, "_SECONDS_TO_SEND", 0.5)
    began, go_on, calls = threading.Event(), threading.Event(), []

    def run(signature, inputs):
        calls.append(signature)
        began.set()
        assert go_on.wait(30)
        return {"y": np.zeros((1, 1), np.float32)}

    body = question(inputs=noise(1, 500).tolist())
    with live(build_app(SimpleModel(model, run), "tones", threads=1, max_batch=1)) as at:
        slow = sent(at, b"{", 100)
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        computed = sent(at, body, len(body))
        assert began.wait(30)
        for _ in range(3):  # they wait for the thread, and go away
            sent(at, body, len(body)).close()
        time.sleep(0.5)
        assert ask(at, "GET", "/healthz")[0] == 200, "while the network computes"
        go_on.set()
        assert computed.recv(100).startswith(b"HTTP/1.1 200 ")
        assert ask(at, "POST", PREDICT, body)[0] == 200
    assert len(calls) == 2


def test_all_bodies_together_have_a_limit(model):
    with live(build_app(model, "tones", max_request_bytes=2**16)) as at:
        begun = [sent(at, b" " * 60_000, 65_000) for _ in range(4)]
        time.sleep(0.5)
        status, answer = ask(at, "POST", PREDICT, b" " * 60_000)
        assert (status, answer["error"][:44]) == (503, "the requests that wait take all the room the")
        for connection in begun:
            connection.close()
        time.sleep(0.5)
        assert ask(at, "POST", PREDICT, b" " * 60_000)[0] == 400


def test_a_bug_is_an_answer_too(model):
    def run(signature, inputs):
        raise MemoryError if signature == "info" else ZeroDivisionError

    with live(build_app(SimpleModel(model, run), "tones")) as at:
        assert ask(at, "POST", PREDICT, question(inputs=[[1]])) == (500, {"error": "internal error: ZeroDivisionError"})
        assert ask(at, "POST", PREDICT, question("info", inputs=[1]))[0] == 503


# ---- the command


def test_what_the_command_refuses_first(exported, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^--port: {port} at 127.0.0.1 cannot be listened at \(.*in use\); name"):
            run_main("serve", exported, "--port", port)
    for host in ("no.such.host.invalid", "a..b", "a" * 70):
        with pytest.raises(InputError, match=rf"^--port: 8501 at {host} cannot be listened at \(.*; name"):
            run_main("serve", exported, "--host", host)
    with pytest.raises(InputError, match=r"^--name: 'a/b' cannot stand in a URL; expected letters"):
        run_main("serve", exported, "--name", "a/b")
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^serve: needs orjson, starlette, uvicorn; pip install 'keras_audio_transfer\["
    ):
        run_main("serve", exported)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(exported, number):
    command = [sys.executable, "-m", "keras_audio_transfer", "serve", exported, "--port", "0", "--name", "tones"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        address = re.fullmatch(rf"serving 1 of {exported} at (http://127\.0\.0\.1:\d+)/v1/models/tones\n", line)[1]
        assert ask(address, "POST", PREDICT, question(inputs=noise(1, 500).tolist()))[0] == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
