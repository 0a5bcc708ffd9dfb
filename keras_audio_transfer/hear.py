"""The interface of the HEAR benchmark (Turian et al. 2022, hearbenchmark.com, version 2021.0) for our model folders."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_audio_transfer.config import SHORTEST_HOP
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.signatures import FEATURES, TIMESTAMPS, padded_to
from keras_audio_transfer.extraction import SERVED, load_saved_model
from keras_audio_transfer.model_folder import Card, default_model, latest_saved_model
from keras_audio_transfer.pretrained.imported import model_folder
from keras_audio_transfer.resampling import resample

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)  # those that HEAR has its audio in


class HearModel(tf.Module):
    """A model folder as HEAR knows models.

    Attributes:
        sample_rate: of the audio it takes, in Hz: the network's, or the next one of HEAR's above it; then the audio is
            resampled inside.
        scene_embedding_size, timestamp_embedding_size: channels of all layers together.
    """

    def __init__(self, model_dir: Path, hop_seconds: float, window_seconds: float):
        super().__init__(name="hear")
        card = Card.read(model_dir)
        card.require_single_clips(model_dir, "one clip at a time does not have")
        self.config = card.audio
        for name, value, least in (
            ("hop_seconds", hop_seconds, SHORTEST_HOP),
            ("window_seconds", window_seconds, self.config.n_fft / self.config.sample_rate),
        ):
            if not value >= least:
                raise InputError(f"{name}: {value} is not allowed; expected at least {least:g}")
        if self.config.sample_rate > SAMPLE_RATES[-1]:
            raise InputError(f"{model_dir}: takes {self.config.sample_rate} Hz; HEAR has at most {SAMPLE_RATES[-1]}")
        self.hop_seconds, self.window_seconds = hop_seconds, window_seconds
        self.sample_rate = next(rate for rate in SAMPLE_RATES if rate >= self.config.sample_rate)
        self.scene_embedding_size = self.timestamp_embedding_size = sum(card.layer_sizes.values())
        self.saved_model = load_saved_model(latest_saved_model(model_dir), (*SERVED, "timestamps"))

    def at_its_rate(self, audio: tf.Tensor) -> tf.Tensor:
        """The audio at the network's sample rate. Raises ValueError where it is not (sounds, samples)."""
        audio = tf.convert_to_tensor(audio, tf.float32)
        if audio.shape.rank != 2:
            raise ValueError(f"audio: has shape {tuple(audio.shape)}; expected (sounds, samples)")
        return resample(audio, self.sample_rate, self.config.sample_rate)


def load_model(model_file_path: str = "", hop_seconds: float = 0.05, window_seconds: float = 1.0) -> HearModel:
    """Load a model folder.

    Args:
        model_file_path: the model folder, its address, or a name that stands for one, as
            `keras_audio_transfer.load_model` takes it. Empty, as HEAR gives it where the user names none, or
            'default': the one that comes with the package.
        hop_seconds: from timestamp to timestamp; HEAR wants at most 0.05.
        window_seconds: what an embedding at a time hears: so much around it.

    Raises:
        InputError: no model folder, or one whose features depend on the whole batch; seconds that cannot be.
    """
    expected = "the path of a model folder, or ''"
    folder = model_folder("model_file_path", model_file_path, expected) if model_file_path else default_model()
    return HearModel(folder, hop_seconds, window_seconds)


def get_scene_embeddings(audio: tf.Tensor, model: HearModel) -> tf.Tensor:
    """One embedding a sound: the features of all layers, over all of it.

    Args:
        audio: float32 (sounds, samples) at `model.sample_rate`, in [-1, 1]. Sounds shorter than a frame of the STFT
            are padded up to that, as in training.
        model: from `load_model`.

    Returns:
        float32 (sounds, scene_embedding_size).
    """
    waveform = padded_to(model.at_its_rate(audio), model.config.n_fft, model.config.short_clips)
    return model.saved_model.signatures["serving_default"](waveform=waveform)[FEATURES]


def get_timestamp_embeddings(audio: tf.Tensor, model: HearModel) -> tuple[tf.Tensor, tf.Tensor]:
    """Embeddings over time: the features of all layers over a window around each time.

    Args:
        audio, model: as for `get_scene_embeddings`.

    Returns:
        float32 (sounds, times, timestamp_embedding_size), and the times in milliseconds, float32 (sounds, times):
        every `hop_seconds` from 0 to before the end.
    """
    n_sounds = tf.shape(audio)[:1]
    seconds = {name: tf.fill(n_sounds, getattr(model, name)) for name in ("hop_seconds", "window_seconds")}
    outputs = model.saved_model.signatures["timestamps"](waveform=model.at_its_rate(audio), **seconds)
    # In float64 up to here: HEAR wants the same step everywhere, and float32 seconds times 1000 are off by some of it.
    n_sounds, n_times = outputs[TIMESTAMPS].shape
    milliseconds = np.arange(n_times) * (1000.0 * model.hop_seconds)
    inside = milliseconds < 1000.0 * audio.shape[1] / model.sample_rate
    times = tf.constant(np.tile(milliseconds[inside], (n_sounds, 1)), tf.float32)
    return outputs[FEATURES][:, : len(times[0])], times
