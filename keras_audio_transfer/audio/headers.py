"""What the headers of audio files say of their lengths, and whether it can be right."""

import mmap
import re
import struct
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

from keras_audio_transfer.errors import InputError

_MP3_HEADER = re.compile(rb"(Xing|Info|VBRI)(.{14})", re.DOTALL)
_MP3_SYNC = re.compile(rb"\xff[\xfa\xfb\xf2\xf3\xe2\xe3]")
_FLAC_BEGIN = b"fLaC\0\0\0\x22"  # and the head of the block that comes first
_TAG_MARKS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_PAGES_OF_HEADERS = 3  # of an Ogg stream; what was cut out of a broadcast goes on with another number
_ID3V1 = 128  # bytes
_FILLING = 64  # bytes that may follow a sound
# Writers that cannot seek back leave a length near 2**31 or 2**32, or 2**63: not a truncation.
_STREAMED = {4: 0x7FFFF000, 8: 1 << 62}
# What follows the four letters of a chunk's name in a W64 file: of "riff", and of all others.
_GUIDS_OF_W64 = (bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a"))
_WITH_DS64 = (b"RF64", b"BW64")
_TO_THE_END = b"\xff\xff\xff\xff"  # of AU, and of RF64 and BW64: the length of the sound is in the chunk ds64
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF, _DATA_OF_ASF = bytes.fromhex("3026b275"), bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_DESCRIPTIONS = (b"moov", b"moof")  # without them, an MP4 file cannot be read


class _Kind(NamedTuple):
    """How a kind of files that consist of chunks is built."""

    before: int  # bytes before the first chunk
    padding: int  # to a multiple of which a chunk is filled up
    length: str  # the format of a chunk's length
    sounds: tuple[bytes, ...]  # the names that the chunk with the sound may have
    besides: int = 0  # bytes in this chunk that are none


_KINDS = {  # by the first bytes
    b"RIFF": _Kind(12, 2, "<I", (b"data",)),
    b"RIFX": _Kind(12, 2, ">I", (b"data",)),
    b"RF64": _Kind(12, 2, "<I", (b"data",)),
    b"BW64": _Kind(12, 2, "<I", (b"data",)),
    b"FORM": _Kind(12, 2, ">I", (b"SSND", b"BODY"), 8),
    b"caff": _Kind(8, 1, ">q", (b"data",), 4),
    b"riff": _Kind(40, 8, "<q", (b"data",)),
    b"ftyp": _Kind(0, 1, ">I", (b"mdat",)),
}
_LENGTH_OF_AU = {b".snd": ">I", b"dns.": "<I"}  # by the first bytes, too


class Extent(NamedTuple):
    """What the headers of a file say of where it is over.

    Attributes:
        begin, end: decoders are to read what is between them, in bytes.
        goes_on: whether more follows than a tag and filling.
        is_unclosed: whether they say that there is no sound, and it follows.
        is_damaged: whether something stands between an mp3's frames that is none, neither a tag nor filling.
        patches: places, and bytes that decoders are to find there: the length that was never filled in, if it can be.
        streams: of an Ogg file: where each begins and ends, in bytes. More than one are a chain.
    """

    begin: int
    end: int
    goes_on: bool = False
    is_unclosed: bool = False
    is_damaged: bool = False
    patches: tuple[tuple[int, bytes], ...] = ()
    streams: tuple[tuple[int, int], ...] = ()


def extent_of(path: Path) -> Extent:
    """Where a file is over: of RIFF, W64, AIFF, CAF, MP4, AU, NIST SPHERE, WebM, WMA and Ogg; of others its size.

    Raises:
        InputError: its sound, or what describes it, is longer than the file, or a part of it is missing.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = _behind_id3(content)
        head = content[begin : begin + 12]
        kind = b"ftyp" if head[4:8] == b"ftyp" else head[:4]
        if kind == b"OggS":
            return _extent_of_ogg(path, content, begin)
        if kind in _LENGTH_OF_AU and len(head) == 12:
            first, length = struct.unpack(f"{_LENGTH_OF_AU[kind][0]}II", head[4:])
            is_known = begin + first + length <= len(content) or length < _STREAMED[4]
            return _extent_of_sound(path, content, begin, first, length if is_known else -1)
        if kind == b"NIST":
            return _extent_of_sound(path, content, begin, *_sound_of_nist(content[begin : begin + 1024]))
        if kind == _EBML:
            start, end = _segment_of_matroska(content, begin)
            _check_is_there(path, len(content), start, end, "audio")
            return Extent(begin, end, _goes_on(content, end))
        if kind == _ASF:
            start, end = _data_of_asf(content, begin)
            _check_is_there(path, len(content), start, end, "audio")
            return Extent(begin, len(content), content.find(content[begin : begin + 16], end) >= 0)  # an index is none
        if kind in _KINDS:
            return _extent_of_chunks(path, content, kind, begin)
        return Extent(0, len(content), patches=_size_for_mpg123(content, begin))


def _size_for_mpg123(content, begin):
    """The number of bytes in an mp3's first frame as mpg123 expects it: of others, also because of tags, it warns."""
    header, _ = _header_of_mp3(content, begin)
    if header is None or header[1] == b"VBRI":
        return ()
    flags, *fields = struct.unpack(">III", header[2][:12])
    if not flags & 2 or abs(fields[flags & 1] - (len(content) - begin)) * 100 <= len(content):
        return ()
    return ((header.start(2) + 4 + 4 * (flags & 1), struct.pack(">I", len(content) - begin)),)


def _header_of_mp3(content, begin):
    """What the first frame of an mp3 file says of the others, as a match of `_MP3_HEADER`; and this frame's bytes."""
    length = _mp3_frames().get(content[begin : begin + 3], 0)
    return _MP3_HEADER.search(content, begin, begin + length), length


def _extent_of_ogg(path, content, begin):
    """RFC 3533, section 6: a page names its length; the first of a stream has the flag 2, the last the flag 4."""
    starts, place, flags = [begin], begin, 2
    numbers: dict[int, int] = {}  # of the streams' last pages
    while len(header := content[place : place + 27]) == 27 and header[:4] == b"OggS":
        stream, number = struct.unpack("<II", header[14:22])
        before = numbers.get(stream, 0)
        if not header[5] & 2 and before > _PAGES_OF_HEADERS and number != before + 1:
            raise InputError(f"{path}: page {before + 1} of its Ogg stream is missing; copy the file again")
        numbers[stream] = number
        if header[5] & 2 and not flags & 2:
            starts.append(place)
        flags = header[5]
        place += 27 + header[26] + sum(content[place + 27 : place + 27 + header[26]])
    if place > len(content) or not flags & 4:
        raise InputError(f"{path}: truncated: the end of the Ogg stream is missing; copy the file again")
    goes_on = _goes_on(content, place) or content.find(b"OggS\0\2", place) >= 0
    streams = tuple(zip(starts, [*starts[1:], place], strict=True))
    return Extent(begin, place if goes_on else len(content), goes_on, streams=streams)


def _sound_of_nist(head):
    """Where the sound of a NIST SPHERE file begins, and its length in bytes; -1 if that is unknown."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (.+)$", head, re.MULTILINE))
    try:
        counts = [int(fields[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
        is_plain = fields.get(b"sample_coding", b"pcm") in (b"pcm", b"ulaw", b"alaw")
        return int(head[8:16]), prod(counts) if is_plain else -1
    except (KeyError, ValueError):
        return 0, -1


def _segment_of_matroska(content, begin):
    """Where the segment of a Matroska file (WebM) begins and ends; if that is unknown, where the file does.

    RFC 8794, section 4: a length has as many bytes as zeros before its first one, and one; if all bits behind that are
    set, it is unknown.
    """
    end = begin
    for name in (_EBML, _SEGMENT):
        first = content[end + 4 : end + 5]
        width = 9 - first[0].bit_length() if first else 9
        start = end + 4 + width
        length, mask = int.from_bytes(content[start - width : start], "big"), (1 << 7 * width) - 1
        if content[end : end + 4] != name or width > 8 or length & mask in (0, mask):
            return begin, len(content)
        end = start + (length & mask)
    return start, end


def _data_of_asf(content, begin):
    """Where the data object of an ASF file (WMA) begins and ends; if that is unknown, where the file does.

    ASF specification, section 2.1: an object begins with 16 bytes that name it, and its length.
    """
    start = begin + int.from_bytes(content[begin + 16 : begin + 24], "little")
    head = content[start : start + 24]
    if head[:16] != _DATA_OF_ASF:
        return begin, len(content)
    return start, start + int.from_bytes(head[16:], "little")


def _extent_of_sound(path, content, begin, first, length):
    """Of a file that has nothing but a header and a sound, which begins behind `first` bytes."""
    size, start = len(content), begin + first
    if length == 0 and size - start > _FILLING:  # only AU files are read by their length
        is_au, end = content[begin : begin + 4] in _LENGTH_OF_AU, _end_of_streamed(content, begin, start)
        return Extent(begin, end, end < size, True, patches=((begin + 8, _TO_THE_END),) if is_au else ())
    if length < 0:
        end = _end_of_streamed(content, begin, start)
        return Extent(begin, end, end < size)
    _check_is_there(path, size, start, start + length, "audio")
    return Extent(begin, start + length, _goes_on(content, start + length))


def _end_of_streamed(content, begin, start):
    """Where a sound of unknown length is over: where the file is, or another one of its kind begins in it."""
    header = re.escape(content[begin : begin + 4]) + b"(?s:.{4})" + re.escape(content[begin + 8 : begin + 16])
    another = re.compile(header).search(content, start)
    return another.start() if another else len(content)


def _extent_of_chunks(path, content, kind, begin):
    size, how, is_mp4 = len(content), _KINDS[kind], kind == b"ftyp"
    chunks = [*_chunks(content, kind, begin)]
    for name, _, start, end in chunks:
        if name in how.sounds or (is_mp4 and name in _DESCRIPTIONS):
            _check_is_there(path, size, start, end, "audio" if name in how.sounds else "its description")
    sounds = [chunk for chunk in chunks if chunk[0] in how.sounds]
    if not sounds:
        return Extent(begin, size)
    over = chunks[-1][-1]
    name, _, start, end = sounds[0]
    # libsndfile believes the length in a W64 file, whatever it is, and decodes silence up to there.
    is_endless = kind == b"riff" and content[start - 8 : start] != struct.pack("<q", end - start + 24)
    is_unclosed = not is_mp4 and end - start <= how.besides and _is_unclosed(content, over, kind)
    if is_unclosed or is_endless:
        end = _end_of_streamed(content, begin, start)
        in_ds64 = [place + 8 for name, _, place, _ in chunks if name == b"ds64" and kind in _WITH_DS64]
        form = "<q" if in_ds64 else how.length
        width = struct.calcsize(form)
        length = end - start + (24 if kind == b"riff" else 0)  # W64 counts the chunk's head, too
        place = in_ds64[0] if in_ds64 else start - width
        patches = ((place, struct.pack(form, length)),) if length < 1 << 8 * width else ()
        return Extent(begin, end, end < size, is_unclosed, patches=patches)
    if not is_mp4 and len(sounds) > 1:  # the first one counts
        return Extent(begin, sounds[1][1], True)
    goes_on = _goes_on(content, over)
    if kind == b"riff" or name == b"BODY":  # libsndfile takes for sound what follows it
        return Extent(begin, min(end, size), goes_on)
    return Extent(begin, over if goes_on and not is_mp4 else size, goes_on)


def _is_unclosed(content, over, kind):
    """Whether sound follows an empty chunk of it: something that is neither chunks up to the end, nor another file."""
    behind = content[over : over + 12]
    return not over - 1 <= len(content) <= over + 5 and kind not in behind and not behind.startswith(_TAG_MARKS)


def _check_is_there(path, size, begin, end, what):
    if end > max(size, begin):
        held = f"{max(size - begin, 0)} of {end - begin} bytes of {what}"
        raise InputError(f"{path}: truncated: {held} are there; copy the file again")


def _goes_on(content, place):
    place = _behind_id3(content, place)
    return len(content) - place > _FILLING and not _is_filling(content[place : place + _FILLING])


def _chunks(content, kind, begin):
    """The chunks of a file that consists of them: the name of each, and where it, its content and its end are.

    They are over where something begins that is none, or another file.
    """
    how, size = _KINDS[kind], len(content)
    place, length_of_rf64 = begin + how.before, -1
    if kind == b"ftyp":  # is a chunk itself
        place = _chunk(kind, content[begin : begin + 24], begin, size)[-1]
    while place + 8 <= size:
        head = content[place : place + 24]
        name, start, end = _chunk(kind, head, place, size)
        if not (name.isascii() and name.decode().isprintable()) or kind in head[:8]:
            break
        if name == b"ds64":
            length_of_rf64 = int.from_bytes(content[start + 8 : start + 16], "little", signed=True)
        if kind in _WITH_DS64 and name == b"data" and head[4:8] == _TO_THE_END:
            end = start + (length_of_rf64 if 0 < length_of_rf64 < _STREAMED[8] else 0)
        if end < 0:
            end = _end_of_streamed(content, begin, start)
        yield name, place, start, end
        # Not all writers fill up, and another file may follow at once.
        place = end if kind in content[end : end + 12] else end + -end % how.padding


def _chunk(kind, head, place, size):
    """Name, begin and end of a chunk that begins with these bytes; -1 as the end where the length is unknown."""
    head, form = head.ljust(24, b"\0"), _KINDS[kind].length
    name, behind = head[:4], 4 + struct.calcsize(form)
    if kind == b"ftyp":  # ISO 14496-12, section 4.2
        length, name = struct.unpack(">I4s", head[:8])
        behind, length = (16, int.from_bytes(head[8:16], "big") - 16) if length == 1 else (8, length - 8)
    elif kind == b"riff":
        behind, length = 24, int.from_bytes(head[16:24], "little", signed=True) - 24
        name = name if head[4:16] in _GUIDS_OF_W64 else b"\xff"
    else:
        (length,) = struct.unpack(form, head[4:behind])
    end = place + behind + length
    is_unknown = length < 0 or (end > size and length >= _STREAMED[struct.calcsize(form)])
    return name, place + behind, -1 if is_unknown else end


def is_opus_of_unknown_rate(path: Path) -> bool:
    """Whether an Opus file does not say at which rate its sound was recorded: libsndfile then decodes 8 of its 48 kHz.

    RFC 7845, section 5.1: the head is the first packet of an Ogg stream; the rate of its input stands 12 bytes in it.
    """
    with path.open("rb") as file:
        begin = file.read(64)
    head = begin.find(b"OpusHead")
    return begin[:4] == b"OggS" and head > 0 and begin[head + 12 : head + 16] == bytes(4)


def extent_of_mp3(path: Path) -> tuple[Extent, bool]:
    """The sound of an mp3 file, without tags in it, and whether a header before it says how many frames it has.

    The frames are counted, from header to header (ISO 11172-3, section 2.4.1.3), also behind what is no frame: a header
    of fewer stands before a file to which others were joined, or is wrong. Zeros, unlike tags, are no damage to FFmpeg.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin, said = _behind_id3(content), 0
        header, length = _header_of_mp3(content, begin)
        if header is not None:
            begin += length
            flags, said = struct.unpack(">II", header[2][:8])
            if header[1] == b"VBRI":
                said = int.from_bytes(header[2][10:14], "big")
            elif not flags & 1:
                said = 0
        count, tags, is_damaged = _frames_from(content, begin)
        patches = tuple((place, bytes(end - place)) for place, end in tags)
        return Extent(begin, len(content), is_damaged=is_damaged, patches=patches), header is not None and count <= said


def _behind_id3(content, place=0):
    while content[place : place + 3] == b"ID3" and len(tag := content[place : place + 10]) == 10:
        place += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    return place


def _frames_from(content, place):
    """How many frames there are, where the tags between them begin and end, and whether something else is there."""
    lengths, count, tags, is_damaged = _mp3_frames(), 0, [], False
    while True:
        while length := lengths.get(content[place : place + 3]):
            place += length
            count += 1
        end = _behind_id3(content, place)
        if end > place and content[end : end + 3] in lengths:
            tags.append((place, end))
            place = end
            continue
        for found in _MP3_SYNC.finditer(content, place):  # three in a row are no accident
            place = following = found.start()
            in_a_row = 0
            while in_a_row < 3 and (length := lengths.get(content[following : following + 3])):
                following += length
                in_a_row += 1
            if in_a_row == 3:
                is_damaged |= count > 0 and not _is_filling(content[end : found.start()])
                break
        else:
            return count, tags, is_damaged


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


def extent_of_flac(path: Path) -> Extent:
    """Where a FLAC file is over, for another may be joined to it; and what makes its length unknown.

    The 36 bits are the lower half of the byte at that place, and four more bytes (RFC 9639, section 8.2).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = content.find(b"fLaC", _behind_id3(content))
        another = content.find(_FLAC_BEGIN, begin + len(_FLAC_BEGIN))
        patch = (begin + 21, bytes([content[begin + 21] & 0xF0, 0, 0, 0, 0]))
        end = len(content) if another < 0 else another
        return Extent(0, end, another >= 0, patches=(patch,))


def ends_in_filling(path: Path) -> bool:
    """Whether a file ends in a tag of another format, or in zeros."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _ID3V1, 0))
        tail = file.read()
    return _is_filling(tail) or b"APETAGEX" in tail


def _is_filling(content):
    content = content.lstrip(b"\0")
    return not content or content.startswith(_TAG_MARKS)
