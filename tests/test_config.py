"""Sizes follow from the settings; every rule has a message; what `to_dict` writes, `from_dict` reads."""

import json
import math
import re
from dataclasses import MISSING, FrozenInstanceError, asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_audio_transfer.config import PRESETS, AudioConfig, fitted_pools, preset
from keras_audio_transfer.errors import InputError

CHOI = PRESETS["choi2017"]

DECIBEL_MAXIMA = "one of clip, batch, patch; the last of patches that do not overlap"
# setting, values that change, what the message expects
BROKEN_RULES = [
    ("sample_rate", {"sample_rate": 0}, "1 to 768000 Hz"),
    ("sample_rate", {"sample_rate": -12000}, "1 to 768000 Hz"),
    ("clip_seconds", {"clip_seconds": 0.0}, "one sample to an hour"),
    ("clip_seconds", {"clip_seconds": -1.0}, "one sample to an hour"),
    ("clip_seconds", {"clip_seconds": 0.99 / 12000}, "one sample to an hour"),
    ("clip_seconds", {"clip_seconds": math.nan}, "one sample to an hour"),
    ("clip_seconds", {"clip_seconds": math.inf}, "one sample to an hour"),
    ("clip_seconds", {"clip_seconds": 3600.1}, "one sample to an hour"),
    ("n_fft", {"n_fft": 511}, "an even number of samples, at least 2"),
    ("n_fft", {"n_fft": 0}, "an even number of samples, at least 2"),
    ("hop_length", {"hop_length": 0}, "1 to n_fft (512) samples"),
    ("hop_length", {"hop_length": 513}, "1 to n_fft (512) samples"),
    ("n_mels", {"n_mels": 0}, "at least 1"),
    ("mel_f_min", {"mel_f_min": -1.0}, "0 Hz to below mel_f_max (6000.0)"),
    ("mel_f_min", {"mel_f_min": 6000.0}, "0 Hz to below mel_f_max (6000.0)"),
    ("mel_f_max", {"mel_f_max": 6000.1}, "at most sample_rate / 2 (6000.0)"),
    ("decibel_floor", {"decibel_floor": 0.0}, "a power above 0"),
    ("decibel_range", {"decibel_range": 0.0}, "a number of decibels above 0"),
    (
        "decibel_maximum",
        {"decibel_maximum": "song"},
        DECIBEL_MAXIMA,
    ),
    (
        "decibel_maximum",
        {"decibel_maximum": "patch"},
        DECIBEL_MAXIMA,
    ),
    (
        "frame_padding",
        {"frame_padding": "left"},
        "one of centre, theano_half, tensorflow_same, centre_reflect, none, tensorflow_valid",
    ),
    ("short_clips", {"short_clips": "loop"}, "one of repeat, zero_pad"),
    ("long_clips", {"long_clips": "end"}, "one of start, centre, whole"),
]


def test_sizes_of_choi2017():
    assert CHOI.n_samples == 348000
    assert CHOI.n_frames == 1360
    assert CHOI.n_frequencies == 257
    assert CHOI.mel_matrix_shape == (257, 96)
    assert CHOI.hop_seconds == 256 / 12000


def test_sizes_of_short16k():
    config = preset("short16k")
    assert (config.n_samples, config.n_frames, config.mel_matrix_shape) == (64000, 251, (257, 64))
    assert config.hop_seconds == 0.016


@pytest.mark.parametrize(("n_samples", "n_frames"), [(0, 1), (1, 1), (255, 1), (256, 2), (511, 2), (512, 3)])
def test_frames_are_centred(n_samples, n_frames):
    assert CHOI.frames_of(n_samples) == n_frames


def test_n_samples_is_rounded_not_cut():
    # 0.29 * 100 is 28.999999999999996
    config = replace(CHOI, sample_rate=100, mel_f_max=50.0, clip_seconds=0.29)
    assert config.n_samples == 29


def test_with_clip_seconds():
    assert CHOI.with_clip_seconds(None) is CHOI
    shorter = CHOI.with_clip_seconds(1.5)
    assert shorter.n_samples == 18000
    assert replace(shorter, clip_seconds=29.0) == CHOI
    assert CHOI.n_samples == 348000
    assert CHOI.with_clip_seconds(512 / 12000).n_samples == 512
    with pytest.raises(InputError, match=r"^clip_seconds: 0.04 is shorter than a frame; expected at least 0.042"):
        CHOI.with_clip_seconds(0.04)


