"""An exported model gives the Keras model's features, clip by clip, whatever else is in the batch of files."""

import os
import threading
import time

import keras
import numpy as np
import pytest
import soundfile
import sounds
import tensorflow as tf
from networks import small_classifier
from sounds import LAYERS, noise

from keras_audio_transfer import extraction
from keras_audio_transfer.audio.loading import crop_or_pad, load_waveform, ordered_map
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import write_saved_model
from keras_audio_transfer.export.signatures import serving_outputs
from keras_audio_transfer.extraction import SavedExtractor, extract, extract_windows, use_one_thread_a_clip
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card

CONFIG = sounds.CONFIG.with_clip_seconds(0.5)


@pytest.fixture(scope="module")
def model():
    return small_classifier()


@pytest.fixture(scope="module")
def saved_model(exported):
    return exported / "1"


@pytest.fixture(scope="module")
def extractor(saved_model):
    return SavedExtractor(saved_model)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Seven clips: another rate, stereo, too short, too long, computed, silent; of two labels, folds and splits."""
    root = tmp_path_factory.mktemp("audio")
    sounds = {
        "stereo.wav": (noise(4000, 2), 8000),
        "short.flac": (noise(300, seed=1), 2000),
        "long.wav": (noise(20_000, seed=2), 4000),
        "silence.wav": (np.zeros(1500, np.float32), 2000),
        "click.wav": (np.eye(1, 1100, 500, dtype=np.float32)[0], 2000),
        "one sample.wav": (np.full(1, 0.5, np.float32), 2000),
    }
    result = []
    for i, (name, (samples, rate)) in enumerate(sounds.items()):
        soundfile.write(root / name, samples, rate)
        result.append(Clip(name, root / name, labels=("noise" if i < 3 else "other",), fold=i % 2 + 1))
    computed = Clip("computed", None, labels=("other",), fold=1, synthesise=lambda: (noise(1000, seed=5), 2000))
    return [*result[:2], computed, *result[2:]]


@pytest.fixture
def bad_clips(tmp_path):
    """Clips that cannot be read, by a part of the reason."""
    (tmp_path / "text.wav").write_text("this is not audio, whatever its name says")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "whole.wav", noise(2000), 2000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:1000])
    soundfile.write(tmp_path / "nan.wav", np.full(900, np.nan, np.float32), 2000, subtype="FLOAT")
    reasons = {
        "text.wav": "cannot be decoded",
        "empty.wav": "empty file",
        "cut.wav": "truncated",
        "nan.wav": "NaN",
        "nowhere.wav": "does not exist",
    }
    return {Clip(name, tmp_path / name, labels=("other",)): reason for name, reason in reasons.items()}


@pytest.mark.parametrize("shape", [(1, 1000), (3, 1000), (1, 77), (2, 5000)])
def test_a_saved_model_equals_the_keras_model_by_name(extractor, model, shape):
    waveform = noise(*shape)
    outputs = extractor(waveform)
    expected = serving_outputs(model, waveform)
    assert set(outputs) == {*expected, "labels"} == {*LAYERS, "features", "scores", "labels"}
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_names_belong_to_their_values_in_any_order(tmp_path):
    waveform = keras.Input((None,), name="waveform")
    pooled = keras.layers.Lambda(lambda x: tf.reduce_mean(x, axis=1, keepdims=True), output_shape=(1,))(waveform)
    names = ["stem", "block10", "block2", "Z", "answer"]
    outputs = {}
    for i, name in enumerate(names):
        outputs[name] = keras.layers.Lambda(lambda x, i=i: x + i, output_shape=(1,), name=name)(pooled)
    write_saved_model(keras.Model(waveform, outputs), tmp_path / "1", Card(CONFIG))
    got = SavedExtractor(tmp_path / "1")(np.zeros((1, 1000), np.float32))
    assert {name: float(got[name][0, 0]) for name in names} == {name: i for i, name in enumerate(names)}
    np.testing.assert_array_equal(got["features"], [[0, 1, 2, 3, 4]])


def test_not_a_saved_model(tmp_path):
    with pytest.raises(InputError, match="nothing: is not a SavedModel that serves"):
        SavedExtractor(tmp_path / "nothing")
    (tmp_path / "saved_model.pb").write_bytes(b"half a model")
    with pytest.raises(InputError, match="is not a SavedModel that serves"):
        SavedExtractor(tmp_path)


def test_a_saved_model_of_another_program_has_its_files(tmp_path):
    (tmp_path / "offset.txt").write_text("3")
    module = tf.Module()
    module.offset = tf.saved_model.Asset(str(tmp_path / "offset.txt"))

    def serve(waveform):
        return {"layer1": waveform[:, :2] + tf.strings.to_number(tf.io.read_file(module.offset))}

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None, None], name="waveform")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    np.testing.assert_array_equal(SavedExtractor(tmp_path / "1")(np.zeros((1, 5), np.float32))["layer1"], [[3, 3]])


def spec(name, shape=(None, None), dtype=tf.float32):
    return tf.TensorSpec(shape, dtype, name)


GIVES = r"1: gives no {}, which card\.json beside it names; put back the files of one model, or export it again$"
NO_LAYER = GIVES.format(r"layer1, float32 \(batch, channels\)")
NO_SCORES = GIVES.format(r"scores, float32 \(batch, 2\)")
TAKES = r"1: takes {}; expected waveform, float32 \(batch, samples\), alone; export it with `export`$"


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (lambda image: {"y": image}, [spec("image")], TAKES.format(r"image, float32 \(None, None\)")),
        (lambda x: {"y": x}, [spec("waveform", [None])], TAKES.format(r"waveform, float32 \(None,\)")),
        (lambda x, y: {"y": x}, [spec("waveform"), spec("rate", [], tf.int32)], TAKES.format(r".*rate, int32 \(\).*")),
        (lambda x: {"y": x}, [spec("waveform")], NO_LAYER),
        (lambda x: {"layer1": tf.reduce_sum(x)}, [spec("waveform")], NO_LAYER),
        (lambda x: {"layer1": tf.strings.as_string(x)}, [spec("waveform")], NO_LAYER),
        (lambda x: {"layer1": x, "scores": tf.zeros([tf.shape(x)[0], 3])}, [spec("waveform")], NO_SCORES),
    ],
)
def test_a_saved_model_of_another_program_that_does_not_fit(function, inputs, message, tmp_path):
    module = tf.Module()
    module.serve = tf.function(function, input_signature=inputs, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    Card(CONFIG, {"layer1": 2}, labels=["a", "b"]).write(tmp_path)
    with pytest.raises(InputError, match=message):
        SavedExtractor(tmp_path / "1")


class WithTable(tf.Module):
    """Needs more than variables, and has a signature of the name of ours."""

    def __init__(self):
        super().__init__()
        self.words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1.0]), 0.0)

    @tf.function(input_signature=[spec("waveform")])
    def serve(self, waveform):
        return {"layer1": waveform[:, :2] + self.words.lookup(tf.constant("a"))}

    @tf.function(input_signature=[spec("query", [None], tf.int32)])
    def info(self, query):
        return {"card": tf.constant(["no card"])}


def test_a_saved_model_of_another_program_with_a_table_and_another_info(tmp_path):
    module = WithTable()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    with pytest.raises(InputError, match=r"1: its graph needs more than a waveform and its weights, such as a table;"):
        SavedExtractor(tmp_path / "1")
    tf.saved_model.save(module, str(tmp_path / "2"), signatures={"serving_default": module.serve, "info": module.info})
    with pytest.raises(InputError, match=r"2: its signature `info` gives no card; export it with `export`$"):
        SavedExtractor(tmp_path / "2")


def test_extracted_features_are_the_models(extractor, model, clips):
    features, failures = extract(extractor, LAYERS, clips, ["noise", "other"], CONFIG)
    assert failures == []
    assert list(features.layers) == LAYERS
    for row, clip in enumerate(clips):
        waveform = crop_or_pad(load_waveform(clip, CONFIG.sample_rate), CONFIG.n_samples, "repeat")
        expected = model(waveform[np.newaxis], training=False)
        for name in LAYERS:
            got = features.layers[name]
            assert got.dtype == np.float32
            # Reading only the start of a long clip changes what the resampler sees at its end.
            np.testing.assert_allclose(got[row], expected[name][0], rtol=1e-3, atol=1e-3, err_msg=f"{clip.clip_id}")


def test_extracted_features_say_whose_they_are(extractor, clips, tmp_path):
    features, _ = extract(extractor, LAYERS, clips, ["other", "noise"], CONFIG)
    assert list(features.clip_ids) == [clip.clip_id for clip in clips]
    assert features.label_names == ["other", "noise"]
    assert [features.label_names[i] for i in features.labels] == [clip.labels[0] for clip in clips]
    assert list(features.folds) == [clip.fold for clip in clips]
    assert list(features.splits) == [""] * len(clips)
    features.save(tmp_path / "features.npz")
    loaded = FeatureTable.load(tmp_path / "features.npz")
    assert list(loaded.layers) == LAYERS
    for name in LAYERS:
        np.testing.assert_array_equal(loaded.layers[name], features.layers[name])


def test_only_the_layers_asked_for_in_the_order_asked_for(extractor, clips):
    everything, _ = extract(extractor, LAYERS, clips, ["noise", "other"], CONFIG)
    some, _ = extract(extractor, ["layer4", "layer2"], clips, ["noise", "other"], CONFIG)
    assert list(some.layers) == ["layer4", "layer2"]
    for name in some.layers:
        np.testing.assert_array_equal(some.layers[name], everything.layers[name])


def test_unlabelled_clips(extractor, clips):
    unlabelled = [Clip(clip.clip_id, clip.path, synthesise=clip.synthesise) for clip in clips]
    features, failures = extract(extractor, LAYERS, unlabelled, [], CONFIG)
    assert failures == []
    assert list(features.labels) == [-1] * len(clips)


def test_bad_files_are_listed_and_the_rest_is_done_in_order(extractor, clips, bad_clips):
    expected, _ = extract(extractor, LAYERS, clips, ["noise", "other"], CONFIG)
    mixed = list(clips)
    for place, clip in zip((0, 2, 3, 7, 12), bad_clips, strict=True):
        mixed.insert(place, clip)
    features, failures = extract(extractor, LAYERS, mixed, ["noise", "other"], CONFIG)
    assert list(features.clip_ids) == [clip.clip_id for clip in clips]
    for name in LAYERS:
        np.testing.assert_array_equal(features.layers[name], expected.layers[name])
    assert [clip_id for clip_id, _ in failures] == [clip.clip_id for clip in bad_clips]
    for (clip_id, reason), part in zip(failures, bad_clips.values(), strict=True):
        assert clip_id in reason
        assert part in reason
        assert "\n" not in reason


def test_nothing_but_bad_files(extractor, bad_clips):
    features, failures = extract(extractor, LAYERS, [*bad_clips], ["other"], CONFIG)
    assert len(features.clip_ids) == 0
    assert len(failures) == len(bad_clips)


def test_no_clips(extractor):
    features, failures = extract(extractor, LAYERS, [], [], CONFIG)
    assert len(features.clip_ids) == 0
    assert failures == []


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_same_features_from_any_number_of_workers(extractor, clips, bad_clips, workers):
    mixed = [*clips, *bad_clips, *clips]
    expected, expected_failures = extract(extractor, LAYERS, mixed, ["noise", "other"], CONFIG, workers=2)
    features, failures = extract(extractor, LAYERS, mixed, ["noise", "other"], CONFIG, workers=workers)
    assert list(features.clip_ids) == list(expected.clip_ids)
    assert failures == expected_failures
    for name in LAYERS:
        np.testing.assert_allclose(features.layers[name], expected.layers[name], rtol=1e-5, atol=1e-5)


def test_the_first_call_is_alone_and_the_others_side_by_side(saved_model, monkeypatch):
    extractor, waveforms = SavedExtractor(saved_model), [np.zeros((1, CONFIG.n_samples), np.float32)] * 3
    frozen, running, at_once, three = extractor.frozen, [], [], threading.Barrier(3)

    def slow(samples):
        running.append(samples)
        time.sleep(0.1)  # for the others to come
        at_once.append(len(running))
        running.pop()
        return frozen(samples)

    monkeypatch.setattr(extractor, "frozen", slow)
    [*ordered_map(extractor, waveforms, 3)]
    assert at_once[0] == 1
    monkeypatch.setattr(extractor, "frozen", lambda samples: three.wait(10) >= 0 and frozen(samples))
    assert len([*ordered_map(extractor, waveforms, 3)]) == 3


def test_more_workers_than_processors_get_no_more_threads_of_tensorflow(monkeypatch):
    given = {"intra": [], "inter": []}
    for name, threads in given.items():
        monkeypatch.setattr(tf.config.threading, f"set_{name}_op_parallelism_threads", threads.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for workers in (2, 1024):
        use_one_thread_a_clip(workers)
    assert given == {"intra": [1, 1], "inter": [2, 4]}


def heard_before_each_call(extractor, monkeypatch, n_clips):
    """How many more clips had been heard whenever the network ran."""
    heard, before = [], []

    def sound():
        heard.append(1)
        return noise(1000), 2000

    def network(samples):
        before.append(len(heard))
        heard.clear()
        return frozen(samples)

    frozen = extractor.frozen
    clips = [Clip(str(number), None, synthesise=sound) for number in range(n_clips)]
    with monkeypatch.context() as patch:
        patch.setattr(extractor, "frozen", network)
        features, failures = extract(extractor, LAYERS, clips, [], CONFIG, workers=1)
    assert (len(features.clip_ids), failures) == (n_clips, [])
    return [n for n in before if n]


def test_several_clips_are_heard_before_the_network_runs(extractor, monkeypatch):
    assert heard_before_each_call(extractor, monkeypatch, 33) == [1, 1, 2, 2, 4, 4, 8, 8, 3]
    monkeypatch.setattr(extraction, "_SAMPLES_AHEAD", 2 * CONFIG.n_samples)
    assert heard_before_each_call(extractor, monkeypatch, 22) == [1, 1, 2, 2, 3, 1, 3, 1, 3, 3, 2]


def test_of_few_clips_every_worker_has_some(extractor):
    together = threading.Barrier(3, timeout=30)
    clips = [Clip(str(n), None, synthesise=lambda: (noise(1000), 2000 * (together.wait() >= 0))) for n in range(3)]
    assert extract(extractor, LAYERS, clips, [], CONFIG, workers=3)[1] == []


def test_a_clips_features_do_not_depend_on_the_other_clips(extractor, clips):
    together, _ = extract(extractor, LAYERS, clips, ["noise", "other"], CONFIG)
    for row in (0, 3):
        alone, _ = extract(extractor, LAYERS, [clips[row]], ["noise", "other"], CONFIG)
        for name in LAYERS:
            np.testing.assert_allclose(alone.layers[name][0], together.layers[name][row], rtol=1e-5, atol=1e-5)


def test_short_and_long_clips_are_treated_as_the_config_says(extractor):
    ramp = np.linspace(-0.5, 0.5, 3000, dtype=np.float32) * noise(3000)
    clips = [
        Clip("long", None, synthesise=lambda: (ramp, 2000)),
        Clip("short", None, synthesise=lambda: (ramp[:9], 2000)),
    ]
    centre = AudioConfig(2000, 0.5, 64, 32, 8, 0.0, 1000.0, short_clips="zero_pad", long_clips="centre")
    features, _ = extract(extractor, ["layer1"], clips, [], centre)
    expected = extractor(np.stack([ramp[1000:2000], np.pad(ramp[:9], (0, 991))]))["layer1"]
    np.testing.assert_allclose(features.layers["layer1"], expected, rtol=1e-4, atol=1e-4)


def test_features_over_time_are_those_of_the_signature(extractor, saved_model, clips):
    features, failures = extract_windows(extractor, LAYERS, clips[:3], ["noise", "other"], CONFIG, hop_seconds=0.2)
    assert failures == []
    signature = tf.saved_model.load(str(saved_model)).signatures["timestamps"]
    row = 0
    for clip in clips[:3]:
        waveform = load_waveform(clip, CONFIG.sample_rate)[np.newaxis]
        seconds = {"hop_seconds": tf.constant([0.2]), "window_seconds": tf.constant([CONFIG.clip_seconds])}
        served = signature(waveform=tf.constant(waveform), **seconds)
        rows = slice(row, row := row + len(served["timestamps"][0]))
        np.testing.assert_allclose(features.times[rows], served["timestamps"][0], atol=1e-6)
        assert features.clip_ids[rows][0] == f"{clip.clip_id}#00000.000"
        for name in LAYERS:
            np.testing.assert_allclose(features.layers[name][rows], served[name][0], atol=1e-4)
    assert row == len(features.times)


def test_features_over_time_are_saved_with_their_times(extractor, clips, bad_clips, tmp_path):
    features, failures = extract_windows(extractor, LAYERS, [*bad_clips, clips[0]], ["noise", "other"], CONFIG, 0.2)
    assert [clip_id for clip_id, _ in failures] == [clip.clip_id for clip in bad_clips]
    features.save(tmp_path / "features.npz")
    loaded = FeatureTable.load(tmp_path / "features.npz")
    np.testing.assert_array_equal(loaded.times, features.times)
    assert len(loaded.times) == len(loaded.layers[LAYERS[0]])


def test_progress_sees_every_clip(extractor, clips, bad_clips):
    seen = []

    def progress(results):
        for result in results:
            seen.append(result)
            yield result

    extract(extractor, LAYERS, [*clips, *bad_clips], ["noise", "other"], CONFIG, progress=progress)
    assert len(seen) == len(clips) + len(bad_clips)


# ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_in_order_keeps_the_order(workers):
    def late_if_even(i):
        time.sleep(0.004 if i % 2 == 0 else 0)
        return i * i

    assert list(ordered_map(late_if_even, range(40), workers)) == [i * i for i in range(40)]


@pytest.mark.parametrize("workers", [1, 3])
def test_in_order_does_not_run_ahead_of_a_slow_consumer(workers):
    started = []
    taken = 0
    ahead = []
    for _ in ordered_map(lambda i: started.append(i), iter(range(100)), workers):
        taken += 1
        time.sleep(0.001)
        ahead.append(len(started) - taken)
    assert taken == 100
    assert max(ahead) <= 2 * workers + 1


def test_in_order_takes_items_as_it_goes():
    given = []

    def endless():
        while True:
            given.append(None)
            yield len(given)

    results = ordered_map(lambda i: i, endless(), 2)
    assert [next(results) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert len(given) <= 5 + 5
    results.close()


def test_in_order_works_on_several_items_at_once():
    together = threading.Barrier(3, timeout=30)
    assert list(ordered_map(lambda i: together.wait() >= 0, range(3), 3)) == [True] * 3


def test_in_order_passes_errors_on():
    def fail_at_three(i):
        if i == 3:
            raise InputError("three")
        return i

    results = ordered_map(fail_at_three, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="three"):
        next(results)


def test_in_order_of_nothing():
    assert list(ordered_map(str, [], 2)) == []
