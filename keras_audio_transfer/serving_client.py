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
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_REST, _GRPC = ("http://", "https://"), "grpc://"


class ServingError(RuntimeError):
    """A request that was not answered. The message is one line: the server, the model and what is wrong."""


class Client:
    """A model on a TensorFlow Serving server.

    Args:
        address: `http://HOST:PORT` or `https://...` for REST, `grpc://HOST:PORT` for gRPC.
        model: its name on the server.
        version: a version number; by default the latest that is served.
        timeout: seconds to wait for an answer.

    Raises:
        ServingError: an address of another kind, or gRPC without tensorflow-serving-api.
    """

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        self.address, self.model, self.version, self.timeout = address.rstrip("/"), model, version, timeout
        if address.startswith(_GRPC):
            self._ask = _grpc(self)
        elif address.startswith(_REST):
            self._ask = _rest(self)
        else:
            raise ServingError(f"{address}: is no address; expected http://HOST:PORT, https://... or grpc://HOST:PORT")

    def predict(self, waveforms: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The model's outputs for waveforms of any lengths, in one request; each gets what it gets alone.

        They are computed at their own lengths. Scores are best at the length that the model was trained on,
        `info()["audio"]["n_samples"]`, to which `predict_wav` crops or pads.

        Args:
            waveforms: arrays (samples,), at the model's sample rate, in [-1, 1].

        Returns:
            A dict for each: layer name -> (channels,), `features`, and `scores` and `labels` if the model has them.

        Raises:
            ServingError: no waveforms, one that is not (samples,), and what the server refuses.
        """
        waveforms = [np.asarray(waveform, dtype=np.float32) for waveform in waveforms]
        if not waveforms:
            raise self.error("no waveforms; expected at least one")
        for waveform in waveforms:
            if waveform.ndim != 1:
                raise self.error(f"a waveform of shape {waveform.shape}; expected (samples,)")
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int32)
        padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        return _rows(self.ask("padded", waveform=padded, num_samples=lengths))

    def predict_wav(self, files: Sequence[str | Path | bytes]) -> list[dict[str, np.ndarray]]:
        """The model's outputs for WAV files, paths or contents, cropped or padded to the length that it was trained on.

        They are what `predict` and `extract` answer. `ask("audio_bytes", ...)` takes each at its own length.

        Raises:
            ServingError: no files, one that cannot be read, and what the server refuses.
        """
        contents = []
        for file in files:
            try:
                contents.append(file if isinstance(file, bytes) else Path(file).read_bytes())
            except OSError as error:
                raise ServingError(f"{file}: cannot be read ({error.strerror}); expected a WAV file") from error
        if not contents:
            raise self.error("no files; expected at least one")
        return _rows(self.ask("as_trained", audio_bytes=np.array(contents, dtype=object)))

    def info(self) -> dict:
        """The model's card: its sample rate and front end, layers, labels, training data and their licence, scores."""
        return json.loads(self.ask("info", query=np.zeros(1, dtype=np.int32))["card"][0])

    def ask(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Any signature: its inputs and outputs by name. Strings are arrays of bytes objects in, of str out."""
        return self._ask(signature, inputs)

    def error(self, message: str) -> ServingError:
        """An error that names the server and the model, without TensorFlow's traces of the graph."""
        message = re.sub(r"\[\[\{\{.*?\}\}\]\]", "", message)
        message = re.sub(r"assertion failed: \[(.*)\] (\[[^\]]*\])", r"\1 \2", message)
        return ServingError(f"{self.address}, model {self.model}: {' '.join(message.split())}")


def _rows(outputs):
    number = len(next(iter(outputs.values())))
    return [{name: values[i] for name, values in outputs.items()} for i in range(number)]


def _rest(client):
    version = "" if client.version is None else f"/versions/{client.version}"
    url = f"{client.address}/v1/models/{urllib.parse.quote(client.model, safe='')}{version}:predict"

    def ask(signature, inputs):
        named = {name: _as_json(values) for name, values in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": named}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=client.timeout) as answer:
                outputs = json.load(answer)["outputs"]
        except urllib.error.HTTPError as error:
            raise client.error(_reason(error)) from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise client.error(
                f"cannot be reached ({reason}); is the server running, and the address right?"
            ) from error
        except http.client.InvalidURL as error:
            raise client.error(f"is no address ({error}); expected http://HOST:PORT") from error
        except (ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            raise client.error("answers, but not as TensorFlow Serving does; expected its REST port") from error
        if not isinstance(outputs, dict):  # TF Serving leaves out the name of a lone output; only info has one
            outputs = {"card": outputs}
        return {name: np.asarray(values) for name, values in outputs.items()}

    return ask


def _as_json(values):
    if values.dtype == object:
        return [{"b64": base64.b64encode(content).decode()} for content in values]
    return values.tolist()


def _reason(error):
    """What TF Serving says of a request that it refuses."""
    try:
        return json.load(error)["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {error.code} ({error.reason})"


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
        request.model_spec.name, request.model_spec.signature_name = client.model, signature
        if client.version is not None:
            request.model_spec.version.value = client.version
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        try:
            answer = stub.Predict(request, timeout=client.timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                reason = f"cannot be reached ({error.details()}); is the server running, and the address right?"
            else:
                reason = error.details()
            raise client.error(reason) from error
        outputs = {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
        return {name: np.char.decode(v.astype(bytes)) if v.dtype == object else v for name, v in outputs.items()}

    return ask


def _summary(outputs):
    """The label and all scores of a clip; of a model without labels, its features."""
    names = [name for name in ("labels", "scores") if name in outputs] or ["features"]
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
