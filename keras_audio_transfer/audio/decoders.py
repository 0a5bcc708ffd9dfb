"""The decoders of audio files, both used in the same way. Without TensorFlow.

libsndfile reads what it can measure. An mp3 without a header of its length, Opus of an unknown rate, and formats that
libsndfile does not know are left to FFmpeg (PyAV).
"""

import io
import os
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from keras_audio_transfer.audio import headers
from keras_audio_transfer.datasets.clip import Stored
from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT
from keras_audio_transfer.errors import InputError

BLOCK = 1 << 18  # samples: 5 s at 48 kHz, so that most clips are one
_BLOCK_OF_ALL = 4 * BLOCK  # of all channels together: a header may claim a thousand
EXPECTED = f"expected {SUFFIXES_TEXT} audio"
_UNKNOWN = 1 << 36  # a flac file's header has 36 bits for its length
_FFMPEG_CHANNELS = 8  # PyAV crashes with many
_SAY_THEIR_LENGTH = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")  # that of others is FFmpeg's guess
_FFMPEG_SLACK = 0.3  # s, of that length: a frame of the slowest rate
_MP3_SLACK = 4 * 1152  # of the length in an mp3's header, for the decoder's delay
# What is decoded before a place in an mp3 file. A frame's data begin up to 511 bytes before it (ISO 11172-3), which can
# be 85 frames of 576 samples; and what cannot be decoded is missing in the next frames, too.
_MP3_BEFORE = 1 << 16
UNCLOSED = "never closed: its header says that it is empty, and it was read to its end"
DAMAGED = "damaged: some of its bytes are no frame of an mp3, and the sound around them may be wrong"
GOES_ON = "goes on behind the end that its header tells: what follows there was not read"
SEVERAL = "holds several sounds: the first was read"


class Decoder:
    """What reads an audio file, from its beginning.

    Attributes:
        sample_rate: in Hz.
        notes: what the user should know of the file, in words; complete when it has been read.
    """

    sample_rate: int
    notes: tuple[str, ...] = ()

    def read(self, samples: int) -> np.ndarray:
        """The next samples, float32 (samples, channels): this many, or fewer; none where the file is over."""
        raise NotImplementedError

    def skip(self, samples: int) -> None:
        """Leave out so many samples; the file may end before."""
        while samples and (read := len(self.read(min(samples, BLOCK)))):
            samples -= read

    def check_end(self) -> None:
        """Where the file is over: raise InputError if it says that it is longer."""
        raise NotImplementedError

    def check_content(self) -> None:
        """Where samples cannot be: raise InputError if the file itself knows that it holds others by now."""

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError


class StoredSamples(Decoder):
    """What `prepare` has stored of a clip: samples in a shard, whose checksum its index knows.

    Args:
        path: of the shard.
        stored: where in it the samples lie.
        shard: the open file, where several clips of it are read one after the other; it stays open.
    """

    def __init__(self, path: Path, stored: Stored, shard: BinaryIO | None = None):
        self._path, self._stored, self._left, self._hash = path, stored, stored.samples, sha256()
        self.sample_rate, self.notes = stored.sample_rate, stored.notes
        self._is_shared = shard is not None
        self._file = shard or path.open("rb")
        self._file.seek(stored.offset)

    def read(self, samples: int) -> np.ndarray:
        """See `Decoder`."""
        block = self._file.read(4 * min(samples, self._left))
        self._hash.update(block)
        n_read = len(block) // 4
        self._left -= n_read
        return np.frombuffer(block, "<f4", n_read).astype(np.float32, copy=False)[:, np.newaxis]

    def check_end(self) -> None:
        """Raise InputError where the samples are not those that were stored."""
        if self._hash.hexdigest() != self._stored.sha256:
            what = "is cut short" if self._left else "holds other samples than its index says"
            raise InputError(f"{self._path}: {what}; run `prepare` once more")

    def check_content(self) -> None:
        """See `Decoder`."""
        self.skip(self._left)
        self.check_end()

    def close(self) -> None:
        """See `Decoder`."""
        if not self._is_shared:
            self._file.close()


