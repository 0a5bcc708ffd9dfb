"""A GPU against the CPU of the same machine: the spectrogram, the features and a training step of one network."""

import os
import time
from functools import cache

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, largest_difference
from keras_audio_transfer.commands.benchmarks.serving import model_of
from keras_audio_transfer.errors import InputError

BATCH = 32
LABELS = 10
CPU = "cpu"
AS_TENSORFLOW_DOES = "gpu_with_tensor_float_32"  # by itself, on a GPU that has it
KINDS = (CPU, "gpu", AS_TENSORFLOW_DOES)


def gpu(options, name):
    """For each kind clips a second; of the GPU's, how many times those of the CPU, and the difference of features."""
    runs = {kind: in_a_process(measure, name, kind, options.steps, options.seed) for kind in KINDS}
    speeds, expected = runs[CPU]
    figures = {"name": card(), CPU: speeds}
    for kind in KINDS[1:]:
        of_kind, features = runs[kind]
        figures[kind] = {
            **of_kind,
            "times_as_fast_as_the_cpu": {what: value / speeds[what] for what, value in of_kind.items()},
            "largest_difference": max(largest_difference(features[layer], expected[layer]) for layer in expected),
        }
    return figures


@cache
def card():
    """What `name_of_gpu` says, once for all that is measured: a process of its own imports TensorFlow for it."""
    return in_a_process(name_of_gpu)


def name_of_gpu():
    """Raises InputError where TensorFlow has no GPU."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        raise InputError("--gpu: TensorFlow finds no GPU here; see docs/platforms.md, or leave it out")
    return tf.config.experimental.get_device_details(devices[0])["device_name"]


def measure(name, kind, steps, seed):
    """Clips a second of each thing that is computed, batches from memory; and the features of a batch."""
    if kind == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if kind == AS_TENSORFLOW_DOES:
        os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # set by `cli`
    import keras
    import tensorflow as tf

    from keras_audio_transfer.export.signatures import layer_names
    from keras_audio_transfer.extractor import select_layers, spectrogram_of
    from keras_audio_transfer.training.heads import SCORES, add_head, compile_settings

    tf.config.experimental.enable_op_determinism()  # as all trainings do
    model, card = model_of(name, seed)
    model = select_layers(model, layer_names(model))  # without a head of its own
    rng = np.random.default_rng(seed)
    waveforms = rng.normal(0, 0.1, (BATCH, card.audio.n_samples)).astype(np.float32)
    targets = np.eye(LABELS, dtype=np.float32)[rng.integers(LABELS, size=BATCH)]
    front_end = tf.function(keras.Model(model.input, spectrogram_of(model)))
    layers = tf.function(model)

    def features(waveform):
        return {layer: values.numpy() for layer, values in layers(waveform, training=False).items()}

    figures = {
        "spectrogram": _clips_a_second(front_end, steps, waveforms),
        "features_one_clip_at_a_time": _clips_a_second(features, steps, waveforms[:1]),
        "features": _clips_a_second(features, steps, waveforms),
    }
    computed, spectrograms = features(waveforms), front_end(waveforms).numpy()
    scored = add_head(model, LABELS)
    for what, start, inputs in (
        ("training", scored.input, waveforms),
        ("training_with_spectrograms_computed_once", spectrogram_of(scored), spectrograms),
    ):
        trained = keras.Model(start, scored.output[SCORES])
        trained.compile(optimizer="adam", **compile_settings(multi_label=False))
        figures[what] = _clips_a_second(trained.train_on_batch, steps, inputs, targets)
    return figures, computed


def _clips_a_second(function, steps, *batch):
    """Of so many calls, after two that trace and warm up; what a GPU is still busy with is waited for."""
    import tensorflow as tf

    for _ in range(2):
        function(*batch)
    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    for _ in range(steps):
        function(*batch)
    tf.test.experimental.sync_devices()
    return len(batch[0]) * steps / (time.perf_counter() - start)
