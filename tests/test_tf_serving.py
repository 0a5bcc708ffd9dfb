"""The folder that `export.py --serving` writes, through every door a server or its user has."""

import io
import json
import pickle
import re
import shlex
import shutil
import socketserver
import subprocess
import sys
import threading
import wave
from concurrent import futures
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import run_main
from google.protobuf import text_format
from live_server import live
from serving_stub import Model, grpc_server, request_by_tensor, rest_server, signatures_of
from sounds import CONFIG, noise
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.python.tools import saved_model_cli
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import saved_model, tf_serving
from keras_audio_transfer.servers.rest_server import ServedModel, build_app
from keras_audio_transfer.serving_client import Client, ServingError, main

TESTS = Path(__file__).parent
SERVED = "urban"
PAGE = (
    (TESTS.parent / "docs" / "serving.md")
    .read_text(encoding="utf-8")
    .split("<!-- serve commands -->")[1]
    .split("<!-- end -->")[0]
)
SIGNATURES = {
    "serving_default",
    "padded",
    "waveform_at",
    "audio_bytes",
    "as_trained",
    "timestamps",
    "info",
}


def wav(samples, sample_rate):
    file = io.BytesIO()
    with wave.open(file, "wb") as content:
        content.setparams((1, 2, sample_rate, 0, "NONE", ""))
        content.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


export_script = partial(run_main, "export")


def assert_rounded_the_same(values, expected, message=""):
    """Equal but for rounding, which grows with the largest value: float32's next one after 373 is 3e-5 away.

    TensorFlow optimises the graph of a session and of a function differently.
    """
    atol = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol, err_msg=message)


@pytest.fixture(scope="module")
def source(exported):
    return exported


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """What the document's command writes, with the SavedModel of `source`: it is of the same model, and was checked."""
    path = tmp_path_factory.mktemp("served") / "served" / SERVED
    (line,) = (line for line in PAGE.splitlines() if "keras-audio-transfer export" in line)
    places = {"saved_models/convnet5.urbansound8k": source, "served/urban": path}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "write_saved_model", lambda model, path, card: shutil.copytree(source / "1", path))
        patch.setattr(saved_model, "largest_difference", lambda *about: 0.0)
        assert export_script(*(places.get(word, word) for word in shlex.split(line)[2:])) == 0
    return path


@pytest.fixture(scope="module")
def python_answers(folder):
    """The signatures as Python's TensorFlow runs them."""
    loaded = tf.saved_model.load(str(folder / "1"))

    def answer(name, inputs):
        outputs = loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    return answer


