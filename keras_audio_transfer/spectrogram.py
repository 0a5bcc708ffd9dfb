"""Waveform -> spectrogram, inside the graph: kapre's layers and our decibel scale. The one file that imports kapre."""

import keras
import tensorflow as tf
from kapre.augmentation import SpecAugment
from kapre.time_frequency import STFT, ApplyFilterbank, Magnitude
from keras import ops

from keras_audio_transfer.config import AudioConfig

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")

# Whatever the global policy: powers span more digits than half precision has, and there is no FFT in it.
_PRECISION = {"dtype": "float32"}


@_register
class MagnitudeToPower(keras.layers.Layer):
    """Squares a magnitude spectrogram of any shape."""

    def call(self, magnitude):
        """Return the power, of the same shape."""
        return ops.square(magnitude)


@_register
class FramePadding(keras.layers.Layer):
    """Adds the zeros around a waveform that decide where its frames lie.

    Args:
        n_fft, hop_length: of the STFT that follows, in samples.
        frame_padding: see `AudioConfig`.

    Shapes: (batch, samples, 1) -> (batch, padded samples, 1).
    """

    def __init__(self, n_fft, hop_length, frame_padding="centre", **kwargs):
        super().__init__(**kwargs)
        self.n_fft, self.hop_length, self.frame_padding = n_fft, hop_length, frame_padding

    def call(self, waveform):
        """Return the padded waveform."""
        half = self.n_fft // 2
        if self.frame_padding == "tensorflow_same":
            n_samples = tf.shape(waveform)[1]
            n_frames = -(-n_samples // self.hop_length)
            total = tf.maximum((n_frames - 1) * self.hop_length + self.n_fft - n_samples, 0)
            before = total // 2
            after = total - before
        elif self.frame_padding == "theano_half":
            # Theano flips the stored kernels in time. A flipped periodic Hann window is the window one sample on, with
            # its zero at the end instead of the start: the usual STFT of frames that begin one sample earlier.
            before, after = half + 1, half - 1
        else:
            before = after = half
        return tf.pad(waveform, [[0, 0], [before, after], [0, 0]])

    def compute_output_shape(self, input_shape):
        """Return (batch, None, 1)."""
        return (input_shape[0], None, input_shape[2])

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"n_fft": self.n_fft, "hop_length": self.hop_length, "frame_padding": self.frame_padding}
        return {**super().get_config(), **config}


@_register
class PowerToRelativeDecibel(keras.layers.Layer):
    """Power -> decibels below the loudest cell: the scale of Choi et al. 2017.

    `10 * log10(max(power, floor))`, minus its maximum, not below `-decibel_range`. The published code took the maximum
    over the batch; with `maximum='clip'` it is each clip's own, so that a clip's features do not depend on its
    neighbours (the same thing for a batch of one). A silent clip is 0 dB everywhere.

    kapre's `MagnitudeToDecibel` differs: it clips below each clip's maximum but does not subtract it, and its floor is
    1e-5.

    Args:
        decibel_floor: power below this counts as this.
        decibel_range: the lowest value is `-decibel_range`.
        maximum: 'clip' or 'batch'.

    Shapes: (batch, frames, bands, channels) -> the same, values in [-decibel_range, 0].
    """

    def __init__(self, decibel_floor=1e-10, decibel_range=80.0, maximum="clip", **kwargs):
        super().__init__(**kwargs)
        self.decibel_floor = decibel_floor
        self.decibel_range = decibel_range
        self.maximum = maximum

    def call(self, power):
        """Return decibels, of the same shape."""
        decibel = 10.0 * ops.log10(ops.maximum(power, self.decibel_floor))
        decibel = decibel - ops.max(decibel, axis=(1, 2, 3) if self.maximum == "clip" else None, keepdims=True)
        return ops.maximum(decibel, -self.decibel_range)

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"decibel_floor": self.decibel_floor, "decibel_range": self.decibel_range, "maximum": self.maximum}
        return {**super().get_config(), **config}


@_register
class ClipStandardisation(keras.layers.Layer):
    """Brings each clip's spectrogram to mean 0 and deviation 1: `(x - mean) / (deviation + 1e-10)`.

    Shapes: (batch, frames, bands, channels) -> the same.
    """

    def call(self, spectrogram):
        """Return the standardised spectrogram."""
        mean, variance = ops.moments(spectrogram, axes=(1, 2, 3), keepdims=True)
        return (spectrogram - mean) / (ops.sqrt(variance) + 1e-10)


