"""Training: an epoch through tf.data against the same batches in memory, and what makes training faster."""

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import in_a_process
from keras_audio_transfer.config import preset


def epoch(options, augmented):
    """Median seconds of an epoch through tf.data and from memory, and their ratio; in a process of its own."""
    return in_a_process(_epoch, options, augmented)


def _epoch(options, augmented):
    import keras

    from keras_audio_transfer.audio.loading import WaveformStore, readable_clips
    from keras_audio_transfer.datasets import label_names, load
    from keras_audio_transfer.extractor import build_extractor
    from keras_audio_transfer.training.heads import SCORES, add_head, compile_settings
    from keras_audio_transfer.training.input_pipeline import Augmentation, targets, training_batches

    of_train = {"shift_seconds": 1.0, "noise_probability": 0.3, "mixup": 0.3}  # the defaults of `train`
    augmentation = Augmentation(**of_train) if augmented else Augmentation()
    config = preset("short16k")
    clips = np.random.default_rng(options.seed).permutation(load("urbansound8k", options.urbansound_dir))
    clips = [*clips[: options.epoch_clips]]
    store = WaveformStore(config, whole_clips=True, cache="memory")
    readable_clips(clips, store)
    names = label_names(clips)
    model = add_head(build_extractor(config), len(names))
    model = keras.Model(model.input, model.output[SCORES])
    model.compile(optimizer="adam", **compile_settings(multi_label=False))
    epochs = range(options.epochs + 1)
    batches = training_batches(clips, targets(clips, names), store, config, 32, options.seed, epochs, augmentation)
    n_batches = -(-len(clips) // 32)
    held = [*batches.take(n_batches)]

    def seconds(source):
        start = time.perf_counter()
        for x, y in source:
            model.train_on_batch(x, y)
        return time.perf_counter() - start

    stream = iter(batches)
    seconds(next(stream) for _ in range(n_batches))  # the first epoch: tracing
    pairs = [(seconds(next(stream) for _ in range(n_batches)), seconds(held)) for _ in range(options.epochs)]
    through, from_memory = map(statistics.median, zip(*pairs, strict=True))
    return {
        "clips": len(clips),
        "epochs_of_each_kind": options.epochs,
        "seconds_through_tf_data": through,
        "seconds_from_memory": from_memory,
        "ratio": through / from_memory,
    }


# Four steps, each on top of those before; then what was tried and left out. `train` works as 'fast_kernels'
# does, `transfer` as 'process_a_core'. No jit_compile: see `training.heads.compile_settings`.
TRAININGS = {
    "default_kernels": {"fast_kernels": False, "computed_once": False, "process_a_core": False},
    "fast_kernels": {"computed_once": False, "process_a_core": False},
    "computed_once": {"process_a_core": False},
    "process_a_core": {},
    "bfloat16": {"policy": "mixed_bfloat16"},
}


def steps_of_training(
    network, preset_name, steps, threads, barrier=None, fast_kernels=True, computed_once=True,
    policy="float32",
):  # fmt: skip
    """Clips a second of that many batches, after two for tracing."""
    if not fast_kernels:
        del os.environ["TF_ENABLE_ONEDNN_OPTS"]  # set by `cli`
    import keras
    import tensorflow as tf

    from keras_audio_transfer.audio.loading import WaveformStore
    from keras_audio_transfer.datasets import load
    from keras_audio_transfer.extractor import build_extractor, spectrogram_of
    from keras_audio_transfer.training.heads import SCORES, add_head, compile_settings
    from keras_audio_transfer.training.input_pipeline import (
        array_batches,
        evaluation_batches,
        targets,
        training_batches,
    )

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    tf.config.experimental.enable_op_determinism()
    config = preset(preset_name).with_clip_seconds(1.0)
    clips = load("synthetic")[: 32 * 4]
    clip_targets = targets(clips, ["harmonic", "noisy", "impulsive", "swept", "modulated"])
    store = WaveformStore(config, cache="memory")
    model = add_head(build_extractor(config, network), clip_targets.shape[1])
    if computed_once:
        front_end = keras.Model(model.input, spectrogram_of(model))
        waveforms = evaluation_batches(clips, clip_targets, store, config, 32)
        spectrograms = np.concatenate([front_end(x).numpy() for x, _ in waveforms]).astype(np.float32)
        rows = np.arange(len(clips))
        batches = array_batches(spectrograms, clip_targets, rows, 32, 0, range(steps + 2))
        model = keras.Model(spectrogram_of(model), model.output[SCORES])
    else:
        batches = training_batches(clips, clip_targets, store, config, 32, 0, range(-(-(steps + 2) // 4)))
        model = keras.Model(model.input, model.output[SCORES])
    model.compile(optimizer="adam", **compile_settings(multi_label=False))
    batches = iter(batches)
    for _ in range(2):
        model.train_on_batch(*next(batches))
    if barrier is not None:
        barrier.wait()
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(*next(batches))
    return 32 * steps / (time.perf_counter() - start)


def training(options, network, preset_name):
    """Clips a second of each of `TRAININGS`, and how many times those of the first."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    figures = {}
    for name, how in TRAININGS.items():
        how = dict(how)
        processes = cores if how.pop("process_a_core", True) else 1
        with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
            arguments = network, preset_name, options.steps, cores // processes, manager.Barrier(processes)
            runs = [pool.submit(steps_of_training, *arguments, **how) for _ in range(processes)]
            speed = sum(run.result() for run in runs)
        first = figures.get("default_kernels", {"clips_a_second": speed})["clips_a_second"]
        figures[name] = {"clips_a_second": speed, "ratio": speed / first}
    return figures
