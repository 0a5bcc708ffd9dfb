"""Audio files -> blocks of samples, read in order. Lengths are measured, never believed. Without TensorFlow.

libsndfile reads what it can measure. An mp3 without a header of its length, Opus of an unknown rate, a wav file that
was never closed, and formats that libsndfile does not know are left to FFmpeg (PyAV).
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from keras_audio_transfer import audio_headers
from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE
from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT
from keras_audio_transfer.errors import InputError

# What the largest integer format holds, in case a float file was never scaled. More overflows inside a network.
LARGEST_SAMPLE = 2.0**31

_BLOCK = 1 << 16  # samples
_BLOCK_OF_ALL = 16 * _BLOCK  # of all channels together: a header may claim a thousand
_EXPECTED = f"expected {SUFFIXES_TEXT} audio"
# libsndfile's log names a chunk whose header promises more than the file holds: "data : 88200 (should be 44100)". Of
# W64 and RF64 it says that of the file alone, whose size not all writers count in the same way.
_PROMISED_AND_HELD = re.compile(
    r"^\s*(?:data|SSND|Data Size|(riff|Riff size))\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)
_FILE_SLACK = 64  # bytes
_STREAMED = 0x7FFFF000  # writers that cannot seek back leave a size near 2**31 or 2**32: not a truncation
_UNKNOWN = 1 << 36  # a flac file's header has 36 bits for its length
_FFMPEG_CHANNELS = 8  # PyAV crashes with many
_SAY_THEIR_LENGTH = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")  # that of others is FFmpeg's guess
_FFMPEG_SLACK = 0.3  # s, of that length: a frame of the slowest rate
_MP3_SLACK = 4 * 1152  # of the length in an mp3's header, for the decoder's delay
# What is decoded before a place in an mp3 file. A frame's data begin up to 511 bytes before it (ISO 11172-3), which can
# be 85 frames of 576 samples; and what cannot be decoded is missing in the next frames, too.
_MP3_BEFORE = 1 << 16
UNCLOSED = "never closed: its header says that it is empty, and it was read to its end"
GOES_ON = "goes on behind the end that its header tells: what follows there was not read"


class AudioFile:
    """An audio file that is being read, from `start_seconds` on.

    Attributes:
        sample_rate: in Hz.
    """

    def __init__(self, path: Path, decoder: "_Libsndfile | _FFmpeg", start: int):
        self.path, self._decoder, self._start = path, decoder, start
        self.sample_rate: int = decoder.sample_rate

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it, in words; complete when it has been read."""
        return self._decoder.notes

    def read(self, seconds: float | None = None) -> np.ndarray:
        """The file's samples of the first `seconds` and up to one more, float32 (samples, channels); see `blocks`."""
        samples = None if seconds is None else int(seconds * self.sample_rate) + 1
        return np.concatenate([*self.blocks(samples)])

    def blocks(self, samples: int | None = None) -> Iterator[np.ndarray]:
        """The file's samples, float32 (samples, channels), at most so many; with None up to its end, and checked there.

        Raises:
            InputError: truncated, without samples, over before the start, or with samples that are NaN, infinite or
                beyond any format.
        """
        read = 0
        while samples is None or read < samples:
            wanted = _BLOCK if samples is None else min(_BLOCK, samples - read)
            block = self._decoder.read(wanted)
            if not len(block):
                self._decoder.check_end()
                break
            read += len(block)
            self._check(block)
            yield block
        if not read and self._start:
            seconds = f"{self._start / self.sample_rate:g}"
            raise InputError(f"{self.path}: the file is over before {seconds} s; correct the start of the clip")
        if not read:
            raise InputError(f"{self.path}: holds no samples; expected at least one; remove it, or repair its header")

    def _check(self, block):
        largest = np.abs(block).max()  # NaN if one is
        if not np.isfinite(largest):
            raise InputError(f"{self.path}: holds NaN or infinite samples; expected finite ones; repair or remove it")
        if largest > LARGEST_SAMPLE:
            raise InputError(f"{self.path}: holds a sample of {largest:.1e}; expected -1 to 1; repair or remove it")


