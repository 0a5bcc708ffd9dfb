"""Ask a TensorFlow Serving server for the features, scores and labels of sounds. One file, to be copied anywhere.

    python client.py http://localhost:8501 NAME clip.wav ...
    python client.py grpc://localhost:8500 NAME clip.wav ...
    python client.py http://localhost:8501 NAME --info

prints a JSON object a file. In Python:

    client = Client("http://localhost:8501", "NAME")
    client.predict([waveform, longer_waveform])  # float arrays (samples,) at the model's sample rate
    client.predict_wav(["clip.wav", wav_bytes])  # WAV, PCM or float, of any sample rate, length and channels
    client.info()["labels"]

http and https (REST) need NumPy only, grpc needs tensorflow-serving-api.
"""

import argparse
import base64
import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path

import numpy as np

_REST, _GRPC = ("http://", "https://"), "grpc://"
_ADDRESS = "expected http://HOST:PORT, https://... or grpc://HOST:PORT"
# What is wrong with inputs that cannot be sent, and with answers that TensorFlow Serving does not give.
_ODD = (LookupError, TypeError, ValueError, AttributeError, RecursionError)


class ServingError(RuntimeError):
    """A request that was not answered, or cannot be made. The message is one line: where, and what is wrong."""


class Client:
    """A model on a TensorFlow Serving server.

    Args:
        address: `http://HOST:PORT` or `https://...` for REST, `grpc://HOST:PORT` for gRPC.
        model: its name on the server.
        version: a version number; by default the latest that is served.
        timeout: seconds to wait for an answer.

    Raises:
        ServingError: an argument of another kind, or gRPC without tensorflow-serving-api.
    """

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        self.address, self.model, self.version, self.timeout = address, model, version, timeout
        if not isinstance(address, str) or not address.startswith((*_REST, _GRPC)):
            raise ServingError(f"{_shown(address)}: is no address; {_ADDRESS}")
        try:
            parts = urllib.parse.urlsplit(address)
            if not parts.hostname or parts.port == 0 or " " in address or not address.isprintable():
                raise ValueError("it has no host, no such port, or blanks")
        except ValueError as error:
            raise self.error(f"is no address ({error}); {_ADDRESS}") from error
        if not isinstance(model, str) or not model.isprintable() or not model:
            raise self.error("is no name; expected that of a model on the server")
        if version is not None and not (_is(Integral, version) and 0 <= version < 2**63):
            raise self.error(f"version {_shown(version)} cannot be; expected a whole number, or None for the latest")
        if not (_is(Real, timeout) and 0 < timeout <= 1e9):  # beyond, sockets have no number for it
            raise self.error(f"timeout {_shown(timeout)} cannot be; expected seconds, more than 0")
        self.address = address.rstrip("/")
        self._ask = _grpc(self) if address.startswith(_GRPC) else _rest(self)

    def predict(self, waveforms: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The model's outputs for waveforms of any lengths, in one request; each gets what it gets alone.

        They are computed at their own lengths. Scores are best at the length that the model was trained on,
        `info()["audio"]["n_samples"]`, to which `predict_wav` crops or pads.

        Args:
            waveforms: arrays of floats (samples,), at the model's sample rate, in [-1, 1].

        Returns:
            A dict for each: layer name -> (channels,), `features`, and `scores` and `labels` if the model has them.

        Raises:
            ServingError: no waveforms, one that is not floats (samples,) or not finite, and what the server refuses.
        """
        waveforms = [self._waveform(waveform) for waveform in self._listed(waveforms, "waveforms")]
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int32)
        padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        return self._rows(self.ask("padded", waveform=padded, num_samples=lengths), len(waveforms))

    def predict_wav(self, files: Sequence[str | Path | bytes] | str | Path | bytes) -> list[dict[str, np.ndarray]]:
        """The model's outputs for WAV files, paths or contents, cropped or padded to the length that it was trained on.

        They are what `predict` and `extract` answer. `ask("audio_bytes", ...)` takes each at its own length.

        Args:
            files: paths or contents; or one.

        Raises:
            ServingError: no files, one that cannot be read, and what the server refuses.
        """
        is_one = isinstance(files, (str, bytes, os.PathLike))
        contents = []
        for file in self._listed([files] if is_one else files, "files"):
            try:
                contents.append(file if isinstance(file, bytes) else Path(file).read_bytes())
            except (OSError, TypeError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ServingError(f"{_shown(file)}: cannot be read ({reason}); expected a WAV file") from error
        return self._rows(self.ask("as_trained", audio_bytes=np.array(contents, dtype=object)), len(contents))

    def info(self) -> dict:
        """The model's card: its sample rate and front end, layers, labels, training data and their licence, scores."""
        outputs = self.ask("info", query=np.zeros(1, dtype=np.int32))
        try:
            card = json.loads(outputs["card"][0])
        except _ODD as error:
            raise self.error("answers info without a card; expected a model that `export` has written") from error
        if not isinstance(card, dict):
            raise self.error("answers info with another thing than a card; expected a model that `export` has written")
        return card

    def ask(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Any signature: its inputs and outputs by name. Strings are arrays of bytes objects in, of str out."""
        return self._ask(signature, inputs)

    def error(self, message: str) -> ServingError:
        """An error that names the server and the model, without TensorFlow's traces of the graph."""
        message = re.sub(r"\[\[\{\{.*?\}\}\]\]", "", message)
        message = re.sub(r"assertion failed: \[(.*)\] (\[[^\]]*\])", r"\1 \2", message)
        return ServingError(f"{self.address}, model {self.model}: {' '.join(message.split())}")

    def _listed(self, values: Iterable, what: str) -> list:
        try:
            listed = [*values]
        except TypeError as error:
            raise self.error(f"{what} of type {type(values).__name__}; expected a list of them") from error
        if not listed:
            raise self.error(f"no {what}; expected at least one")
        return listed

    def _waveform(self, samples: np.ndarray) -> np.ndarray:
        """Samples as they are sent, which the server cannot tell from others of their number."""
        try:
            waveform = np.asarray(samples)
        except _ODD as error:
            raise self.error(f"a waveform that is no array ({error}); expected floats (samples,)") from error
        if waveform.dtype.kind != "f":
            what = "expected floats in [-1, 1]; divide int16 by 32768"
            raise self.error(f"a waveform of type {waveform.dtype}; {what}")
        if waveform.ndim != 1:
            raise self.error(f"a waveform of shape {waveform.shape}; expected (samples,)")
        with np.errstate(over="ignore"):
            waveform = waveform.astype(np.float32)
        if np.ma.is_masked(samples) or not np.isfinite(waveform).all():
            raise self.error("waveform: holds NaN or infinity, or is masked; expected finite samples")
        return waveform

    def _rows(self, outputs: dict[str, np.ndarray], number: int) -> list[dict[str, np.ndarray]]:
        """A dict for each of those that were asked for."""
        rows = {name: len(values) if values.ndim else 0 for name, values in outputs.items()}
        wrong = [f"{found} rows of {name}" for name, found in rows.items() if found != number]
        if wrong or not rows:
            raise self.error(f"answers {wrong[0] if wrong else 'nothing'}; expected {number}, one for each clip")
        return [{name: values[i] for name, values in outputs.items()} for i in range(number)]


def _shown(value):
    """An argument in one line, without what would control a terminal."""
    text = str(value)
    return text if text.isprintable() and text else repr(text)


def _is(kind, value):
    return isinstance(value, kind) and not isinstance(value, bool)


def _rest(client):
    version = "" if client.version is None else f"/versions/{client.version}"
    url = f"{client.address}/v1/models/{urllib.parse.quote(client.model, safe='')}{version}:predict"

    def ask(signature, inputs):
        try:
            named = {name: _as_json(np.asarray(values)) for name, values in inputs.items()}
            body = json.dumps({"signature_name": signature, "inputs": named}).encode()
        except _ODD as error:
            raise client.error(f"{_shown(signature)} cannot be asked ({error}); expected arrays by name") from error
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=client.timeout) as answer:
                return _as_arrays(json.load(answer)["outputs"])
        except urllib.error.HTTPError as error:
            raise client.error(_reason(error)) from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise client.error(
                f"cannot be reached ({reason}); is the server running, and the address right?"
            ) from error
        except http.client.InvalidURL as error:
            raise client.error(f"is no address ({error}); {_ADDRESS}") from error
        except (*_ODD, http.client.HTTPException) as error:
            raise client.error("answers, but not as TensorFlow Serving does; expected its REST port") from error

    return ask


def _as_json(values):
    if values.dtype == object:
        return [{"b64": base64.b64encode(content).decode()} for content in values]
    return values.tolist()


def _as_arrays(outputs):
    """Outputs by name. Raises TypeError or ValueError for what is none."""
    if isinstance(outputs, list):  # TF Serving leaves out the name of a lone output; only info has one
        outputs = {"card": outputs}
    arrays = {name: np.asarray(values) for name, values in outputs.items()}
    if any(values.dtype.kind not in "biufU" for values in arrays.values()):
        raise TypeError("an output is neither numbers nor texts")
    return arrays


def _reason(error):
    """What TF Serving says of a request that it refuses."""
    try:
        reason = json.load(error)["error"]
    except (*_ODD, OSError, http.client.HTTPException):
        reason = None
    return reason if isinstance(reason, str) and reason else f"HTTP status {error.code} ({error.reason})"


def _grpc(client):
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise client.error(f"gRPC needs tensorflow-serving-api ({error}); install it, or use http://") from error
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(client.address.removeprefix(_GRPC), options=unlimited)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(signature, inputs):
        request = predict_pb2.PredictRequest()
        try:
            request.model_spec.name, request.model_spec.signature_name = client.model, signature
            if client.version is not None:
                request.model_spec.version.value = client.version
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        except _ODD as error:
            raise client.error(f"{_shown(signature)} cannot be asked ({error}); expected arrays by name") from error
        try:
            answer = stub.Predict(request, timeout=client.timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                reason = f"cannot be reached ({error.details()}); is the server running, and the address right?"
            else:
                reason = error.details()
            raise client.error(reason) from error
        try:
            outputs = {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
            return {name: np.char.decode(v.astype(bytes)) if v.dtype == object else v for name, v in outputs.items()}
        except Exception as error:  # tensors of a type, a shape or a content that cannot be
            raise client.error("answers, but not as TensorFlow Serving does; expected its gRPC port") from error

    return ask


def _summary(outputs):
    """What the model says of a clip; of one that says nothing, its features."""
    names = [name for name in ("labels", "scores", "probabilities", "known") if name in outputs] or ["features"]
    if not {*names} <= {*outputs}:
        raise ServingError(f"the model answers {', '.join(outputs)}; expected labels, scores or features")
    return {name: outputs[name].tolist() for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 1 if some files failed, 2 if nothing could be asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="http://HOST:PORT for REST, grpc://HOST:PORT for gRPC")
    parser.add_argument("model", help="its name on the server")
    parser.add_argument("files", nargs="*", metavar="FILE.wav", help="WAV files, PCM or float")
    parser.add_argument("--info", action="store_true", help="print the model's card")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer")
    options = parser.parse_args(arguments)
    if not options.files and not options.info:
        parser.error("expected WAV files, or --info")
    failed = 0
    try:
        client = Client(options.address, options.model, timeout=options.timeout)
        if options.info:
            print(json.dumps(client.info(), indent=2, ensure_ascii=False))
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in options.files:
        try:
            (outputs,) = client.predict_wav([file])
            print(json.dumps({"file": file, **_summary(outputs)}, ensure_ascii=False))
        except ServingError as error:
            failed += 1
            print(f"failed: {file}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
