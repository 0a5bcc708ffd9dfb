"""Intact sounds in every format that soundfile and PyAV can write here, and what no encoder writes at once."""

import io
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import soundfile
from damage import with_ogg_checksums


def _tones(rate, channels, seconds=1.2):
    """A tone a channel, with clicks in it."""
    times = np.arange(int(seconds * rate))[:, None] / rate
    tones = 0.4 * np.sin(2 * np.pi * 220 * np.arange(1, channels + 1) * times)
    tones[:: rate // 7] += 0.3
    return tones.astype(np.float32)


def written(
    container: str, subtype: str, rate: int = 8000, channels: int = 1, seconds: float = 1.2, **how: object
) -> bytes:
    """A file of libsndfile's, the same each time: without the time and the random numbers that it writes into some."""
    file = io.BytesIO()
    soundfile.write(file, _tones(rate, channels, seconds), rate, format=container, subtype=subtype, **how)
    content = bytearray(file.getvalue())
    if (peak := content.find(b"PEAK")) > 0:
        content[peak + 12 : peak + 16] = bytes(4)
    if (date := content.find(b" UTC") - 19) > 0:
        content[date : date + 19] = bytes(19)
    return with_ogg_checksums(bytes(content), serial=1 + channels)


def _encoded(container, codec, rate, layout):
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
        stream.bit_rate = 32_000
        samples = np.ascontiguousarray(_tones(rate, 1 if layout == "mono" else 2).T)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        for part in (frame, None):
            output.mux(stream.encode(part))
    return file.getvalue()


_SUFFIXES = {"OGG": ".ogg", "FLAC": ".flac", "MP3": ".mp3", "AIFF": ".aiff", "AU": ".au", "CAF": ".caf", "W64": ".w64"}
_NOT_ALONE = {"RAW", "SD2"}  # they lack a header, or have it in a second file
_OF_FFMPEG = (
    *((".m4a", "ipod", "aac", 16000, "mono"), (".m4a", "ipod", "alac", 16000, "stereo")),
    *((".aac", "adts", "aac", 8000, "stereo"), (".wma", "asf", "wmav2", 16000, "mono")),
    *((".webm", "webm", "libopus", 48000, "mono"), (".webm", "webm", "vorbis", 16000, "stereo")),
)


def of_ffmpeg() -> Iterator[tuple[str, bytes]]:
    """A file name's suffix and a sound, of each codec that libsndfile does not read."""
    for suffix, *how in _OF_FFMPEG:
        yield suffix, _encoded(*how)


def of_libsndfile() -> Iterator[tuple[str, bytes]]:
    """A file name's suffix and a sound, of each format and subtype that libsndfile can write to memory."""
    for container in sorted(soundfile.available_formats().keys() - _NOT_ALONE):
        for number, subtype in enumerate(soundfile.available_subtypes(container)):
            many = 1 + number % 2
            for rate, channels in ((2000, many), (2000, 1), (8000, many), (8000, 1)):  # not all formats have all
                with suppress(soundfile.LibsndfileError):
                    yield _SUFFIXES.get(container, ".wav"), written(container, subtype, rate, channels)
                    break


def joined() -> Iterator[tuple[str, bytes]]:
    """What no encoder writes at once."""
    mp3 = {mode: written("MP3", "MPEG_LAYER_III", 16000, bitrate_mode=mode) for mode in ("CONSTANT", "VARIABLE")}
    for content in mp3.values():
        yield ".mp3", content[content.index(content[:2], 10) :]  # without the frame that says the length
        yield ".mp3", 2 * content
        yield ".mp3", b"ID3\3\0\0\0\0\1\0" + bytes(128) + content
    ogg = [written("OGG", "VORBIS", 16000, 1, seconds) for seconds in (0.3, 0.9)]
    yield ".ogg", ogg[0] + with_ogg_checksums(ogg[1], serial=9)
    wav, flac = bytearray(written("WAV", "PCM_16")), bytearray(written("FLAC", "PCM_16"))
    at = wav.index(b"data") + 4
    yield ".wav", bytes(wav[:at] + b"\xff\xff\xff\xff" + wav[at + 4 :])
    yield ".wav", bytes(wav[:at] + bytes(4) + wav[at + 4 :])
    flac[21:26] = bytes([flac[21] & 0xF0, 0, 0, 0, 0])  # of unknown length
    yield ".flac", bytes(flac)
