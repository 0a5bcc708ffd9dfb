"""Audio in memory: arrays of several formats and shapes -> waveforms, checked. Without TensorFlow."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE, number, shown
from keras_audio_transfer.errors import InputError

Samples = npt.NDArray[Any]
Waveform = npt.NDArray[np.float32]

MOST_CHANNELS = 16
# Floats beyond this, 40 dB over full scale, were never scaled: 16-bit samples of any recording go further.
_LOUDEST = 100.0
_FULL_SCALE = {("i", 2): 2.0**15, ("i", 4): 2.0**31, ("u", 1): 2.0**7}  # kind, bytes -> what becomes 1.0


def split_clips(audio: npt.ArrayLike | Iterable[npt.ArrayLike], name: str = "audio") -> tuple[list[Samples], bool]:
    """Tell the clips in what a user calls audio.

    Args:
        audio: an array (samples,) is one clip. So is one of two dimensions whose second is at most 16 and shorter than
            the first: (samples, channels). Any other with two is a batch (clips, samples); with three it is one with
            channels (clips, samples, channels). A list or tuple of arrays holds a clip each, of any lengths: see
            `one_clip`.
        name: what errors call it.

    Returns:
        Arrays (samples,) or (samples, channels) of the type given, and whether it was one clip, not a list or batch.

    Raises:
        InputError: no audio, of a type or shape that it cannot have, or empty.

    Examples:
        >>> import numpy as np
        >>> clips, is_one = split_clips([np.zeros(100), np.zeros((2, 80))])
        >>> [clip.shape for clip in clips], is_one
        ([(100,), (80, 2)], False)
    """
    if isinstance(audio, list | tuple):
        if not audio:
            raise InputError(f"{name}: is an empty list; expected at least one clip")
        return [one_clip(clip, f"{name}[{number}]") for number, clip in enumerate(audio)], False
    array = _as_array(audio, name)
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] <= MOST_CHANNELS and array.shape[0] > array.shape[1]):
        return [_of_one_clip(array, name)], True
    if array.ndim not in (2, 3):
        raise InputError(
            f"{name}: has shape {array.shape}; expected (samples,), (samples, channels), (clips, samples) or "
            "(clips, samples, channels)"
        )
    if not len(array):
        raise InputError(f"{name}: has shape {array.shape}, no clips; expected at least one")
    if array.ndim == 3:
        _check_channels(array.shape[2], name, array.shape)
    return [_of_one_clip(clip, name, array.shape) for clip in array], False


def one_clip(audio: npt.ArrayLike, name: str) -> Samples:
    """One clip, (samples,) or (samples, channels), from an array whose channels are on the shorter of two dimensions.

    (samples, channels), as soundfile reads a file, may have any number of channels, as a file may. (channels, samples)
    with more than 16 is refused: that is probably a batch of clips.

    Raises:
        InputError: no such array, or an empty one.
    """
    array = _as_array(audio, name)
    if array.ndim not in (1, 2):
        raise InputError(f"{name}: has shape {array.shape}; expected one clip, (samples,) or (samples, channels)")
    if array.ndim == 1 or array.shape[0] >= array.shape[1]:
        return _of_one_clip(array, name)
    _check_channels(array.shape[0], name, array.shape)
    return _of_one_clip(array.T, name, array.shape)


def one_chunk(audio: npt.ArrayLike, name: str) -> Samples:
    """A piece of a sound, (samples,) or (samples, channels), of any length: a microphone may also have nothing new.

    Raises:
        InputError: no such array.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        raise InputError(f"{name}: is bytes; expected an array; of 16-bit audio pass np.frombuffer(data, np.int16)")
    array = _as_array(audio, name)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        expected = f"expected (samples,), or (samples, channels) with at most {MOST_CHANNELS} channels"
        raise InputError(f"{name}: has shape {array.shape}; {expected}; turn (channels, samples) round with .T")
    return array


