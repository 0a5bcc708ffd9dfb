"""The number of samples that a file yields is the number that is there, however its header lies and it is read."""

import io
import os
import struct
import tracemalloc
from contextlib import closing
from functools import cache

import av
import numpy as np
import pytest
import soundfile
from encoded_sounds import joined, of_ffmpeg
from sounds import noise

from keras_audio_transfer.audio.decoders import DAMAGED, GOES_ON, SEVERAL, UNCLOSED, open_decoder
from keras_audio_transfer.audio.files import open_audio, read_audio
from keras_audio_transfer.audio.loading import load_waveform
from keras_audio_transfer.audio.sliding_windows import windows
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

RATE = 44100
SECONDS = 4
SOUND = np.sin(np.arange(SECONDS * RATE) * 0.06, dtype=np.float32) * 0.3 + 0.5 * noise(SECONDS * RATE)
# An mp3 without a header of its length has whole frames of 1152 samples, also those that fill up both ends.
IN_MP3_FRAMES = 178_560
ID3_WITH_A_PICTURE = b"ID3\3\0\0" + bytes([0, 1, 28, 42]) + bytes(20010)


def encoded(suffix, sound=SOUND, **how):
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=suffix, **how)
    return file.getvalue()


@cache
def mp3(bitrate_mode):
    how = {"subtype": "MPEG_LAYER_III", "bitrate_mode": bitrate_mode, "compression_level": 0.5}
    content = encoded("MP3", **how)
    assert content[21:25] in (b"Xing", b"Info")
    return content


def mp3_without_length(bitrate_mode):
    content = mp3(bitrate_mode)
    return content[content.index(b"\xff\xfb", 10) :]


def mp3_of_frames(frames, bitrate_mode="VARIABLE"):
    """An mp3 file whose header says that it has so many frames; None for no number of bytes, either."""
    content = bytearray(mp3(bitrate_mode))
    at = 21 + 4
    assert content[at + 3] & 3 == 3
    content[at + 4 : at + 8] = struct.pack(">I", frames)
    return bytes(content)


def flac_of(samples):
    """A FLAC file whose header says that it has so many samples; 0 for an unknown number. RFC 9639, section 8.2."""
    content = bytearray(encoded("FLAC"))
    content[18:26] = (int.from_bytes(content[18:26], "big") >> 36 << 36 | samples).to_bytes(8, "big")
    return bytes(content)


def wav(said=None, sound=SOUND, subtype="PCM_16"):
    """A wav file whose header says that its data are so many bytes."""
    content = encoded("WAV", sound, subtype=subtype)
    at = content.index(b"data") + 4
    return content if said is None else content[:at] + struct.pack("<I", said) + content[at + 4 :]


def chained_ogg(*parts):
    return b"".join(encoded("OGG", part) for part in parts)


def unclosed(sound):
    content = wav(0, sound)
    return content[:4] + struct.pack("<I", 36) + content[8:]


READABLE = {
    "a.wav": (wav(), 176_400),
    "a.flac": (encoded("FLAC"), 176_400),
    "a.ogg": (encoded("OGG"), 176_400),
    "constant.mp3": (mp3("CONSTANT"), 176_400),
    "variable.mp3": (mp3("VARIABLE"), 176_400),
    "constant without length.mp3": (mp3_without_length("CONSTANT"), IN_MP3_FRAMES),
    "variable without length.mp3": (mp3_without_length("VARIABLE"), IN_MP3_FRAMES),
    "picture.mp3": (ID3_WITH_A_PICTURE + mp3("CONSTANT"), 176_400),
    "picture without length.mp3": (ID3_WITH_A_PICTURE + mp3_without_length("CONSTANT"), IN_MP3_FRAMES),
    "chained.ogg": (chained_ogg(SOUND[: 2 * RATE], SOUND[2 * RATE :]), 176_400),
    "chain of four.ogg": (chained_ogg(*np.split(SOUND, [1, RATE, 3 * RATE])), 176_400),
    "piped.flac": (flac_of(0), 176_400),
    "of fewer.flac": (flac_of(50_000), 176_400),
    "of one.flac": (flac_of(1), 176_400),
    "with tags.flac": (b"ID3\3\0\0\0\0\1\0" + bytes(128) + encoded("FLAC") + b"TAG".ljust(128, b"\0"), 176_400),
    "tagged and another.mp3": (2 * (ID3_WITH_A_PICTURE + mp3_without_length("CONSTANT")), 2 * IN_MP3_FRAMES),
    "of fewer.mp3": (mp3_of_frames(40), IN_MP3_FRAMES),
    "constant of fewer.mp3": (mp3_of_frames(40, "CONSTANT"), IN_MP3_FRAMES),
    "unclosed.wav": (unclosed(SOUND), 176_400),
    "unclosed and quiet.wav": (unclosed(np.concatenate([np.zeros(RATE), SOUND])), 220_500),
}


