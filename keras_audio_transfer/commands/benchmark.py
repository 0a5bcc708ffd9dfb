"""Measure the speed and memory that the documents quote, as ratios within one run.

    python scripts/benchmark.py --esc-dir data/ESC-50 --urbansound-dir data/UrbanSound8K --output benchmark.json

extraction   scripts/extract.py's way from wav files to the features of all five layers, against the way of the 2017
             code: librosa.load, five models for five layers, `predict` one clip at a time. Both at the published
             settings (12 kHz, 29 s), each in a process of its own, after a warm-up clip, imports not counted.
memory       the highest memory use of scripts/extract.py with few and with four times as many files.
recordings   the highest memory use and the time of scripts/extract.py with recordings of noise, every second the
             features of the 4 s around it.
epoch        an epoch of training from the second on, waveforms through tf.data, against the same batches held in
             memory; several of each in turn, medians.
training     clips a second of a network in training, a second of sound each: TensorFlow's default kernels, waveforms
             through tf.data into one process with all cores, the spectrogram in every step; and what each change
             makes of that (TRAININGS, below).
serving      for batches of 1, 8 and 32 clips of a model folder or a network with random weights: latency (50th and
             99th percentile) and audio-seconds a second of the Keras model, called in one tf.function, and of its
             SavedModel, each in a process of its own, requests in turn; the largest difference of an output, and, to
             compare, that between the Keras model with TensorFlow's other kernels and itself; time to load and size
             of a SavedModel of the model as it is, and of the one that is exported (folded and tiled).
probes       all 31 combinations of five layers on GTZAN-genre, the published features and the paper's grid and folds,
             by scripts/probe.py's way and by 31 of scikit-learn's GridSearchCV, both with as many jobs; the largest
             difference of a score.

Each part whose data folder is not given is left out; recordings, training and serving need none, but have to be asked
for.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from keras_audio_transfer.commands import cli
from keras_audio_transfer.config import preset
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_json
from keras_audio_transfer.model_folder import Card


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("--esc-dir", type=Path, metavar="DIR", help="ESC-50's folder, for extraction and memory")
    parser.add_argument("--urbansound-dir", type=Path, metavar="DIR", help="UrbanSound8K's folder, for epoch")
    parser.add_argument(
        "--choi2017-dir", type=Path, metavar="DIR", help="a copy of keunwoochoi/transfer_learning_music, for probes"
    )
    parser.add_argument("--jobs", type=int, default=2, help="threads, or processes of GridSearchCV, for probes")
    parser.add_argument(
        "--clips", type=int, default=60, help="wav files for extraction; memory also takes four times as many"
    )
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each kind")
    parser.add_argument("--epoch-clips", type=int, default=640, help="clips in an epoch")
    parser.add_argument(
        "--training", nargs="+", default=[], metavar="NETWORK:PRESET", help="such as densenet40:light16k, for training"
    )
    parser.add_argument(
        "--recording-minutes", nargs="+", type=int, default=[], metavar="N", help="lengths, for recordings"
    )
    parser.add_argument("--steps", type=int, default=20, help="timed batches of 32 clips, for training")
    parser.add_argument(
        "--serving", nargs="+", default=[], metavar="MODEL_DIR|NETWORK:PRESET", help="such as convnet5:choi2017"
    )
    parser.add_argument("--requests", type=int, default=100, help="timed requests of each kind and size, for serving")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the figures here, too")
    return parser


def some_wavs(esc_dir, number):
    from keras_audio_transfer.datasets import load

    return [clip.path for clip in load("esc10", esc_dir)[:number]]


def make_model(folder, seed):
    """The published network with random weights, and statistics of normalisation as after training."""
    import keras

    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.extractor import build_extractor

    keras.utils.set_random_seed(seed)
    model = build_extractor(preset("choi2017"))
    noise = np.random.default_rng(seed).normal(0, 0.1, (4, 5 * preset("choi2017").sample_rate)).astype(np.float32)
    taps = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for tap in taps:  # in order of depth: each one's input depends on the statistics of those before it
        maps = keras.Model(model.input, tap.input)(noise).numpy()
        tap.moving_mean.assign(maps.mean(axis=(0, 1, 2)))
        tap.moving_variance.assign(maps.var(axis=(0, 1, 2)))
    folder.mkdir()
    saved_model.write_model(folder, model, Card(preset("choi2017")))


def the_2017_way(model_dir, wavs):
    """Seconds for all clips, and their features (clips, 160)."""
    import keras
    import librosa

    from keras_audio_transfer.extractor import select_layers

    config = preset("choi2017")
    model = keras.models.load_model(model_dir / "model.keras", compile=False)
    models = [select_layers(model, [name]) for name in model.output]

    def features(path):
        waveform, _ = librosa.load(path, sr=config.sample_rate)
        # librosa rounds the length up, also by a hair: five seconds get a 60,001st sample, of zero.
        waveform = waveform[: round(soundfile.info(path).duration * config.sample_rate)]
        waveform = np.resize(waveform, config.n_samples)
        outputs = [one.predict(waveform[np.newaxis], verbose=0) for one in models]
        return np.concatenate([values for output in outputs for values in output.values()], axis=1)[0]

    features(wavs[0])
    start = time.perf_counter()
    rows = [features(path) for path in wavs]
    return time.perf_counter() - start, np.stack(rows)


def our_way(model_dir, wavs):
    """Seconds for all clips, and their features (clips, 160)."""
    from keras_audio_transfer.datasets.clip import Clip
    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip
    from keras_audio_transfer.model_folder import latest_saved_model

    card = Card.read(model_dir)
    use_one_thread_a_clip(2)
    extractor = SavedExtractor(latest_saved_model(model_dir))
    clips = [Clip(str(path), path) for path in wavs]
    extract(extractor, card.layer_names, clips[:1], [], card.audio)
    start = time.perf_counter()
    features, _ = extract(extractor, card.layer_names, clips, [], card.audio)
    seconds = time.perf_counter() - start
    return seconds, np.concatenate([*features.layers.values()], axis=1)


def in_a_process(function, *parameters):
    """`function(*parameters)` in a fresh process, so that TensorFlow's settings and memory are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *parameters).result()


