"""Files become the waveforms they should; what is wrong with a file is said; no result is half made or out of order."""

import os
import re
import struct
import threading
import time
from dataclasses import replace
from itertools import pairwise

import librosa
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from keras_audio_transfer.audio import loading
from keras_audio_transfer.audio.loading import (
    WaveformStore,
    crop_or_pad,
    load_waveform,
    mix_and_resample,
    ordered_map,
    read_audio,
    readable_clips,
)
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

SMALL = AudioConfig(
    sample_rate=8000, clip_seconds=0.25, n_fft=64, hop_length=32, n_mels=8, mel_f_min=0.0, mel_f_max=4000.0
)


def sine(frequency, seconds, sample_rate, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, shape).clip(-0.9, 0.9)


def clip_of(path):
    return Clip(path.name, path)


def written(path, samples, sample_rate=16000, **how):
    soundfile.write(path, samples, sample_rate, **how)
    return path


# ---- formats


@pytest.mark.parametrize(
    ("name", "how", "tolerance"),
    [
        ("a.wav", {}, 2**-14),
        ("a.wav", {"subtype": "PCM_U8"}, 2**-6),
        ("a.wav", {"subtype": "PCM_24"}, 2**-22),
        ("a.wav", {"subtype": "PCM_32"}, 1e-7),
        ("a.wav", {"subtype": "FLOAT"}, 1e-7),
        ("a.wav", {"subtype": "DOUBLE"}, 1e-7),
        ("a.wav", {"subtype": "ULAW"}, 0.02),
        ("A.WAV", {"format": "WAV"}, 2**-14),
        ("a.flac", {}, 2**-14),
        ("a.flac", {"subtype": "PCM_24"}, 2**-22),
        ("a.ogg", {}, 0.02),
        ("a.mp3", {}, 0.03),
        ("a.aiff", {}, 2**-14),
        ("a.aif", {"format": "AIFF", "subtype": "PCM_24"}, 2**-22),
        ("a.au", {}, 2**-14),
    ],
)
def test_a_sine_survives_every_format(tmp_path, name, how, tolerance):
    tone = sine(440, 1.0, 16000)
    samples, sample_rate = read_audio(written(tmp_path / name, tone, **how))
    assert sample_rate == 16000
    assert samples.dtype == np.float32
    assert samples.shape == (16000, 1)
    np.testing.assert_allclose(samples[:, 0], tone, rtol=0, atol=tolerance)


def test_gsm_telephone_audio_is_decoded(tmp_path):
    # libsndfile cannot seek in it.
    tone = sine(440, 0.5, 8000)
    samples, _ = read_audio(written(tmp_path / "a.wav", tone, 8000, subtype="GSM610"))
    assert 0 <= len(samples) - len(tone) <= 2 * 320  # whole blocks
    assert np.corrcoef(samples[400 : len(tone), 0], tone[400:])[0, 1] > 0.95


def test_eight_channels(tmp_path):
    channels = noise((1000, 8))
    path = written(tmp_path / "a.wav", channels, subtype="FLOAT")
    samples, _ = read_audio(path)
    np.testing.assert_allclose(samples, channels, rtol=0, atol=1e-7)
    np.testing.assert_allclose(load_waveform(clip_of(path), 16000), channels.mean(axis=1), rtol=0, atol=1e-7)


def test_opposite_channels_cancel_in_the_mix(tmp_path):
    tone = sine(440, 0.1, 16000)
    path = written(tmp_path / "a.wav", np.stack([tone, -tone], axis=1), subtype="FLOAT")
    assert not load_waveform(clip_of(path), 16000).any()


def test_192_khz(tmp_path):
    path = written(tmp_path / "a.wav", sine(1000, 0.5, 192000), 192000, subtype="PCM_24")
    waveform = load_waveform(clip_of(path), 16000)
    np.testing.assert_allclose(waveform[800:7200], sine(1000, 0.5, 16000)[800:7200], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["птица 鳥 🐦.wav", "κύμα.flac", "été – ' %s.ogg"])
