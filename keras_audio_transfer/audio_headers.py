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
# The first bytes of a file of chunks -> those before the first chunk, and to a multiple of which a chunk is filled up.
_FILES_OF_CHUNKS = {
    b"RIFF": (12, 2),
    b"RF64": (12, 2),
    b"FORM": (12, 2),
    b"caff": (8, 1),
    b"riff": (40, 8),
    b"ftyp": (0, 1),
}
# What follows the four letters of a chunk's name in a W64 file: of "riff", and of all others.
_GUIDS_OF_W64 = (bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a"))
_SOUND = (b"data", b"mdat")
_NEEDED = {(b"caff", b"data"), (b"ftyp", b"mdat"), (b"ftyp", b"moov"), (b"ftyp", b"moof")}


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


def check_is_whole(path: Path) -> None:
    """Refuse a CAF or MP4 file that is cut: FFmpeg reads what is left of it, or knows it no more.

    Raises:
        InputError: its sound, or what describes it, is longer than the file.
    """
    size = path.stat().st_size
    for kind, name, place, end in _chunks(path):
        if end > size and (kind, name) in _NEEDED:
            held = f"{size - place} of {end - place} bytes of {'audio' if name in _SOUND else 'its description'}"
            raise InputError(f"{path}: truncated: {held} are there; copy the file again")


def end_of_w64(path: Path) -> int:
    """Where the sound of a W64 file ends, in bytes: libsndfile reads what follows, too.

    Raises:
        InputError: truncated.
    """
    size = path.stat().st_size
    for _, name, place, end in _chunks(path):
        if name == b"data" and end > size:
            held = f"{size - place} of {end - place} bytes of audio are there"
            raise InputError(f"{path}: truncated: {held}; copy the file again")
        if name == b"data" and end > place:  # else it was never closed
            return end
    return size


def goes_on_behind_its_end(path: Path) -> bool:
    """Whether a file of chunks, or an AU file, has more than the sound its header describes, chunks, a tag and filling.

    Those are WAV, RF64, W64, AIFF, CAF and MP4 files.
    """
    size = path.stat().st_size
    place = ([size] + [end for _, _, _, end in _chunks(path)])[-1]
    with path.open("rb") as file:
        kind, first, second = struct.unpack(">4sII", file.read(12).ljust(12, b"\0"))
        if kind == b".snd":
            place = first + second
        file.seek(min(place, size))
        return size - place > _FILLING and not _is_filling(file.read(_FILLING))


def _chunks(path):
    """The chunks of a file that consists of them: its kind, the chunk's name, and where its content begins and ends.

    They are over where something begins that is none, or another file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(24)
        kind = b"ftyp" if begin[4:8] == b"ftyp" else begin[:4]
        place, padding = _FILES_OF_CHUNKS.get(kind, (size, 1))
        if kind == b"ftyp":  # is a chunk itself
            place = _chunk(kind, begin, 0, size)[-1]
        length_of_rf64 = -1
        while place + 8 <= size:
            file.seek(place)
            name, place, end = _chunk(kind, file.read(24), place, size)
            if not name.isascii() or name in (kind, bytes(4)):
                break
            if name == b"ds64":
                file.seek(place + 8)
                length_of_rf64 = int.from_bytes(file.read(8), "little")
            if kind == b"RF64" and name == b"data":
                end = place + length_of_rf64
            yield kind, name, place, end
            place = end + -end % padding


def _chunk(kind, head, place, size):
    """Name, begin and end of a chunk that begins with these bytes. A negative length means: up to the file's end."""
    head = head.ljust(24, b"\0")
    name, behind = head[:4], 8
    if kind == b"ftyp":  # ISO 14496-12, section 4.2
        length, name = struct.unpack(">I4s", head[:8])
        behind, length = (16, int.from_bytes(head[8:16], "big") - 16) if length == 1 else (8, length - 8)
    elif kind == b"riff":
        behind, length = 24, int.from_bytes(head[16:24], "little", signed=True) - 24
        name = name if head[4:16] in _GUIDS_OF_W64 else b"\xff"
    elif kind == b"caff":
        behind, length = 12, int.from_bytes(head[4:12], "big", signed=True)
    else:
        length = int.from_bytes(head[4:8], "big" if kind == b"FORM" else "little")
    return name, place + behind, size if length < 0 else place + behind + length


def ends_in_filling(path: Path) -> bool:
    """Whether a file ends in a tag of another format, or in zeros."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _ID3V1, 0))
        tail = file.read()
    return _is_filling(tail) or b"APETAGEX" in tail


def _is_filling(content):
    return content.startswith(_TAG_MARKS) or not content.strip(b"\0")