@pytest.fixture(scope="module")
def warmup(folder):
    """The requests of the warm-up file: pairs of a signature's name and its inputs."""
    requests = []
    for record in tf.data.TFRecordDataset(str(folder / "1" / tf_serving.WARMUP)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == SERVED
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    return requests


@pytest.fixture(scope="module", params=["REST", "gRPC", pytest.param("serve", marks=pytest.mark.slow)])
def address(request, model, folder):
    """Of a stand-in for TensorFlow Serving, or of our own server in its place."""
    if request.param == "serve":
        servers = live(build_app(ServedModel(folder / "1"), SERVED))
    else:
        servers = (rest_server if request.param == "REST" else grpc_server)(model)
    with servers as at:
        yield at


@pytest.fixture(scope="module")
def model(folder):
    return Model(SERVED, folder / "1")


def test_the_folder_is_complete_and_its_files_are_what_the_server_parses(folder):
    of_model = {"1", "model.keras", "card.json", "history.csv"}
    kit = {"models.config", "batching.config", "client.py", "SERVING.md"}
    assert {path.name for path in folder.iterdir()} == of_model | kit
    models = text_format.Parse((folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    (entry,) = models.model_config_list.config
    assert (entry.name, entry.base_path, entry.model_platform) == (SERVED, f"/models/{SERVED}", "tensorflow")
    assert re.fullmatch("[A-Za-z0-9_.-]+", entry.name)


def test_batching_joins_no_requests_and_pads_none(folder):
    lines = re.sub("#.*", "", (folder / "batching.config").read_text()).split("\n")
    parameters = dict(
        re.fullmatch(r"(\w+)(?:: (\w+)| \{ value: (\w+) \} *)", line).group(1, 2) for line in lines if line
    )
    # BatchingParameters of session_bundle_config.proto, which tensorflow-serving-api leaves out.
    assert {*parameters} <= {
        *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "thread_pool_name"),
        *("allowed_batch_sizes", "pad_variable_length_inputs", "enable_large_batch_splitting"),
        "max_execution_batch_size",
    }
    assert parameters["pad_variable_length_inputs"] == "false"
    assert "max_execution_batch_size { value: 1 }" in lines


def test_everything_has_the_batch_first(folder):
    # Neither TF Serving's batching nor its row form takes anything else; nor a signature without inputs.
    signatures = signatures_of(folder / "1")
    assert {*signatures} == SIGNATURES
    for name, signature in signatures.items():
        assert signature.inputs, name
        for tensor in [*signature.inputs.values(), *signature.outputs.values()]:
            assert tensor.tensor_shape.dim[0].size == -1, (name, tensor.name)


@pytest.mark.slow
def test_saved_model_cli(folder, tmp_path, capsys, monkeypatch, python_answers):
    def cli(*arguments):
        monkeypatch.setattr(sys, "argv", ["saved_model_cli", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            saved_model_cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    shown = cli("show", "--dir", folder / "1", "--tag_set", "serve", "--signature_def", "padded")
    assert re.search(r"inputs\['waveform'\] tensor_info:\s+dtype: DT_FLOAT\s+shape: \(-1, -1\)", shown)
    assert re.search(r"inputs\['num_samples'\] tensor_info:\s+dtype: DT_INT32\s+shape: \(-1\)", shown)
    np.savez(tmp_path / "in.npz", waveform=noise(2, 500), num_samples=np.int32([500, 99]))
    inputs = ";".join(f"{name}={tmp_path / 'in.npz'}[{name}]" for name in ("waveform", "num_samples"))
    flags = ("--tag_set", "serve", "--signature_def", "padded", "--inputs", inputs, "--outdir", tmp_path)
    cli("run", "--dir", folder / "1", *flags)
    expected = python_answers("padded", {"waveform": noise(2, 500), "num_samples": np.int32([500, 99])})
    assert_rounded_the_same(np.load(tmp_path / "features.npy"), expected["features"])


ONE_D, THREE_D = noise(500), noise(1, 100, 64)
WRONG_RANK = "waveform: has another rank; expected float32 [batch, samples], received the shape"
N, SECONDS = np.int32([500]), np.float32([0.1])
BAD = [
    ("serving_default", {"waveform": ONE_D}, f"{WRONG_RANK}] [500]"),
    ("serving_default", {"waveform": THREE_D}, f"{WRONG_RANK}] [1 100 64]"),
    ("serving_default", {"waveform": np.float32(1)}, f"{WRONG_RANK}] []"),
    ("padded", {"waveform": ONE_D, "num_samples": N}, f"{WRONG_RANK}] [500]"),
    ("padded", {"waveform": noise(1, 500), "num_samples": N[None]}, "num_samples: has another rank; expected int32"),
    ("waveform_at", {"waveform": THREE_D, "sample_rate": N}, f"{WRONG_RANK}] [1 100 64]"),
    ("waveform_at", {"waveform": noise(1, 500), "sample_rate": N * 0}, "sample_rate: is out of range; expected 100"),
    ("audio_bytes", {"audio_bytes": [[b"no"]]}, "audio_bytes: has another rank; expected string [batch], received"),
    ("audio_bytes", {"audio_bytes": [b"no sound"]}, "audio_bytes: is no WAV file; expected WAV of PCM (8, 16, "),
    ("audio_bytes", {"audio_bytes": [wav(noise(500), 99)]}, "audio_bytes: its sample rate is out of range; expected"),
    ("as_trained", {"audio_bytes": [wav(noise(500), 2000)[:-1]]}, "audio_bytes: is truncated; expected all bytes of"),
    ("info", {"query": np.zeros(1025, np.int32)}, "query: asks for the card more than 1024 times; expected at most so"),
    (
        "timestamps",
        {"waveform": noise(1, 500), "hop_seconds": np.float32(0.1), "window_seconds": SECONDS},
        "hop_seconds: has another rank; expected float32 [batch], received the shape] []",
    ),
    ("serving_default", {"waveform": noise(0, 500)}, "waveform: the batch is empty; expected at least one clip"),
    ("serving_default", {"waveform": noise(1, 500) * np.float32(np.nan)}, "waveform: holds NaN or infinity"),
    ("info", {"query": np.int32(0)}, "query: has another rank; expected int32 [batch], received the shape] []"),
]


def wav_files_of_every_format():
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        for container in ("WAV", "WAVEX", "RF64"):
            file = io.BytesIO()
            soundfile.write(file, noise(500, 2), 2000, format=container, subtype=subtype)
            yield file.getvalue()


@pytest.mark.slow
def test_the_c_api_answers_every_warmup_request_and_names_what_is_wrong(folder, warmup, python_answers, tmp_path):
    signatures = signatures_of(folder / "1")
    without_request = {*signatures} - {name for name, _ in warmup}
    assert not without_request, f"tf_serving.example_requests has none for {', '.join(without_request)}; add one"
    assert {name for name, _ in warmup} == {*signatures} == SIGNATURES
    good = [*warmup, ("audio_bytes", {"audio_bytes": np.array([*wav_files_of_every_format()], dtype=object)})]
    plain = [(n, {k: v.tolist() if v.dtype == object else v for k, v in inputs.items()}) for n, inputs in good]
    # Bad requests first: the session goes on serving.
    asked = [request_by_tensor(signatures[name], inputs) for name, inputs in [*[bad[:2] for bad in BAD], *plain]]
    (tmp_path / "requests").write_bytes(pickle.dumps([request for request, _ in asked]))
    command = [sys.executable, TESTS / "c_api.py", folder / "1", tmp_path / "requests", tmp_path / "answers"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    answers = pickle.loads((tmp_path / "answers").read_bytes())
    for (name, _, message), answer in zip(BAD, answers, strict=False):
        assert message in answer, name
    for (name, inputs), (_, outputs), answer in zip(good, asked[len(BAD) :], answers[len(BAD) :], strict=True):
        assert not isinstance(answer, str), (name, answer)
        expected = python_answers(name, inputs)
        assert {*expected} == {*outputs}
        for output, values in zip(outputs, answer, strict=True):
            if values.dtype == object:
                np.testing.assert_array_equal(values, expected[output])
            else:
                assert np.isfinite(values).all()
                assert_rounded_the_same(values, expected[output], f"{name}, {output}")


# The client, against the stub


def assert_same(outputs, expected):
    assert {*outputs} == {*expected}
    for name, values in outputs.items():
        if name == "labels":
            assert values == expected[name][0].decode()
        else:
            assert_rounded_the_same(values, expected[name][0], name)


def test_the_client_gives_each_clip_what_it_gets_alone(address, python_answers, tmp_path):
    client = Client(address, SERVED, version=1)
    clips = [noise(500), noise(64), noise(301)]
    for outputs, clip in zip(client.predict(clips), clips, strict=True):
        assert_same(outputs, python_answers("serving_default", {"waveform": clip[None]}))
    contents = [wav(noise(800), 4000), wav(noise(100), 1000)]
    (tmp_path / "clip.wav").write_bytes(contents[0])
    for outputs, content in zip(client.predict_wav([tmp_path / "clip.wav", contents[1]]), contents, strict=True):
        assert_same(outputs, python_answers("as_trained", {"audio_bytes": [content]}))
    card = client.info()
    assert card["labels"] == ["a", "b", "ç"]
    assert AudioConfig.from_dict(card["audio"]) == CONFIG
    seconds = dict.fromkeys(("hop_seconds", "window_seconds"), np.float32([0.1, 0.1]))
    asked = {"waveform": noise(2, 500), **seconds}
    expected = python_answers("timestamps", asked)
    outputs = client.ask("timestamps", **asked)
    np.testing.assert_allclose(outputs["timestamps"], expected["timestamps"], atol=1e-6)
    # Deviations of what is nearly constant are roots of differences, in which kernels differ; the bound is an export's.
    np.testing.assert_allclose(outputs["features"], expected["features"], atol=1e-4)


def test_the_clients_errors_are_one_line(address):
    client = Client(address, SERVED)
    at = re.escape(f"{address}, model {SERVED}: ")
    with pytest.raises(
        ServingError,
        match=rf"^{at}waveform: is shorter than a frame; expected at least 64 samples at 2000 Hz \[1 63\]$",
    ):
        client.predict([noise(63)])
    with pytest.raises(ServingError, match=rf"^{at}waveform: holds NaN or infinity[^\n]+$"):
        client.predict([noise(500) * np.nan])
    with pytest.raises(ServingError, match=rf"^{at}waveform: has another rank[^\n]+ shape \[500\]$"):
        client.ask("serving_default", waveform=noise(500))
    with pytest.raises(ServingError, match=rf"^{at}a waveform of shape \(1, 500\); expected \(samples,\)$"):
        client.predict([noise(1, 500)])
    with pytest.raises(ServingError, match=rf"^{at}no waveforms; expected at least one$"):
        client.predict([])
    with pytest.raises(ServingError, match=r"^nothing\.wav: cannot be read \(No such file or directory\)"):
        client.predict_wav(["nothing.wav"])
    with pytest.raises(ServingError, match=r"^[^\n]+, model other: Servable not found for request: [^\n]+$"):
        Client(address, "other").predict([noise(500)])
    with pytest.raises(ServingError, match=r"^[^\n]+:1, model m: cannot be reached \([^\n]+; is the server running"):
        Client(f"{address.split('://')[0]}://localhost:1", "m", timeout=5).predict([noise(500)])
    assert client.predict([noise(500)])


@pytest.fixture
def not_a_server():
    """The address of what answers every request with the same bytes, and a function to set them."""
    answer = b""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            length = 0
            for line in self.rfile:
                if line == b"\r\n":
                    break
                length += int(line.partition(b":")[2]) if line.lower().startswith(b"content-length:") else 0
            self.rfile.read(length)  # a connection that is closed before all of it is read may be reset
            self.wfile.write(answer)

    def answering(content):
        nonlocal answer
        answer = content

    with socketserver.ThreadingTCPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}", answering
        server.shutdown()


def test_the_clients_address(not_a_server):
    with pytest.raises(ServingError, match=r"^localhost:8501: is no address; expected http://HOST:PORT"):
        Client("localhost:8501", SERVED)
    with pytest.raises(ServingError, match=r"^http://localhost:abc, model m: is no address \([^\n]+\); expected http:"):
        Client("http://localhost:abc", "m").predict([noise(500)])
    address, answering = not_a_server
    grpc_frame, http = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", b"HTTP/1.0 200 OK\r\n\r\n"
    for content in (grpc_frame, http + b"[1]", http + b"{}", http + b"text"):
        answering(content)
        with pytest.raises(
            ServingError, match=r"^[^\n]+: answers, but not as TensorFlow Serving does; expected its REST"
        ):
            Client(address, "a model").predict([noise(500)])


def answers_of(content, status=200):
    return f"HTTP/1.0 {status} X\r\n\r\n".encode() + (
        content if isinstance(content, bytes) else json.dumps(content).encode()
    )


ONE_CLIP = {"scores": [[0.5, 0.5]], "labels": ["a"]}
ODD_ANSWERS = {
    "nothing": ({}, "answers nothing; expected 1, one for each clip"),
    "null": (None, "answers, but not as"),
    "a number": ({"scores": 5}, "answers 0 rows of scores; expected 1"),
    "a text": ("scores", "answers, but not as"),
    "too many": ({"scores": [[1], [2]]}, "answers 2 rows of scores; expected 1"),
    "too few": ({"scores": []}, "answers 0 rows of scores; expected 1"),
    "unequal": ({**ONE_CLIP, "labels": ["a", "b"]}, "answers 2 rows of labels; expected 1"),
    "ragged": ({"scores": [[1, 2], [3]]}, "answers, but not as"),
    "objects": ({"scores": [{"a": 1}]}, "answers, but not as"),
    "holes": ({"scores": [[1, None]]}, "answers, but not as"),
}


@pytest.mark.parametrize("what", ODD_ANSWERS)
def test_answers_that_the_client_does_not_take(what, not_a_server):
    address, answering = not_a_server
    content, message = ODD_ANSWERS[what]
    answering(answers_of({"outputs": content}))
    for ask in (lambda client: client.predict([noise(500)]), lambda client: client.predict_wav(b"RIFF")):
        with pytest.raises(ServingError, match=rf"^{address}, model m: {message}[^\n]*$"):
            ask(Client(address, "m"))
    answering(answers_of({"outputs": ONE_CLIP}))
    (row,) = Client(address, "m").predict([noise(500)])
    assert (row["labels"], row["scores"].tolist()) == ("a", [0.5, 0.5])


TENSOR = tensor_pb2.TensorProto
ODD_TENSORS = {
    "of no type": TENSOR(dtype=999),
    "of a type without values": TENSOR(dtype=types_pb2.DT_VARIANT),
    "too short": TENSOR(dtype=types_pb2.DT_FLOAT, tensor_content=b"123"),
    "too large": TENSOR(
        dtype=types_pb2.DT_FLOAT, float_val=[1.0], tensor_shape=tf.TensorShape([2**31, 2**20]).as_proto()
    ),
    "no UTF-8": tf.make_tensor_proto([b"\xff"]),
}


@pytest.mark.parametrize("what", [*ODD_TENSORS, "no message"])
def test_messages_that_the_client_does_not_take(what):
    answer = predict_pb2.PredictResponse(outputs={"scores": ODD_TENSORS[what]}) if what in ODD_TENSORS else None
    content = b"\xff" if answer is None else answer.SerializeToString()
    predict = grpc.unary_unary_rpc_method_handler(lambda request, context: content)
    handlers = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": predict})
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handlers])
    port = server.add_insecure_port("localhost:0")
    server.start()
    said = "Exception deserializing response!" if answer is None else "answers, but not as TensorFlow Serving does; exp"
    with pytest.raises(ServingError, match=rf"^grpc://localhost:{port}, model m: {said}[^\n]*$"):
        Client(f"grpc://localhost:{port}", "m").predict([noise(500)])
    server.stop(None)


@pytest.mark.parametrize("content", [{}, None, [], ["{"], ["[]"], [5], {"card": "x"}, {"scores": ["{}"]}, ["[" * 9999]])
def test_a_server_without_a_card(content, not_a_server):
    address, answering = not_a_server
    answering(answers_of({"outputs": content}))
    with pytest.raises(ServingError, match=rf"^{address}, model m: answers(, but not as| info with)[^\n]+$"):
        Client(address, "m").info()


@pytest.mark.parametrize("content", [{"error": 5}, {"error": None}, None, [], {"error": ""}, b"[" * 99999, b"\xff"])
def test_refusals_without_a_reason(content, not_a_server):
    address, answering = not_a_server
    answering(answers_of(content, 500))
    with pytest.raises(ServingError, match=rf"^{address}, model m: HTTP status 500 \(X\)$"):
        Client(address, "m").predict([noise(500)])
    answering(answers_of(b"[" * 99999))
    with pytest.raises(ServingError, match=rf"^{address}, model m: answers, but not as [^\n]+$"):
        Client(address, "m").predict([noise(500)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "http://[::1"}, "is no address \\("),
        ({"address": "http://"}, "is no address \\("),
        ({"address": "http://a b"}, "is no address \\("),
        ({"address": "http://localhost:99999"}, "is no address \\("),
        ({"address": None}, "^None: is no address; expected http"),
        ({"address": b"http://a"}, "^b'http://a': is no address; expected http"),
        ({"model": None}, "model None: is no name; expected"),
        ({"model": ""}, "is no name; expected"),
        ({"model": "\udcff"}, "is no name; expected"),
        ({"version": "1"}, "version 1 cannot be; expected a whole number, or None"),
        ({"version": -1}, "version -1 cannot be"),
        ({"version": True}, "version True cannot be"),
        ({"timeout": -1}, "timeout -1 cannot be; expected seconds, more than 0"),
        ({"timeout": np.nan}, "timeout nan cannot be"),
        ({"timeout": 1e300}, "timeout 1e\\+300 cannot be"),
        ({"timeout": "x"}, "timeout x cannot be"),
        ({"timeout": None}, "timeout None cannot be"),
    ],
)
def test_arguments_that_the_client_does_not_take(arguments, message):
    with pytest.raises(ServingError, match=message) as error:
        Client(**{"address": "http://localhost:1", "model": "m", **arguments})
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (None, "waveforms of type NoneType; expected a list of them"),
        (["a"], "a waveform of type <U1; expected floats in"),
        ("a", "a waveform of type <U1; expected floats in"),
        ([np.zeros(500, np.int16)], r"a waveform of type int16; expected floats in \[-1, 1\]; divide int16 by 32768"),
        ([np.zeros(500, complex)], "a waveform of type complex128; expected floats"),
        ([np.ma.masked_array(np.zeros(500), np.arange(500) == 3)], "waveform: holds NaN or infinity, or is masked"),
        ([np.full(500, 1e300)], "waveform: holds NaN or infinity"),
        ([[[0.0], [0.0, 0.0]]], "a waveform that is no array"),
        (np.zeros(500), r"a waveform of shape \(\); expected"),
    ],
)
def test_waveforms_that_are_not_sent(waveforms, message):
    with pytest.raises(ServingError, match=f"^http://localhost:1, model m: {message}[^\n]*$"):
        Client("http://localhost:1", "m").predict(waveforms)