def open_decoder(path: Path) -> Decoder:
    """libsndfile where it can measure the file, else FFmpeg."""
    extent = headers.extent_of(path)
    try:
        with _errors_of(path):
            decoder = _Libsndfile(path, extent)
    except InputError as error:
        if "cannot be decoded" not in str(error):
            raise
        try:
            return _FFmpeg(path, extent)
        except InputError:
            raise error from None  # its words are the clearer ones
    if decoder.can_measure:
        return decoder
    decoder.close()
    return _FFmpeg(path, decoder.extent)


def _notes_of(extent):
    return (UNCLOSED,) * extent.is_unclosed + (DAMAGED,) * extent.is_damaged + (GOES_ON,) * extent.goes_on


@contextmanager
def _errors_of(path):
    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        if "does not exist" in reason:  # what libsndfile says of a file that is there and not mp3
            reason = "format not recognised"
        raise InputError(f"{path}: cannot be decoded ({reason}); {EXPECTED}; convert or remove it") from error


class _InOrder(soundfile.SoundFile):
    """A sound file that is read in order: soundfile itself seeks after every read, which some files do not survive."""

    can_seek = True

    @property
    def is_mpeg(self):
        """Whether it is mp3 or the like, also in a wav file."""
        return self.subtype.startswith("MPEG_LAYER")

    def seekable(self):
        return False

    def forward(self, samples):
        """Leave out so many samples from the start; the file may end before."""
        if self.can_seek and super().seekable():
            place = min(samples, self.frames)
            samples = min(place, _MP3_BEFORE) if self.is_mpeg else 0
            self.seek(place - samples)
        while samples and (read := len(self.block(samples))):
            samples -= read

    def block(self, samples):
        """The next samples, float32 (samples, channels): this many, or fewer."""
        at_once = min(samples, BLOCK, max(_BLOCK_OF_ALL // self.channels, 1))
        read = self.read(at_once, dtype="float32", always_2d=True)
        # Where the file ends before, soundfile gives the beginning of an array of `at_once` samples.
        return read if read.base is None else read.copy()


class _Libsndfile(Decoder):
    """What libsndfile reads: one file, or the streams of a chained Ogg file one after the other."""

    def __init__(self, path: Path, extent: headers.Extent):
        self._path, self.notes = path, _notes_of(extent)
        source = os.fsencode(path) if os.name == "posix" else str(path)  # also where it is no UTF-8
        self._open: Callable[[], _InOrder] = partial(_InOrder, source)
        if extent.begin or extent.patches or extent.end < path.stat().st_size:
            self._open = lambda: _InOrder(_Part(path, extent.begin, extent.end, extent.patches))
        self._file = self._open()
        self._position, self._promised = 0, self._file.frames  # in the stream that is open
        self._behind: np.ndarray = np.empty((0, 1), np.float32)
        self._later = [*extent.streams]
        self.sample_rate, self._channels = self._file.samplerate, self._file.channels
        if len(self._later) > 1:
            self._open_next()
        else:
            self._later = []
        if self._file.is_mpeg:
            self._promised -= _MP3_SLACK
        if self._file.format == "FLAC":
            self._measure_flac()
        self.extent, is_counted = extent, True
        if self._file.format == "MP3":
            self.extent, is_counted = headers.extent_of_mp3(path)
            self.notes = _notes_of(self.extent)
        hides_its_rate = self._file.subtype == "OPUS" and headers.is_opus_of_unknown_rate(path)
        finds_nothing = extent.is_unclosed and not self._file.frames  # of 4 GiB, for which there is no length
        self.can_measure = is_counted and not hides_its_rate and not finds_nothing

    def skip(self, samples: int) -> None:
        with _errors_of(self._path):
            super().skip(samples - self._sought(samples))

    def _sought(self, samples):
        """Seek as far as it goes towards a place; how many samples were left out so."""
        left = samples
        while self._later and left >= self._file.frames:
            left -= self._file.frames
            self._open_next()
        # Behind the end that its header tells, a damaged frame of a FLAC file can say that it is the one looked for.
        place = 0 if self._file.format == "FLAC" and left >= self._promised else left
        try:
            self._file.forward(place)
            self._position = place
            left -= place
        except soundfile.LibsndfileError:  # of a codec that cannot seek, whatever libsndfile says
            self._start_again()
        return samples - left

    def read(self, samples: int) -> np.ndarray:
        with _errors_of(self._path):
            block = self._block(samples)
            while not len(block) and self._later:
                self._check_stream()
                self._open_next()
                block = self._file.block(samples)
        self._position += len(block)
        return block

    def check_end(self) -> None:
        self._check_stream()

    def close(self) -> None:
        self._file.close()

    def _open_next(self):
        part = self._later.pop(0)
        self._open = lambda: _InOrder(_Part(self._path, *part))
        self._file.close()
        self._file = self._open()
        self._position, self._promised = 0, self._file.frames
        if (self._file.samplerate, self._file.channels) != (self.sample_rate, self._channels):
            raise InputError(
                f"{self._path}: its streams have several sample rates or numbers of channels; expected one; divide it"
            )

    def _start_again(self):
        """Open once more what a failed seek has left in no state, and do not seek in it."""
        self._file.close()
        self._file = self._open()
        self._file.can_seek = False
        self._position = 0

    def _block(self, samples):
        left = self._promised - self._position
        if left > 0:  # no more at once than there is: soundfile makes room for all that is asked for
            return self._file.block(min(samples, left))
        if self._file.format != "FLAC":
            return self._file.block(samples)
        if not len(self._behind):
            self._behind = self._block_behind_the_end()
        block, self._behind = self._behind[:samples], self._behind[samples:]
        return block

    def _block_behind_the_end(self):
        """What follows the length that a FLAC file's header tells: always as much, for after what is damaged there,
        libsndfile forgets the rest of a frame.
        """
        block = np.full((BLOCK, self._channels), np.nan, np.float32)
        try:
            return self._file.read(out=block)
        except soundfile.LibsndfileError:  # what follows is no frame; before it there may be some
            self.notes = () if headers.ends_in_filling(self._path) else (GOES_ON,)
            return block[: np.isfinite(block[:, 0]).sum()]

    def _measure_flac(self):
        """Read the frames that are there, whatever the header says; and see at once whether it says too much."""
        extent = headers.extent_of_flac(self._path)
        self._open = lambda: _InOrder(_Part(self._path, extent.begin, extent.end, extent.patches))
        self.notes = _notes_of(extent)
        self._file.close()
        self._file = self._open()
        try:
            self._file.seek(max(self._promised - 1, 0))
            self._file.seek(0)
            return
        except soundfile.LibsndfileError:
            self._start_again()
        if self._promised < _UNKNOWN:
            with suppress(InputError):  # of the frame that is cut
                while len(self.read(BLOCK)):
                    pass
            self._check_stream()

    def _check_stream(self):
        """That what is over held what it promised."""
        if self._position < self._promised < _UNKNOWN:
            held = f"{self._position} of {self._promised} samples are there"
            raise InputError(f"{self._path}: truncated: {held}; copy the file again")


class _FFmpeg(Decoder):
    """What FFmpeg reads. It stops where the samples do, whatever a header says."""

    def __init__(self, path: Path, extent: headers.Extent):
        import av  # takes a moment, and few files need it

        self._path, self.notes = path, _notes_of(extent)
        self._is_open = False
        self._stack = ExitStack()
        # PyAV itself does not take names that are no UTF-8.
        file = self._stack.enter_context(closing(_Part(path, extent.begin, extent.end, extent.patches)))
        try:
            with self._errors():
                container = self._stack.enter_context(av.open(file, metadata_errors="replace"))
                if not container.streams.audio:
                    raise InputError(f"{path}: cannot be decoded (it has no sound); {EXPECTED}; remove it")
                self._stream = container.streams.audio[0]
                self.notes += (SEVERAL,) * (len(container.streams.audio) > 1)
                codec = self._stream.codec_context
                if codec is None or not codec.sample_rate:
                    raise self._undecodable("format not recognised")
                if len(codec.layout.channels) > _FFMPEG_CHANNELS:
                    raise self._undecodable(f"{len(codec.layout.channels)} channels, more than {_FFMPEG_CHANNELS}")
                self.sample_rate = codec.sample_rate
                alone = len(container.streams) == 1  # else the length may be that of a film
                says_length = alone and container.duration and container.format.name in _SAY_THEIR_LENGTH
                self._seconds = container.duration / av.time_base if says_length else 0.0
                self._end, self._said = 0.0, ""
                self._blocks = self._decoded(container, av.AudioResampler(format="fltp"))
        except BaseException:
            self.close()
            raise
        self._kept = np.empty((0, 1), np.float32)
        self._is_open = True

    def _decoded(self, container, to_float):
        with self._errors():
            for frame in chain(container.decode(self._stream), [None]):
                if frame is not None:
                    self._check_same(frame)
                for part in to_float.resample(frame):
                    yield part.to_ndarray().T

    def _check_same(self, frame):
        said = f"{frame.sample_rate} Hz, {frame.layout.name}"
        self._said = self._said or said
        if said != self._said:
            what = f"changes from {self._said} to {said}; expected one kind of sound in a file; convert its parts"
            raise InputError(f"{self._path}: {what}")
        if frame.time is not None:
            self._end = frame.time + frame.samples / self.sample_rate

    def read(self, samples: int) -> np.ndarray:
        blocks, held = [self._kept], len(self._kept)
        while held < samples and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            held += len(block)
        joined = np.concatenate([block for block in blocks if len(block)] or blocks[:1])
        self._kept = joined[samples:]
        return joined[:samples]

    def check_end(self) -> None:
        if self._seconds > self._end + _FFMPEG_SLACK:
            what = f"{self._end:.2f} of {self._seconds:.2f} s are there"
            raise InputError(f"{self._path}: truncated: {what}; copy the file again")

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def _errors(self):
        import av

        try:
            yield
        except av.error.InvalidDataError as error:
            if not self._is_open:
                raise self._undecodable("format not recognised") from error
            reason = f"cut or damaged behind {self._end:.2f} s"
            raise InputError(f"{self._path}: {reason}; expected a whole file; copy the file again") from error
        except av.FFmpegError as error:
            raise self._undecodable(error.strerror) from error

    def _undecodable(self, reason):
        return InputError(f"{self._path}: cannot be decoded ({reason}); {EXPECTED}; convert or remove it")


class _Part:
    """The bytes of a file from `start` to `end`, as decoders want a file; those at some places can be other ones."""

    def __init__(self, path: Path, start: int, end: int, patches: tuple[tuple[int, bytes], ...] = ()):
        self._file, self._start, self._end, self._patches = path.open("rb"), start, end, patches
        self._file.seek(start)

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        place = min(max(base + offset, self._start), self._end)  # a damaged header may point anywhere
        return self._file.seek(place) - self._start

    def tell(self):
        return self._file.tell() - self._start

    def read(self, size):
        place = self._file.tell()
        content = bytearray(self._file.read(min(size, max(self._end - place, 0))))
        for at, patch in self._patches:
            first, last = max(at, place), min(at + len(patch), place + len(content))
            if first < last:
                content[first - place : last - place] = patch[first - at : last - at]
        return bytes(content)

    def close(self):
        self._file.close()

    def __del__(self):
        self.close()