@pytest.fixture(params=READABLE)
def file(request, tmp_path):
    content, samples = READABLE[request.param]
    (tmp_path / request.param).write_bytes(content)
    return tmp_path / request.param, samples


def test_all_samples_are_read(file):
    path, samples = file
    sound, rate = read_audio(path)
    assert (sound.shape, rate) == ((samples, 1), RATE)
    assert np.abs(sound[-RATE:]).max() > 0.05


def test_parts_are_slices_of_the_whole(file):
    path, samples = file
    whole, _ = read_audio(path)
    for start, seconds in ((0, 0.5), (1, 1.0), (3, None)):
        part, _ = read_audio(path, seconds, start)
        stop = samples if seconds is None else start * RATE + int(seconds * RATE) + 1
        assert len(part) == stop - start * RATE
        # After a seek an mp3 or Ogg decoder is off by rounding.
        np.testing.assert_allclose(part, whole[start * RATE : stop], atol=1e-4)
    with pytest.raises(InputError, match=r": the file is over before 9 s; correct the start of the clip$"):
        read_audio(path, 1.0, 9)


def test_windows_are_those_of_the_whole(file):
    path, samples = file
    config = AudioConfig(8000, 0.5, n_fft=256, hop_length=128, n_mels=8, mel_f_min=0.0, mel_f_max=4000.0)
    clip = Clip("a", path)
    whole = load_waveform(clip, config.sample_rate)
    found = [*windows(clip, config, 0.25)]
    assert len(found) == np.ceil(samples / RATE / 0.25)
    for time, window in found[2:-2]:
        start = round(time * 8000) - 2000
        np.testing.assert_allclose(window, whole[start : start + 4000], atol=1e-4)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_files_one_after_the_other(tmp_path, mode):
    one = encoded("MP3", np.tile(SOUND, 5), subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)
    (tmp_path / "a.mp3").write_bytes(one)
    assert len(read_audio(tmp_path / "a.mp3")[0]) == 5 * 176_400
    (tmp_path / "a.mp3").write_bytes(3 * one)
    # Between them are the silent frames that each file has at its ends.
    assert 0 <= len(read_audio(tmp_path / "a.mp3")[0]) - 15 * 176_400 < 3 * 4 * 1152
    (tmp_path / "a.mp3").write_bytes(one + b"TAG".ljust(128, b"\0"))
    assert len(read_audio(tmp_path / "a.mp3")[0]) == 5 * 176_400


def test_short_mp3_files_one_after_the_other(tmp_path):
    """What follows the first is no longer than tags may be."""
    one = encoded("MP3", SOUND, subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.9)
    assert len(one) < 1 << 16
    (tmp_path / "a.mp3").write_bytes(2 * one)
    assert 0 <= len(read_audio(tmp_path / "a.mp3")[0]) - 2 * 176_400 < 2 * 4 * 1152


def test_a_sound_that_changes_its_rate(tmp_path):
    content = b"".join(of_pyav("adts", "aac", rate) for rate in (16000, 48000))
    (tmp_path / "a.aac").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.aac: changes from 16000 Hz, mono to 48000 Hz, mono; expected one"):
        read_audio(tmp_path / "a.aac")


def test_a_sound_whose_times_begin_later(tmp_path):
    """Matroska's length is the time of the end."""
    (tmp_path / "a.webm").write_bytes(of_pyav("webm", "libopus", 48000, begin=5.0))
    samples, rate = read_audio(tmp_path / "a.webm")
    assert len(samples) / rate == pytest.approx(1.2, abs=0.05)


