"""HEAR's rules, as its validator states them, and the embeddings against the SavedModel's features."""

import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import soxr
import tensorflow as tf

from keras_audio_transfer import hear
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import write_saved_model
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.model_folder import Card, default_model
from keras_audio_transfer.pretrained import imported

CONFIGS = {
    12000: AudioConfig(12000, 1.0, n_fft=512, hop_length=256, n_mels=16, mel_f_min=0.0, mel_f_max=6000.0),
    16000: AudioConfig(16000, 1.0, n_fft=512, hop_length=256, n_mels=16, mel_f_min=0.0, mel_f_max=8000.0),
}


@pytest.fixture(scope="module", params=[12000, pytest.param(16000, marks=pytest.mark.slow)])
def model(request, tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("model"), CONFIGS[request.param]
    keras.utils.set_random_seed(0)
    network = build_extractor(config, "sbcnn")
    card = Card(config, {name: features.shape[-1] for name, features in network.output.items()})
    write_saved_model(network, folder / "1", card, ("serving_default", "timestamps"))
    card.write(folder)
    loaded = hear.load_model(str(folder), hop_seconds=0.05, window_seconds=0.3)
    loaded.folder = folder
    return loaded


def sounds(model, seconds, number=2):
    """Sines with frequencies that every rate has."""
    time = np.arange(round(seconds * model.sample_rate)) / model.sample_rate
    waves = [np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)) for hertz in (300, 1700)[:number]]
    return tf.constant(np.stack(waves), tf.float32)


def test_attributes(model):
    assert isinstance(model, tf.Module)
    assert model.sample_rate == 16000
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        assert type(getattr(model, name)) is int
    assert model.scene_embedding_size == 24 + 48 + 48


@pytest.mark.parametrize("seconds", [0.01, 0.5, 2.0])
def test_scene_embeddings(model, seconds):
    embeddings = hear.get_scene_embeddings(sounds(model, seconds), model)
    assert embeddings.dtype == tf.float32
    assert embeddings.shape == (2, model.scene_embedding_size)
    assert np.isfinite(embeddings).all()
    alone = hear.get_scene_embeddings(sounds(model, seconds)[1:], model)
    np.testing.assert_allclose(embeddings[1:], alone, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.23])
def test_timestamp_embeddings(model, seconds):
    embeddings, times = hear.get_timestamp_embeddings(sounds(model, seconds), model)
    assert embeddings.dtype == times.dtype == tf.float32
    assert embeddings.shape == (2, len(times[0]), model.timestamp_embedding_size)
    assert times.shape == embeddings.shape[:2]
    times = times.numpy()
    np.testing.assert_array_equal(times[0], times[1])
    assert times[0, 0] == 0
    np.testing.assert_allclose(np.diff(times), 50.0, atol=1e-3)  # milliseconds; HEAR allows 1 ms, and hops up to 50
    assert times.max() < 1000 * seconds
    assert 1000 * seconds - times.max() <= 50.001
    assert np.isfinite(embeddings).all()


def test_as_the_validator_asks(model):
    """hear-validator's own sounds, white noise: 4 of 2 s over time, 8 of 3.74 s; its step may vary by 0.001 ms."""
    noise = tf.random.stateless_uniform((4, 2 * model.sample_rate), (0, 0), -1.0, 1.0)
    embeddings, times = hear.get_timestamp_embeddings(noise, model)
    assert embeddings.shape == (4, 40, model.timestamp_embedding_size)
    steps = times[:, 1:] - times[:, :-1]
    assert tf.reduce_all(tf.abs(steps - tf.reduce_mean(steps)) < 1e-3)
    noise = tf.random.stateless_uniform((8, int(3.74 * model.sample_rate)), (0, 0), -1.0, 1.0)
    scenes = hear.get_scene_embeddings(noise, model)
    assert (scenes.shape, scenes.dtype) == ((8, model.scene_embedding_size), tf.float32)


def test_times_of_a_long_sound_are_exact_and_end_before_it(model, monkeypatch):
    """60 s at 10 ms, whose float32 is less than 10 ms; from a SavedModel that does not see it, one time too many."""
    monkeypatch.setattr(model, "hop_seconds", 0.01)
    audio, sizes = tf.zeros((1, 60 * model.sample_rate)), []

    def timestamps(waveform, hop_seconds, window_seconds):
        hops = waveform.shape[1] / (np.float64(hop_seconds.numpy()) * model.config.sample_rate)
        sizes.append(int(np.ceil(hops.item())))
        return {"features": tf.zeros((1, sizes[0], 3)), "timestamps": tf.zeros((1, sizes[0]))}

    monkeypatch.setattr(model, "saved_model", SimpleNamespace(signatures={"timestamps": timestamps}))
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    assert sizes == [6001]
    assert embeddings.shape == (1, 6000, 3)
    np.testing.assert_array_equal(times[0], np.arange(6000) * 10)


