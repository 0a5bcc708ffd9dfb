"""Serving: latency and speed of a Keras model and of its SavedModel, request by request in turn."""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, largest_difference
from keras_audio_transfer.config import preset
from keras_audio_transfer.model_folder import Card

BATCHES = (1, 8, 32)
_served = {}  # in the process of one kind: what answers requests


def model_of(name, seed):
    """The Keras model and the card of a model folder, or of a `NETWORK:PRESET` with random weights."""
    import keras

    from keras_audio_transfer.extractor import build_extractor

    if ":" not in name:
        return keras.models.load_model(Path(name) / "model.keras", compile=False), Card.read(Path(name))
    network, _, preset_name = name.partition(":")
    keras.utils.set_random_seed(seed)
    card = Card(preset(preset_name))
    return build_extractor(card.audio, network), card


def write_both(name, folder, seed):
    """Write the Keras model, and SavedModels of it as it is (`plain`) and as it is exported; samples."""
    import tensorflow as tf

    from keras_audio_transfer.export.saved_model import write_saved_model
    from keras_audio_transfer.export.signatures import build_signatures

    model, card = model_of(name, seed)
    model.save(folder / "model.keras")
    write_saved_model(model, folder / "exported", card)
    served, signatures = build_signatures(model, card)
    tf.saved_model.save(served, str(folder / "plain"), signatures=signatures)
    return card.audio.n_samples, card.audio.clip_seconds


def load_keras(path, n_samples, other_kernels=False):
    if other_kernels:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0" else "0"
    import keras
    import tensorflow as tf

    model = keras.models.load_model(path, compile=False)
    function = tf.function(
        lambda waveform: model(waveform, training=False), input_signature=[tf.TensorSpec([None, None], tf.float32)]
    )
    _served.update(answer=function, n_samples=n_samples)


def load_saved_model(path, n_samples):
    """Seconds to load it, TensorFlow's import not counted."""
    import tensorflow as tf

    start = time.perf_counter()
    model = tf.saved_model.load(str(path))
    seconds = time.perf_counter() - start
    signature = model.signatures["serving_default"]
    _served.update(model=model, answer=lambda waveform: signature(waveform=waveform), n_samples=n_samples)
    return seconds


def request(batch, seed=0):
    """Seconds of one request, and its features."""
    import tensorflow as tf

    noise = np.random.default_rng(seed).normal(0, 0.1, (batch, _served["n_samples"]))
    waveform = tf.constant(noise.astype(np.float32))
    start = time.perf_counter()
    outputs = {name: values.numpy() for name, values in _served["answer"](waveform).items()}
    seconds = time.perf_counter() - start
    return seconds, {name: values for name, values in outputs.items() if values.dtype.kind == "f"}


def serving(options, name):
    """The figures of one model: to load it, and for each size of a batch its speeds and differences."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=context) as before,
        ProcessPoolExecutor(1, mp_context=context) as after,
        ProcessPoolExecutor(1, mp_context=context) as otherwise,
    ):
        folder = Path(folder)
        n_samples, clip_seconds = in_a_process(write_both, name, folder, options.seed)
        before.submit(load_keras, folder / "model.keras", n_samples).result()
        otherwise.submit(load_keras, folder / "model.keras", n_samples, other_kernels=True).result()
        figures = {
            "seconds_to_load_plain": in_a_process(load_saved_model, folder / "plain", n_samples),
            "seconds_to_load": after.submit(load_saved_model, folder / "exported", n_samples).result(),
        }
        for key, kind in (("megabytes_plain", "plain"), ("megabytes", "exported")):
            figures[key] = sum(path.stat().st_size for path in (folder / kind).rglob("*") if path.is_file()) / 1e6
        for batch in BATCHES:
            compared = differences(before, after, otherwise, batch)  # first: each process traces its graph
            figures[f"batch_{batch}"] = {**speeds(before, after, batch, options.requests, clip_seconds), **compared}
    return figures


def differences(before, after, otherwise, batch):
    """The largest one of an output, and that between two sets of kernels."""
    expected, *others = (pool.submit(request, batch).result()[1] for pool in (before, after, otherwise))
    difference, of_kernels = (
        max(largest_difference(outputs[layer], values) for layer, values in expected.items()) for outputs in others
    )
    return {"largest_difference": difference, "largest_difference_between_kernels": of_kernels}


def speeds(before, after, batch, requests, clip_seconds):
    """Of the Keras model and of its SavedModel, asked in turn; and the ratio of their medians."""
    pairs = [[pool.submit(request, batch).result()[0] for pool in (before, after)] for _ in range(requests)]
    of_both = np.transpose(pairs)
    medians = np.median(of_both, axis=1)
    figures = {
        f"{who}_{what}": float(value)
        for who, seconds in zip(("keras", "saved_model"), of_both, strict=True)
        for what, value in (
            ("milliseconds_median", 1000 * np.median(seconds)),
            ("milliseconds_99th_percentile", 1000 * np.percentile(seconds, 99)),
            ("audio_seconds_a_second", batch * clip_seconds / np.median(seconds)),
        )
    }
    return {**figures, "ratio": float(medians[0] / medians[1])}
