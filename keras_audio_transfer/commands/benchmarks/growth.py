"""Growth: time, memory and size of commands against clips, their length, layers, combinations and workers."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import cost_of, in_a_process, peak_megabytes
from keras_audio_transfer.datasets import load
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.table import FeatureTable, Row
from keras_audio_transfer.files import size_of, write_table
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.probing.layer_selection import all_combinations

RATE, RECORDING_RATE = 44100, 16000  # of the sounds, in Hz
LENGTHS = (1, 4, 16)  # of a clip, in those of the model
LABELS, FOLDS, LAYERS, CHANNELS = 4, 5, 5, 32  # of what is probed
COMBINATIONS, WORKERS, DASK_WORKERS = (1, 7, 31), (1, 2, 4), (1, 2)
UNHEARD, UNHEARD_TIMES = "clips not heard", 50
_DASK = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    how = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    with LocalCluster(n_workers=int(sys.argv[1]), **how) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def growth(options):
    """A row a command: what was varied, its value, and what it cost. Also as a table and a picture."""
    rows, before = [], in_a_process(_memory_before_any_clip, options.growth)
    with tempfile.TemporaryDirectory() as folder:
        for verb, varied, value, command in _commands(options, Path(folder)):
            output = Path(folder) / f"output{len(rows)}.parquet"
            if varied == UNHEARD:
                cost = in_a_process(_cost_unheard, *command, output)
            else:
                cost = cost_of(verb, *command, "--output" if verb == "extract" else "--output-dir", output)
            rows.append({"verb": verb, "varied": varied, "value": value, **cost, "output_bytes": size_of(output)})
    if options.output_dir is not None:
        from keras_audio_transfer.commands.benchmarks import growth_picture

        write_table(options.output_dir / "growth.csv", [*rows[0]], [[*row.values()] for row in rows])
        growth_picture.draw(rows, options.output_dir / "growth.*")
    return {"clip_seconds": Card.read(options.growth).audio.clip_seconds, **before, "rows": rows}


def _memory_before_any_clip(model_dir):
    """The highest memory use of this process with TensorFlow imported, and then with the model loaded, too."""
    from keras_audio_transfer import extraction

    imported = peak_megabytes()
    extraction.SavedExtractor(latest_saved_model(model_dir))
    return {"peak_megabytes_tensorflow_imported": imported, "peak_megabytes_model_loaded": peak_megabytes()}


def recordings(options, model_dir):
    """What `extract` costs for each length of a recording."""
    figures = {}
    for minutes in options.recording_minutes:
        with tempfile.TemporaryDirectory() as folder:
            command = [model_dir, *_recording(Path(folder), minutes, options.seed)]
            figures[f"{minutes}_minutes"] = cost_of("extract", *command, "--output", Path(folder) / "features.npz")
    return figures


def _commands(options, folder) -> Iterator[tuple[str, str, float, list]]:
    """Verb, what is varied, its value, and the arguments but for the output."""
    numbers, card = sorted(options.growth_clips), Card.read(options.growth)
    middle, length, layers = numbers[len(numbers) // 2], card.audio.clip_seconds, card.layer_names

    def sounds(number, seconds):
        return ["--dataset", "folder", "--data-dir", _sounds(folder, number, seconds, options.seed)]

    def extract(varied, value, arguments, *flags):
        return "extract", varied, value, [options.growth, *arguments, *flags]

    for number in numbers:
        yield "prepare", "clips", number, sounds(number, length)
        yield extract("clips", number, sounds(number, length))
    for number in numbers:
        yield "extract", UNHEARD, UNHEARD_TIMES * number, [_copies(folder, UNHEARD_TIMES * number)]
    for seconds in (length * times for times in LENGTHS):
        yield extract("seconds a clip", seconds, sounds(numbers[0], seconds))
    for minutes in options.recording_minutes:
        yield extract("minutes of a recording", minutes, _recording(folder, minutes, options.seed))
    of_middle = sounds(middle, length)
    for number in sorted({1, -(-len(layers) // 2), len(layers)}):
        yield extract("layers", number, of_middle, "--layers", ",".join(layers[:number]))
    for number in WORKERS:
        yield extract("workers", number, of_middle, "--workers", number)
    for number in DASK_WORKERS if find_spec("distributed") else ():
        with _cluster(number) as address:
            yield extract("Dask workers", number, of_middle, "--scheduler", address)

    combinations = ["+".join(names) for names in all_combinations([f"layer{n}" for n in range(1, LAYERS + 1)])]
    for number in numbers:
        yield "probe", "clips", number, [_features(folder, number, options.seed), "--combinations", "layer1"]
    of_some = _features(folder, numbers[(len(numbers) - 1) // 2], options.seed)
    for number in COMBINATIONS:
        yield "probe", "combinations", number, [of_some, "--combinations", ",".join(combinations[:number])]
    for number in WORKERS:
        yield "probe", "jobs", number, [of_some, "--combinations", ",".join(combinations), "--jobs", number]


def _sounds(folder, number, seconds, seed):
    """A folder of two classes of noise, no two clips alike."""
    import soundfile

    place = folder / f"{number}clips{seconds}s"
    if not place.exists():
        noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
        for label in ("a", "b"):
            (place / label).mkdir(parents=True)
        for i in range(number):
            soundfile.write(place / "ab"[i % 2] / f"{i}.wav", np.roll(noise, i), RATE)
    return place


def _copies(folder, number):
    """A folder of one class of as many copies of one short sound."""
    place = folder / f"{number}copies"
    content = next(_sounds(folder, 1, 0.01, 0).glob("*/*.wav")).read_bytes()
    for i in range(number):
        path = place / "a" / f"{i // 100}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def _cost_unheard(data_dir, output):
    """What clips cost but for decoding and the network. In a process of its own."""
    features = {f"layer{n}": np.ones(CHANNELS, np.float32) for n in range(1, LAYERS + 1)}

    def rows_of(clips):
        for clip in clips:
            yield [Row(replace(clip, checksum=sha256(clip.clip_id.encode()).hexdigest()), features)]

    start = time.perf_counter()
    settings = {"weights_sha256": dict.fromkeys(features, "")}
    feature_run.compute(output, load("folder", data_dir), ["a"], settings, rows_of)
    feature_run.publish(output)
    return {
        "seconds": time.perf_counter() - start,
        "core_seconds": time.process_time(),
        "peak_megabytes": peak_megabytes(),
    }


def _recording(folder, minutes, seed):
    """A recording of noise, and the flags for features every second of the 4 s around it."""
    import soundfile

    path, rng = folder / f"{minutes}.flac", np.random.default_rng(seed)
    with soundfile.SoundFile(path, "w", RECORDING_RATE, 1) as file:
        for _ in range(minutes):
            file.write(rng.normal(0, 0.1, 60 * RECORDING_RATE).astype(np.float32))
    return [path, "--hop-seconds", "1", "--clip-seconds", "4"]


def _features(folder, number, seed):
    """A features file of classes that overlap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % LABELS
    layers = {
        f"layer{n}": (rng.normal(size=(LABELS, CHANNELS))[labels] + rng.normal(0, 3, (number, CHANNELS))).astype("f4")
        for n in range(1, LAYERS + 1)
    }
    names = np.array([f"{i}.wav" for i in range(number)])
    folds = np.arange(number) // LABELS % FOLDS
    table = FeatureTable(layers, names, labels, [*"abcd"], folds, np.full(number, ""))
    table.save(path := folder / f"{number}features.npz")
    return path


@contextmanager
def _cluster(workers):
    """The address of a Dask cluster of processes."""
    with Popen([sys.executable, "-c", _DASK, f"{workers}"], stdin=PIPE, stdout=PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
