"""AudioConfig: what happens to a sound before the network sees it. Units are in the names; sizes are computed."""

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from keras_audio_transfer.errors import InputError, unknown

SHORT_CLIPS = ("repeat", "zero_pad")
LONG_CLIPS = {"start": 0.0, "centre": 0.5}  # where what is kept of a longer clip lies, from 0 to 1
FRAME_PADDINGS = ("centre", "theano_half", "tensorflow_same")
DECIBEL_MAXIMA = ("clip", "batch")
# How feature maps become features; `extractor.POOLINGS` has their layers.
POOLINGS = (
    "mean",
    "max",
    "mean_deviation",
)


@dataclass(frozen=True)
class AudioConfig:
    """The front end: sample rate, clip length, STFT, mel bands and decibel scale.

    Attributes:
        sample_rate: in Hz; every clip is resampled to it.
        clip_seconds: length of the clips the network is trained on. Features can be had for any length.
        n_fft: length of the window (periodic Hann) and of the FFT, in samples.
        hop_length: step from frame to frame, in samples.
        n_mels: mel bands (Slaney scale and area norm).
        mel_f_min, mel_f_max: limits of the mel bands in Hz.
        decibel_floor: power below this counts as this (1e-10: -100 dB re 1).
        decibel_range: values lie in [-decibel_range, 0] dB, 0 being the loudest cell.
        decibel_maximum: the loudest cell of the 'clip'; or, only to reproduce the published weights of 2017, of the
            whole 'batch', so that a clip's features depend on its neighbours.
        standardise: whether each clip's decibels are then brought to mean 0 and standard deviation 1.
        frame_padding: zeros around the waveform. 'centre': `n_fft // 2` on each side, so that frame t is centred on
            sample `t * hop_length`, and n samples have `1 + n // hop_length` frames. The published weights of 2017
            need 'theano_half' (version 1: the same, but a frame begins one sample earlier) or 'tensorflow_same'
            (version 2: `ceil(n / hop_length)` frames, TensorFlow's 'SAME').
        short_clips: what happens to a clip shorter than `clip_seconds`: 'repeat' (then cut) or 'zero_pad'.
        long_clips: which part of a longer clip is taken: its 'start' or its 'centre'.

    Raises:
        InputError: a value is out of range.
    """

    sample_rate: int
    clip_seconds: float
    n_fft: int
    hop_length: int
    n_mels: int
    mel_f_min: float
    mel_f_max: float
    decibel_floor: float = 1e-10
    decibel_range: float = 80.0
    decibel_maximum: str = "clip"
    standardise: bool = False
    frame_padding: str = "centre"
    short_clips: str = "repeat"
    long_clips: str = "start"

    def __post_init__(self) -> None:
        rules = {
            "sample_rate": (self.sample_rate >= 1, "at least 1 Hz"),
            "clip_seconds": (
                1 <= self.clip_seconds * self.sample_rate <= 3600 * self.sample_rate,
                "one sample to an hour",
            ),
            "n_fft": (self.n_fft >= 2 and self.n_fft % 2 == 0, "an even number of samples, at least 2"),
            "hop_length": (1 <= self.hop_length <= self.n_fft, f"1 to n_fft ({self.n_fft}) samples"),
            "n_mels": (self.n_mels >= 1, "at least 1"),
            "mel_f_min": (0 <= self.mel_f_min < self.mel_f_max, f"0 Hz to below mel_f_max ({self.mel_f_max})"),
            "mel_f_max": (self.mel_f_max <= self.sample_rate / 2, f"at most sample_rate / 2 ({self.sample_rate / 2})"),
            "decibel_floor": (self.decibel_floor > 0, "a power above 0"),
            "decibel_range": (self.decibel_range > 0, "a number of decibels above 0"),
            "decibel_maximum": (self.decibel_maximum in DECIBEL_MAXIMA, f"one of {', '.join(DECIBEL_MAXIMA)}"),
            "frame_padding": (self.frame_padding in FRAME_PADDINGS, f"one of {', '.join(FRAME_PADDINGS)}"),
            "short_clips": (self.short_clips in SHORT_CLIPS, f"one of {', '.join(SHORT_CLIPS)}"),
            "long_clips": (self.long_clips in LONG_CLIPS, f"one of {', '.join(LONG_CLIPS)}"),
        }
        for name, (kept, rule) in rules.items():
            if not kept:
                raise InputError(f"{name}: {getattr(self, name)!r} is not allowed; expected {rule}")

    @property
    def n_samples(self) -> int:
        """Samples in a clip of `clip_seconds`."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames in a clip of `clip_seconds`."""
        return self.frames_of(self.n_samples)

    @property
    def n_frequencies(self) -> int:
        """Frequency bins of the STFT."""
        return self.n_fft // 2 + 1

    @property
    def mel_matrix_shape(self) -> tuple[int, int]:
        """(frequency bins, mel bands)."""
        return self.n_frequencies, self.n_mels

    @property
    def hop_seconds(self) -> float:
        """Time from frame to frame."""
        return self.hop_length / self.sample_rate

    def frames_of(self, n_samples: int) -> int:
        """Frames of a waveform of `n_samples`."""
        if self.frame_padding == "tensorflow_same":
            return -(-n_samples // self.hop_length)
        return 1 + n_samples // self.hop_length

    def with_clip_seconds(self, clip_seconds: float | None) -> "AudioConfig":
        """The same front end for clips of another length; None changes nothing.

        Raises InputError for one that is no length, or shorter than a frame, of which a SavedModel computes nothing.
        """
        if clip_seconds is None:
            return self
        config, frame = replace(self, clip_seconds=clip_seconds), self.n_fft / self.sample_rate
        if config.n_samples < self.n_fft:
            raise InputError(f"clip_seconds: {clip_seconds:g} is shorter than a frame; expected at least {frame:g}")
        return config

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `card.json`: the settings, and after them the derived sizes for the reader."""
        derived = {"n_samples": self.n_samples, "n_frames": self.n_frames, "mel_matrix_shape": [*self.mel_matrix_shape]}
        return {**asdict(self), **derived, "hop_seconds": self.hop_seconds}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AudioConfig":
        """The config that `to_dict` described. Raises InputError where one without a default is missing."""
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        missing = [name for name in needed if name not in values]
        if missing:
            raise InputError(f"audio config: {', '.join(missing)} missing; expected {', '.join(needed)}")
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


PRESETS = {
    # Choi et al. 2017, section 3: the settings of the published weights.
    "choi2017": AudioConfig(
        sample_rate=12000, clip_seconds=29.0, n_fft=512, hop_length=256, n_mels=96, mel_f_min=0.0, mel_f_max=6000.0
    ),
    # Ours, for spoken words and environmental sounds: the same decibel scale, up to 8 kHz, four seconds.
    "short16k": AudioConfig(
        sample_rate=16000, clip_seconds=4.0, n_fft=512, hop_length=256, n_mels=64, mel_f_min=0.0, mel_f_max=8000.0
    ),
    # Ours: half as many frames, which halves the cost of the deep networks.
    "light16k": AudioConfig(
        sample_rate=16000, clip_seconds=4.0, n_fft=1024, hop_length=512, n_mels=64, mel_f_min=0.0, mel_f_max=8000.0
    ),
}


def preset(name: str) -> AudioConfig:
    """The preset of that name. Raises InputError for an unknown one."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def fitted_pools(pools: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Pool sizes for an axis of `size` cells, derived from those of a network made for a longer axis.

    While the product of the pools exceeds `size`, the largest pool (of equals, the last) is reduced by one: the
    network keeps its depth, and its last pool still has a cell to give. Pools that fit are returned as they are.
    """
    fitted = list(pools)
    while math.prod(fitted) > size and max(fitted) > 1:
        largest = max(range(len(fitted)), key=lambda i: (fitted[i], i))
        fitted[largest] -= 1
    return tuple(fitted)