def largest_difference(values, expected):
    """Relative to 1 or, where larger, to what is expected."""
    return float(np.max(np.abs(values - expected) / np.maximum(1.0, np.abs(expected))))


def extraction(options, model_dir):
    wavs = some_wavs(options.esc_dir, options.clips)
    audio_seconds = sum(soundfile.info(path).duration for path in wavs)
    then, features_then = in_a_process(the_2017_way, model_dir, wavs)
    now, features_now = in_a_process(our_way, model_dir, wavs)
    return {
        "clips": len(wavs),
        "audio_seconds": audio_seconds,
        "audio_seconds_a_second_2017": audio_seconds / then,
        "audio_seconds_a_second": audio_seconds / now,
        "ratio": then / now,
        "largest_difference": largest_difference(features_now, features_then),
    }


def memory(options, model_dir):
    figures = {}
    for number in (options.clips, 4 * options.clips):
        wavs = some_wavs(options.esc_dir, number)
        figures[f"peak_megabytes_{len(wavs)}_files"], _ = cost_of_extraction(model_dir, *wavs)
    return figures


def recordings(options, model_dir):
    """Megabytes and seconds for each length, 16 kHz noise, mono."""
    figures = {}
    for minutes in options.recording_minutes:
        with tempfile.TemporaryDirectory() as folder:
            path, rng = Path(folder) / "recording.flac", np.random.default_rng(options.seed)
            with soundfile.SoundFile(path, "w", 16000, 1) as file:
                for _ in range(minutes):
                    file.write(rng.normal(0, 0.1, 60 * 16000).astype(np.float32))
            megabytes, seconds = cost_of_extraction(model_dir, path, "--hop-seconds", "1", "--clip-seconds", "4")
        figures[f"{minutes}_minutes"] = {"peak_megabytes": megabytes, "seconds": seconds}
    return figures


