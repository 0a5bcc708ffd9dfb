"""The graph reads WAV files as `read_audio` does, and says what is wrong with those that it does not read."""

import io
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from sounds import noise

from keras_audio_transfer.audio.files import read_audio
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.wav import decode

RATE = 2000
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
SOUND = noise(501)
AMBISONIC_B = bytes.fromhex("2107d3118644c8c1ca000000")  # after the number of the format
DS64 = 20  # where the contents of the chunk begin
in_graph = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def wav(sound=SOUND, subtype="PCM_16", container="WAV", rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=container, subtype=subtype)
    return file.getvalue()


def with_bytes(at, format, *values, content=None):
    """A WAV file in which these values are at a place, or at so many bytes after the name of a chunk."""
    content = wav() if content is None else content
    if isinstance(at, tuple):
        at = content.index(at[0]) + at[1]
    new = struct.pack(format, *values)
    return content[:at] + new + content[at + len(new) :]


def with_chunk(contents, before=b"data", padding=b"\0"):
    content = wav()
    at = content.index(before)
    chunk = b"junk" + struct.pack("<I", len(contents)) + contents + padding[: len(contents) % 2]
    return content[:at] + chunk + content[at:]


def with_data_first():
    content = wav()
    at = content.index(b"data")
    return content[:12] + content[at:] + content[12:at]