@_register
class SeededSpecAugment(SpecAugment):
    """kapre's SpecAugment with masks drawn from a seed that is part of the model's state.

    kapre draws from TensorFlow's global generator, whose state a checkpoint cannot hold; an interrupted run could not
    be continued as if nothing had happened.

    Args:
        seed: of the mask generator.
        **kwargs: kapre's: freq_mask_param, time_mask_param, n_freq_masks, n_time_masks, mask_value, data_format.
    """

    def __init__(self, *args, seed=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None, **kwargs):
        """Mask bands and frames of (batch, frames, bands, 1) in training, else return it unchanged."""
        if not training:
            return x
        batch, frames, bands = tf.shape(x)[0], tf.shape(x)[1], tf.shape(x)[2]
        masked_frames = self._masked(batch, frames, self.time_mask_param, self.n_time_masks)[:, :, None, None]
        masked_bands = self._masked(batch, bands, self.freq_mask_param, self.n_freq_masks)[:, None, :, None]
        return tf.where(masked_frames | masked_bands, tf.cast(self.mask_value, x.dtype), x)

    def _masked(self, batch, size, mask_param, n_masks):
        """Which of `size` cells are masked: bool (batch, size). Widths 0 ... mask_param - 1, as in the paper."""
        draws = keras.random.uniform((2, batch, n_masks, 1), seed=self.seed_generator)
        width = tf.floor(draws[0] * tf.cast(tf.minimum(mask_param, size), tf.float32))
        start = tf.floor(draws[1] * (tf.cast(size, tf.float32) - width + 1.0))
        cells = tf.range(size, dtype=tf.float32)
        return tf.reduce_any((cells >= start) & (cells < start + width), axis=1)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


def waveform_to_power_mel(waveform, config: AudioConfig):
    """Waveform -> power mel spectrogram.

    With `frame_padding='centre'` it equals
    `librosa.feature.melspectrogram(..., center=True, pad_mode="constant", power=2.0)`.

    Args:
        waveform: Keras tensor (batch, samples), nominally in [-1, 1].
        config: the front end.

    Returns:
        Keras tensor (batch, frames, mels, 1).
    """
    mel = {
        "sample_rate": config.sample_rate,
        "n_freq": config.n_frequencies,
        "n_mels": config.n_mels,
        "f_min": config.mel_f_min,
        "f_max": config.mel_f_max,
        "htk": False,
        "norm": "slaney",
    }
    formats = {"input_data_format": "channels_last", "output_data_format": "channels_last", **_PRECISION}
    x = keras.layers.Reshape((-1, 1), name="add_channel", **_PRECISION)(waveform)  # (batch, samples, 1)
    padding = FramePadding(config.n_fft, config.hop_length, config.frame_padding, name="pad_frames", **_PRECISION)
    x = padding(x)  # (batch, padded samples, 1)
    x = STFT(n_fft=config.n_fft, hop_length=config.hop_length, **formats, name="waveform_to_stft")(x)
    x = Magnitude(name="stft_to_magnitude", **_PRECISION)(x)  # (batch, frames, frequencies, 1)
    x = MagnitudeToPower(name="magnitude_to_power", **_PRECISION)(x)
    mel_layer = ApplyFilterbank("mel", mel, data_format="channels_last", name="power_to_mel", **_PRECISION)
    return mel_layer(x)  # (batch, frames, mels, 1)


def waveform_to_spectrogram(waveform, config: AudioConfig):
    """Waveform -> the decibel mel spectrogram that the networks see.

    Args:
        waveform: Keras tensor (batch, samples), nominally in [-1, 1].
        config: the front end.

    Returns:
        Keras tensor (batch, frames, mels, 1), values in [-decibel_range, 0] dB, unless `config.standardise`.
    """
    power = waveform_to_power_mel(waveform, config)
    to_decibel = PowerToRelativeDecibel(
        config.decibel_floor, config.decibel_range, config.decibel_maximum, name="power_to_decibel", **_PRECISION
    )
    spectrogram = to_decibel(power)
    return ClipStandardisation(name="standardise", **_PRECISION)(spectrogram) if config.standardise else spectrogram


def mask_spectrogram(spectrogram, config: AudioConfig, n_masks: int, seed: int):
    """SpecAugment (Park et al. 2019) for training: masks of up to 1/8 of the clip, and of up to 1/8 of the bands.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, 1).
        config: the front end; masked cells get its lowest value.
        n_masks: of each kind.
        seed: of the masks.

    Returns:
        Keras tensor of the same shape; unchanged outside training.
    """
    return SeededSpecAugment(
        freq_mask_param=config.n_mels // 8 + 1,
        time_mask_param=config.n_frames // 8 + 1,
        n_freq_masks=n_masks,
        n_time_masks=n_masks,
        mask_value=-config.decibel_range,
        data_format="channels_last",
        seed=seed,
        name="spec_augment",
    )(spectrogram)