@pytest.mark.parametrize("n_sounds", [1, 3])
def test_silence(model, n_sounds):
    silence = tf.zeros((n_sounds, model.sample_rate // 4))
    scenes = hear.get_scene_embeddings(silence, model)
    embeddings, times = hear.get_timestamp_embeddings(silence, model)
    assert (scenes.shape[0], embeddings.shape[:2], times.shape) == (n_sounds, (n_sounds, 5), (n_sounds, 5))
    assert np.isfinite(scenes).all()
    assert np.isfinite(embeddings).all()


def test_without_a_name_the_repositorys_model_is_loaded():
    default = hear.load_model()
    assert (default.sample_rate, default.scene_embedding_size) == (16000, 320)
    assert default.saved_model.signatures["info"](query=tf.zeros([1], tf.int32))["card"].numpy()


def test_names_stand_for_model_folders(model, tmp_path, monkeypatch):
    """As everywhere else."""
    monkeypatch.setattr(hear, "HearModel", lambda folder, *_: folder)
    monkeypatch.setenv(imported.ENVIRONMENT, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert hear.load_model("default") == hear.load_model() == default_model()
    with pytest.raises(InputError, match=r"^yamnet is a published network, not a model folder yet; first 'keras-aud"):
        hear.load_model("yamnet")
    with pytest.raises(InputError, match=r"^yamnt: is not a folder; .*; did you mean yamnet\?$"):
        hear.load_model("yamnt")
    with pytest.raises(InputError, match=r"^model_file_path: is of type int; expected the path of a model folder"):
        hear.load_model(3)
    (tmp_path / "models").mkdir()
    monkeypatch.setenv(imported.ENVIRONMENT, str(tmp_path / "models"))
    shutil.copytree(model.folder, tmp_path / "models" / "yamnet")
    assert hear.load_model("yamnet") == tmp_path / "models" / "yamnet"
    assert hear.load_model(model.folder) == model.folder  # a Path


def test_an_embedding_hears_the_window_around_its_time(model):
    audio = sounds(model, 1.0)
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    number = 10  # at 0.5 s
    assert times[0, number] == 500
    start = round(0.35 * model.sample_rate)
    around = audio[:, start : start + round(0.3 * model.sample_rate)]
    expected = hear.get_scene_embeddings(around, model)
    if model.config.sample_rate == model.sample_rate:
        np.testing.assert_allclose(embeddings[:, number], expected, atol=1e-4)
    else:  # cut before or after it was resampled: the window's ends differ
        assert np.abs(embeddings[:, number] - expected).max() < 0.2 * np.abs(expected).max()


def test_audio_is_resampled_for_the_network(model):
    audio = sounds(model, 0.5)
    served = model.saved_model.signatures["serving_default"]
    resampled = soxr.resample(audio.numpy().T, model.sample_rate, model.config.sample_rate).T
    expected = served(waveform=tf.constant(resampled))["features"]
    np.testing.assert_allclose(hear.get_scene_embeddings(audio, model), expected, rtol=0.01, atol=0.05)


def test_models_that_cannot_be(model, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: is not a folder; expected a model folder"):
        hear.load_model(str(tmp_path / "nowhere"))
    folder = shutil.copytree(model.folder, tmp_path / "model")
    for name, value in (("hop_seconds", 0.0), ("window_seconds", 0.001)):
        with pytest.raises(InputError, match=rf"^{name}: {value} is not allowed; expected at least 0\.0"):
            hear.load_model(str(folder), **{name: value})
    card = json.loads((folder / "card.json").read_text())
    card["audio"]["decibel_maximum"] = "batch"
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="its features depend on the whole batch"):
        hear.load_model(str(folder))


@pytest.mark.parametrize("shape", [(16000,), (1, 16000, 1)])
def test_audio_of_another_rank(model, shape):
    with pytest.raises(ValueError, match=r"audio: has shape .*; expected \(sounds, samples\)"):
        hear.get_scene_embeddings(tf.zeros(shape), model)