def assert_as_read_audio(content, path, n_samples=501):
    path.write_bytes(content)
    samples, rate = read_audio(path)
    waveform, sample_rate = in_graph(content)
    assert (sample_rate.dtype, int(sample_rate)) == (tf.int32, rate)
    assert waveform.shape == (n_samples,)
    np.testing.assert_allclose(waveform, samples.mean(axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_as_read_audio(tmp_path, container, subtype, channels):
    sound = np.random.default_rng(0).uniform(-1, 1, (501, channels))
    sound[:3] = [[1], [-1], [0]]
    assert_as_read_audio(wav(sound, subtype, container, 44100), tmp_path / "a.wav")


# What the world writes.
ODD = {
    "a padded chunk of odd length": with_chunk(b"12345"),
    "one before the format": with_chunk(b"1", before=b"fmt "),
    "one byte after the data": wav() + b"x",
    "a chunk after the data": wav() + b"LIST\4\0\0\0INFO",
    "Ambisonic B-format": with_bytes((b"fmt ", 36), "12s", AMBISONIC_B, content=wav(container="WAVEX")),
    "two sounds, of which the first counts": wav() + wav(np.zeros(600))[36:],
    "an ID3 tag after the data": wav() + b"TAG".ljust(128, b"\0"),
    "two formats, of which the first counts": with_chunk(b"")[:36] + wav(np.zeros((1, 2)))[12:36] + wav()[36:],
    "the data first": with_data_first(),
    "a size never filled in": with_bytes((b"data", 4), "<I", 0),
    "the same, and silence": with_bytes((b"data", 4), "<I4xII", 0, 0, 0),
    "streamed": with_bytes((b"data", 4), "<I", 0xFFFFFFFF),
    "streamed, otherwise": with_bytes((b"data", 4), "<I", 0x7FFFF000),
    "an RF64 with a size where none belongs": with_bytes((b"data", 4), "<I", 999, content=wav(container="RF64")) + b"x",
    "a RIFF of no size": with_bytes(4, "<I", 0),
    "no block align": with_bytes(32, "<H", 0),
    "another block align": with_bytes(32, "<H", 4),
    "12 bits in two bytes": with_bytes(34, "<H", 12),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_what_the_world_writes(tmp_path, content):
    assert_as_read_audio(content, tmp_path / "a.wav")


def test_half_a_sample_at_the_end_is_left_out(tmp_path):
    assert_as_read_audio(with_bytes((b"data", 4), "<I", 999), tmp_path / "a.wav", 499)


@pytest.mark.parametrize("size", [0, 2**64 - 1])
def test_rf64_that_was_never_closed(size):
    content = wav(container="RF64")
    waveform, _ = in_graph(with_bytes(DS64 + 8, "<Q", size, content=content))
    np.testing.assert_array_equal(waveform, in_graph(content)[0])


def test_samples_that_were_never_scaled_are_taken(tmp_path):
    sound = np.array([-(2.0**31), 0, 32767], np.float32)
    np.testing.assert_array_equal(in_graph(wav(sound, "FLOAT"))[0], sound)


def broken(value):
    sound = SOUND.astype(np.float64)
    sound[100] = value
    return sound


EXPECTED = "expected WAV of PCM (8, 16, 24 or 32 bit) or float (32 or 64 bit), received"
IS_NO_WAV = f"is no WAV file; {EXPECTED} what begins with]"
CODEC = f"holds another codec; {EXPECTED}]"
RATES = "its sample rate is out of range; expected 100 to 768000 Hz, received]"
NO_FMT, NO_DATA = (f"has no {what} chunk; {EXPECTED} so many bytes]" for what in ("complete fmt", "data"))
TRUNCATED = "is truncated; expected all bytes of sound that its header promises, received]"
NONE = "holds no samples; expected at least one, received so many bytes of sound]"
# Names of files that `read_audio` refuses, too, end with a full stop.
REFUSED = {
    "empty.": (b"", f"{IS_NO_WAV} [other bytes]"),
    "text.": (b"no sound", f"{IS_NO_WAV} [no s]"),
    "no text.": (b"\xff\xfb\x90\0" * 100, f"{IS_NO_WAV} [other bytes]"),
    "FLAC": (wav(container="FLAC"), f"{IS_NO_WAV} [fLaC]"),
    "big-endian": (b"RIFX" + wav()[4:], f"{IS_NO_WAV} [RIFX]"),
    "RIFF of another kind.": (with_bytes(8, "4s", b"AVI "), f"{IS_NO_WAV} [RIFF]"),
    "cut in its name.": (wav()[:11], f"{IS_NO_WAV} [RIFF]"),
    "cut after its name.": (wav()[:12], f"{NO_FMT} [12]"),
    "a format of 14 bytes": (with_bytes(16, "<I", 14), NO_FMT),
    "cut before its data.": (wav()[:40], f"{NO_DATA} [40]"),
    "an odd chunk without padding.": (with_chunk(b"12345", padding=b""), NO_DATA),
    "nothing but chunks.": (wav()[:36] + b"junk\0\0\0\0" * 100_000, NO_DATA),
    "A-law": (wav(subtype="ALAW"), f"{CODEC} [format 6 of 8 bit (A-law)]"),
    "mu-law, extensible": (wav(subtype="ULAW", container="WAVEX"), f"{CODEC} [format 7 of 8 bit (mu-law)]"),
    "ADPCM": (wav(subtype="MS_ADPCM"), f"{CODEC} [format 2 of 4 bit (MS ADPCM)]"),
    "no known codec": (with_bytes(20, "<H", 999), f"{CODEC} [format 999 of 16 bit]"),
    "an unknown sub-format": (
        with_bytes((b"fmt ", 40), "<H", 7, content=wav(container="WAVEX")),
        f"{CODEC} [format 65534 of 16 bit]",
    ),
    "PCM of 64 bit": (with_bytes(34, "<H", 64), f"{CODEC} [format 1 of 64 bit]"),
    "24 bit in four bytes": (
        with_bytes(32, "<H", 4, content=wav(subtype="PCM_24")),
        f"has 24 bits at an unknown end of 4 bytes; {EXPECTED} bytes a frame] [4]",
    ),
    "no channels.": (with_bytes(22, "<H", 0), "has no channels; expected at least one, received] [0]"),
    "rate of 0.": (with_bytes(24, "<I", 0), f"{RATES} [0]"),
    "rate of 99.": (with_bytes(24, "<I", 99), f"{RATES} [99]"),
    "rate of 768001.": (with_bytes(24, "<I", 768_001), f"{RATES} [768001]"),
    "largest rate.": (with_bytes(24, "<I", 2**32 - 1), f"{RATES} [4294967295]"),
    "truncated.": (wav()[:-5], f"{TRUNCATED} [997 of 1002]"),
    "truncated RF64": (wav(container="RF64")[:-5], f"{TRUNCATED} [997 of 1002]"),
    "no samples.": (wav(SOUND[:0]), f"{NONE} [0]"),
    "no samples, and a chunk.": (wav(SOUND[:0]) + b"LIST\4\0\0\0INFO", f"{NONE} [0]"),
    "less than a frame.": (with_bytes(22, "<H", 65535), f"{NONE} [1002]"),
    "NaN.": (wav(broken(np.nan), "FLOAT"), "holds NaN or infinity; expected samples in [-1, 1], received so many of"),
    "infinity in float32.": (wav(broken(1e300), "DOUBLE"), "holds NaN or infinity; expected samples in [-1, 1]"),
    "never scaled.": (wav(broken(-3e9), "FLOAT"), "holds samples beyond 2**31; expected samples in [-1, 1], received"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        in_graph(content)
    assert f"assertion failed: [audio_bytes: {message}" in error.value.message
    if name.endswith("."):
        (tmp_path / "a.wav").write_bytes(content)
        with pytest.raises(InputError):
            read_audio(tmp_path / "a.wav")


def waveform_or_message(content):
    try:
        return in_graph(content)[0].numpy()
    except tf.errors.InvalidArgumentError as error:
        return error.message


@pytest.mark.slow
def test_damaged_headers_are_read_or_refused_in_our_words():
    rng = np.random.default_rng(0)
    intact = [wav(subtype=subtype, container=kind) for kind in ("WAV", "WAVEX", "RF64") for subtype in SUBTYPES]
    n_read = 0
    for number in range(300):
        content = bytearray(intact[number % len(intact)])
        for at in rng.integers(0, 100, rng.integers(1, 4)):
            how = rng.integers(3)
            if how == 0:
                content[at] = rng.integers(256)
            elif how == 1:
                content[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 3, 1000, 2**31 - 1, 2**31, 2**32 - 1]))
            else:
                content[at:at] = rng.bytes(3)
        result = waveform_or_message(bytes(content[: rng.integers(100) if number % 3 == 0 else None]))
        if isinstance(result, str):
            assert "assertion failed: [audio_bytes: " in result
        else:
            assert np.isfinite(result).all()
            n_read += 1
    assert 0 < n_read < 300
