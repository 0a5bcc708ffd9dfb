"""Extraction: speed against the way of the 2017 code, memory, and long recordings."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, largest_difference, peak_megabytes
from keras_audio_transfer.config import preset
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import Card, latest_saved_model


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
    import soundfile

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

    card = Card.read(model_dir)
    use_one_thread_a_clip(2)
    extractor = SavedExtractor(latest_saved_model(model_dir))
    clips = [Clip(str(path), path) for path in wavs]
    extract(extractor, card.layer_names, clips[:1], [], card.audio)
    start = time.perf_counter()
    features, _ = extract(extractor, card.layer_names, clips, [], card.audio)
    seconds = time.perf_counter() - start
    return seconds, np.concatenate([*features.layers.values()], axis=1)


def extraction(options, model_dir):
    """Speed of both ways, their ratio, and the largest difference of a feature."""
    import soundfile

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


def before_any_clip(model_dir):
    """The highest memory use of this process with TensorFlow imported, and then with the model loaded, too."""
    from keras_audio_transfer import extraction

    imported = peak_megabytes()
    extraction.SavedExtractor(latest_saved_model(model_dir))
    return {"peak_megabytes_tensorflow_imported": imported, "peak_megabytes_model_loaded": peak_megabytes()}


def memory(options, model_dir):
    """Megabytes before any clip, for few files, and for four times as many."""
    figures = in_a_process(before_any_clip, model_dir)
    for number in (options.clips, 4 * options.clips):
        wavs = some_wavs(options.esc_dir, number)
        figures[f"peak_megabytes_{len(wavs)}_files"], _ = cost_of_extraction(model_dir, *wavs)
    return figures


def recordings(options, model_dir):
    """Megabytes and seconds for each length, 16 kHz noise, mono."""
    import soundfile

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
    """The highest memory use of the command `extract` in megabytes, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "keras_audio_transfer", "extract", model_dir, *arguments, "--quiet"]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--output", Path(folder) / "features.npz"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise InputError("memory, recordings: `extract` failed; see its message above")
        return usage.ru_maxrss / 1024, time.perf_counter() - start
