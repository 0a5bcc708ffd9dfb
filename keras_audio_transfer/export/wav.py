"""WAV files -> waveforms in the graph: RIFF and RF64 with PCM or float, in TensorFlow's own operations only.

The chunks are those of Microsoft's and IBM's Multimedia Programming Interface and Data Specifications 1.0 (1991), of
WAVE_FORMAT_EXTENSIBLE, and of RF64 (EBU Tech 3306). What headers often get wrong is read as libsndfile reads it.
"""

from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from keras_audio_transfer.audio.files import LARGEST_SAMPLE
from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE

_EXPECTED = "expected WAV of PCM (8, 16, 24 or 32 bit) or float (32 or 64 bit)"
_MOST_CHUNKS = 256  # recordings have a dozen; a large file of empty ones would take long to walk through
_STREAMED = 0x7FFFF000  # writers that cannot seek back leave a size near 2**31 or 2**32: all that follows
_BEYOND = b"\0" * 64  # more than is read at once, so that what a cut header lacks reads as 0
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NAMES = {2: "MS ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM 6.10", 80: "MPEG", 85: "mp3"}
# What follows the format's number in an extensible header: of all formats, and of Ambisonic B-format.
_GUIDS = [bytes.fromhex("0000 1000 8000 00aa00389b71"), bytes.fromhex("2107 d311 8644 c8c1ca000000")]


class _Header(NamedTuple):
    """What a file says of its sound: int64 () each."""

    fmt: Any  # where the contents of the fmt chunk begin; 0: there is none
    data: Any  # where the sound begins; 0: there is none
    promised: Any  # its length in bytes
    format: Any
    channels: Any
    rate: Any
    align: Any  # bytes of a frame
    bits: Any  # of a sample

    @property
    def width(self):
        """Bytes of a sample."""
        return (self.bits + 7) // 8


def decode(content):
    """The sound of a WAV file.

    Args:
        content: string (), its bytes.

    Returns:
        The mean of the channels, float32 (samples,), integers scaled to [-1, 1] as libsndfile does; and the sample rate
        in Hz, int32 ().

    Raises:
        tf.errors.InvalidArgumentError: `audio_bytes: ` and what is wrong. It is no RIFF or RF64 file, lacks its fmt or
            data chunk, has another codec or a rate that no recording has, fewer samples than its header promises
            or none, or some that are NaN, infinite or beyond 2**31.
    """
    header = _read_header(content)
    here = tf.cast(tf.strings.length(content), tf.int64) - header.data
    frame = tf.maximum(header.width * header.channels, 1)
    frames = tf.minimum(header.promised, here) // frame
    is_codec = [(header.format == number) & (header.width == width) for number, width, _ in _CODECS]
    content, rate = _checked((content, header.rate), _checks(content, header, is_codec, here, frames))
    sound = tf.strings.substr(content, header.data, frames * frame)
    decoders = [partial(decoder, sound) for _, _, decoder in _CODECS]
    samples = tf.switch_case(tf.argmax(tf.cast(is_codec, tf.int32), output_type=tf.int32), decoders)
    (samples,) = _checked((samples,), _checks_of_samples(samples))
    return tf.reduce_mean(tf.reshape(samples, [frames, header.channels]), axis=1), tf.cast(rate, tf.int32)


def _read_header(content):
    octets = tf.io.decode_raw(tf.strings.join([content, _BEYOND]), tf.uint8)
    fmt, data, promised = _find_chunks(octets, tf.cast(tf.strings.length(content), tf.int64))
    number = partial(_number, octets)
    guid = octets[fmt + 28 : fmt + 40]
    is_known = tf.reduce_any([tf.reduce_all(tf.equal(guid, tf.constant([*known], tf.uint8))) for known in _GUIDS])
    is_sub_format = (number(fmt, 2) == _EXTENSIBLE) & is_known
    codec = tf.where(is_sub_format, number(fmt + 24, 4), number(fmt, 2))
    return _Header(fmt, data, promised, codec, *(number(fmt + at, n) for at, n in ((2, 2), (4, 4), (12, 2), (14, 2))))


def _find_chunks(octets, end):
    """Where the contents of the chunks fmt and data begin, and how many bytes of sound the header promises."""
    number = partial(_number, octets)

    def is_called(at, name):
        return number(at, 4) == int.from_bytes(name, "little")

    def goes_on(at, fmt, data, size):
        letters = octets[at : at + 4]
        is_chunk = (at + 8 <= end) & tf.reduce_all((letters >= 32) & (letters < 127))
        return is_chunk & ((fmt == 0) | (data == 0) | (size == 0))

    def one(at, fmt, data, size):
        contents, length = at + 8, number(at + 4, 4)
        is_fmt = is_called(at, b"fmt ") & (fmt == 0) & (length >= 16)
        is_data = is_called(at, b"data") & (data == 0)
        after = contents + length + length % 2  # a chunk of odd length is padded
        fmt, data = tf.where(is_fmt, contents, fmt), tf.where(is_data, contents, data)
        return after, fmt, data, tf.where(is_data, length, size)

    none = tf.constant(0, tf.int64)
    after, fmt, data, size = tf.while_loop(
        goes_on, one, (none + 12, none, none, none), parallel_iterations=1, maximum_iterations=_MOST_CHUNKS
    )
    # A size of 0 was never filled in, unless chunks follow up to the end.
    is_unknown = ((size == 0) & ((after < end - 4) | (after > end + 1))) | (size >= _STREAMED)
    is_in_ds64 = is_called(none, b"RF64") & is_called(none + 12, b"ds64")
    size = tf.where(is_in_ds64, number(none + 28, 8), size)
    is_unknown = tf.where(is_in_ds64, size <= 0, is_unknown)
    return fmt, data, tf.where(is_unknown, end - data, size)