def cost_of_extraction(model_dir, *arguments):
    """The highest memory use of scripts/extract.py in megabytes, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "keras_audio_transfer", "extract", model_dir, *arguments, "--quiet"]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--output", Path(folder) / "features.npz"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise InputError("memory, recordings: scripts/extract.py failed; see its message above")
        return usage.ru_maxrss / 1024, time.perf_counter() - start


def epoch(options, augmentation):
    """Median seconds of an epoch through tf.data and from memory, and their ratio."""
    import keras

    from keras_audio_transfer.audio import WaveformStore, readable_clips
    from keras_audio_transfer.datasets import label_names, load
    from keras_audio_transfer.extractor import build_extractor
    from keras_audio_transfer.heads import SCORES, add_head, compile_settings
    from keras_audio_transfer.input_pipeline import targets, training_batches

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


def probes(options):
    """Seconds of both ways, their ratio, and the largest difference of a score."""
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.svm import SVC

    from keras_audio_transfer.pretrained import choi2017_results
    from keras_audio_transfer.probing.cross_validation import CHOI2017
    from keras_audio_transfer.probing.grid_search import GRID
    from keras_audio_transfer.probing.layer_selection import all_combinations
    from keras_audio_transfer.probing.prober import Prober

    features = choi2017_results.read_task(options.choi2017_dir, "gtzan_genre")
    combinations = all_combinations(choi2017_results.LAYERS)
    prober = Prober(features, CHOI2017, n_jobs=options.jobs)

    def our_way():
        start = time.perf_counter()
        rows = [*Prober(features, CHOI2017, n_jobs=options.jobs).rows(combinations)]
        return time.perf_counter() - start, {row["layers"]: row["score"] for row in rows}

    before, ours = our_way()
    fold_of = np.empty(len(features.labels), dtype=int)
    for number, fold in enumerate(prober.outer_folds):
        fold_of[fold.outer.score] = number
    grid = [{name: [value] for name, value in point._asdict().items() if value is not None} for point in GRID]
    differences = []
    start = time.perf_counter()
    for layers in combinations:
        x = np.concatenate([features.layers[name] for name in layers], axis=1)
        search = GridSearchCV(SVC(), grid, cv=PredefinedSplit(fold_of), n_jobs=options.jobs)
        search.fit(x, features.labels)
        differences.append(abs(search.best_score_ - ours["+".join(layers)]))
    then = time.perf_counter() - start
    now = statistics.mean([before, our_way()[0]])  # before and after: other work on the machine comes and goes
    return {
        "combinations": len(combinations),
        "jobs": options.jobs,
        "seconds_grid_search_cv": then,
        "seconds": now,
        "ratio": then / now,
        "largest_difference": max(differences),
    }


# Four steps, each on top of those before; then what was tried and left out. scripts/train.py works as 'fast_kernels'
# does, scripts/transfer.py as 'process_a_core'. No jit_compile: Keras leaves it off where operations are deterministic.
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

    from keras_audio_transfer.audio import WaveformStore
    from keras_audio_transfer.datasets import load
    from keras_audio_transfer.extractor import build_extractor, spectrogram_of
    from keras_audio_transfer.heads import SCORES, add_head, compile_settings
    from keras_audio_transfer.input_pipeline import array_batches, evaluation_batches, targets, training_batches

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


BATCHES = (1, 8, 32)
_served = {}  # in the process of one kind: what answers requests


def write_both(name, folder, seed):
    """Write the Keras model, and SavedModels of it as it is (`plain`) and as it is exported; samples."""
    import keras
    import tensorflow as tf

    from keras_audio_transfer.export.saved_model import write_saved_model
    from keras_audio_transfer.export.signatures import build_signatures
    from keras_audio_transfer.extractor import build_extractor

    if ":" in name:
        network, _, preset_name = name.partition(":")
        keras.utils.set_random_seed(seed)
        card = Card(preset(preset_name))
        model = build_extractor(card.audio, network)
    else:
        card = Card.read(Path(name))
        model = keras.models.load_model(Path(name) / "model.keras", compile=False)
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
            expected, *others = (pool.submit(request, batch).result()[1] for pool in (before, after, otherwise))
            difference, of_kernels = (
                max(largest_difference(outputs[layer], values) for layer, values in expected.items())
                for outputs in others
            )
            pairs = []
            for _ in range(options.requests):
                pairs.append([pool.submit(request, batch).result()[0] for pool in (before, after)])
            of_both = np.transpose(pairs)
            medians = np.median(of_both, axis=1)
            figures[f"batch_{batch}"] = {
                **{
                    f"{who}_{what}": float(value)
                    for who, seconds in zip(("keras", "saved_model"), of_both, strict=True)
                    for what, value in (
                        ("milliseconds_median", 1000 * np.median(seconds)),
                        ("milliseconds_99th_percentile", 1000 * np.percentile(seconds, 99)),
                        ("audio_seconds_a_second", batch * clip_seconds / np.median(seconds)),
                    )
                },
                "ratio": float(medians[0] / medians[1]),
                "largest_difference": difference,
                "largest_difference_between_kernels": of_kernels,
            }
    return figures


@cli.command(arguments)
def main(options):
    figures = {"cores": os.cpu_count()}
    parts = ("esc_dir", "urbansound_dir", "choi2017_dir", "recording_minutes", "training", "serving")
    if not any(getattr(options, name) for name in parts):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in parts)
        raise InputError(f"{flags}: none is given; name at least one")
    networks = [argument.partition(":")[::2] for argument in options.training]
    served = [argument for argument in options.serving if ":" in argument]
    for preset_name in [preset_name for _, preset_name in networks] + [name.partition(":")[2] for name in served]:
        preset(preset_name)  # refuses an unknown one before any work is done
    for model_dir in {*options.serving} - {*served}:
        Card.read(Path(model_dir))
    with tempfile.TemporaryDirectory() as folder:
        model_dir = Path(folder) / "model"
        if options.esc_dir is not None or options.recording_minutes:
            in_a_process(make_model, model_dir, options.seed)
        if options.esc_dir is not None:
            figures["extraction"] = extraction(options, model_dir)
            figures["memory"] = memory(options, model_dir)
        if options.recording_minutes:
            figures["recordings"] = recordings(options, model_dir)
    if options.urbansound_dir is not None:
        from keras_audio_transfer.input_pipeline import Augmentation

        default = Augmentation(shift_seconds=1.0, noise_probability=0.3, mixup=0.3)  # of scripts/train.py
        figures["epoch"] = in_a_process(epoch, options, Augmentation())
        figures["epoch_with_augmentation"] = in_a_process(epoch, options, default)
    if options.choi2017_dir is not None:
        figures["probes"] = probes(options)
    for network, preset_name in networks:
        figures[f"training_{network}_{preset_name}"] = training(options, network, preset_name)
    for name in options.serving:
        figures[f"serving_{name}"] = serving(options, name)
    print(json.dumps(figures, indent=2))
    if options.output:
        write_json(options.output, figures)
    return cli.DONE