@pytest.mark.parametrize(
    "files", [[5], [None], ["a\0b"], None, 5, [], "nothing.wav", Path("nothing.wav"), [Path("."), b""]]
)
def test_files_that_are_not_sent(files):
    with pytest.raises(
        ServingError, match=r"^(http://localhost:1, model m: .*expected|.*: cannot be read \().*$"
    ) as error:
        Client("http://localhost:1", "m").predict_wav(files)
    assert len(str(error.value).splitlines()) == 1
    if isinstance(files, str | Path):
        assert str(error.value).startswith("nothing.wav: cannot be read (")


@pytest.mark.parametrize("inputs", [{"a": 1j}, {"a": [[1], [2, 3]]}, {"a": np.array([5], object)}])
def test_inputs_that_cannot_be_sent(inputs):
    with pytest.raises(ServingError, match=r"^http://localhost:1, model m: padded cannot be asked \("):
        Client("http://localhost:1", "m").ask("padded", **inputs)


def test_the_clients_command_line(address, capsys, tmp_path):
    clip, text = tmp_path / "clip.wav", tmp_path / "text.wav"
    clip.write_bytes(wav(noise(500), 2000))
    text.write_bytes(b"no sound")
    assert main([address, SERVED, str(clip), str(text)]) == 1
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    outputs = json.loads(line)
    assert (outputs["file"], len(outputs["scores"])) == (str(clip), 3)
    assert outputs["labels"] in ("a", "b", "ç")
    (line,) = printed.err.splitlines()
    assert line.startswith(f"failed: {text}: {address}, model {SERVED}: audio_bytes: is no WAV file; ")
    assert main([address, "other", "--info"]) == 2