def _number(octets, at, n):
    """The `n` bytes from `at` on as a number, the first one the least; of 8 bytes with a sign."""
    return tf.reduce_sum(tf.cast(octets[at : at + n], tf.int64) * [256**place for place in range(n)])


def _checks(content, header, is_codec, here, frames):
    """What must be true of a file, what is wrong where it is not, and what there is instead; in this order."""
    start = tf.strings.substr(tf.strings.join([content, _BEYOND]), 0, 12)
    kind = tf.strings.substr(start, 0, 4)
    names = tf.where(tf.constant([*_NAMES], tf.int64) == header.format, [f" ({name})" for name in _NAMES.values()], "")
    text = tf.strings.as_string
    codec = ["format ", text(header.format), " of ", text(header.bits), " bit", tf.strings.reduce_join(names)]
    in_four = (header.format == _PCM) & (header.width == 3) & (header.align == 4 * header.channels)
    length = tf.strings.length(content)
    return [
        (
            tf.strings.regex_full_match(start, r"(?s)(RIFF|RF64)\C{4}WAVE"),
            f"is no WAV file; {_EXPECTED}, received what begins with",
            # Nothing but ASCII: an error must be text.
            tf.where(tf.strings.regex_full_match(kind, "[0-9A-Za-z ]*"), kind, "other bytes"),
        ),
        (header.fmt > 0, f"has no complete fmt chunk; {_EXPECTED}, received so many bytes", length),
        (tf.reduce_any(is_codec), f"holds another codec; {_EXPECTED}, received", tf.strings.join(codec)),
        (~in_four, f"has 24 bits at an unknown end of 4 bytes; {_EXPECTED}, received bytes a frame", header.align),
        (header.channels > 0, "has no channels; expected at least one, received", header.channels),
        (
            (header.rate >= LOWEST_RATE) & (header.rate <= HIGHEST_RATE),
            f"its sample rate is out of range; expected {LOWEST_RATE} to {HIGHEST_RATE} Hz, received",
            header.rate,
        ),
        (header.data > 0, f"has no data chunk; {_EXPECTED}, received so many bytes", length),
        (
            header.promised <= here,
            "is truncated; expected all bytes of sound that its header promises, received",
            tf.strings.join([text(here), " of ", text(header.promised)]),
        ),
        (frames > 0, "holds no samples; expected at least one, received so many bytes of sound", header.promised),
    ]


def _checks_of_samples(samples):
    expected = "expected samples in [-1, 1], received so many of them"
    wrong = {"NaN or infinity": ~tf.math.is_finite(samples), "samples beyond 2**31": tf.abs(samples) > LARGEST_SAMPLE}
    counts = {name: tf.math.count_nonzero(where) for name, where in wrong.items()}
    return [(count == 0, f"holds {name}; {expected}", count) for name, count in counts.items()]


def _checked(values, checks):
    """The values, once all checks are passed."""
    for passes, message, received in checks:
        with tf.control_dependencies([tf.debugging.Assert(passes, [f"audio_bytes: {message}", received])]):
            values = [tf.identity(value) for value in values]
    return values


def _unsigned(sound):
    return (tf.cast(tf.io.decode_raw(sound, tf.uint8), tf.float32) - 128) / 128


def _of_three_bytes(sound):
    octets = tf.cast(tf.reshape(tf.io.decode_raw(sound, tf.uint8), [-1, 3]), tf.float32)
    unsigned = tf.linalg.matvec(octets, [1.0, 2.0**8, 2.0**16])  # exactly, in float32
    return tf.where(unsigned < 2.0**23, unsigned, unsigned - 2.0**24) / 2.0**23


def _as(dtype, full_scale, sound):
    return tf.cast(tf.io.decode_raw(sound, dtype), tf.float32) / full_scale


# Format, bytes of a sample, and what makes samples of the bytes.
_CODECS = [
    (_PCM, 1, _unsigned),
    (_PCM, 2, partial(_as, tf.int16, 2.0**15)),
    (_PCM, 3, _of_three_bytes),
    (_PCM, 4, partial(_as, tf.int32, 2.0**31)),
    (_FLOAT, 4, partial(_as, tf.float32, 1.0)),
    (_FLOAT, 8, partial(_as, tf.float64, 1.0)),
]
