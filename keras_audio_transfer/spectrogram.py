"""Waveform -> spectrogram, inside the graph: kapre's layers and our decibel scale. The one file that imports kapre."""

import keras
import tensorflow as tf
from kapre.augmentation import SpecAugment
from kapre.time_frequency import STFT, ApplyFilterbank, Magnitude, MagnitudeToDecibel
from keras import ops

from keras_audio_transfer.config import AudioConfig

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")

# The layers that a spectrogram can be the output of, in order; by these names it is found in a model.
SPECTROGRAM_LAYERS = _DECIBEL, _LOG, _SCALED, _STANDARDISED, _MASKED = (
    "power_to_decibel",
    "logarithm",
    "scale_spectrogram",
    "standardise",
    "spec_augment",
)

_SAMPLES = "scale_samples"
SCALINGS = (_SAMPLES, _SCALED)

# Whatever the global policy: powers span more digits than half precision has, and there is no FFT in it.
_PRECISION = {"dtype": "float32"}


def widened(x):
    """The tensor as it is, or as float32 where it is in half precision: for sums, squares and small differences."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


@_register
class MagnitudeToPower(keras.layers.Layer):
    """Squares a magnitude spectrogram of any shape.

    Works in float32, whatever the global policy: half precision would overflow at a magnitude of 256.
    """

    def __init__(self, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)

    def call(self, magnitude):
        """Return the power, of the same shape."""
        return ops.square(magnitude)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape


@_register
class PatchPadding(keras.layers.Layer):
    """Adds the zeros behind a waveform that fill up its last patch, and those that a short clip needs.

    Args:
        audio: the settings of an `AudioConfig`, as `AudioConfig.to_dict` returns them.

    Shapes: (batch, samples, 1) -> (batch, samples of whole patches or more, 1).
    """

    def __init__(self, audio, **kwargs):
        super().__init__(**kwargs)
        self.audio = AudioConfig.from_dict(audio)

    def call(self, waveform):
        """Return the padded waveform."""
        zeros = self.audio.zeros_behind(tf.shape(waveform)[1], tf.maximum)
        return tf.pad(waveform, [[0, 0], [0, zeros], [0, 0]])

    def compute_output_shape(self, input_shape):
        """Return (batch, padded samples, 1); None stays None."""
        batch, n_samples, channels = input_shape
        return (batch, None if n_samples is None else n_samples + self.audio.zeros_behind(n_samples), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "audio": self.audio.to_dict()}


@_register
class SeparateWindows(keras.layers.Layer):
    """Lays windows of a waveform out one after the other, with zeros behind each: what overlaps is there twice.

    Args:
        size: of a window, in samples.
        hop: samples from window to window in the waveform. What fills no window at the end is left out.
        spacing: samples from window to window in what comes out; at least `size`.

    Shapes: (batch, samples, 1) -> (batch, windows * spacing, 1).
    """

    def __init__(self, size, hop, spacing, **kwargs):
        super().__init__(**kwargs)
        self.size, self.hop, self.spacing = size, hop, spacing

    def call(self, waveform):
        """Return the windows."""
        windows = tf.signal.frame(waveform, self.size, self.hop, axis=1)  # (batch, windows, size, 1)
        padded = tf.pad(windows, [[0, 0], [0, 0], [0, self.spacing - self.size], [0, 0]])
        return tf.reshape(padded, [tf.shape(waveform)[0], -1, waveform.shape[2]])

    def compute_output_shape(self, input_shape):
        """Return (batch, samples, 1); None stays None."""
        batch, n_samples, channels = input_shape
        windows = None if n_samples is None else max(1 + (n_samples - self.size) // self.hop, 0)
        return (batch, None if windows is None else windows * self.spacing, channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "hop": self.hop, "spacing": self.spacing}


@_register
class FramePadding(keras.layers.Layer):
    """Adds what stands around a waveform and decides where its frames lie.

    Args:
        n_fft, hop_length: of the STFT that follows, in samples.
        frame_padding: see `AudioConfig`.
        win_length: of the STFT's window and frames; None for `n_fft`.

    Shapes: (batch, samples, 1) -> (batch, padded samples, 1).
    """

    def __init__(self, n_fft, hop_length, frame_padding="centre", win_length=None, **kwargs):
        super().__init__(**kwargs)
        self.n_fft, self.hop_length, self.frame_padding, self.win_length = n_fft, hop_length, frame_padding, win_length

    def call(self, waveform):
        """Return the padded waveform."""
        before, after = self._padding(tf.shape(waveform)[1], tf.maximum)
        if self.frame_padding == "centre_reflect":
            waveform = tf.pad(waveform, [[0, 0], [self.n_fft // 2] * 2, [0, 0]], "REFLECT")
            before, after = before - self.n_fft // 2, after - self.n_fft // 2
        if self.frame_padding in ("centre_reflect", "none"):  # the frames' ends, where there is no window
            return waveform[:, -before : tf.shape(waveform)[1] + after]
        return tf.pad(waveform, [[0, 0], [before, after], [0, 0]])

    def _padding(self, n_samples, maximum):
        """How many samples come before and after that number of samples; below 0, how many are left out."""
        window = self.n_fft if self.win_length is None else self.win_length
        unseen = (self.n_fft - window) // 2  # on each side of a window in the middle of a frame
        half = self.n_fft // 2
        if self.frame_padding == "tensorflow_same":
            n_frames = -(-n_samples // self.hop_length)
            total = maximum((n_frames - 1) * self.hop_length + window - n_samples, 0)
            return total // 2, total - total // 2
        if self.frame_padding == "theano_half":
            # Theano flips the stored kernels in time. A flipped periodic Hann window is the window one sample on, with
            # its zero at the end instead of the start: the usual STFT of frames that begin one sample earlier.
            return half + 1 - unseen, half - 1 - unseen
        return {"none": (-unseen, -unseen), "tensorflow_valid": (0, 0)}.get(
            self.frame_padding, (half - unseen, half - unseen)
        )

    def compute_output_shape(self, input_shape):
        """Return (batch, padded samples, 1); None stays None."""
        batch, n_samples, channels = input_shape
        return (batch, None if n_samples is None else n_samples + sum(self._padding(n_samples, max)), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"n_fft": self.n_fft, "hop_length": self.hop_length, "frame_padding": self.frame_padding}
        return {**super().get_config(), **config, "win_length": self.win_length}


@_register
class ApplyHtkFilterbank(ApplyFilterbank):
    """kapre's `ApplyFilterbank` with the mel bands of `tf.signal.linear_to_mel_weight_matrix`.

    Their triangles are linear in mel, and 1 at their tips; librosa's of the same scale are linear in Hz. Works in
    float32, whatever the global policy.

    Args:
        filterbank_kwargs: sample_rate, n_freq, n_mels, f_min, f_max.

    Shapes: (batch, frames, frequencies, 1) -> (batch, frames, n_mels, 1).
    """

    def __init__(self, filterbank_kwargs, data_format="channels_last", dtype="float32", **kwargs):
        of = filterbank_kwargs
        super().__init__("mel", of, data_format, dtype=dtype, **kwargs)
        limits = (of["f_min"], of["f_max"])
        self.filterbank = tf.signal.linear_to_mel_weight_matrix(of["n_mels"], of["n_freq"], of["sample_rate"], *limits)

    def compute_output_shape(self, input_shape):
        """Return (batch, frames, n_mels, channels)."""
        return (*input_shape[:2], self.filterbank_kwargs["n_mels"], input_shape[3])

    def get_config(self):
        """Return the constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "type"}


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
        maximum: 'clip', 'batch' or 'patch'.
        patch: with 'patch', the frames of a patch, and those from patch to patch, at least as many. What is between
            patches, of which nothing is heard, is at most 0 too.

    Shapes: (batch, frames, bands, channels) -> the same, values in [-decibel_range, 0].

    Takes the power as it comes and computes in float32 at least; only the decibels are rounded to a half precision
    policy. The power itself must not come in half precision: quiet cells would be 0.
    """

    def __init__(self, decibel_floor=1e-10, decibel_range=80.0, maximum="clip", patch=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.decibel_floor = decibel_floor
        self.decibel_range = decibel_range
        self.maximum = maximum
        self.patch = None if patch is None else tuple(patch)

    def call(self, power):
        """Return decibels, of the same shape."""
        decibel = 10.0 * ops.log10(ops.maximum(widened(power), self.decibel_floor))
        if self.maximum == "patch":
            decibel = self._below_each_patch(decibel)
        else:
            decibel = decibel - ops.max(decibel, axis=(1, 2, 3) if self.maximum == "clip" else None, keepdims=True)
        return ops.cast(ops.maximum(decibel, -self.decibel_range), self.compute_dtype)

    def _below_each_patch(self, decibel):
        frames, hop = self.patch
        n_frames, shape = tf.shape(decibel)[1], tf.shape(decibel)
        padded = tf.pad(decibel, [[0, 0], [0, -n_frames % hop], [0, 0], [0, 0]], constant_values=decibel.dtype.min)
        patches = tf.reshape(padded, tf.concat([shape[:1], [-1, hop], shape[2:]], 0))
        loudest = tf.reduce_max(patches[:, :, :frames], axis=(2, 3, 4), keepdims=True)
        below = tf.reshape(tf.minimum(patches - loudest, 0.0), tf.shape(padded))[:, :n_frames]
        return tf.ensure_shape(below, decibel.shape)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"decibel_floor": self.decibel_floor, "decibel_range": self.decibel_range, "maximum": self.maximum}
        return {**super().get_config(), **config, "patch": self.patch}


@_register
class Logarithm(keras.layers.Layer):
    """The logarithm of `scale * x + offset`, natural or to base 10, in float32 at least.

    Shapes: any -> the same.
    """

    def __init__(self, scale=1.0, offset=1e-6, base_10=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.scale, self.offset, self.base_10 = scale, offset, base_10

    def call(self, x):
        """Return the logarithm, of the same shape."""
        x = self.scale * widened(x) + self.offset
        return ops.cast(ops.log10(x) if self.base_10 else ops.log(x), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset, "base_10": self.base_10}


@_register
class ClipStandardisation(keras.layers.Layer):
    """Brings each clip's spectrogram to mean 0 and standard deviation 1: `(x - mean) / (std + 1e-10)`.

    Shapes: (batch, frames, bands, channels) -> the same. Constant clips become 0. Computes in float32 at least.
    """

    def call(self, spectrogram):
        """Return the standardised spectrogram."""
        x = widened(spectrogram)
        mean, variance = ops.moments(x, axes=(1, 2, 3), keepdims=True)
        std = ops.sqrt(ops.maximum(variance, 1e-30))  # at 0 the root would have no finite gradient
        return ops.cast((x - mean) / (std + 1e-10), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape


@_register
class SeededSpecAugment(SpecAugment):
    """kapre's SpecAugment with masks drawn from a seed that is part of the model's state.

    kapre draws from TensorFlow's global generator, whose state a checkpoint cannot hold; an interrupted run could not
    be continued as if nothing had happened.

    Args:
        seed: of the mask generator.
        **kwargs: kapre's: freq_mask_param, time_mask_param, n_freq_masks, n_time_masks, mask_value, data_format.

    Shapes: (batch, frames, bands, 1) -> the same.
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
        draws = keras.random.uniform((2, batch, n_masks, 1), dtype="float32", seed=self.seed_generator)
        width = tf.floor(draws[0] * tf.cast(tf.minimum(mask_param, size), tf.float32))
        start = tf.floor(draws[1] * (tf.cast(size, tf.float32) - width + 1.0))
        cells = tf.range(size, dtype=tf.float32)
        return tf.reduce_any((cells >= start) & (cells < start + width), axis=1)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