def test_the_clients_command_line_says_how_sure_a_model_is(monkeypatch, capsys):
    says = {"labels": "a", "scores": [2.0, -1.0], "probabilities": [0.75, 0.25], "known": 0.5}
    outputs = {name: np.array(value) for name, value in says.items()} | {"features": np.zeros(4), "layer1": np.zeros(4)}
    monkeypatch.setattr(Client, "predict_wav", lambda client, files: [outputs])
    assert main(["http://localhost:1", "m", "clip.wav"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "clip.wav", **says}


# What a user copies


def run_commands(page, folder, rest, grpc):
    """Run a page's shell blocks, all but Docker's and the export, with the stub's ports; a JSON object a command."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    page = "".join(block for block in blocks if not block.startswith("docker") and " export " not in block)
    page = re.sub(r"(\.venv/bin/python|python3) ", f"{sys.executable} ", page)
    page = page.replace("localhost:8501", rest.removeprefix("http://"))
    page = page.replace("localhost:8500", grpc.removeprefix("grpc://"))
    page = page.replace("curl ", "curl --silent --show-error --fail --write-out '\\n' ")
    command = ["bash", "-euo", "pipefail", "-c", page]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_what_the_pages_say_can_be_copied(folder, model, python_answers, tmp_path, capsys):
    page = (folder / "SERVING.md").read_text()
    root = folder.parents[1]
    shutil.copytree(folder, tmp_path / "copy")
    for place in (tmp_path / "copy", root):
        (place / "clip.wav").write_bytes(wav(noise(500), 2000))
    assert f'-v "$PWD:/models/{SERVED}:ro" tensorflow/serving' in page
    assert f'-v "$PWD/served/{SERVED}:/models/{SERVED}:ro" tensorflow/serving' in PAGE
    with rest_server(model) as rest, grpc_server(model) as grpc:
        metadata, info, row, columns, *scored = run_commands(page, tmp_path / "copy", rest, grpc)
        scored += run_commands(PAGE, root, rest, grpc)
        (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        exec(python.replace("http://localhost:8501", rest), {})
    assert {*metadata["metadata"]["signature_def"]["signature_def"]} == SIGNATURES
    assert json.loads(info["predictions"][0])["labels"] == ["a", "b", "ç"]
    sine = np.sin(np.arange(500) / 9).astype(np.float32)[None]
    expected = python_answers("serving_default", {"waveform": sine})["features"][0]
    shorter = python_answers("serving_default", {"waveform": sine[:, :250]})["features"][0]
    assert_rounded_the_same(row["predictions"][0]["features"], expected)
    assert_rounded_the_same(columns["outputs"]["features"], [expected, shorter])
    scores = [answer["predictions"][0]["scores"] if "predictions" in answer else answer["scores"] for answer in scored]
    alone = python_answers("audio_bytes", {"audio_bytes": [wav(noise(500), 2000)]})["scores"][0]
    np.testing.assert_allclose(scores, [alone] * 6, atol=1e-5)
    assert re.fullmatch(r"\['[abç]', '[abç]'\]\n", capsys.readouterr().out.replace("np.str_(", "").replace(")", ""))


@pytest.mark.parametrize(
    ("folder_name", "name"), [("tönes & co", "t_nes_co"), ("convnet5.urban-8k", "convnet5.urban-8k"), ("a/b:c", "b_c")]
)
def test_the_served_name_can_stand_in_a_url(folder_name, name):
    assert tf_serving.served_name(Path(folder_name)) == name


def test_the_client_needs_no_tensorflow_over_rest(folder, model):
    code = """
import sys
sys.modules.update(dict.fromkeys(("tensorflow", "grpc", "tensorflow_serving", "keras_audio_transfer")))
import client
print(client.Client(sys.argv[1], sys.argv[2]).info()["labels"])
try:
    client.Client("grpc://localhost:1", sys.argv[2])
except client.ServingError as error:
    print(error)
"""
    with rest_server(model) as at:
        command = [sys.executable, "-c", code, at, SERVED]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    labels, error = run.stdout.splitlines()
    assert labels == "['a', 'b', 'ç']"
    assert error.startswith(f"grpc://localhost:1, model {SERVED}: gRPC needs tensorflow-serving-api (")


# What cannot be exported


def test_without_tensorflow_serving_api_nothing_is_done(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tf_serving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^serving: needs tensorflow-serving-api; pip install 'keras_audio_transfer"):
        tf_serving.check_installed()


def test_a_model_whose_answers_depend_on_the_batch_is_not_served(source, tmp_path):
    card = json.loads((source / "card.json").read_text())
    card["audio"]["decibel_maximum"] = "batch"
    shutil.copyfile(source / "model.keras", tmp_path / "model.keras")
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="its features depend on the whole batch, which a server puts together anew"):
        export_script(tmp_path, "--output-dir", tmp_path / "served", "--serving")
    assert not (tmp_path / "served").exists()


def test_what_a_user_has_edited_is_replaced_only_if_told_to(folder, source, tmp_path):
    copy = shutil.copytree(folder, tmp_path / SERVED)
    tf_serving.check_kit(copy, AudioConfig.from_dict(json.loads((copy / "card.json").read_text())["audio"]))
    for name in tf_serving.KIT:
        before = (copy / name).read_text()
        (copy / name).write_text(before + "# mine\n")
        with pytest.raises(InputError, match=rf"{name}: is not what this export would write, .*; pass --overwrite to"):
            export_script(source, "--output-dir", copy, "--version", 2, "--serving")
        assert (copy / name).read_text() == before + "# mine\n"
        (copy / name).write_text(before)


def test_a_version_without_files_for_the_server_says_so(folder, source, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(folder, tmp_path / SERVED)
    monkeypatch.setattr(saved_model, "write_model", lambda *arguments: 0.0)
    export_script(source, "--output-dir", copy, "--version", 2)
    said = "version 2 has no warm-up requests, and models.config, batching.config, SERVING.md, client.py are as they"
    assert f"{copy}: {said} were; --serving writes them" in capsys.readouterr().err


@pytest.mark.slow
def test_warmup_requests_that_the_model_refuses_are_not_written(folder, monkeypatch, tmp_path):
    shutil.copytree(folder / "1", tmp_path / "1", ignore=shutil.ignore_patterns("assets.extra"))
    too_short = [("serving_default", {"waveform": noise(1, 9)})]
    monkeypatch.setattr(tf_serving, "example_requests", lambda config: too_short)
    with pytest.raises(InputError, match=r"1: refuses serving_default \(.*is shorter than a frame"):
        tf_serving.write_kit(tmp_path, 1, SERVED, CONFIG)