def of_pyav(container, codec, rate, begin=0.0, streams=1):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        frame = av.AudioFrame.from_ndarray(noise(1, int(1.2 * rate)), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, round(begin * rate)
        for stream in [output.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)]:
            for part in (frame, None):
                output.mux(stream.encode(part))
    return file.getvalue()


def au_of(said):
    content = encoded("AU")
    return content[:8] + struct.pack(">I", said) + content[12:]


CHUNK = b"note" + struct.pack("<I", 3) + b"yes\0"
NOTES = {
    "whole": (wav(), ()),
    "never closed": (unclosed(SOUND), (UNCLOSED,)),
    "two sounds in a file": (wav() + wav()[36:], (GOES_ON,)),
    "and another": (2 * wav(), (GOES_ON,)),
    "streamed and another": (2 * wav(0xFFFFFFFF), (GOES_ON,)),
    "never closed and another": (2 * unclosed(SOUND), (UNCLOSED, GOES_ON)),
    "of fewer bytes": (wav(1000), (GOES_ON,)),
    "au of fewer bytes": (au_of(1000), (GOES_ON,)),
    "au": (encoded("AU"), ()),
    "au to its end": (au_of(0xFFFFFFFF), ()),
    "au to its end and another": (2 * au_of(0xFFFFFFFF), (GOES_ON,)),
    "two tracks": (of_pyav("webm", "libopus", 48000, streams=2), (SEVERAL,)),
    "aiff and another": (2 * encoded("AIFF"), (GOES_ON,)),
    **{f"{kind} and another": (2 * encoded(kind), (GOES_ON,)) for kind in ("W64", "RF64", "CAF")},
    **{f"{kind} and noise": (encoded(kind) + wav()[-1000:], (GOES_ON,)) for kind in ("W64", "RF64", "CAF")},
    **{f"{kind} and zeros": (encoded(kind) + bytes(1000), ()) for kind in ("W64", "RF64", "CAF", "SVX", "NIST")},
    "filled up and a tag": (encoded("CAF") + bytes(3) + b"TAG" + bytes(range(125)), ()),
    "flac and another": (2 * encoded("FLAC"), (GOES_ON,)),
    "flac and noise": (encoded("FLAC") + wav()[-1000:], (GOES_ON,)),
    "flac and zeros": (encoded("FLAC") + bytes(1000), ()),
    "flac and a tag": (encoded("FLAC") + b"APETAGEX" + bytes(300), ()),
    "a chunk": (wav() + CHUNK, ()),
    "a chunk and noise": (wav() + CHUNK + wav()[-1001:], (GOES_ON,)),
    "a tag": (wav() + b"ID3" + bytes(range(200)), ()),
    "filling": (wav() + bytes(1000), ()),
    "little": (wav() + bytes(range(1, 60)), ()),
}


@pytest.mark.parametrize("kind", NOTES)
def test_what_is_not_as_a_header_tells_is_said(tmp_path, kind):
    content, notes = NOTES[kind]
    (tmp_path / "a.wav").write_bytes(content)
    with open_audio(tmp_path / "a.wav") as file:
        samples = file.read()
        assert file.notes == notes
    if kind.partition(" and ")[2]:
        assert len(samples) == SECONDS * RATE


VBR = mp3("VARIABLE")
AROUND = {  # what is not an mp3's own: its first bytes, last ones, and those between
    "nothing": (VBR, ()),
    "a picture before": (ID3_WITH_A_PICTURE + VBR, ()),
    "tags behind": (VBR + b"APETAGEX" + bytes(2000) + b"TAG" + bytes(125), ()),
    "another behind": (2 * VBR, ()),
    "a tag between": (VBR + ID3_WITH_A_PICTURE + VBR, ()),
    "zeros between": (VBR + bytes(1500) + VBR, ()),
    "bytes missing": (VBR[:9000] + VBR[9200:], (DAMAGED,)),
    "bytes too many": (VBR[:9000] + bytes(range(1, 200)) + VBR[9000:], (DAMAGED,)),
}