def test_names_in_other_alphabets(tmp_path, name):
    samples, _ = read_audio(written(tmp_path / name, sine(440, 0.1, 16000)))
    assert len(samples) == 1600


def test_silence_is_a_sound(tmp_path):
    path = written(tmp_path / "a.wav", np.zeros(4000))
    waveform = load_waveform(clip_of(path), 12000)
    assert waveform.shape == (3000,)
    assert not waveform.any()


def test_one_sample_is_enough(tmp_path):
    path = written(tmp_path / "a.wav", np.array([0.5]), 192000, subtype="FLOAT")
    np.testing.assert_array_equal(load_waveform(clip_of(path), 12000), np.float32([0.5]))


def test_full_scale_is_one(tmp_path):
    samples, _ = read_audio(written(tmp_path / "a.wav", np.array([-1.0, 0.0, 0.5] * 100), subtype="PCM_16"))
    np.testing.assert_array_equal(samples[:3, 0], np.float32([-1.0, 0.0, 0.5]))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000], ids=hex)
def test_wav_files_from_a_pipe_are_not_truncated(tmp_path, size):
    # Who writes to a pipe does not know the length: ffmpeg leaves 2**32 - 1, SoX 0x7FFFF000.
    path = written(tmp_path / "a.wav", sine(440, 0.25, 16000))
    content = path.read_bytes()
    at = content.index(b"data") + 4
    riff = struct.pack("<I", min(size + 36, 0xFFFFFFFF))
    path.write_bytes(content[:4] + riff + content[8:at] + struct.pack("<I", size) + content[at + 4 :])
    samples, _ = read_audio(path)
    assert len(samples) == 4000


def test_bytes_behind_the_audio_do_no_harm(tmp_path):
    path = written(tmp_path / "a.wav", sine(440, 0.25, 16000))
    path.write_bytes(path.read_bytes() + b"written by something else")
    assert len(read_audio(path)[0]) == 4000


def test_synthesised_clips_need_no_file():
    tone = sine(440, 0.5, 16000).astype(np.float32)
    waveform = load_waveform(Clip("tone", None, synthesise=lambda: (tone, 16000)), 8000)
    np.testing.assert_array_equal(waveform, mix_and_resample(tone, 16000, 8000))


# ---- resampling

RATES = [(44100, 16000), (44100, 12000), (48000, 16000), (22050, 12000), (8000, 16000), (192000, 12000)]


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_resampling_equals_librosa_and_soxr(from_rate, to_rate):
    stereo = noise((from_rate // 2, 2)).astype(np.float32)
    got = mix_and_resample(stereo, from_rate, to_rate)
    assert got.dtype == np.float32
    expected = librosa.resample(stereo.mean(axis=1), orig_sr=from_rate, target_sr=to_rate, res_type="soxr_hq")
    n = min(len(got), len(expected))  # librosa rounds the length up
    assert abs(len(got) - to_rate / 2) <= 1
    np.testing.assert_allclose(got[:n], expected[:n], rtol=0, atol=1e-6)
    directly = soxr.resample(stereo.astype(np.float64).mean(axis=1), from_rate, to_rate, quality="HQ")
    np.testing.assert_allclose(got, directly, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_a_resampled_sine_is_the_same_sine(from_rate, to_rate):
    got = mix_and_resample(sine(1000, 1.0, from_rate).astype(np.float32), from_rate, to_rate)
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(got[middle], sine(1000, 1.0, to_rate)[: len(got)][middle], rtol=0, atol=1e-5)


def test_what_the_new_rate_cannot_hold_is_gone():
    got = mix_and_resample(sine(7000, 1.0, 44100).astype(np.float32), 44100, 12000)
    assert np.abs(got[1200:-1200]).max() < 1e-4


def test_equal_rates_change_nothing():
    mono = noise(1000).astype(np.float32)
    np.testing.assert_array_equal(mix_and_resample(mono, 16000, 16000), mono)


@pytest.mark.parametrize("to_rate", [12000, 16000])
@pytest.mark.parametrize(
    ("name", "from_rate"), [("a.wav", 44100), ("a.wav", 8000), ("a.flac", 96000), ("a.ogg", 44100)]
)
def test_an_excerpt_is_the_start_of_the_whole(tmp_path, name, from_rate, to_rate):
    clip = clip_of(written(tmp_path / name, noise((2 * from_rate, 2)), from_rate))
    whole, excerpt = load_waveform(clip, to_rate), load_waveform(clip, to_rate, seconds=0.5)
    n_samples = to_rate // 2
    assert n_samples <= len(excerpt) < len(whole) / 2
    np.testing.assert_allclose(excerpt[:n_samples], whole[:n_samples], rtol=0, atol=1e-6)


def test_an_excerpt_of_a_shorter_clip_is_all_of_it(tmp_path):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000)))
    np.testing.assert_array_equal(load_waveform(clip, 12000, seconds=3.0), load_waveform(clip, 12000))


