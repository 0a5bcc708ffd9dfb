"""Every signature gives each clip what it gets alone, and says what is wrong with what it cannot take."""

import io
import json
from dataclasses import replace
from time import process_time

import forked
import keras
import numpy as np
import pytest
import soundfile
import soxr
import tensorflow as tf
from conftest import read_card
from networks import LABELS, each_architecture, small_classifier
from sounds import CONFIG, noise

from keras_audio_transfer import resampling
from keras_audio_transfer.audio.loading import crop_or_pad, load_waveform
from keras_audio_transfer.config import LONG_CLIPS, SHORT_CLIPS, AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import tiled
from keras_audio_transfer.export.saved_model import write_saved_model
from keras_audio_transfer.export.signatures import (
    _INPUTS,
    _window_checks,
    build_signatures,
    layer_names,
    serving_outputs,
)
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.signature_loading import load_signatures
from keras_audio_transfer.training.heads import add_head

CARD = Card(CONFIG, labels=LABELS)
constant = tf.constant


def wav(samples, sample_rate, subtype="PCM_16", container="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=container, subtype=subtype)
    return file.getvalue()


SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
FORMATS = [(subtype, container) for container in ("WAV", "WAVEX", "RF64") for subtype in SUBTYPES]


def new_model(network="convnet5"):
    keras.utils.set_random_seed(0)
    return add_head(build_extractor(CONFIG, network), 3)


@pytest.fixture(scope="module")
def model():
    return small_classifier()


@pytest.fixture(scope="module")
def saved_model(exported):
    return exported / "1"


@pytest.fixture(scope="module")
def loaded(saved_model):
    return tf.saved_model.load(str(saved_model))


@pytest.fixture(scope="module")
def call(loaded):
    def signature(name, **inputs):
        return loaded.signatures[name](**{key: constant(value) for key, value in inputs.items()})

    return signature


def assert_same(row, clip_outputs, atol=1e-5):
    """The outputs for one clip of a batch are those of a batch of one."""
    assert set(row) == set(clip_outputs)
    for name, values in row.items():
        if values.dtype == tf.string:
            assert values.numpy() == clip_outputs[name][0].numpy()
        else:
            np.testing.assert_allclose(values, clip_outputs[name][0], atol=atol, err_msg=name)


def rows(outputs):
    number = len(next(iter(outputs.values())))
    return [{name: values[i] for name, values in outputs.items()} for i in range(number)]


def test_the_label_is_that_of_the_highest_score(call, model):
    waveform = noise(8, 500)
    served = call("serving_default", waveform=waveform)
    scores = serving_outputs(model, waveform)["scores"].numpy()
    np.testing.assert_allclose(served["scores"], scores, atol=1e-5)
    assert [label.decode() for label in served["labels"].numpy()] == [CARD.labels[i] for i in scores.argmax(axis=1)]


def test_some_signatures_without_the_others_answer_the_same(call, saved_model):
    some = load_signatures(saved_model, ("serving_default", "info"))
    assert {*some.signatures} == {"serving_default", "info"}
    assert not hasattr(some, "padded")
    waveform = noise(2, 500)
    served = call("serving_default", waveform=waveform)
    for name, values in some.signatures["serving_default"](waveform=constant(waveform)).items():
        np.testing.assert_array_equal(values, served[name])


@pytest.mark.parametrize("filling", ["zero", "first sample", "noise"])
@pytest.mark.parametrize("lengths", [(500, 64, 301, 130), (200, 200, 200, 200)])
def test_padding_never_changes_an_answer(call, lengths, filling):
    waveform = noise(4, 500)
    for row, length in zip(waveform, lengths, strict=True):
        row[length:] = {"zero": 0.0, "first sample": row[0], "noise": noise(500 - length, seed=1)}[filling]
    together = rows(call("padded", waveform=waveform, num_samples=np.int32(lengths)))
    for row, clip, length in zip(together, waveform, lengths, strict=True):
        assert_same(row, call("serving_default", waveform=clip[None, :length]))


@pytest.mark.slow
@each_architecture
def test_padding_never_changes_an_answer_of_any_network(network):
    _, signatures = build_signatures(tiled(folded(new_model(network))), CARD, ("serving_default", "padded"))
    waveform, lengths = noise(3, 500), np.int32([500, 77, 320])
    together = rows(signatures["padded"](waveform=constant(waveform), num_samples=constant(lengths)))
    for row, clip, length in zip(together, waveform, lengths, strict=True):
        assert_same(row, signatures["serving_default"](waveform=constant(clip[None, :length])))


def test_waveform_at_any_rate(call):
    clips = [np.sin(2 * np.pi * 300 * np.arange(n) / rate) for n, rate in ((800, 4000), (800, 3000), (800, 2000))]
    windowed = np.stack([clip * np.hanning(800) for clip in clips]).astype(np.float32)
    rates = np.int32([4000, 3000, 2000])
    together = rows(call("waveform_at", waveform=windowed, sample_rate=rates))
    for row, clip, rate in zip(together, windowed, rates, strict=True):
        assert_same(row, call("waveform_at", waveform=clip[None], sample_rate=[rate]))
        resampled = soxr.resample(clip, rate, 2000).astype(np.float32)
        assert_same(row, call("serving_default", waveform=resampled[None]), atol=0.05)  # of features in decibels


def test_audio_bytes_of_any_rate_length_and_number_of_channels(call):
    mono, stereo, fast = noise(500), noise(400, 2), noise(900)
    contents = [wav(mono, 2000), wav(stereo, 2000), wav(fast, 4000)]
    together = rows(call("audio_bytes", audio_bytes=contents))
    read = [soundfile.read(io.BytesIO(content), dtype="float32")[0] for content in contents]
    assert_same(together[0], call("serving_default", waveform=read[0][None]))
    assert_same(together[1], call("serving_default", waveform=read[1].mean(axis=1)[None]))
    assert_same(together[2], call("waveform_at", waveform=read[2][None], sample_rate=[4000]))


@pytest.mark.parametrize("signature", ["audio_bytes", "as_trained"])
def test_wav_files_of_every_format(call, signature):
    contents = [wav(noise(500, 2), 2000, *how) for how in FORMATS]
    together = rows(call(signature, audio_bytes=contents))
    for row, content in zip(together, contents, strict=True):
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
        assert_same(row, call("serving_default", waveform=samples.mean(axis=1)[None]))


SLOWER = (16000, 44100), (96000, 11025)


@pytest.mark.parametrize(
    ("source", "target"), [(16000, 24000), *(pytest.param(*rates, marks=pytest.mark.slow) for rates in SLOWER)]
)
def test_both_ways_of_resampling_agree_and_gradients_pass(source, target, monkeypatch):
    waveform = constant(np.random.default_rng(0).uniform(-1, 1, (2, 3000)).astype(np.float32))

    def resampled_and_gradient(waveform):
        with tf.GradientTape() as tape:
            tape.watch(waveform)
            resampled = resampling.resample(waveform, source, target)
            loss = tf.reduce_sum(resampled[:, ::3])
        return resampled, tape.gradient(loss, waveform)

    ways = []
    for worth_a_kernel in (0, 1 << 40):
        monkeypatch.setattr(resampling, "_WORTH_A_KERNEL", worth_a_kernel)
        ways.append(tf.function(resampled_and_gradient)(waveform))
    for by_blocks, by_polynomials in zip(*ways, strict=True):
        assert not np.array_equal(by_blocks, by_polynomials)
        np.testing.assert_allclose(by_polynomials, by_blocks, rtol=0, atol=1e-5)
    assert np.abs(ways[1][1]).max() > 0.01


def test_a_short_request_is_little_work_at_any_rate(call):
    call("waveform_at", waveform=noise(1, 30000), sample_rate=[767999])
    start = process_time()
    call("waveform_at", waveform=noise(1, 30000), sample_rate=[767997])
    assert process_time() - start < 5  # it was 20 s, for 2000 kernels of 76,000 taps


@pytest.mark.parametrize(
    "short_clips", [pytest.param(k, marks=() if k == "repeat" else pytest.mark.slow) for k in SHORT_CLIPS]
)
@pytest.mark.parametrize(
    "long_clips", [pytest.param(k, marks=() if k == "centre" else pytest.mark.slow) for k in LONG_CLIPS]
)
def test_as_trained_cuts_and_fills_as_the_scripts_do(model, tmp_path, short_clips, long_clips):
    config = replace(CONFIG, short_clips=short_clips, long_clips=long_clips)
    _, signatures = build_signatures(model, replace(CARD, audio=config), ("serving_default", "as_trained"))
    files = [tmp_path / f"{n}.wav" for n in (20, 100, 499, 500, 501, 1003)]
    for file in files:
        file.write_bytes(wav(noise(int(file.stem), seed=1), 2000))
    together = rows(signatures["as_trained"](audio_bytes=constant([file.read_bytes() for file in files])))
    for row, file in zip(together, files, strict=True):
        waveform = crop_or_pad(load_waveform(Clip("a", file), 2000), config.n_samples, short_clips, long_clips)
        assert_same(row, signatures["serving_default"](waveform=constant(waveform[None])))


# The last: a multiple of the hop is the end itself, and float32 has the hop a little shorter than it is.
@pytest.mark.parametrize(("n_samples", "hop"), [(2000, 0.11), (1999, 0.11), (70, 0.11), (1400, 0.35)])
def test_timestamps(call, n_samples, hop):
    window = 0.2
    waveform = noise(2, n_samples)
    hops, windows = np.float32([hop, hop]), np.float32([window, window])
    served = call("timestamps", waveform=waveform, hop_seconds=hops, window_seconds=windows)
    times = np.arange(np.ceil(n_samples / 2000 / hop)) * hop
    np.testing.assert_allclose(served["timestamps"], np.stack([times, times]), atol=1e-6)
    filled = np.stack([np.resize(clip, max(n_samples, 400)) for clip in waveform])
    around = np.pad(filled, [(0, 0), (200, 199)], mode="reflect")
    for number, time in enumerate(times):
        start = round(time * 2000)  # the window's centre is at the time
        expected = call("serving_default", waveform=around[:, start : start + 400])
        for name, values in expected.items():
            if values.dtype != tf.string:
                np.testing.assert_allclose(served[name][:, number], values, atol=1e-5)


def test_info_is_the_card(call, loaded, saved_model):
    (card,) = loaded.info()["card"].numpy()
    assert json.loads(card) == read_card(saved_model.parent)
    assert call("info", query=[1, 2])["card"].numpy().tolist() == [card, card]


def test_info_is_limited(call):
    assert len(call("info", query=np.zeros(1024, np.int32))["card"]) == 1024


def test_timestamps_of_an_hour_at_ten_a_second_are_within_the_limit():
    for message, passes in _window_checks(constant(36000.0, tf.float64), constant(1.0, tf.float64)):
        assert passes(noise(1, 1)), message


def test_called_with_one_clip_or_a_batch(loaded, call):
    waveform = noise(2, 500)
    served = call("serving_default", waveform=waveform)
    for name, values in loaded(constant(waveform)).items():
        np.testing.assert_array_equal(values, served[name])
    assert_same(loaded(constant(waveform[1])), call("serving_default", waveform=waveform[1:]))


@pytest.mark.slow
def test_gradients_pass_through_the_loaded_object(loaded, model):
    # A kernel and a bias for each of five convolutions, which took in the normalisations, and for the head.
    assert len(loaded.trainable_variables) == 12
    assert len(loaded.variables) == len(folded(model).variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(constant(noise(2, 500)))["scores"][:, 0])
    gradients = tape.gradient(loss, loaded.trainable_variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    assert loaded.regularization_losses == []


def test_every_signature_where_only_tensorflow_is(saved_model, tmp_path):
    code = """
import sys
import tensorflow as tf
assert [sys.modules[name] for name in ("keras", "kapre", "keras_audio_transfer")] == [None] * 3
signatures = tf.saved_model.load(sys.argv[1]).signatures
waveform = tf.sin(tf.reshape(tf.range(1000.0), [2, 500]))
wav = tf.audio.encode_wav(waveform[0, :, None], 4000)
seconds = tf.constant([0.1, 0.1])
contents = tf.stack([tf.io.read_file(path) for path in sys.argv[2:]])
results = [
    signatures["audio_bytes"](audio_bytes=contents),
    signatures["serving_default"](waveform=waveform),
    signatures["padded"](waveform=waveform, num_samples=tf.constant([500, 100])),
    signatures["waveform_at"](waveform=waveform, sample_rate=tf.constant([3000, 1500])),
    signatures["audio_bytes"](audio_bytes=tf.stack([wav, wav])),
    signatures["as_trained"](audio_bytes=tf.stack([wav, wav])),
    signatures["timestamps"](waveform=waveform, hop_seconds=seconds, window_seconds=seconds),
]
print(all(bool(tf.reduce_all(tf.math.is_finite(r["features"]))) for r in results), len(signatures))
"""
    files = [tmp_path / f"{subtype}.{container}" for subtype, container in FORMATS]
    for file, how in zip(files, FORMATS, strict=True):
        file.write_bytes(wav(noise(500), 2000, *how))
    run = forked.alone(code, saved_model, *files)
    assert run.stdout == f"True {len(_INPUTS)}\n", run.stderr


def broken(position):
    waveform = noise(2, 500)
    waveform[1, 100] = position
    return waveform


CLIPS, RATES = noise(2, 500), np.int32([2000, 2000])
BAD = [
    ("serving_default", {"waveform": noise(0, 500)}, "waveform: the batch is empty; expected at least one clip"),
    ("serving_default", {"waveform": noise(1, 0)}, "waveform: is shorter than a frame; expected at least 64 samples"),
    ("serving_default", {"waveform": noise(1, 63)}, "waveform: is shorter than a frame; expected at least 64 samples"),
    ("serving_default", {"waveform": broken(np.nan)}, "waveform: holds NaN or infinity"),
    ("serving_default", {"waveform": broken(np.inf)}, "waveform: holds NaN or infinity"),
    ("serving_default", {"waveform": broken(-2.2e9)}, "waveform: holds samples beyond 2**31; expected samples in [-1"),
    ("padded", {"waveform": CLIPS, "num_samples": np.int32([501, 500])}, "num_samples: exceeds the width of waveform"),
    ("padded", {"waveform": CLIPS, "num_samples": np.int32([500, 0])}, "num_samples: is 0 or less; expected more"),
    ("padded", {"waveform": CLIPS, "num_samples": np.int32([500, 63])}, "waveform: is shorter than a frame"),
    ("padded", {"waveform": CLIPS, "num_samples": np.int32([500])}, "num_samples: is not one a clip; expected as many"),
    ("padded", {"waveform": noise(0, 5), "num_samples": np.int32([])}, "waveform: the batch is empty"),
    (
        "waveform_at",
        {"waveform": CLIPS, "sample_rate": RATES * 0},
        "sample_rate: is out of range; expected 100 ",
    ),
    ("waveform_at", {"waveform": CLIPS, "sample_rate": RATES - 1901}, "sample_rate: is out of range; expected 100"),
    ("waveform_at", {"waveform": CLIPS, "sample_rate": RATES * 0 + 768001}, "sample_rate: is out of range"),
    ("waveform_at", {"waveform": CLIPS, "sample_rate": RATES[:1]}, "sample_rate: is not one a clip; expected as many"),
    ("waveform_at", {"waveform": CLIPS, "sample_rate": RATES * 10}, "waveform: is shorter than a frame"),
    ("waveform_at", {"waveform": broken(np.nan), "sample_rate": RATES}, "waveform: holds NaN or infinity"),
    ("waveform_at", {"waveform": broken(3e38), "sample_rate": RATES + 1}, "waveform: holds samples beyond 2**31"),
    ("info", {"query": np.zeros(1025, np.int32)}, "query: asks for the card more than 1024 times; expected at most so"),
    ("audio_bytes", {"audio_bytes": [b"no sound"]}, "audio_bytes: is no WAV file; expected WAV of PCM"),
    ("audio_bytes", {"audio_bytes": [b""]}, "audio_bytes: is no WAV file; expected WAV of PCM"),
    ("audio_bytes", {"audio_bytes": np.array([], dtype=bytes)}, "audio_bytes: the batch is empty"),
    ("audio_bytes", {"audio_bytes": [wav(noise(9), 2000)]}, "waveform: is shorter than a frame"),
    ("audio_bytes", {"audio_bytes": [wav(noise(500), 2000, "ALAW")]}, "audio_bytes: holds another codec; expected WAV"),
    ("audio_bytes", {"audio_bytes": [wav(noise(500), 50)]}, "audio_bytes: its sample rate is out of range"),
    ("audio_bytes", {"audio_bytes": [wav(noise(500), 2000)[:-9]]}, "audio_bytes: is truncated; expected all bytes"),
    ("audio_bytes", {"audio_bytes": [wav(broken(np.nan)[1], 2000, "FLOAT")]}, "audio_bytes: holds NaN or infinity"),
    ("as_trained", {"audio_bytes": [b"no sound"]}, "audio_bytes: is no WAV file; expected WAV of PCM"),
    ("as_trained", {"audio_bytes": [wav(noise(0), 2000)]}, "audio_bytes: holds no samples; expected at least"),
    ("as_trained", {"audio_bytes": np.array([], dtype=bytes)}, "audio_bytes: the batch is empty"),
]
HOP, WINDOW = ({name: np.float32([0.1, 0.1])} for name in ("hop_seconds", "window_seconds"))
INF = np.float32([np.inf, np.inf])
SHORT = {"window_seconds": np.float32([0.03, 0.03])}
OTHER, FEW = {"hop_seconds": np.float32([0.1, 0.2])}, {"hop_seconds": np.float32([0.1])}
BAD += [
    ("timestamps", {"waveform": CLIPS[:, :0], **HOP, **WINDOW}, "waveform: has no samples; expected at least one"),
    ("timestamps", {"waveform": CLIPS, "hop_seconds": np.float32([0, 0]), **WINDOW}, "hop_seconds: is out of range"),
    (
        "timestamps",
        {"waveform": CLIPS, "hop_seconds": INF, **WINDOW},
        "hop_seconds: is out of range; expected 0.001",
    ),
    (
        "timestamps",
        {"waveform": CLIPS, **HOP, "window_seconds": INF},
        "window_seconds: is out of range; expected 0.",
    ),
    ("timestamps", {"waveform": CLIPS, **OTHER, **WINDOW}, "hop_seconds: differs within the batch; expected the same"),
    ("timestamps", {"waveform": CLIPS, **FEW, **WINDOW}, "hop_seconds: is not one a clip; expected as many"),
    ("timestamps", {"waveform": CLIPS, **HOP, **SHORT}, "window_seconds: is out of range"),
    ("timestamps", {"waveform": broken(3e38), **HOP, **WINDOW}, "waveform: holds samples beyond 2**31"),
    # 250 windows of 450 s for each of two clips are 225,000 s.
    (
        "timestamps",
        {"waveform": CLIPS, "hop_seconds": np.float32([0.001] * 2), "window_seconds": np.float32([450] * 2)},
        "hop_seconds: the windows are more than 200000 s together; expected a longer hop, or fewer or shorter clips",
    ),
    (
        "timestamps",
        {"waveform": noise(17, 1), "hop_seconds": np.ones(17, "f4"), "window_seconds": np.full(17, 600, "f4")},
        "window_seconds: the windows of all clips at a time are more than 10000 s together; expected a shorter",
    ),
]


@pytest.mark.parametrize(("name", "inputs", "message"), BAD)
def test_what_cannot_be_is_named_and_serving_goes_on(call, name, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(name, **inputs)
    assert message in str(error.value)
    assert np.isfinite(call("serving_default", waveform=CLIPS)["features"]).all()


@pytest.mark.slow
def test_features_of_whole_batches_are_served_as_they_are(tmp_path):
    config = AudioConfig.from_dict({**CONFIG.to_dict(), "decibel_maximum": "batch"})
    model = build_extractor(config)
    write_saved_model(model, tmp_path / "1", Card(config))
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert set(signatures) == {"serving_default", "info"}
    assert set(signatures["serving_default"].structured_outputs) == {*layer_names(model), "features"}