@contextmanager
def open_audio(path: Path, start_seconds: int = 0) -> Iterator[AudioFile]:
    """Open an audio file for reading.

    Args:
        path: see `datasets.walk.AUDIO_SUFFIXES`; any sample format, rate and number of channels.
        start_seconds: where to start; whole seconds, which are whole numbers of samples at any rate.

    Raises:
        InputError: not there, not audio, or of no rate that a recording has.
    """
    if not path.is_file():
        raise InputError(f"{path}: {_why_no_file(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file (0 bytes); {_EXPECTED}; copy the file again")
    with closing(_decoder_of(path)) as decoder:
        rate = decoder.sample_rate
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            expected = f"expected {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise InputError(f"{path}: its sample rate is {rate} Hz; {expected}; repair its header or remove it")
        start = start_seconds * rate
        with _errors_of(path):
            decoder.skip(start)
        yield AudioFile(path, decoder, start)


def _why_no_file(path):
    expected = "expected an audio file; check the path"
    if path.is_symlink():
        target = "a folder that it is in" if path.is_dir() else f"{os.readlink(path)}, which does not exist"
        return f"is a link to {target}; {expected}"
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            return "is a folder that may not be read; give yourself the permission, or leave it out"
        return f"is a folder; {expected}"
    return f"{'is no file' if path.exists() else 'does not exist'}; {expected}"


def read_audio(path: Path, seconds: float | None = None, start_seconds: int = 0) -> tuple[np.ndarray, int]:
    """Read an audio file as it is.

    Args:
        path, start_seconds: see `open_audio`.
        seconds: read no more than this; None for up to the file's end.

    Returns:
        Samples float32 (samples, channels), integers scaled to [-1, 1], and the sample rate in Hz.

    Raises:
        InputError: see `open_audio` and `AudioFile.blocks`.
    """
    with open_audio(path, start_seconds) as file:
        return file.read(seconds), file.sample_rate


def _decoder_of(path):
    """libsndfile where it can measure the file, else FFmpeg."""
    notes = (GOES_ON,) if audio_headers.goes_on_behind_its_end(path) else ()
    try:
        with _errors_of(path):
            decoder = _Libsndfile(path, notes)
    except InputError as error:
        if "cannot be decoded" not in str(error):
            raise
        audio_headers.check_caf(path)
        try:
            return _FFmpeg(path, notes)
        except InputError:
            raise error from None  # its words are the clearer ones
    if decoder.can_measure:
        return decoder
    decoder.close()
    return _FFmpeg(path, (UNCLOSED,) if decoder.seems_unclosed else notes, decoder.sound)


@contextmanager
def _errors_of(path):
    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        if "does not exist" in reason:  # what libsndfile says of a file that is there and not mp3
            reason = "format not recognised"
        raise InputError(f"{path}: cannot be decoded ({reason}); {_EXPECTED}; convert or remove it") from error