# ---- parts of files


@pytest.mark.parametrize(
    ("name", "from_rate", "to_rate"),
    [
        ("a.wav", 44100, 12000),
        ("a.wav", 8000, 12000),
        ("a.wav", 16000, 16000),
        ("a.flac", 11025, 16000),
        ("a.ogg", 44100, 12000),
        ("a.mp3", 22050, 16000),
        ("a.aiff", 44056, 12000),
        ("a.au", 22050, 12000),
    ],
)
def test_a_part_of_a_file_is_a_slice_of_the_whole(tmp_path, name, from_rate, to_rate):
    path = written(tmp_path / name, noise((6 * from_rate, 2)), from_rate)
    whole = load_waveform(clip_of(path), to_rate)
    for start, duration in ((0.0, 0.5), (0.05, 1.0), (1.0, 0.25), (2.345678, 1.9), (3.99, 2.005), (5.5, None)):
        clip = Clip("part", path, start_seconds=start, duration_seconds=duration)
        first, end = round(start * to_rate), None if duration is None else round((start + duration) * to_rate)
        part = load_waveform(clip, to_rate)
        np.testing.assert_allclose(part, whole[first:end], rtol=0, atol=1e-6, err_msg=f"{start} {duration}")
        beginning = load_waveform(clip, to_rate, seconds=0.1)
        n_samples = to_rate // 10
        np.testing.assert_allclose(beginning[:n_samples], part[:n_samples], rtol=0, atol=1e-6)


def test_parts_that_meet_leave_nothing_out_and_nothing_twice(tmp_path):
    path = written(tmp_path / "a.wav", noise(4 * 44100), 44100)
    borders = [0.0, 0.123456, 1.00004, 2.5, 3.9999, None]
    parts = [
        load_waveform(Clip("part", path, start_seconds=start, duration_seconds=end and end - start), 12000)
        for start, end in pairwise(borders)
    ]
    np.testing.assert_allclose(np.concatenate(parts), load_waveform(clip_of(path), 12000), rtol=0, atol=1e-6)


def test_a_part_that_ends_after_its_file_ends_with_it(tmp_path):
    path = written(tmp_path / "a.wav", noise(16000))
    part = load_waveform(Clip("part", path, start_seconds=0.75, duration_seconds=9.0), 16000)
    np.testing.assert_array_equal(part, load_waveform(clip_of(path), 16000)[12000:])


def test_a_part_shorter_than_a_sample_is_a_sample(tmp_path):
    path = written(tmp_path / "a.wav", noise(16000))
    assert len(load_waveform(Clip("part", path, start_seconds=0.5, duration_seconds=1e-6), 12000)) == 1


def test_a_part_of_a_file_that_cannot_be_searched(tmp_path):
    path = written(tmp_path / "a.wav", sine(440, 4.0, 8000), 8000, subtype="GSM610")
    part = load_waveform(Clip("part", path, start_seconds=2.5, duration_seconds=1.0), 8000)
    np.testing.assert_array_equal(part, load_waveform(clip_of(path), 8000)[20000:28000])


