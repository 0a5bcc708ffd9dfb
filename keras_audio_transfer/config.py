"""AudioConfig: what happens to a sound before the network sees it. Units are in the names; sizes are computed.

Also what the value of any setting or argument may be: `number`, `checked_whole`, `checked_flag`, `checked_path`.
"""

import errno
import math
import os
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.remote_paths import address_in

LARGEST_SCALE = 2.0**31
LOWEST_RATE, HIGHEST_RATE = 100, 768_000  # Hz, of what is read and of what the served signatures take
SHORTEST_HOP, LONGEST_HOP = 0.001, 3600  # seconds; clip ids tell windows by their milliseconds
MOST_THREADS = 1024  # of one process; TensorFlow ends it without a word where the system gives it no more
SHORT_CLIPS = ("repeat", "zero_pad")
# Where what is kept of a longer clip lies, from 0 to 1; of those that are kept whole, where they have to be cut.
LONG_CLIPS = {"start": 0.0, "centre": 0.5, "whole": 0.0}
FRAME_PADDINGS = ("centre", "theano_half", "tensorflow_same", "centre_reflect", "none", "tensorflow_valid")
SPECTRA = ("power", "magnitude")
MEL_SCALES = ("slaney", "htk")
COMPRESSIONS = ("relative_decibel", "decibel", "natural_log", "log10")
PATCH_RESTS = ("drop", "zero_pad")
DECIBEL_MAXIMA = ("clip", "batch", "patch")
# How feature maps become features; `extractor.POOLINGS` has their layers.
POOLINGS = (
    "mean",
    "max",
    "mean_deviation",
    "time_mean",
    "time_max",
)
_KINDS = {int: "a whole number", float: "a number", str: "a text"}


def shown(value: object) -> str:
    """A value for an error message: on one line, and not all of a long one."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a number of thousands of digits, an object that cannot show itself
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(value: object) -> float:
    """A real number of any type as a float: infinite where it is too large for one; NaN for what is no number.

    >>> number(np.int8(3)), number(np.float16(0.5)), number("1"), number(True)
    (3.0, 0.5, nan, nan)
    """
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.inf
    except TypeError:  # NumPy's durations count as numbers
        return math.nan


def checked_whole(name: str, value: object, lowest: int, expected: str, highest: float = math.inf) -> int:
    """A whole number of any type, within limits; `expected` says them. Raises InputError for anything else."""
    if isinstance(value, Integral) and not isinstance(value, bool | np.timedelta64) and lowest <= int(value) <= highest:
        return int(value)
    raise InputError(f"{name}: {shown(value)} is not allowed; expected {expected}")


def checked_flag(name: str, value: object) -> bool:
    """A truth value, also NumPy's. Raises InputError for anything else, such as the text 'no', which counts as true."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InputError(f"{name}: {shown(value)} is not allowed; expected True or False")


def checked_path(name: str, value: object, expected: str) -> Path:
    """A path from a text or a `pathlib.Path`; nothing has to be there.

    Args:
        name: of the argument.
        value: what was received.
        expected: what it is the path of, in words.

    Raises:
        InputError: of another type, empty, an address, or one that the system cannot have: too long, or with a NUL in
            it.
    """
    try:
        path = Path(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"{name}: is of type {type(value).__name__}; expected {expected}") from error
    if value == "":
        raise InputError(f"{name}: is empty; expected {expected}")
    if address_in(str(path)):
        what = "is no path on this machine; where files elsewhere can be used, their address is a text, not a Path"
        raise InputError(f"{name}: {path.as_posix()} {what}; expected {expected}")
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{name}: {shown(str(path))} is not allowed ({why}); expected {expected}") from error
    return path