def checked_rate(sample_rate: object, model_rate: int, name: str = "sample_rate") -> int:
    """A sample rate in Hz.

    Args:
        sample_rate: a whole number from 100 to 768000, of any type.
        model_rate: the one that the audio will have, for the error.
        name: what errors call it.

    Raises:
        InputError: anything else, None included.
    """
    if sample_rate is None:
        raise InputError(
            f"{name}: missing; expected the rate of the audio, such as 44100, which is then resampled to the model's "
            f"{model_rate} Hz; pass {model_rate} if it has that already"
        )
    rate = number(sample_rate)
    if LOWEST_RATE <= rate <= HIGHEST_RATE and rate.is_integer():
        return int(rate)
    raise InputError(
        f"{name}: {shown(sample_rate)} is not allowed; expected the rate of the audio, a whole number of Hz from "
        f"{LOWEST_RATE} to {HIGHEST_RATE}; it is then resampled to the model's {model_rate}"
    )


def to_float32(samples: Samples, name: str) -> Waveform:
    """Samples in [-1, 1] from those of a clip: integers by their type's full scale, floats as they are.

    Floats may be louder than 1, up to 100 (40 dB); beyond that they are taken for integers that were never scaled. A
    float file may hold up to 2**31, because its format says that it is scaled; an array says nothing of itself.

    Raises:
        InputError: NaN or infinite samples, or floats that were never scaled.
    """
    kind = samples.dtype.kind
    if kind == "f":
        peak = max(float(samples.max()), -float(samples.min()))
        if not np.isfinite(peak):
            raise InputError(f"{name}: holds NaN or infinite samples; expected finite ones; repair or remove it")
        if peak > _LOUDEST:
            raise InputError(
                f"{name}: float samples up to {peak:g}; expected [-1, 1]; of 16-bit audio divide by 32768, or pass the "
                "integers"
            )
        return np.ascontiguousarray(samples, np.float32)
    full_scale = np.float32(_FULL_SCALE[kind, samples.dtype.itemsize])
    centre = full_scale if kind == "u" else np.float32(0)
    return np.ascontiguousarray((samples.astype(np.float32) - centre) / full_scale)


def is_array(value: object) -> bool:
    """Whether NumPy takes it as an array: its own, pandas', TensorFlow's; no numbers and texts."""
    return hasattr(value, "__array__") and not isinstance(value, np.generic)


def as_list(value: Any, name: str) -> Any:
    """What an array of any library holds: Python's values in lists, or one value; what is no array as it is.

    Raises:
        InputError: an array that cannot be read.

    >>> as_list(np.array(["a", "b"]), "x"), as_list(np.array("a"), "x"), as_list(("a", 1), "x")
    (['a', 'b'], 'a', ('a', 1))
    """
    return _read(value, name).tolist() if is_array(value) else value


def _as_array(audio: object, name: str) -> Samples:
    if isinstance(audio, str | bytes) or hasattr(audio, "__fspath__"):
        raise InputError(f"{name}: {shown(audio)} is a path; expected an array; read it with soundfile.read first")
    if not is_array(audio):
        raise InputError(
            f"{name}: is of type {type(audio).__name__}; expected a NumPy array of samples, or a list of such arrays"
        )
    if np.ma.is_masked(audio):
        raise InputError(f"{name}: has masked samples; expected all of them; fill them, or cut them out")
    array = _read(audio, name)
    if array.dtype.kind != "f" and (array.dtype.kind, array.dtype.itemsize) not in _FULL_SCALE:
        raise InputError(
            f"{name}: has samples of type {array.dtype}; expected float in [-1, 1], int16, int32 or uint8; convert them"
        )
    return array


def _read(array: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(array)
    except Exception as error:  # of another library's tensors: on a GPU, symbolic
        raise InputError(f"{name}: is no array ({' '.join(str(error).split())}); pass a NumPy array") from error


def _of_one_clip(array: Samples, name: str, shape: tuple[int, ...] | None = None) -> Samples:
    if not array.size:
        raise InputError(f"{name}: has shape {shape or array.shape}, no samples; expected at least one")
    return array


def _check_channels(n_channels: int, name: str, shape: tuple[int, ...]) -> None:
    if n_channels > MOST_CHANNELS:
        raise InputError(
            f"{name}: has shape {shape}; expected at most {MOST_CHANNELS} channels, or in a list any number as "
            "(samples, channels); a batch (clips, samples) is not put in a list"
        )