def test_a_part_of_a_synthesised_sound():
    ramp = np.arange(1000, dtype=np.float32)
    clip = Clip("part", None, synthesise=lambda: (ramp, 1000), start_seconds=0.25, duration_seconds=0.5)
    np.testing.assert_array_equal(load_waveform(clip, 1000), ramp[250:750])


@pytest.mark.parametrize(("start", "said"), [(1.0, "1"), (1.05, "1.05"), (1.3, "1"), (20.0, "19")])
def test_a_part_that_starts_after_its_file(tmp_path, start, said):
    path = written(tmp_path / "a.wav", noise(16000))
    clip = Clip(f"{path}#1", path, start_seconds=start, duration_seconds=1.0)
    with pytest.raises(InputError, match=rf"a\.wav.*: the file is over before {said} s; correct the start"):
        load_waveform(clip, 12000)


@pytest.mark.parametrize("cache", [None, "memory", "folder"])
def test_stores_tell_the_parts_of_a_file_apart(tmp_path, cache):
    path = written(tmp_path / "a.wav", noise(32000))
    parts = [Clip("a", path)] + [
        Clip(f"{start} {duration}", path, start_seconds=start, duration_seconds=duration)
        for start, duration in ((0.0, 0.5), (0.5, 0.5), (0.5, 0.7), (0.5, None))
    ]
    store = WaveformStore(SMALL, whole_clips=True, cache=tmp_path / "cache" if cache == "folder" else cache)
    for _ in range(2):
        for part in parts:
            np.testing.assert_array_equal(store.load(part), load_waveform(part, SMALL.sample_rate))


# ---- bad files


def expect_error(path, reason):
    return pytest.raises(InputError, match=f"^{re.escape(str(path))}: {reason}")


def test_missing_file(tmp_path):
    path = tmp_path / "gone.wav"
    with expect_error(path, "does not exist; expected an audio file; check the path$"):
        read_audio(path)


