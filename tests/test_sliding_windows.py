"""Windows over recordings read in blocks are those of the whole recording."""

import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from keras_audio_transfer.audio import files as audio_files
from keras_audio_transfer.audio.loading import load_waveform
from keras_audio_transfer.audio.sliding_windows import SlidingWindows, check_hop, windows
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

CONFIG = AudioConfig(16000, 0.5, n_fft=512, hop_length=256, n_mels=64, mel_f_min=0.0, mel_f_max=8000.0)
HOP = 0.37


def windows_of_the_whole(clip, config=CONFIG):
    whole = load_waveform(clip, config.sample_rate)
    window = config.n_samples
    around = np.pad(np.resize(whole, max(len(whole), window)), (window // 2, window - window // 2 - 1), mode="reflect")
    numbers = range(int(np.ceil(len(whole) / (HOP * config.sample_rate))))
    starts = [min(round(i * HOP * config.sample_rate), len(whole) - 1) for i in numbers]
    return [(i * HOP, around[start : start + window]) for i, start in zip(numbers, starts, strict=True)]


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.0, 5.95, 7.123])
def test_blocks_do_not_show(tmp_path, monkeypatch, sample_rate, seconds):
    monkeypatch.setattr(audio_files, "BLOCK", 1000)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * sample_rate), 2))
    soundfile.write(tmp_path / "noise.wav", samples, sample_rate, subtype="FLOAT")
    for clip in (
        Clip("noise", tmp_path / "noise.wav"),
        Clip("part", tmp_path / "noise.wav", start_seconds=0.03, duration_seconds=3.3),
    ):
        expected = windows_of_the_whole(clip)
        found = [*windows(clip, CONFIG, HOP)]
        assert [time for time, _ in found] == [time for time, _ in expected]
        for (_, window), (_, of_the_whole) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(window, of_the_whole)


@pytest.mark.parametrize(
    ("rate", "hop", "n_samples", "n_windows"),
    [
        (16000, 2.01, 160800, 5),  # 10.05 s: the multiple that is the end comes out below it
        (12000, 0.29, 10 * 3480, 10),
        (12000, 0.58, 10 * 6960, 10),
        (16000, 1 / 3, 16000, 3),
        (16000, 0.3001, 14405, 4),  # the last window's time rounds to the end
        (16000, 0.51, 8161, 2),
    ],
)
def test_windows_are_whole_up_to_the_end(monkeypatch, tmp_path, rate, hop, n_samples, n_windows):
    monkeypatch.setattr(audio_files, "BLOCK", 1000)
    config = replace(CONFIG, sample_rate=rate, mel_f_max=6000.0)
    soundfile.write(tmp_path / "ramp.wav", np.linspace(0, 0.5, n_samples), rate, subtype="FLOAT")
    found = [*windows(Clip("ramp", tmp_path / "ramp.wav"), config, hop)]
    assert len(found) == n_windows
    for number, (seconds, window) in enumerate(found):
        assert seconds == number * hop
        assert len(window) == config.n_samples
        sample = min(round(number * hop * rate), n_samples - 1)
        assert window[config.n_samples // 2] == pytest.approx(0.5 * sample / (n_samples - 1), abs=1e-6)


def test_a_synthesised_sound():
    clip = Clip("ramp", None, synthesise=lambda: (np.linspace(0, 1, 20000, dtype=np.float32), 16000))
    found, expected = [*windows(clip, CONFIG, HOP)], windows_of_the_whole(clip)
    np.testing.assert_array_equal(np.stack([w for _, w in found]), np.stack([w for _, w in expected]))


def test_no_more_than_a_block_is_read_at_once(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 200), 16000)
    held, push = [], SlidingWindows.push

    def note_and_push(self, waveform):
        held.append(len(self._buffer) + len(waveform))
        return push(self, waveform)

    monkeypatch.setattr(SlidingWindows, "push", note_and_push)
    assert len([*windows(Clip("long", tmp_path / "long.wav"), CONFIG, 1.0)]) == 200
    assert len(held) > 3
    assert max(held) <= audio_files.BLOCK + 2 * CONFIG.n_samples


@pytest.mark.parametrize("content", [b"", b"no sound at all"])
def test_what_is_no_audio_is_named(tmp_path, content):
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.wav: (empty file|cannot be decoded)"):
        next(windows(Clip("bad", tmp_path / "bad.wav"), CONFIG, 1.0))
    with pytest.raises(InputError, match=r"gone.wav: does not exist"):
        next(windows(Clip("gone", tmp_path / "gone.wav"), CONFIG, 1.0))


@pytest.mark.parametrize(
    "hop", [0.0, -1.0, 0.0009, 3601, 1.7e308, float("nan"), float("inf"), "1", np.timedelta64(1, "s")]
)
def test_hops_that_cannot_be(hop):
    what = re.escape(f"hop_seconds: {hop!r} is not allowed; expected seconds from 0.001 to 3600")
    with pytest.raises(InputError, match=f"^{what}$"):
        check_hop(hop)
