"""A sound that comes in chunks has the features of the whole sound, soon, and in memory that does not grow."""

import tracemalloc

import numpy as np
import pytest
from sounds import CONFIG, LAYERS, noise

import keras_audio_transfer as kat
from keras_audio_transfer.streaming import FeatureStream

HOP = 0.07


@pytest.fixture(scope="module")
def model(model_dir):
    """Hears 0.25 s at 16 kHz."""
    return kat.load_model(model_dir)


def streamed(stream, sound, sizes):
    """What a stream says of a sound, in chunks whose lengths are repeated until it is over."""
    found, start = [], 0
    while start < len(sound):
        for size in sizes:
            found += stream.push(sound[start : start + size])
            start += size
    return found + stream.flush()


SOUNDS = {
    "int16": (noise(25_000) * 2**15).astype(np.int16),
    "float64 stereo": noise(25_000, 2).astype(np.float64),
    "shorter than a window": noise(900),
    "a window": noise(4000),
    "a sample": noise(1),
}


@pytest.mark.parametrize("what", SOUNDS)
@pytest.mark.parametrize("rate", [16000, 44100, 8000])
@pytest.mark.parametrize("sizes", [(441,), (1, 0, 9000, 77), (100_000,)])
def test_chunks_do_not_show(model, what, rate, sizes):
    sound = SOUNDS[what]
    expected = model.features(sound, rate, layers=["layer5", "layer2"], hop_seconds=HOP)
    found = streamed(model.stream(rate, HOP, layers=["layer5", "layer2"]), sound, sizes)
    assert [time for time, _ in found] == expected.pop("times").tolist()
    for name, values in expected.items():
        assert [list(features) for _, features in found] == [["layer5", "layer2"]] * len(found)
        rows = np.stack([features[name] for _, features in found])
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, values, rtol=1e-6, atol=1e-6)


def test_without_names_it_has_all_layers(model):
    [(time, features)] = streamed(model.stream(16000), noise(4000), [4000])
    assert (time, list(features)) == (0.0, LAYERS)


def test_of_a_classifier_it_may_have_the_scores(model):
    """Whose windows are those of the length trained on, so that each is a clip to `predict`."""
    sound = noise(9000)
    found = streamed(model.stream(16000, 0.25, layers=["scores"]), sound, [512])
    table = model.predict(sound[4000 - 2000 : 4000 + 2000], 16000).set_index("label")["score"]
    np.testing.assert_allclose(found[1][1]["scores"], table[model.labels], atol=1e-6)


def nothing_of(window):
    return window[0], {}


@pytest.mark.parametrize("rate", [2000, 1600, 8000, 44100, 96000])
def test_a_window_comes_as_soon_as_is_said(rate):
    stream, heard, chunk = FeatureStream(nothing_of, CONFIG, rate, 0.1), 0.0, 1 / 50
    delays = []
    for sound in np.array_split(noise(6 * rate), 6 * 50):
        heard += len(sound) / rate
        delays += [heard - max(time, CONFIG.clip_seconds / 2) for time, _ in stream.push(sound)]
    assert len(delays) > 50
    resampling = 0 if rate == CONFIG.sample_rate else 1500 / min(rate, CONFIG.sample_rate)
    assert max(delays) <= CONFIG.clip_seconds / 2 + resampling + 1.1 * chunk


def test_memory_does_not_follow_the_sound():
    stream, chunk, n_windows = FeatureStream(nothing_of, CONFIG, 8000, 0.5), noise(4000), 0
    tracemalloc.start()
    for _ in range(1200):  # ten minutes, 19 MB
        n_windows += len(stream.push(chunk))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_windows > 1190
    assert peak < 2**18


BAD_CHUNKS = {
    "bytes": (b"\0\0", "is bytes; expected an array; of 16-bit audio pass np.frombuffer"),
    "a list": ([0.1], "is of type list; expected a NumPy array"),
    "three dimensions": (noise(2, 3, 4), r"has shape \(2, 3, 4\); expected \(samples,\), or"),
    "channels first": (noise(2, 100), r"has shape \(2, 100\); expected .* at most 16 channels; turn .* with .T$"),
    "no channels": (noise(3, 0), r"has shape \(3, 0\); expected"),
    "int64": (np.arange(3), "has samples of type int64"),
    "NaN": (np.full(3, np.nan), "holds NaN"),
    "never scaled": (noise(999) * 32768, "float samples up to"),
}


@pytest.mark.parametrize("what", BAD_CHUNKS)
def test_a_chunk_that_cannot_be_is_left_out(what):
    chunk, reason = BAD_CHUNKS[what]
    stream = FeatureStream(nothing_of, CONFIG, 2000, 0.1)
    stream.push(noise(300))
    with pytest.raises(kat.InputError, match=f"^chunk: {reason}"):
        stream.push(chunk)
    assert [time for time, _ in stream.push(noise(300)) + stream.flush()] == pytest.approx([0.0, 0.1, 0.2])


def test_after_its_end_there_is_no_more():
    stream = FeatureStream(nothing_of, CONFIG, 2000, 0.1)
    assert stream.push(np.zeros(0, np.int16)) == stream.flush() == []
    for call in (stream.flush, lambda: stream.push(noise(9))):
        with pytest.raises(kat.InputError, match=r"^chunk: the stream was flushed; expected a new one"):
            call()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sample_rate": None}, "sample_rate: missing; expected the rate of the audio"),
        ({"sample_rate": 44100, "hop_seconds": 0}, "hop_seconds: 0 is not allowed"),
        ({"sample_rate": 44100, "layers": ["layer9"]}, "layers: 'layer9' is unknown; .*scores"),
        ({"sample_rate": 44100, "layers": "known"}, "layers: 'known' is unknown"),
    ],
)
def test_streams_that_cannot_be(model, arguments, reason):
    with pytest.raises(kat.InputError, match=f"^{reason}"):
        model.stream(**arguments)