def test_folder_instead_of_a_file(tmp_path):
    with expect_error(tmp_path, "is a folder; expected an audio file; check the path$"):
        read_audio(tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_empty_file(tmp_path, name):
    path = tmp_path / name
    path.touch()
    with expect_error(path, r"empty file \(0 bytes\); expected \.wav, \.flac, \.ogg, \.mp3"):
        read_audio(path)


@pytest.mark.parametrize(
    "content", [b"the quick brown fox\n" * 100, bytes(5000), b"\x89PNG\r\n" + bytes(range(256)) * 9]
)
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_not_audio(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with expect_error(
        path, r"cannot be decoded \([Ff]ormat not recognised\); expected .wav, .*; convert or remove it$"
    ):
        read_audio(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("sound", [sine(440, 2.0, 44100), noise((88200, 2))], ids=["sine", "noise"])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_truncated_file(tmp_path, name, sound, share):
    path = written(tmp_path / name, sound, 44100)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with expect_error(path, r"(truncated: .*; copy the file again$|cannot be decoded \(.*\))"):
        read_audio(path)


def test_a_truncated_wav_says_how_much_is_left(tmp_path):
    path = written(tmp_path / "a.wav", sine(440, 0.25, 16000))
    path.write_bytes(path.read_bytes()[: 44 + 3000])
    with expect_error(path, "truncated: 3000 of 8000 bytes of audio are there; copy the file again$"):
        read_audio(path)


def test_a_flac_with_a_hole(tmp_path):
    path = written(tmp_path / "a.flac", noise(44100))
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 500] = bytes(500)
    path.write_bytes(content)
    with expect_error(path, r"(cannot be decoded|truncated)"):
        read_audio(path)


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.aiff"])
def test_zero_samples(tmp_path, name):
    path = written(tmp_path / name, np.zeros((0, 1)))
    with expect_error(path, "holds no samples; expected at least one; remove it, copy it again or repair its header$"):
        read_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, value):
    samples = noise((1000, 2))
    samples[700, 1] = value
    path = written(tmp_path / "a.wav", samples, subtype="FLOAT")
    with expect_error(path, "holds NaN or infinite samples; expected finite ones; repair or remove it$"):
        read_audio(path)


# ---- length

WAVEFORMS = st.integers(1, 60).map(lambda n: np.arange(1, n + 1, dtype=np.float32))


@given(waveform=WAVEFORMS, n_samples=st.integers(1, 200))
def test_short_clips_repeat_then_cut(waveform, n_samples):
    fitted = crop_or_pad(waveform, n_samples, "repeat", "start")
    np.testing.assert_array_equal(fitted, waveform[np.arange(n_samples) % len(waveform)])


@given(waveform=WAVEFORMS, n_samples=st.integers(1, 200))
def test_short_clips_zero_pad(waveform, n_samples):
    fitted = crop_or_pad(waveform, n_samples, "zero_pad", "start")
    kept = min(len(waveform), n_samples)
    np.testing.assert_array_equal(fitted[:kept], waveform[:kept])
    assert fitted.shape == (n_samples,)
    assert not fitted[kept:].any()


@given(
    waveform=WAVEFORMS,
    n_samples=st.integers(1, 200),
    short_clips=st.sampled_from(["repeat", "zero_pad"]),
    long_clips=st.sampled_from(["start", "centre"]),
    crop=st.none() | st.floats(0, 1),
)
def test_length_is_exact_and_a_cut_is_one_piece(waveform, n_samples, short_clips, long_clips, crop):
    fitted = crop_or_pad(waveform, n_samples, short_clips, long_clips, crop)
    assert fitted.shape == (n_samples,)
    assert fitted.dtype == np.float32
    if n_samples <= len(waveform):
        start = int(fitted[0]) - 1
        np.testing.assert_array_equal(fitted, waveform[start : start + n_samples])


@pytest.mark.parametrize(
    ("long_clips", "crop", "start"),
    [
        ("start", None, 0),
        ("centre", None, 3),
        ("start", 0.0, 0),
        ("start", 0.5, 3),
        ("start", 1.0, 6),
        ("centre", 0.0, 0),
        ("centre", 1.0, 6),
    ],
)
def test_which_part_of_a_long_clip_is_kept(long_clips, crop, start):
    fitted = crop_or_pad(np.arange(10, dtype=np.float32), 4, "repeat", long_clips, crop)
    np.testing.assert_array_equal(fitted, np.arange(start, start + 4))


# ---- the store


@pytest.fixture
def counted(monkeypatch):
    """The clips that were decoded, in order."""
    decoded = []
    original = loading.load_sound

    def counting(clip, *arguments):
        decoded.append(clip.clip_id)
        return original(clip, *arguments)

    monkeypatch.setattr(loading, "load_sound", counting)
    return decoded


def test_store_without_cache_decodes_each_time(tmp_path, counted):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000)))
    store = WaveformStore(SMALL)
    np.testing.assert_array_equal(store.load(clip), store.load(clip))
    assert len(counted) == 2


def test_store_in_memory_decodes_once(tmp_path, counted):
    clips = [clip_of(written(tmp_path / f"{i}.wav", noise(8000, seed=i))) for i in range(2)]
    store = WaveformStore(SMALL, cache="memory")
    first = [store.load(clip) for clip in clips]
    again = [store.load(clip) for clip in clips]
    assert counted == ["0.wav", "1.wav"]
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert not np.array_equal(*first)


@pytest.mark.parametrize("whole_clips", [False, True])
def test_every_cache_gives_identical_arrays(tmp_path, whole_clips):
    clip = clip_of(written(tmp_path / "a.flac", noise((44100, 2)), 44100))
    plain = WaveformStore(SMALL, whole_clips).load(clip)
    for cache in ("memory", tmp_path / "cache", str(tmp_path / "cache")):
        store = WaveformStore(SMALL, whole_clips, cache)
        for _ in range(2):
            cached = store.load(clip)
            assert cached.dtype == plain.dtype
            np.testing.assert_array_equal(cached, plain)


