"""Extraction: speed against the way of the 2017 code."""

import time

import numpy as np

from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, largest_difference
from keras_audio_transfer.config import preset
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