@pytest.mark.parametrize("kind", AROUND)
def test_what_is_no_frame_of_an_mp3_is_said_by_us_and_not_by_its_decoder(tmp_path, kind, capfd):
    content, notes = AROUND[kind]
    (tmp_path / "a.mp3").write_bytes(content)
    with open_audio(tmp_path / "a.mp3") as file:
        assert len(file.read()) >= (SECONDS - 0.1) * RATE
        assert file.notes == notes
    if not notes:
        assert capfd.readouterr().err == ""  # libmpg123 writes there, without the file's name


ODD = SOUND[:4001]
ID3 = b"ID3\3\0\0\0\0\1\0" + bytes(128)
OGG = encoded("OGG", ODD)
FIRST_OF_JOINED = {
    "an odd number of bytes, not filled up": wav(None, ODD, "PCM_U8")[: 44 + 4001],
    "big-endian": encoded("WAV", ODD, endian="BIG"),
    "BW64": b"BW64" + encoded("RF64", ODD)[4:],
    "a tag before it": ID3 + wav(None, ODD),
    "NIST": encoded("NIST", ODD),
    "AU in blocks": encoded("AU", ODD, subtype="G723_24"),
    "little-endian AU": encoded("AU", ODD, endian="LITTLE"),
    **{f"CAF, {subtype}": encoded("CAF", ODD, subtype=subtype) for subtype in ("ALAC_16", "PCM_S8")},
    "AIFF": encoded("AIFF", ODD, subtype="DWVW_16"),
    "8SVX": encoded("SVX", ODD),
    **{suffix: content for suffix, content in of_ffmpeg() if suffix in (".webm", ".wma")},
}


@pytest.mark.parametrize("kind", FIRST_OF_JOINED)
def test_what_is_joined_to_a_file_is_not_heard(tmp_path, kind):
    content = FIRST_OF_JOINED[kind]
    assert_alone_and_with(tmp_path / "a.wav", content, content)


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125) + OGG, bytes(64) + OGG, wav(), bytes(range(200))])
def test_what_is_behind_an_ogg_file_is_not_heard(tmp_path, behind):
    assert_alone_and_with(tmp_path / "a.ogg", OGG, behind)


def assert_alone_and_with(path, content, behind):
    path.write_bytes(content)
    with open_audio(path) as file:
        alone = file.read()
        assert file.notes == ()
    path.write_bytes(content + behind)
    with open_audio(path) as file:
        np.testing.assert_array_equal(file.read(), alone)
        assert file.notes == (GOES_ON,)


# The name of a chunk, how far behind it begins the length of the sound, its format, and what stands there at first.
UNCLOSED_OF = {
    "WAV": (b"data", 4, "<I", 0),
    "WAVEX": (b"data", 4, "<I", 0),
    "RF64": (b"ds64", 16, "<q", 0),
    "W64": (b"data", 16, "<q", 24),
    "AIFF": (b"SSND", 4, ">I", 8),
    "AU": (b".snd", 8, ">I", 0),
    "CAF": (b"data", 4, ">q", 4),
    "NIST": (b"sample_count", 16, "6s", b"000000"),
}


@pytest.mark.parametrize("riff_of", [None, 0, 8])  # what the length of the whole file is at first
@pytest.mark.parametrize("kind", UNCLOSED_OF)
def test_a_file_that_was_never_closed_is_read_to_its_end(tmp_path, kind, riff_of):
    name, behind, form, value = UNCLOSED_OF[kind]
    content = bytearray(encoded(kind))
    struct.pack_into(form, content, content.index(name) + behind, value)
    if riff_of is not None and kind in ("WAV", "WAVEX", "AIFF"):
        content[4:8] = struct.pack(form, riff_of)
    (tmp_path / "a.wav").write_bytes(content)
    with open_audio(tmp_path / "a.wav") as file:
        np.testing.assert_allclose(file.read()[:, 0], SOUND, atol=1e-4)
        assert file.notes == (UNCLOSED,)
    np.testing.assert_allclose(
        read_audio(tmp_path / "a.wav", 0.1, 3)[0][:, 0], part_of(SOUND[:, None], RATE, 3, 0.1), atol=1e-4
    )


