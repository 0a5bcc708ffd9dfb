"""What the headers of audio files say of their lengths, and whether it can be right."""

import mmap
import re
import struct
from functools import cache
from itertools import product
from pathlib import Path

from keras_audio_transfer.errors import InputError

_MP3_HEADER = re.compile(rb"(Xing|Info|VBRI)(.{14})", re.DOTALL)
_MP3_SYNC = re.compile(rb"\xff[\xfa\xfb\xf2\xf3\xe2\xe3]")
_FLAC_BEGIN = b"fLaC\0\0\0\x22"  # and the head of the block that comes first
_TAG_MARKS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_PAGES_OF_HEADERS = 3  # of an Ogg stream; what was cut out of a broadcast goes on with another number
_ID3V1 = 128  # bytes
_FILLING = 64  # bytes that may follow a sound


def streams_of_ogg(path: Path) -> list[tuple[int, int]]:
    """Where the streams of an Ogg file begin and end: (start, end) of each, in bytes. More than one are a chain.

    RFC 3533, section 6: a page names its length; the first of a stream has the flag 2, the last the flag 4.

    Raises:
        InputError: the file's last page is cut or not the last of its stream, or a page is missing.
    """
    starts, place, flags = [0], 0, 2
    size = path.stat().st_size
    numbers: dict[int, int] = {}  # of the streams' last pages
    with path.open("rb") as file:
        while len(header := file.read(27)) == 27 and header[:4] == b"OggS":
            stream, number = struct.unpack("<II", header[14:22])
            before = numbers.get(stream, 0)
            if not header[5] & 2 and before > _PAGES_OF_HEADERS and number != before + 1:
                raise InputError(f"{path}: page {before + 1} of its Ogg stream is missing; copy the file again")
            numbers[stream] = number
            if header[5] & 2 and not flags & 2:
                starts.append(place)
            flags = header[5]
            place += 27 + header[26] + sum(file.read(header[26]))
            file.seek(place)
    if place > size or not flags & 4:
        raise InputError(f"{path}: truncated: the end of the Ogg stream is missing; copy the file again")
    return [*zip(starts, [*starts[1:], size], strict=True)]


def is_opus_of_unknown_rate(path: Path) -> bool:
    """Whether an Opus file does not say at which rate its sound was recorded: libsndfile then decodes 8 of its 48 kHz.

    RFC 7845, section 5.1: the head is the first packet of an Ogg stream; the rate of its input stands 12 bytes in it.
    """
    with path.open("rb") as file:
        begin = file.read(64)
    head = begin.find(b"OpusHead")
    return begin[:4] == b"OggS" and head > 0 and begin[head + 12 : head + 16] == bytes(4)


def sound_of_mp3(path: Path) -> tuple[int, bool]:
    """Where the sound of an mp3 file begins, in bytes, and whether a header before it says how many frames it has.

    The frames are counted, from header to header (ISO 11172-3, section 2.4.1.3), also behind what is no frame: a header
    of fewer stands before a file to which others were joined, or is wrong.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = _behind_id3(content)
        length = _mp3_frames().get(content[begin : begin + 3], 0)
        header = _MP3_HEADER.search(content[begin : begin + length])
        if header is None:
            return begin, False
        if header[1] == b"VBRI":
            said = int.from_bytes(header[2][10:14], "big")
        else:
            flags, said = struct.unpack(">II", header[2][:8])
            said = said if flags & 1 else 0
        return begin + length, _frames_from(content, begin + length) <= said


def _behind_id3(content):
    place = 0
    while content[place : place + 3] == b"ID3" and len(tag := content[place : place + 10]) == 10:
        place += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    return place


def _frames_from(content, place):
    lengths, count = _mp3_frames(), 0
    while True:
        while length := lengths.get(content[place : place + 3]):
            place += length
            count += 1
        for found in _MP3_SYNC.finditer(content, place):  # three in a row are no accident
            place = following = found.start()
            in_a_row = 0
            while in_a_row < 3 and (length := lengths.get(content[following : following + 3])):
                following += length
                in_a_row += 1
            if in_a_row == 3:
                break
        else:
            return count


@cache
def _mp3_frames() -> dict[bytes, int]:
    """The first three bytes of a frame of layer III -> its bytes."""
    high = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s of MPEG-1
    low = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG-2 and 2.5
    kinds = {0xFA: (144_000, high, 1), 0xF2: (72_000, low, 2), 0xE2: (72_000, low, 4)}
    return {
        bytes([0xFF, kind + unprotected, rate << 4 | frequency << 2 | padding << 1 | private]): (
            factor * rates[rate] * divided // (44100, 48000, 32000)[frequency] + padding
        )
        for kind, (factor, rates, divided) in kinds.items()
        for unprotected, rate, frequency, padding, private in product((0, 1), range(1, 15), range(3), (0, 1), (0, 1))
    }


def flac_length_and_end(path: Path) -> tuple[int, int]:
    """Where the 36 bits are that say how many samples a FLAC file has, and where it ends: another may be joined to it.

    The bits are the lower half of the byte at that place, and four more bytes (RFC 9639, section 8.2).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = content.find(b"fLaC", _behind_id3(content))
        another = content.find(_FLAC_BEGIN, begin + len(_FLAC_BEGIN))
        return begin + 21, len(content) if another < 0 else another


def check_caf(path: Path) -> None:
    """Refuse a CAF file whose sound is cut: FFmpeg reads what is left of it.

    Raises:
        InputError: its data chunk is longer than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        place = 8 if file.read(4) == b"caff" else size
        while place + 12 <= size:
            file.seek(place)
            name, length = struct.unpack(">4sq", file.read(12))
            place += 12
            if name == b"data" or length < 0:  # -1: up to the end
                break
            place += length
        else:
            return
    if length > size - place:
        raise InputError(f"{path}: truncated: {size - place} of {length} bytes of audio are there; copy the file again")


def goes_on_behind_its_end(path: Path) -> bool:
    """Whether a WAV, AIFF or AU file has more than the sound its header describes, chunks, a tag and filling."""
    size = path.stat().st_size
    with path.open("rb") as file:
        kind, first, second = struct.unpack(">4sII", file.read(12).ljust(12, b"\0"))
        order = {b"RIFF": "<", b"FORM": ">"}.get(kind)
        place = 12 if order else first + second if kind == b".snd" else size
        while order and place + 8 <= size:
            file.seek(place)
            name, length = struct.unpack(f"{order}4sI", file.read(8))
            if not name.isascii() or name == kind:
                break
            place += 8 + length + length % 2
        file.seek(min(place, size))
        return size - place > _FILLING and not _is_filling(file.read(_FILLING))


def ends_in_filling(path: Path) -> bool:
    """Whether a file ends in a tag of another format, or in zeros."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _ID3V1, 0))
        tail = file.read()
    return _is_filling(tail) or b"APETAGEX" in tail


def _is_filling(content):
    return content.startswith(_TAG_MARKS) or not content.strip(b"\0")