def test_config_is_frozen():
    with pytest.raises(FrozenInstanceError, match="sample_rate"):
        CHOI.sample_rate = 16000


@pytest.mark.parametrize(("name", "changes", "rule"), BROKEN_RULES)
def test_a_broken_rule_names_setting_value_and_rule(name, changes, rule):
    message = f"{name}: {changes[name]!r} is not allowed; expected {rule}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        replace(CHOI, **changes)


def test_every_setting_has_its_rule_tested():
    """Those of published networks in test_published_front_ends.py."""
    settings = [field.name for field in fields(AudioConfig)]
    assert {name for name, _, _ in BROKEN_RULES} == {*settings[: settings.index("win_length")]} - {"standardise"}


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_seconds": 1 / 12000},
        {"clip_seconds": 3600.0},
        {"n_fft": 2, "hop_length": 2},
        {"hop_length": 512},
        {"hop_length": 1},
        {"n_mels": 1},
        {"mel_f_min": 5999.9},
        {"mel_f_max": 6000.0},
        {"short_clips": "zero_pad", "long_clips": "centre"},
    ],
)
def test_limits_themselves_are_allowed(changes):
    config = replace(CHOI, **changes)
    assert {name: getattr(config, name) for name in changes} == changes


@pytest.mark.parametrize("name", PRESETS)
def test_dict_survives_json(name):
    config = replace(PRESETS[name], short_clips="zero_pad", decibel_range=60.0, clip_seconds=0.7)
    assert AudioConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_dict_says_the_derived_sizes_too():
    values = CHOI.to_dict()
    settings = asdict(CHOI)
    derived = {"n_samples": 348000, "n_frames": 1360, "mel_matrix_shape": [257, 96], "hop_seconds": 256 / 12000}
    assert values == {**settings, **derived}
    assert [*values] == [*settings, *derived]


def test_derived_sizes_in_a_dict_do_not_count():
    assert AudioConfig.from_dict({**CHOI.to_dict(), "n_samples": 1, "n_frames": 1}) == CHOI


@pytest.mark.parametrize("name", [field.name for field in fields(AudioConfig) if field.default is MISSING])
def test_a_setting_missing_from_a_dict(name):
    values = {key: value for key, value in CHOI.to_dict().items() if key != name}
    with pytest.raises(InputError, match=f"^audio config: {name} missing; expected sample_rate, clip_seconds"):
        AudioConfig.from_dict(values)


@pytest.mark.parametrize("name", [field.name for field in fields(AudioConfig) if field.default is not MISSING])
def test_a_setting_with_a_default_may_be_missing(name):
    values = {key: value for key, value in CHOI.to_dict().items() if key != name}
    assert AudioConfig.from_dict(values) == CHOI


def test_a_dict_has_to_keep_the_rules():
    with pytest.raises(InputError, match=r"^n_mels: 0 is not allowed"):
        AudioConfig.from_dict({**CHOI.to_dict(), "n_mels": 0})


def test_preset_by_name():
    assert preset("choi2017") is CHOI


def test_unknown_preset():
    with pytest.raises(
        InputError,
        match=r"^preset: 'choi' is unknown; did you mean choi2017\? choose from .*, light16k$",
    ):
        preset("choi")


POOLS = st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple)


@given(pools=POOLS, size=st.integers(1, 3000))
def test_fitted_pools_fit_and_change_only_if_they_must(pools, size):
    fitted = fitted_pools(pools, size)
    assert len(fitted) == len(pools)
    assert all(1 <= new <= old for new, old in zip(fitted, pools, strict=True))
    assert math.prod(fitted) <= size
    if math.prod(pools) <= size:
        assert fitted == pools


@pytest.mark.parametrize(
    ("pools", "size", "fitted"),
    [
        ((4, 4, 4), 64, (4, 4, 4)),
        ((4, 4, 4), 63, (4, 4, 3)),
        ((2, 4, 3), 23, (2, 3, 3)),
        ((2, 4, 3), 17, (2, 3, 2)),
        ((5, 1), 1, (1, 1)),
    ],
)
def test_the_last_of_the_largest_pools_is_reduced_first(pools, size, fitted):
    assert fitted_pools(pools, size) == fitted
