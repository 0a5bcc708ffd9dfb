"""What the README says of the code is what the code is."""

import re
from pathlib import Path

import pytest

from keras_audio_transfer.config import PRESETS
from keras_audio_transfer.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_column(row, number):
    """Cell of the table row that begins with `row`."""
    line = next(line for line in README.splitlines() if line.startswith(f"| {row} |"))
    return line.split("|")[number + 1].strip()


@pytest.mark.parametrize(("number", "name"), enumerate(PRESETS, 1))
def test_the_front_ends_numbers(number, name):
    config = PRESETS[name]
    assert table_column("sample rate", number) == f"{config.sample_rate:,} Hz"
    assert table_column("clip", number) == f"{config.clip_seconds:g} s = {config.n_samples:,} samples"
    hop = f"{config.n_fft}, {config.hop_length} samples ({1000 * config.hop_seconds:.1f} ms)"
    assert table_column("STFT window, hop", number) == hop
    assert table_column("mel bands", number) == f"{config.n_mels}, {config.mel_f_min:g} to {config.mel_f_max:g} Hz"
    assert table_column("mel matrix", number) == "{} x {}".format(*config.mel_matrix_shape)
    assert table_column("spectrogram", number) == f"{config.n_frames} frames x {config.n_mels} mels"


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_stands_in_the_table_with_its_licence(name):
    assert table_column(f"`{name}`", 3) == DATASETS[name].LICENSE
    assert table_column(f"`{name}`", 4) == ("yes" if DATASETS[name].REMOTES else "no")


def test_the_file_map_names_every_file_and_no_other():
    for folder in ("keras_audio_transfer", "scripts"):
        block = README.split(f"\n{folder}/\n")[1]
        listed = set(re.findall(r"^  (\w+\.py)", block.split("\n```")[0].split("\nscripts/")[0], re.MULTILINE))
        assert listed == {path.name for path in (ROOT / folder).glob("*.py")}


def test_files_import_only_from_files_above_them():
    block = README.split("\nkeras_audio_transfer/\n")[1].split("\nscripts/")[0]
    order = re.findall(r"^  (\w+)(?:\.py|/) ", block, re.MULTILINE)
    assert order.index("config") < order.index("cli")
    for number, module in enumerate(order):
        path = ROOT / "keras_audio_transfer" / module
        for source in [*path.glob("*.py")] or [path.with_suffix(".py")]:
            text = source.read_text(encoding="utf-8")
            imported = re.findall(r"^ *(?:from|import) keras_audio_transfer\.(\w+)", text, re.MULTILINE)
            assert set(imported) <= {*order[:number], path.name}, f"{source.name} imports from below"


def test_every_flag_in_an_example_exists():
    for script, arguments in re.findall(r"scripts/(\w+)\.py((?:[^\n`]|\\\n)*)", README):
        source = (ROOT / "scripts" / f"{script}.py").read_text() + (ROOT / "keras_audio_transfer/cli.py").read_text()
        for flag in re.findall(r"--[a-z-]+", arguments):
            assert f'"{flag}"' in source, f"{script}.py has no {flag}"