def spectrogram_layers(config: AudioConfig) -> list[keras.layers.Layer]:
    """The layers from waveform to mel spectrogram, in order; each takes what the one before it returns.

    As they are for a `keras.Sequential` model; `waveform_to_spectrogram` applies them to a Keras tensor. Up to
    `power_to_mel`, with `frame_padding='centre'`, they equal
    `librosa.feature.melspectrogram(..., center=True, pad_mode="constant", power=2.0)`. All work in float32.

    Args:
        config: the front end.

    Returns:
        New layers, from (batch, samples), nominally in [-1, 1], to (batch, frames, mels, 1); with the default
        compression, values in [-decibel_range, 0] dB, unless `config.standardise`.
    """
    layers = [keras.layers.Reshape((-1, 1), name="add_channel", **_PRECISION)]  # (batch, samples, 1)
    if config.sample_scale != 1:
        layers.append(keras.layers.Rescaling(config.sample_scale, name=_SAMPLES, **_PRECISION))
    if config.patch_frames or config.least_frames:
        layers.append(PatchPadding(config.to_dict(), name="pad_patches", **_PRECISION))
    if config.window_samples:
        laid_out = (config.window_samples, config.window_hop, config.patch_hop * config.hop_length)
        layers.append(SeparateWindows(*laid_out, name="separate_windows", **_PRECISION))
    frame = {"n_fft": config.n_fft, "hop_length": config.hop_length, "win_length": config.win_length, **_PRECISION}
    formats = {"input_data_format": "channels_last", "output_data_format": "channels_last"}
    layers += [
        FramePadding(frame_padding=config.frame_padding, name="pad_frames", **frame),
        STFT(name="waveform_to_stft", **frame, **formats),
        Magnitude(name="stft_to_magnitude", **_PRECISION),  # (batch, frames, frequencies, 1)
    ]
    if config.spectrum == "power":
        layers.append(MagnitudeToPower(name="magnitude_to_power", **_PRECISION))
    return [*layers, _mel_bands(config), *_compression(config)]