@dataclass(frozen=True)
class AudioConfig:
    """The front end: sample rate, clip length, STFT, mel bands, decibel scale and patches.

    The later settings are for published networks, whose weights fit one front end only.

    Attributes:
        sample_rate: in Hz; every clip is resampled to it.
        clip_seconds: length of the clips the network is trained on, to which shorter ones are filled, but those that
            are heard whole and need only `least_frames`; and of the windows of recordings heard in windows.
        n_fft: length of the FFT, in samples.
        hop_length: step from frame to frame, in samples.
        n_mels: mel bands.
        mel_f_min, mel_f_max: limits of the mel bands in Hz.
        decibel_floor: power below this counts as this (1e-10: -100 dB re 1).
        decibel_range: values lie in [-decibel_range, 0] dB, 0 being the loudest cell.
        decibel_maximum: the loudest cell of the 'clip'; or of each 'patch', where they do not overlap; or, only to
            reproduce the published weights of 2017, of the whole 'batch', so that a clip's features depend on its
            neighbours.
        standardise: whether each clip's decibels are then brought to mean 0 and standard deviation 1.
        frame_padding: zeros around the waveform. 'centre': `n_fft // 2` on each side, so that frame t is centred on
            sample `t * hop_length`, and n samples have `1 + n // hop_length` frames. The published weights of 2017
            need 'theano_half' (version 1: the same, but a frame begins one sample earlier) or 'tensorflow_same'
            (version 2: `ceil(n / hop_length)` frames, TensorFlow's 'SAME'). 'centre_reflect': as 'centre', with the
            waveform reflected instead of zeros. Without any, whole frames only: 'none' (of `n_fft` samples, with a
            shorter window in their middle, as librosa's `center=False`) or 'tensorflow_valid' (of `win_length`).
        short_clips: what happens to a clip shorter than `clip_seconds`: 'repeat' (then cut) or 'zero_pad'.
        long_clips: which part of a longer clip is taken: its 'start' or its 'centre'; or it is heard 'whole', but in
            training, which takes its start.
        win_length: length of the window (periodic Hann), in samples; None for `n_fft`.
        sample_scale: what samples in [-1, 1] are multiplied by first.
        spectrum: what is summed in mel bands: 'power' or 'magnitude'.
        mel_scale: 'slaney' (and area norm, as librosa's default) or 'htk' (triangles that are linear in mel and 1 at
            their tips: `tf.signal.linear_to_mel_weight_matrix`).
        compression: 'relative_decibel' as above; 'decibel': the same, not relative to the loudest cell, but cut
            `decibel_range` below it; 'natural_log' or 'log10': the logarithm of `log_scale * x + log_offset`.
        log_scale, log_offset: see there.
        spectrogram_scale, spectrogram_offset: the compressed values are multiplied by the first, and the second added.
        patch_frames: the network sees patches of this number of frames, and a clip's maps are those of its patches, one
            after the other in time; 0: it sees clips as they are.
        patch_hop: frames from patch to patch; at most as many as a patch has, but see `window_samples`.
        patch_rest: what becomes of the end, which fills no patch: 'drop', or 'zero_pad' the waveform. A clip shorter
            than one patch is filled with zeros.
        least_frames: a clip that would have fewer is filled with zeros; for networks that see clips as they are, and
            whose pools need as many. Patches need no such number: 0.
        window_samples: each patch is a window of the waveform, of this number of samples, that is heard by itself: as
            if there was silence on either side. So the windows are laid out one after the other, with zeros behind
            each, before there are frames, which needs 'tensorflow_valid'; a frame begins at each hop, and `patch_hop`
            is the number of frames from window to window as laid out. 0: the waveform is left as it is.
        window_hop: samples from window to window in the waveform.

    Raises:
        InputError: a value is out of range, or of another type. Numbers may be NumPy's.
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
    win_length: int | None = None
    sample_scale: float = 1.0
    spectrum: str = "power"
    mel_scale: str = "slaney"
    compression: str = "relative_decibel"
    log_scale: float = 1.0
    log_offset: float = 1e-6
    spectrogram_scale: float = 1.0
    spectrogram_offset: float = 0.0
    patch_frames: int = 0
    patch_hop: int = 0
    patch_rest: str = "drop"
    least_frames: int = 0
    window_samples: int = 0
    window_hop: int = 0

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = _of_kind(setting.name, getattr(self, setting.name), setting.type)
            object.__setattr__(self, setting.name, value)
        rules = {
            "sample_rate": (1 <= self.sample_rate <= HIGHEST_RATE, f"1 to {HIGHEST_RATE} Hz"),
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
            "decibel_maximum": (
                self.decibel_maximum in DECIBEL_MAXIMA
                and (self.decibel_maximum != "patch" or 0 < self.patch_frames <= self.patch_hop),
                f"one of {', '.join(DECIBEL_MAXIMA)}; the last of patches that do not overlap",
            ),
            "frame_padding": (self.frame_padding in FRAME_PADDINGS, f"one of {', '.join(FRAME_PADDINGS)}"),
            "short_clips": (self.short_clips in SHORT_CLIPS, f"one of {', '.join(SHORT_CLIPS)}"),
            "long_clips": (self.long_clips in LONG_CLIPS, f"one of {', '.join(LONG_CLIPS)}"),
            "win_length": (2 <= self.window <= self.n_fft and self.window % 2 == 0, f"even, 2 to n_fft ({self.n_fft})"),
            "sample_scale": (0 < self.sample_scale <= LARGEST_SCALE, "above 0, up to 2**31"),
            "spectrum": (self.spectrum in SPECTRA, f"one of {', '.join(SPECTRA)}"),
            "mel_scale": (self.mel_scale in MEL_SCALES, f"one of {', '.join(MEL_SCALES)}"),
            "compression": (self.compression in COMPRESSIONS, f"one of {', '.join(COMPRESSIONS)}"),
            "log_scale": (0 < self.log_scale < math.inf, "a number above 0"),
            "log_offset": (0 < self.log_offset < math.inf, "a number above 0"),
            "spectrogram_scale": (0 < abs(self.spectrogram_scale) < math.inf, "a number that is not 0"),
            "spectrogram_offset": (math.isfinite(self.spectrogram_offset), "a finite number"),
            "patch_frames": (self.patch_frames >= 0, "0 or more frames"),
            "window_samples": (
                self.window_samples == 0
                or (self.frame_padding == "tensorflow_valid" and 1 <= self.window_samples <= self._laid_out_hop),
                f"0, or with frame_padding tensorflow_valid 1 to patch_hop ({self.patch_hop}) times hop_length samples",
            ),
            "window_hop": (
                1 <= self.window_hop <= self.window_samples if self.window_samples else self.window_hop == 0,
                f"1 to window_samples ({self.window_samples})" if self.window_samples else "0 without window_samples",
            ),
            "patch_hop": self._rule_of_patch_hop(),
            "patch_rest": (self.patch_rest in PATCH_RESTS, f"one of {', '.join(PATCH_RESTS)}"),
            "least_frames": (
                self.least_frames == 0 if self.patch_frames else self.least_frames >= 0,
                "0 with patch_frames" if self.patch_frames else "0 or more frames",
            ),
        }
        for name, (kept, rule) in rules.items():
            if not kept:
                raise InputError(f"{name}: {shown(getattr(self, name))} is not allowed; expected {rule}")

    def _rule_of_patch_hop(self) -> tuple[bool, str]:
        if not self.patch_frames:
            return self.patch_hop == 0, "0 without patch_frames"
        if self.window_samples:  # the last frame of a window ends before the next window begins
            needed = self.patch_frames - 1 + -(-self.window // max(self.hop_length, 1))
            return self.patch_hop == needed, f"{needed} frames, which keep windows apart"
        return 1 <= self.patch_hop <= self.patch_frames, f"1 to patch_frames ({self.patch_frames}) frames"

    @property
    def n_samples(self) -> int:
        """Samples in a clip of `clip_seconds`."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def least_samples(self) -> int:
        """Samples to which a shorter clip is filled, as `short_clips` says: heard whole, it needs `least_frames`."""
        if self.long_clips == "whole" and self.least_frames:
            return max(self._samples_of(self.least_frames), self.n_fft)
        return self.n_samples

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
    def window(self) -> int:
        """Samples of the window."""
        return self.n_fft if self.win_length is None else self.win_length

    @property
    def _unpadded(self) -> int:
        """Samples that the first frame takes of the waveform itself; 0 where what is around it fills the frame."""
        return {"none": self.n_fft, "tensorflow_valid": self.window}.get(self.frame_padding, 0)

    @property
    def patch_samples(self) -> int:
        """Samples of the waveform that one patch needs; 0 without patches."""
        return self.window_samples or self._samples_of(self.patch_frames)

    @property
    def patch_hop_samples(self) -> int:
        """Samples of the waveform from patch to patch; 0 without patches."""
        return self.window_hop or self._laid_out_hop

    @property
    def _laid_out_hop(self) -> int:
        return self.patch_hop * self.hop_length

    def _samples_of(self, n_frames: int) -> int:
        """Samples that so many frames need; 0 for none."""
        return max(self._unpadded, 1) + (n_frames - 1) * self.hop_length if n_frames else 0

    @property
    def lowest_value(self) -> float:
        """Of a spectrogram, unless it is standardised."""
        lowest = {
            "relative_decibel": -self.decibel_range,
            "decibel": 10 * math.log10(self.decibel_floor),
            "natural_log": math.log(self.log_offset),
            "log10": math.log10(self.log_offset),
        }[self.compression]
        return lowest * self.spectrogram_scale + self.spectrogram_offset

    @property
    def hop_seconds(self) -> float:
        """Time from frame to frame."""
        return self.hop_length / self.sample_rate

    def frames_of(self, n_samples: int) -> int:
        """Frames of a waveform of `n_samples`, when it is filled up as `zeros_behind` says."""
        n_samples += self.zeros_behind(n_samples)
        if self.window_samples:
            return (n_samples - self.window_samples) // self.window_hop * self.patch_hop + self.patch_frames
        if self.frame_padding == "tensorflow_same":
            return -(-n_samples // self.hop_length)
        return 1 + (n_samples - self._unpadded) // self.hop_length

    def zeros_behind(self, n_samples: Any, maximum: Callable[[Any, Any], Any] = max) -> Any:
        """Zeros that `n_samples` need for whole patches or the least frames; of tensors with TensorFlow's `maximum`."""
        missing = maximum((self.patch_samples or self._samples_of(self.least_frames)) - n_samples, 0)
        if not self.patch_frames or self.patch_rest == "drop":
            return missing
        hop = self.patch_hop_samples
        behind = n_samples + missing - self.patch_samples  # what is behind the first patch
        return missing - behind + -(-behind // hop) * hop

    def patches_of(self, n_samples: int) -> int:
        """Patches of a waveform of `n_samples`; 1 without patches."""
        if not self.patch_frames:
            return 1
        return 1 + (self.frames_of(n_samples) - self.patch_frames) // self.patch_hop

    def with_clip_seconds(self, clip_seconds: float | None) -> "AudioConfig":
        """The same front end for clips of another length, to which longer ones are cut; None changes nothing.

        Raises InputError for one that is no length, or shorter than a frame, of which a SavedModel computes nothing.
        """
        if clip_seconds is None:
            return self
        long_clips = "start" if self.long_clips == "whole" else self.long_clips
        config = replace(self, clip_seconds=clip_seconds, long_clips=long_clips)
        frame = self.n_fft / self.sample_rate
        if config.n_samples < self.n_fft:
            seconds = config.clip_seconds
            raise InputError(f"clip_seconds: {seconds:g} is shorter than a frame; expected at least {frame:g}")
        return config

    def for_clips(self, longest: float) -> "AudioConfig":
        """The front end with the length of the longest clip, in seconds, where that is the shorter one.

        The length of a network of patches is that of a patch, to which clips are filled in any case.
        """
        if self.patch_frames:
            return self
        return replace(self, clip_seconds=min(self.clip_seconds, max(longest, self.n_fft / self.sample_rate)))

    def for_batches_of(self, longest: float) -> "AudioConfig":
        """Where clips are heard whole: the front end with the length of the longest one, in seconds."""
        if self.long_clips != "whole":
            return self
        return replace(self, clip_seconds=max(longest, self.clip_seconds))

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


def _of_kind(name: str, value: Any, kind: Any) -> Any:
    """A setting's value as the type that it has to have. Raises InputError where it cannot be that."""
    if kind is bool:
        return checked_flag(name, value)
    if kind is str and isinstance(value, str):
        return value
    if kind == int | None:
        return None if value is None else _of_kind(name, value, int)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if kind is int and is_number and number(value).is_integer():
        return int(value)
    if kind is float and is_number:
        return value if type(value) is int and math.isfinite(number(value)) else number(value)
    raise InputError(f"{name}: {shown(value)} is not allowed; expected {_KINDS[kind]}")


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
