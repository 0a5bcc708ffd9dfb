"""What the headers of Ogg and mp3 files say of their lengths, and whether they can be right."""

import re
import struct
from pathlib import Path

from keras_audio_transfer.errors import InputError

_MP3_HEADER = re.compile(rb"(Xing|Info|VBRI)(.{12})", re.DOTALL)
_MP3_FRAME = re.compile(rb"\xff[\xe2-\xff]")
_MP3_TAGS = 1 << 16  # bytes that tags at the end may take


def streams_of_ogg(path: Path) -> list[tuple[int, int]]:
    """Where the streams of an Ogg file begin and end: (start, end) of each, in bytes. More than one are a chain.

    RFC 3533, section 6: a page names its length; the first of a stream has the flag 2, the last the flag 4.

    Raises:
        InputError: the file's last page is cut or not the last of its stream.
    """
    starts, place, flags = [0], 0, 2
    size = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(27)) == 27 and header[:4] == b"OggS":
            if header[5] & 2 and not flags & 2:
                starts.append(place)
            flags = header[5]
            place += 27 + header[26] + sum(file.read(header[26]))
            file.seek(place)
    if place > size or not flags & 4:
        raise InputError(f"{path}: truncated: the end of the Ogg stream is missing; copy the file again")
    return [*zip(starts, [*starts[1:], size], strict=True)]


def says_its_length(path: Path) -> bool:
    """Whether the first frame of an mp3 is a header (Xing, Info or VBRI) of all that the file holds."""
    with path.open("rb") as file:
        place = 0
        while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:  # its length: four times seven bits
            place += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
            file.seek(place)
        header = _MP3_HEADER.search(tag + file.read(400))
    if header is None:
        return False
    flags, frames_or_size, size = struct.unpack(">III", header[2])
    if header[1] == b"VBRI":
        size = struct.unpack(">I", header[2][6:10])[0]
    elif not flags & 2:
        return True  # of how many bytes it does not say
    elif not flags & 1:
        size = frames_or_size
    with path.open("rb") as file:  # behind it are tags at most, or else another file, with a header or without
        file.seek(place + size)
        rest = file.read(_MP3_TAGS + 1)
    return len(rest) <= _MP3_TAGS and not _MP3_FRAME.match(rest) and not _MP3_HEADER.search(rest)