def test_lengths_that_a_pipe_leaves(tmp_path):
    for kind, (name, behind, form, _), value in (
        ("W64", UNCLOSED_OF["W64"], 2**63 - 1),
        ("AIFF", UNCLOSED_OF["AIFF"], 0),
        ("CAF", UNCLOSED_OF["CAF"], -1),
        ("RF64", UNCLOSED_OF["RF64"], -1),
    ):
        content = bytearray(encoded(kind))
        struct.pack_into(form, content, content.index(name) + behind, value)
        (tmp_path / "a.wav").write_bytes(content)
        assert abs(len(read_audio(tmp_path / "a.wav")[0]) - SECONDS * RATE) <= 4, kind


@pytest.mark.parametrize("said", [2**63 - 1, -5, (1 << 62) + 99])
def test_a_codec_of_blocks_ends_with_the_file(tmp_path, said):
    """GSM 6.10 in a W64 file: libsndfile would go on with silence for as long as the header says, for ever."""
    content = bytearray(encoded("W64", subtype="GSM610"))
    struct.pack_into("<q", content, content.index(b"data") + 16, said)
    (tmp_path / "a.w64").write_bytes(content)
    with open_audio(tmp_path / "a.w64") as file:
        assert SECONDS * RATE <= len(file.read()) <= SECONDS * RATE + 320
        assert file.notes == ()


def test_an_mp3_in_a_wav_file(tmp_path):
    """Its header counts the samples that the decoder leaves out."""
    content = of_pyav("wav", "libmp3lame", 44100)
    (tmp_path / "a.wav").write_bytes(content)
    whole, rate = read_audio(tmp_path / "a.wav")
    assert 1.15 < len(whole) / rate < 1.4
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 0.1, 1)[0][:, 0], part_of(whole, rate, 1, 0.1), atol=1e-4)
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        InputError, match=r"a\.wav: truncated: \d+ of \d+ bytes of audio are there; copy the file again$"
    ):
        read_audio(tmp_path / "a.wav")


CUT = {
    "BW64": (b"BW64" + encoded("RF64", ODD)[4:], r"\d+ of 8002 bytes of audio are there"),
    "NIST": (encoded("NIST", ODD), r"\d+ of 8002 bytes of audio are there"),
    "8SVX": (encoded("SVX", ODD), r"\d+ of 8002 bytes of audio are there"),
    "little-endian AU": (encoded("AU", ODD, endian="LITTLE"), r"\d+ of 8002 bytes of audio are there"),
    **{
        codec: (of_pyav("wav", codec, rate), r"\d+ of \d+ bytes of audio are there")
        for codec, rate in (("ac3", 48000), ("eac3", 48000), ("g722", 16000))
    },
    "FLAC in Ogg": (of_pyav("ogg", "flac", 16000), "the end of the Ogg stream is missing"),
}


@pytest.mark.parametrize("kind", CUT)
def test_what_is_cut_is_refused(tmp_path, kind):
    content, said = CUT[kind]
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "a.wav")[0]) >= 4001
    (tmp_path / "a.wav").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(InputError, match=rf"a\.wav: truncated: {said}; copy the file again$"):
        read_audio(tmp_path / "a.wav", 0.1)


def test_a_header_that_points_to_no_place(tmp_path):
    """FFmpeg goes behind all chunks of a CAF file, wherever that is, also where it takes another file for one."""
    content = of_pyav("caf", "alac", 16000)
    assert_alone_and_with(tmp_path / "a.caf", content, content)
    whole, _ = read_audio(tmp_path / "a.caf")
    (tmp_path / "a.caf").write_bytes(content + b"junk" + struct.pack(">q", 2**56) + bytes(range(100)))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.caf")[0], whole)


def test_a_chunk_behind_the_sound_of_a_w64_file_is_not_heard(tmp_path):
    guid = b"note" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
    (tmp_path / "a.w64").write_bytes(encoded("W64") + guid + struct.pack("<Q", 24 + 80) + bytes(range(80)))
    with open_audio(tmp_path / "a.w64") as file:
        assert len(file.read()) == SECONDS * RATE
        assert file.notes == ()