def test_store_keeps_only_what_the_front_end_uses(tmp_path):
    clip = clip_of(written(tmp_path / "a.wav", noise(32000)))
    whole = load_waveform(clip, 8000)
    excerpt = WaveformStore(SMALL).load(clip)
    assert excerpt.shape == (SMALL.n_samples,)
    assert excerpt.base is None  # not a window on a longer array
    np.testing.assert_allclose(excerpt, whole[: SMALL.n_samples], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(WaveformStore(SMALL, whole_clips=True).load(clip), whole)
    np.testing.assert_array_equal(WaveformStore(replace(SMALL, long_clips="centre")).load(clip), whole)


def test_store_in_a_folder_decodes_once_for_all_processes(tmp_path, counted):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000)))
    folder = tmp_path / "deep" / "cache"
    WaveformStore(SMALL, cache=folder).load(clip)
    WaveformStore(SMALL, cache=folder).load(clip)
    assert counted == ["a.wav"]
    assert sorted(path.suffix for path in folder.iterdir()) == [".npy", ".txt"]  # the sound, and that it was cut


def test_store_in_a_folder_notices_a_changed_file(tmp_path):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000, seed=1)))
    store = WaveformStore(SMALL, cache=tmp_path / "cache")
    before = store.load(clip)
    written(clip.path, noise(8000, seed=2))
    now = clip.path.stat().st_mtime_ns + 5_000_000_000  # clocks of file systems can be coarse
    os.utime(clip.path, ns=(now, now))
    after = store.load(clip)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, WaveformStore(SMALL).load(clip))


def test_store_in_a_folder_does_not_mix_up_front_ends(tmp_path):
    clip = clip_of(written(tmp_path / "a.wav", noise(32000)))
    for config in (SMALL, replace(SMALL, clip_seconds=0.5), replace(SMALL, sample_rate=16000)):
        for whole_clips in (False, True):
            cached = WaveformStore(config, whole_clips, tmp_path / "cache").load(clip)
            np.testing.assert_array_equal(cached, WaveformStore(config, whole_clips).load(clip))