def _mel_bands(config):
    bands = {
        "sample_rate": config.sample_rate,
        "n_freq": config.n_frequencies,
        "n_mels": config.n_mels,
        "f_min": config.mel_f_min,
        "f_max": config.mel_f_max,
    }
    how = {"data_format": "channels_last", "name": "power_to_mel", **_PRECISION}
    if config.mel_scale == "htk":
        return ApplyHtkFilterbank(bands, **how)
    return ApplyFilterbank("mel", {**bands, "htk": False, "norm": "slaney"}, **how)


def _compression(config):
    """The layers from mel bands to what the network sees, (batch, frames, mels, 1) all of them."""
    floor, decibels = config.decibel_floor, config.decibel_range
    if config.compression == "relative_decibel":
        patch = (config.patch_frames, config.patch_hop) if config.decibel_maximum == "patch" else None
        layers = [PowerToRelativeDecibel(floor, decibels, config.decibel_maximum, patch, name=_DECIBEL, **_PRECISION)]
    elif config.compression == "decibel":
        layers = [MagnitudeToDecibel(ref_value=1.0, amin=floor, dynamic_range=decibels, name=_DECIBEL, **_PRECISION)]
    else:
        base_10 = config.compression == "log10"
        layers = [Logarithm(config.log_scale, config.log_offset, base_10, name=_LOG, **_PRECISION)]
    if (config.spectrogram_scale, config.spectrogram_offset) != (1, 0):
        scaling = (config.spectrogram_scale, config.spectrogram_offset)
        layers.append(keras.layers.Rescaling(*scaling, name=_SCALED, **_PRECISION))
    if config.standardise:
        layers.append(ClipStandardisation(name=_STANDARDISED, **_PRECISION))
    return layers


def waveform_to_spectrogram(waveform, config: AudioConfig):
    """Waveform -> the mel spectrogram that the networks see, by `spectrogram_layers`.

    Args:
        waveform: Keras tensor (batch, samples), nominally in [-1, 1].
        config: the front end.

    Returns:
        Keras tensor (batch, frames, mels, 1).
    """
    x = waveform
    for layer in spectrogram_layers(config):
        x = layer(x)
    return x


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
        mask_value=config.lowest_value,
        data_format="channels_last",
        seed=seed,
        name=_MASKED,
    )(spectrogram)
