"""What TensorFlow Serving wants beside a SavedModel: configurations, warm-up requests, a client and how to use them."""

import importlib.util
import re
from pathlib import Path

import numpy as np

from keras_audio_transfer import serving_client
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"  # where TF Serving looks for them in a SavedModel

KIT = ("models.config", "batching.config", "SERVING.md", "client.py")

_MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""

_BATCHING = """\
# Each clip is computed by itself, on as many threads as there are processors; what waits, waits in a queue.
# TF Serving joins requests without looking at them. Clips of other lengths would be refused, or with
# pad_variable_length_inputs be padded with sound that only `padded` knows to ignore, and one request with NaN in it
# would fail all that it was joined with. Where every client sends clips of one length, all of them sound, a larger
# max_execution_batch_size is safe.
max_batch_size { value: 256 }  # the largest request, in clips
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 1 }
max_enqueued_batches { value: 1024 }
batch_timeout_micros { value: 0 }
pad_variable_length_inputs: false
"""

_SERVING = """\
# Serve {name}

From this folder:

```bash
docker run --rm -p 8500:8500 -p 8501:8501 -e TF_ENABLE_ONEDNN_OPTS=1 -e NVIDIA_TF32_OVERRIDE=0 \\
    -v "$PWD:/models/{name}:ro" tensorflow/serving \\
    --model_config_file=/models/{name}/models.config
```

TF_ENABLE_ONEDNN_OPTS chooses TensorFlow's faster kernels, which it leaves off on some processors, and
NVIDIA_TF32_OVERRIDE=0 keeps all digits on a GPU. REST listens on 8501,
gRPC on 8500. Every signature was warmed up before the first request. A version that is added to
this folder is served as soon as it is there. To limit what is computed at the same time, add
`--enable_batching --batching_parameters_file=/models/{name}/batching.config`; the file says what it does.

Inputs and outputs of all signatures, then the model's card:

```bash
curl http://localhost:8501/v1/models/{name}/metadata
curl -d '{{"signature_name": "info", "instances": [0]}}' http://localhost:8501/v1/models/{name}:predict
```

A waveform at the model's {sample_rate} Hz, in row form; two of them, the second one shorter, in columnar form; a WAV
file of any sample rate and length (`clip.wav`: PCM of 8, 16, 24 or 32 bit, or float), {heard}
(by `audio_bytes` it would be computed at its own length, as the waveforms are):

```bash
python3 -c 'import json, math; print(json.dumps({{"instances": [[math.sin(i / 9) for i in range({n_samples})]]}}))' |
    curl -d @- http://localhost:8501/v1/models/{name}:predict
python3 -c 'import json, math; print(json.dumps({{"signature_name": "padded", "inputs": {{"waveform":
    [[math.sin(i / 9) for i in range({n_samples})]] * 2, "num_samples": [{n_samples}, {half}]}}}}))' |
    curl -d @- http://localhost:8501/v1/models/{name}:predict
echo '{{"signature_name": "as_trained", "instances": [{{"b64": "'"$(base64 < clip.wav | tr -d '\\n')"'"}}]}}' |
    curl -d @- http://localhost:8501/v1/models/{name}:predict
```

The same from Python, over REST or gRPC (the latter needs `pip install tensorflow-serving-api`):

```bash
python3 client.py http://localhost:8501 {name} clip.wav
python3 client.py grpc://localhost:8500 {name} clip.wav
```
"""


def check_installed() -> None:
    """Raise InputError where tensorflow-serving-api is missing, which writes the warm-up requests."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise InputError("serving: needs tensorflow-serving-api; pip install 'keras_audio_transfer[serving]'")


def served_name(folder: Path) -> str:
    """The name under which a model folder is served: the folder's, with `_` for what does not belong into a URL."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.resolve().name)


def example_requests(config: AudioConfig) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Representative inputs of every signature: pairs of its name and its inputs by name.

    Clips of the training length; `padded` and `waveform_at` also get two clips that differ in length or rate, which
    take another way through the graph.
    """
    import tensorflow as tf

    rate, n_samples = config.sample_rate, config.n_samples
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, n_samples)).astype(np.float32)
    half = max(n_samples // 2, config.n_fft)
    wav = tf.audio.encode_wav(waveform[0, :, np.newaxis], rate).numpy()
    seconds = {"hop_seconds": config.clip_seconds / 2, "window_seconds": config.clip_seconds}
    return [
        ("serving_default", {"waveform": waveform[:1]}),
        ("padded", {"waveform": waveform[:1], "num_samples": np.int32([n_samples])}),
        ("padded", {"waveform": waveform, "num_samples": np.int32([n_samples, half])}),
        ("waveform_at", {"waveform": waveform[:1], "sample_rate": np.int32([rate])}),
        ("waveform_at", {"waveform": waveform, "sample_rate": np.int32([rate, rate // 2])}),
        ("audio_bytes", {"audio_bytes": np.array([wav], dtype=object)}),
        ("as_trained", {"audio_bytes": np.array([wav], dtype=object)}),
        ("timestamps", {"waveform": waveform[:1], **{name: np.float32([value]) for name, value in seconds.items()}}),
        ("info", {"query": np.zeros(1, dtype=np.int32)}),
    ]


def write_kit(folder: Path, number: int, name: str, config: AudioConfig) -> None:
    """Write what TF Serving wants into a model folder, and replay the warm-up requests.

    Args:
        folder: with the SavedModel; not yet under its own name, because a server may watch that.
        number: the SavedModel's version.
        name: under which it will be served, see `served_name`.
        config: the model's front end, for requests of its sample rate and length.

    Raises:
        InputError: a warm-up request is refused, for which a server would refuse the model.
    """
    _write_warmup(folder / str(number), name, config)
    for file, text in _kit(name, config).items():
        (folder / file).write_bytes(text.encode())


def check_kit(folder: Path, config: AudioConfig) -> None:
    """Refuse to replace one of the files that `write_kit` would write into a model folder by another content.

    Raises:
        InputError: one is there and differs, as when its user has edited it.
    """
    for file, text in _kit(served_name(folder), config).items():
        path = folder / file
        if path.exists() and not (path.is_file() and path.read_bytes() == text.encode()):
            what = "is not what this export would write, as when it was edited or is of an earlier version"
            raise InputError(f"{path}: {what}; pass --overwrite to replace it, or move it")


def _kit(name, config):
    """Name -> text of the files in `KIT`."""
    n_samples = config.n_samples
    how = "heard whole, or padded to" if config.long_clips == "whole" else "cropped or padded to"
    words = {
        "name": name,
        "sample_rate": config.sample_rate,
        "n_samples": n_samples,
        "heard": f"{how} {config.clip_seconds:g} s, as in training",
        "half": max(n_samples // 2, config.n_fft),
    }
    client = Path(serving_client.__file__).read_text(encoding="utf-8")
    texts = _MODELS.format(**words), _BATCHING, _SERVING.format(**words), client
    return dict(zip(KIT, texts, strict=True))


def _write_warmup(saved_model, name, config):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    loaded = tf.saved_model.load(str(saved_model))
    (saved_model / WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(saved_model / WARMUP)) as file:
        for signature, inputs in example_requests(config):
            try:
                loaded.signatures[signature](**{key: tf.constant(values) for key, values in inputs.items()})
            except tf.errors.OpError as error:
                reason = error.message.split("assertion failed: ")[-1].splitlines()[0]
                raise InputError(f"{saved_model}: refuses {signature} ({reason}); nothing was exported") from error
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, signature
            for key, values in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            file.write(log.SerializeToString())
