"""Features of a sound that comes chunk by chunk, as from a microphone, while it comes. Without TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.audio.arrays import one_chunk, to_float32
from keras_audio_transfer.audio.loading import StreamResampler
from keras_audio_transfer.audio.sliding_windows import SlidingWindows, Window
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError

Timed = tuple[float, dict[str, npt.NDArray[np.floating[Any]]]]


class FeatureStream:
    """Chunks of a sound -> features over time. Make it with `Model.stream`; for one sound, and one thread at a time.

    Args:
        features_of: of a window: its time and features.
        config: the front end.
        sample_rate: of the chunks, in Hz.
        hop_seconds: from window to window.
    """

    def __init__(
        self, features_of: Callable[[Window], Timed], config: AudioConfig, sample_rate: int, hop_seconds: float
    ):
        self._features_of = features_of
        self._resampler = StreamResampler(sample_rate, config.sample_rate)
        self._windows = SlidingWindows(config, hop_seconds)
        self._is_over = False

    def push(self, chunk: npt.ArrayLike) -> list[Timed]:
        """Hear the next chunk.

        Args:
            chunk: (samples,) or (samples, channels), which are averaged; of any length, also none; float in [-1, 1],
                int16, int32 or uint8, as for `Model.features`.

        Returns:
            For each window that is whole now: its centre in seconds from the start of the first chunk, and layer ->
            float32 (channels,).

        Raises:
            InputError: no such chunk, which is left out then; or the sound is over.
        """
        self._check()
        samples = one_chunk(chunk, "chunk")
        if not len(samples):
            return []
        waveform = self._resampler.push(to_float32(samples, "chunk"))
        return [*map(self._features_of, self._windows.push(waveform))]

    def flush(self) -> list[Timed]:
        """End the sound: the rest of its windows, as `push` returns them; none where no sample was heard.

        Raises:
            InputError: it is over already.
        """
        self._check()
        self._is_over = True
        windows = [*self._windows.push(self._resampler.flush()), *self._windows.flush()]
        return [*map(self._features_of, windows)]

    def _check(self) -> None:
        if self._is_over:
            raise InputError("chunk: the stream was flushed; expected a new one for a new sound: `Model.stream`")