def test_store_leaves_nothing_of_what_could_not_be_written(tmp_path, monkeypatch):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000)))
    store = WaveformStore(SMALL, cache=tmp_path / "cache")

    def disk_full(file, array):
        file.write(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", disk_full)
        with pytest.raises(OSError, match="No space left"):
            store.load(clip)
    assert not [*(tmp_path / "cache").iterdir()]
    np.testing.assert_array_equal(store.load(clip), WaveformStore(SMALL).load(clip))


def test_store_leaves_nothing_of_a_bad_file(tmp_path):
    clip = clip_of(tmp_path / "a.wav")
    clip.path.write_text("not audio")
    with expect_error(clip.path, "cannot be decoded"):
        WaveformStore(SMALL, cache=tmp_path / "cache").load(clip)
    assert not [*(tmp_path / "cache").glob("*")]


def test_store_in_a_folder_takes_missing_files_and_synthesised_sounds(tmp_path):
    store = WaveformStore(SMALL, cache=tmp_path / "cache")
    with expect_error(tmp_path / "gone.wav", "does not exist"):
        store.load(clip_of(tmp_path / "gone.wav"))
    tone = sine(440, 0.25, 8000).astype(np.float32)
    np.testing.assert_array_equal(store.load(Clip("tone", None, synthesise=lambda: (tone, 8000))), tone)


def test_store_folder_that_is_a_file(tmp_path):
    clip = clip_of(written(tmp_path / "a.wav", noise(8000)))
    with pytest.raises(InputError, match=r"a\.wav"):
        WaveformStore(SMALL, cache=clip.path).load(clip)


# ---- ordered_map


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_in_order_keeps_the_order(workers):
    def slow_when_even(i):
        time.sleep(0.004 if i % 2 == 0 else 0)
        return i * i

    assert [*ordered_map(slow_when_even, range(40), workers)] == [i * i for i in range(40)]


def test_in_order_of_nothing():
    assert [*ordered_map(str, [])] == []


def test_in_order_works_on_several_at_a_time():
    both = threading.Barrier(2)
    assert [*ordered_map(lambda i: both.wait(timeout=20) >= 0, range(6), workers=2)] == [True] * 6


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_in_order_does_not_run_ahead_of_a_slow_consumer(workers):
    taken, started = [], []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = ordered_map(lambda i: started.append(i) or i, items(), workers)
    assert taken == []  # nothing before it is asked for
    for consumed, result in enumerate(results, 1):
        assert result == consumed - 1
        time.sleep(0.002)
        assert max(len(taken), len(started)) <= consumed + 2 * workers
    assert taken == [*range(50)]


def test_in_order_passes_exceptions_on():
    started = []

    def fail_at_five(i):
        started.append(i)
        if i == 5:
            raise InputError("five: is not allowed")
        return i

    results = ordered_map(fail_at_five, range(1000))
    assert [next(results) for _ in range(5)] == [*range(5)]
    with pytest.raises(InputError, match=r"^five: is not allowed$"):
        next(results)
    assert len(started) <= 10
    assert [*results] == []


def test_in_order_ends_when_nobody_listens():
    started, released = [], threading.Event()

    def work(i):
        started.append(i)
        assert i == 0 or released.wait(timeout=20)

    results = ordered_map(work, range(1000), workers=1)
    next(results)
    threading.Timer(0.2, released.set).start()
    results.close()  # waits for what is running, not for what is queued
    assert max(started) <= 1


# ---- readable_clips


@pytest.mark.parametrize(
    ("of_clip", "seconds", "recorded"),
    [({}, None, 1.5), ({}, 0.5, 0.5), ({"start_seconds": 1.0}, None, 0.5), ({"duration_seconds": 0.25}, 0.5, 0.25)],
)
def test_how_a_clip_was_recorded(tmp_path, of_clip, seconds, recorded):
    file = Clip("a", written(tmp_path / "a.wav", noise((6000, 2)), 4000), **of_clip)
    assert loading.load_sound(file, 8000, seconds).recorded == (4000, 2, recorded)
    computed = Clip("b", None, synthesise=lambda: (noise(6000), 4000), **of_clip)
    assert loading.load_sound(computed, 8000, seconds).recorded == (4000, 1, recorded)
    ((clip,), _, _) = readable_clips([file], WaveformStore(SMALL, whole_clips=True))
    assert clip.recorded == loading.load_sound(file, 8000).recorded


def test_readable_clips_sorts_good_from_bad(tmp_path):
    good = [clip_of(written(tmp_path / f"{i}.wav", noise(800 * (i + 1)), 8000)) for i in range(3)]
    (tmp_path / "bad.wav").write_text("not audio")
    bad, gone = clip_of(tmp_path / "bad.wav"), clip_of(tmp_path / "gone.wav")
    seen = []

    def progress(results):
        for result in results:
            seen.append(result)
            yield result

    store = WaveformStore(replace(SMALL, clip_seconds=9.0), cache="memory")
    readable, failures, longest = readable_clips([good[2], bad, good[0], gone, good[1]], store, progress)
    assert readable == [good[2], good[0], good[1]]
    assert [clip_id for clip_id, _ in failures] == ["bad.wav", "gone.wav"]
    assert failures[0][1].startswith(f"{bad.path}: cannot be decoded")
    assert failures[1][1] == f"{gone.path}: does not exist; expected an audio file; check the path"
    assert longest == 2400
    assert len(seen) == 5
    assert store.in_memory.keys() == {clip.clip_id for clip in good}


def test_readable_clips_of_nothing_readable(tmp_path):
    gone = clip_of(tmp_path / "gone.wav")
    readable, failures, longest = readable_clips([gone], WaveformStore(SMALL))
    assert (readable, longest) == ([], 0)
    assert [clip_id for clip_id, _ in failures] == ["gone.wav"]
    assert readable_clips([], WaveformStore(SMALL)) == ([], [], 0)