def test_a_damaged_flac_file_is_the_same_in_blocks_of_any_length(tmp_path):
    """After a damaged frame behind the length that its header tells, libsndfile forgets the rest of another."""
    (content,) = [bytearray(content) for kind, content in joined() if kind == ".flac"]
    content[24] = 0x10  # 4096 of 9600 samples
    content[4300] ^= 0x80  # in the second of three frames
    (tmp_path / "a.flac").write_bytes(content)
    whole, _ = read_audio(tmp_path / "a.flac")
    assert len(whole) == 9600
    with closing(open_decoder(tmp_path / "a.flac")) as decoder:
        blocks = [*iter(lambda: decoder.read(1000).tolist(), [])]
    np.testing.assert_array_equal([sample for block in blocks for sample in block], whole)


def test_a_flac_file_that_is_cut_within_a_frame(tmp_path):
    whole = encoded("FLAC")
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "a.flac").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"a\.flac: truncated: \d+ of 176400 samples are there; copy"):
            read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("sound", [0.3 * SOUND, np.round(SOUND[: RATE // 2], 2), np.tile(SOUND[:64], 500)])
def test_what_is_joined_to_a_flac_file_is_not_heard(tmp_path, sound):
    once = encoded("FLAC", sound)
    for name, content in (("once", once), ("twice", 2 * once), ("with noise", once + noise(999).tobytes())):
        (tmp_path / f"{name}.flac").write_bytes(content)
        with open_audio(tmp_path / f"{name}.flac") as file:
            read = file.read()
        assert len(read) == len(sound), name
        assert file.notes == (() if name == "once" else (GOES_ON,))


@pytest.mark.parametrize("claimed", [2**36 - 1, 2**33, 2**24, 176_401])
@pytest.mark.parametrize("seconds", [None, 1.0])
def test_a_flac_file_that_claims_more_than_it_holds(tmp_path, claimed, seconds):
    (tmp_path / "a.flac").write_bytes(flac_of(claimed))
    with pytest.raises(InputError, match=rf"a\.flac: truncated: 176400 of {claimed} samples are there; copy the file"):
        read_audio(tmp_path / "a.flac", seconds)


@pytest.mark.parametrize("rate", [0, 1, 99, 768_001, 2**31 - 1])
def test_rates_of_no_recording(tmp_path, rate):
    content = bytearray(wav())
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(
        InputError, match=r"a\.wav: (its sample rate is \d+ Hz; expected 100 to 768000|cannot be decod)"
    ):
        read_audio(tmp_path / "a.wav", 30.0)


@pytest.mark.parametrize("value", [3e38, -1e20, 2.2e9])
def test_samples_that_no_format_has(tmp_path, value):
    sound = np.zeros(600, np.float32)
    sound[300] = value
    (tmp_path / "a.wav").write_bytes(wav(sound=sound, subtype="FLOAT"))
    with pytest.raises(InputError, match=r"a\.wav: holds a sample of \d\.\de\+\d+; expected -1 to 1; repair or remove"):
        read_audio(tmp_path / "a.wav")


def test_samples_that_were_never_scaled_are_taken(tmp_path):
    sound = np.array([-(2.0**31), 0, 32767], np.float32)
    (tmp_path / "a.wav").write_bytes(wav(sound=sound, subtype="FLOAT"))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0][:, 0], sound)


def test_streams_of_several_rates(tmp_path):
    other = io.BytesIO()
    soundfile.write(other, SOUND, 16000, format="OGG")
    (tmp_path / "a.ogg").write_bytes(encoded("OGG") + other.getvalue())
    with pytest.raises(InputError, match=r"a\.ogg: its streams have several sample rates .*; expected one; divide it"):
        read_audio(tmp_path / "a.ogg")


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_truncated_chain(tmp_path, share):
    content = chained_ogg(SOUND[:RATE], SOUND[RATE:])
    (tmp_path / "a.ogg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\.ogg: truncated: the end of the Ogg stream is missing; copy the file"):
        read_audio(tmp_path / "a.ogg", 0.5)


def ogg_checksum(page):
    """RFC 3533, section 6: a CRC-32 without reflection, of the page with zeros in the checksum's place."""
    result = 0
    for byte in page:
        result ^= byte << 24
        for _ in range(8):
            result = (result << 1 ^ (0x104C11DB7 if result >> 31 else 0)) & 0xFFFFFFFF
    return result


def test_opus_of_an_unknown_rate_is_decoded_at_its_own(tmp_path):
    """RFC 7845: an input rate of 0 says nothing; Opus itself has 48 kHz, of which libsndfile would take 8."""
    file = io.BytesIO()
    soundfile.write(file, SOUND, 48000, format="OGG", subtype="OPUS")
    (tmp_path / "known.opus").write_bytes(file.getvalue())
    content = bytearray(file.getvalue())
    rate = content.index(b"OpusHead") + 12
    content[rate : rate + 4] = bytes(4)
    first_page = 27 + content[26] + sum(content[27 : 27 + content[26]])
    content[22:26] = bytes(4)
    content[22:26] = struct.pack("<I", ogg_checksum(content[:first_page]))
    (tmp_path / "unknown.opus").write_bytes(content)
    (known, _), (unknown, rate) = (read_audio(tmp_path / f"{name}.opus") for name in ("known", "unknown"))
    assert rate == 48000
    assert unknown.shape == known.shape
    np.testing.assert_allclose(unknown, known, atol=1e-3)


@pytest.mark.parametrize(("suffix", "subtype"), [("ogg", "VORBIS"), ("opus", "OPUS")])
def test_a_page_is_missing(tmp_path, suffix, subtype):
    soundfile.write(tmp_path / "whole", np.tile(SOUND, 10)[: 30 * 48000], 48000, format="OGG", subtype=subtype)
    pages = (tmp_path / "whole").read_bytes().split(b"OggS")
    assert len(pages) > 9
    (tmp_path / f"a.{suffix}").write_bytes(b"OggS".join(pages))
    assert len(read_audio(tmp_path / f"a.{suffix}")[0]) == 30 * 48000
    (tmp_path / f"a.{suffix}").write_bytes(b"OggS".join(pages[:8] + pages[9:]))
    with pytest.raises(InputError, match=rf"a\.{suffix}: page 7 of its Ogg stream is missing; copy the file again$"):
        read_audio(tmp_path / f"a.{suffix}", 0.5)


@pytest.mark.parametrize(("suffix", "container", "subtype"), [("opus", "OGG", "OPUS"), ("w64", "W64", None)])
def test_other_formats_of_libsndfile(tmp_path, suffix, container, subtype):
    soundfile.write(tmp_path / f"a.{suffix}", SOUND[:24000], 48000, format=container, subtype=subtype)
    assert read_audio(tmp_path / f"a.{suffix}")[0].shape == (24000, 1)


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
@pytest.mark.parametrize("name", ["a.wav", "unclosed.wav", "chained.ogg", "variable without length.mp3"])
def test_a_name_that_is_no_utf8(tmp_path, name):
    content, samples = READABLE[name]
    path = tmp_path / os.fsdecode(b"caf\xe9 " + name.encode())
    path.write_bytes(content)
    assert len(read_audio(path)[0]) == samples


@pytest.mark.parametrize("rate", [22050, 44100])
def test_a_part_of_an_mp3_begins_as_the_whole_goes_on(tmp_path, rate):
    """A frame has data in frames before it, in quiet passages in many."""
    sound = np.sin(np.arange(4 * rate) * 0.06, dtype=np.float32) * 0.3
    sound[:: rate // 7] += 0.4
    how = {"subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.9}
    soundfile.write(tmp_path / "a.mp3", sound, rate, **how)
    whole, _ = read_audio(tmp_path / "a.mp3")
    for start in (1, 2, 3):
        np.testing.assert_allclose(
            read_audio(tmp_path / "a.mp3", 0.2, start)[0][:, 0], part_of(whole, rate, start), atol=1e-4
        )


def part_of(whole, rate, start, seconds=0.2):
    return whole[start * rate :][: int(seconds * rate) + 1, 0]


def test_a_codec_that_cannot_seek(tmp_path):
    soundfile.write(tmp_path / "a.aiff", SOUND, RATE, subtype="DWVW_16")
    whole, _ = read_audio(tmp_path / "a.aiff")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.aiff", 0.2, 1)[0][:, 0], part_of(whole, RATE, 1))


@pytest.mark.parametrize("suffix", [".webm", ".m4a", ".wma"])
def test_what_ffmpeg_reads_and_is_truncated(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    for content in [content for kind, content in of_ffmpeg() if kind == suffix and b"vorbis" not in content]:
        file.write_bytes(content)
        samples, rate = read_audio(file)
        assert 1.15 < len(samples) / rate < 1.4
        assert len(read_audio(file, 0.5)[0]) >= rate // 2
        file.write_bytes(content[: len(content) * 6 // 10])
        with pytest.raises(InputError, match=rf"a\{suffix}: truncated: \d+ of \d+ bytes of audio are there; copy the"):
            read_audio(file)
        if suffix == ".m4a":
            file.write_bytes(content[:-100])
            with pytest.raises(InputError, match=r"a\.m4a: truncated: \d+ of \d+ bytes of its description are there"):
                read_audio(file)
            file.write_bytes(content + wav()[-1000:])
            with open_audio(file) as opened:
                np.testing.assert_array_equal(opened.read(), samples)
                assert opened.notes == (GOES_ON,)


def test_a_wma_file_that_does_not_say_where_its_sound_is(tmp_path):
    (content,) = [content for kind, content in of_ffmpeg() if kind == ".wma"]
    (tmp_path / "a.wma").write_bytes(content[:16] + b"\xff" * 8 + content[24:])
    with open_audio(tmp_path / "a.wma") as opened:
        assert len(opened.read()) > 1.15 * 16000
        assert opened.notes == ()


def test_a_webm_file_that_says_how_long_it_is_in_seconds_alone(tmp_path):
    (content,) = [content for kind, content in of_ffmpeg() if kind == ".webm" and b"OpusHead" in content]
    length = content.index(b"\x18\x53\x80\x67") + 4
    assert content[length] == 1  # eight bytes
    unknown = content[:length] + b"\x01" + b"\xff" * 7 + content[length + 8 :]
    (tmp_path / "a.webm").write_bytes(unknown)
    assert len(read_audio(tmp_path / "a.webm")[0]) > 1.15 * 48000
    (tmp_path / "a.webm").write_bytes(unknown[: len(content) * 6 // 10])
    with pytest.raises(InputError, match=r"a\.webm: truncated: 0\.\d+ of 1\.2\d s are there; copy the file again$"):
        read_audio(tmp_path / "a.webm")


def test_what_ffmpeg_finds_cut_while_it_decodes(tmp_path):
    (content,) = [content for kind, content in of_ffmpeg() if kind == ".aac"]
    (tmp_path / "a.aac").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(InputError, match=r"a\.aac: cut or damaged behind 0\.[67]\d s; expected a whole file; copy"):
        read_audio(tmp_path / "a.aac")


def test_tags_that_are_no_utf8(tmp_path):
    content = unclosed(SOUND)
    tags = b"LIST\x10\0\0\0INFOINAM\4\0\0\0caf\xe9"
    (tmp_path / "a.wav").write_bytes(content[:36] + tags + content[36:])
    assert len(read_audio(tmp_path / "a.wav")[0]) == 176_400


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ("AU", r"\d+ of 352800 bytes of audio"),
        ("W64", r"\d+ of 352800 bytes of audio"),
        ("RF64", r"\d+ of 352800 bytes of audio"),
        ("CAF", r"\d+ of 352804 bytes of audio"),
    ],
)
def test_the_other_containers_that_are_truncated(tmp_path, container, said):
    content = encoded(container)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "a.wav")[0]) == 176_400
    (tmp_path / "a.wav").write_bytes(content[:200_000])
    with pytest.raises(InputError, match=rf"a\.wav: truncated: .*{said} are there; copy the file again$"):
        read_audio(tmp_path / "a.wav", 0.5)


def test_many_channels_take_no_more_memory_than_they_are_worth(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(SOUND[:100, None], 1000), RATE)
    tracemalloc.start()
    assert read_audio(tmp_path / "a.wav")[0].shape == (100, 1000)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
