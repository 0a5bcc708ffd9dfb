"""Reading: a prepared data set against the files that it was made of; making it; extracting from both."""

import tempfile
import time
from functools import partial
from pathlib import Path

from keras_audio_transfer.audio.loading import load_waveform, ordered_map
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, speed
from keras_audio_transfer.datasets import load
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.preparation import prepare

MODEL = "default"  # of what extracts; it hears 16 kHz
SAMPLE_RATE, WORKERS = 16000, 2


def reading(options, dataset, data_dir):
    """Speed of both ways to waveforms at 16 kHz and to features, the ratios, and whether the waveforms are equal."""
    import tensorflow  # noqa: F401 - which is not counted

    files = load(dataset, data_dir)[: options.clips]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        rows, _ = prepare(files, Path(folder) / "prepared", SAMPLE_RATE, WORKERS)
        of_preparing = time.perf_counter() - start
        files = [clip for clip, row in zip(files, rows, strict=True) if not row["failure"]]
        prepared = load("prepared", Path(folder) / "prepared")
        seconds = sum(row["seconds"] for row in rows)
        of_files, of_prepared = (speed(_read, clips, seconds, WORKERS) for clips in (files, prepared))
        equal = all(map(_are_equal, files, prepared))
        extracted = [in_a_process(_extracted, clips, seconds) for clips in (files, prepared)]
    return {
        "clips": len(files),
        "megabytes_of_files": sum(row["source_bytes"] for row in rows) / 1e6,
        "megabytes_of_samples": sum(4 * row["samples"] for row in rows) / 1e6,
        "preparing": {"clips_a_second": len(rows) / of_preparing, "audio_seconds_a_second": seconds / of_preparing},
        **_compared(of_files, of_prepared),
        "equal": equal,
        "extraction": _compared(*extracted),
    }


def _compared(of_files, of_prepared):
    return {
        "files": of_files,
        "prepared": of_prepared,
        "ratio": of_prepared["clips_a_second"] / of_files["clips_a_second"],
        "ratio_by_time_of_cores": of_files["core_milliseconds_a_clip"] / of_prepared["core_milliseconds_a_clip"],
    }


def _read(clips):
    for _ in ordered_map(partial(load_waveform, sample_rate=SAMPLE_RATE), clips, WORKERS):
        pass


def _extracted(clips, seconds):
    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip

    model_dir = places.model_folder(MODEL)
    use_one_thread_a_clip(WORKERS)
    extractor, card = SavedExtractor(latest_saved_model(model_dir)), Card.read(model_dir)
    how = cli.label_names(clips), card.audio, WORKERS
    return speed(lambda some: extract(extractor, card.layer_names, some, *how), clips, seconds, WORKERS)


def _are_equal(*clips):
    first, second = (load_waveform(clip, SAMPLE_RATE) for clip in clips)
    return first.tobytes() == second.tobytes()