class _InOrder(soundfile.SoundFile):
    """A sound file that is read in order: soundfile itself seeks after every read, which some files do not survive."""

    can_seek = True

    def seekable(self):
        return False

    def forward(self, samples):
        """Leave out so many samples from the start; the file may end before."""
        if self.can_seek and super().seekable():
            place = min(samples, self.frames)
            samples = min(place, _MP3_BEFORE) if self.format == "MP3" else 0
            self.seek(place - samples)
        while samples and (read := len(self.block(samples))):
            samples -= read

    def block(self, samples):
        """The next samples, float32 (samples, channels): this many, or fewer."""
        at_once = min(samples, _BLOCK, max(_BLOCK_OF_ALL // self.channels, 1))
        return self.read(at_once, dtype="float32", always_2d=True)


class _Libsndfile:
    """What libsndfile reads: one file, or the streams of a chained Ogg file one after the other."""

    def __init__(self, path: Path, notes: tuple[str, ...]):
        self._path, self.notes = path, notes
        source = os.fsencode(path) if os.name == "posix" else str(path)  # also where it is no UTF-8
        self._open: Callable[[], _InOrder] = partial(_InOrder, source)
        self._file = self._open()
        self._position, self._promised = 0, self._file.frames  # in the stream that is open
        self._later = audio_headers.streams_of_ogg(path) if self._file.format == "OGG" else []
        self.sample_rate, self._channels = self._file.samplerate, self._file.channels
        if len(self._later) > 1:
            self._open_next()
        else:
            self._later = []
        if self._file.format == "MP3":
            self._promised -= _MP3_SLACK
        if self._file.format == "FLAC":
            self._measure_flac()
        self._check_log()
        # A wav file whose header says that it has no samples, while something that is no chunk follows.
        log = self._file.extra_info
        self.seems_unclosed = self._file.frames == 0 and "data : 0" in log and not log.rstrip().endswith("End")
        self.sound, is_counted = audio_headers.sound_of_mp3(path) if self._file.format == "MP3" else (0, True)
        hides_its_rate = self._file.subtype == "OPUS" and audio_headers.is_opus_of_unknown_rate(path)
        self.can_measure = is_counted and not self.seems_unclosed and not hides_its_rate

    def skip(self, samples: int) -> None:
        while self._later and samples >= self._file.frames:
            samples -= self._file.frames
            self._open_next()
        # Behind the end that its header tells, a damaged frame of a FLAC file can say that it is the one looked for.
        place = 0 if self._file.format == "FLAC" and samples >= self._promised else samples
        try:
            self._file.forward(place)
            self._position = place
            samples -= place
        except soundfile.LibsndfileError:  # of a codec that cannot seek, whatever libsndfile says
            self._start_again()
        while samples and (read := len(self.read(min(samples, _BLOCK)))):
            samples -= read

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
        left = self._promised - self._position if self._file.format == "FLAC" else samples
        if left > 0:
            return self._file.block(min(samples, left))
        block = np.full((min(samples, _BLOCK), self._channels), np.nan, np.float32)
        try:
            return self._file.read(out=block)
        except soundfile.LibsndfileError:  # what follows is no frame; before it there may be some
            self.notes = () if audio_headers.ends_in_filling(self._path) else (GOES_ON,)
            return block[: np.isfinite(block[:, 0]).sum()]

    def _measure_flac(self):
        """Read the frames that are there, whatever the header says; and see at once whether it says too much."""
        place, end = audio_headers.flac_length_and_end(self._path)
        self._open = lambda: _InOrder(_Part(self._path, 0, end, hidden=place))
        self.notes = (GOES_ON,) if end < self._path.stat().st_size else ()
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
                while len(self.read(_BLOCK)):
                    pass
            self._check_stream()

    def _check_stream(self):
        """That what is over held what it promised."""
        self._check_log()
        if self._position < self._promised < _UNKNOWN:
            held = f"{self._position} of {self._promised} samples are there"
            raise InputError(f"{self._path}: truncated: {held}; copy the file again")

    def _check_log(self):
        log = self._file.extra_info
        for is_file, promised, held in _PROMISED_AND_HELD.findall(log):
            slack, too_much = (_FILE_SLACK, 1 << 62) if is_file else (0, _STREAMED)  # sizes of files have 64 bits
            if int(held) + slack < int(promised) < too_much:
                what = f"{held} of {promised} bytes{'' if is_file else ' of audio'} are there"
                raise InputError(f"{self._path}: truncated: {what}; copy the file again")


class _FFmpeg:
    """What FFmpeg reads. It stops where the samples do, whatever a header says."""

    def __init__(self, path: Path, notes: tuple[str, ...], start: int = 0):
        import av  # takes a moment, and few files need it

        self._path, self.notes = path, notes
        self._stack = ExitStack()
        part = _Part(path, start, path.stat().st_size)  # PyAV itself does not take names that are no UTF-8
        file = self._stack.enter_context(closing(part))
        try:
            with self._errors():
                container = self._stack.enter_context(av.open(file, metadata_errors="replace"))
                if not container.streams.audio:
                    raise InputError(f"{path}: cannot be decoded (it has no sound); {_EXPECTED}; remove it")
                self._stream = container.streams.audio[0]
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

    def skip(self, samples: int) -> None:
        while samples and (read := len(self.read(min(samples, _BLOCK)))):
            samples -= read

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
            raise self._undecodable("format not recognised") from error
        except av.FFmpegError as error:
            raise self._undecodable(error.strerror) from error

    def _undecodable(self, reason):
        return InputError(f"{self._path}: cannot be decoded ({reason}); {_EXPECTED}; convert or remove it")


class _Part:
    """The bytes of a file from `start` to `end`, as decoders want a file; the 36 bits of a number can be hidden."""

    def __init__(self, path: Path, start: int, end: int, hidden: int | None = None):
        self._file, self._start, self._end, self._hidden = path.open("rb"), start, end, hidden
        self._file.seek(start)

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        return self._file.seek(base + offset) - self._start

    def tell(self):
        return self._file.tell() - self._start

    def read(self, size):
        place = self._file.tell()
        content = self._file.read(min(size, max(self._end - place, 0)))
        if self._hidden is None or not place - 5 < self._hidden < place + len(content):
            return content
        content = bytearray(content)
        for number in range(max(self._hidden, place), min(self._hidden + 5, place + len(content))):
            content[number - place] &= 0xF0 if number == self._hidden else 0
        return bytes(content)

    def close(self):
        self._file.close()

    def __del__(self):
        self.close()
