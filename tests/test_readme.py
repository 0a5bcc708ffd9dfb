"""What the README says of the code is what the code is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_audio_transfer import layers
from keras_audio_transfer.config import PRESETS
from keras_audio_transfer.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_column(row, number):
    """Trial of the table row that begins with `row`."""
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


def test_every_layer_stands_in_the_table():
    table = README.split("| layer | takes, gives | what for |\n")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == layers.__all__


def blocks(language, section):
    """The code blocks of a section, in order."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def repository(tmp_path):
    """A folder that is to the commands what the repository is, and where they may write."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    shutil.copytree(ROOT / "saved_models/convnet5.urbansound8k", tmp_path / "saved_models/convnet5.urbansound8k")
    return tmp_path


def run(command, folder):
    """What a command prints; it has to end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}: {finished.stderr}"
    return finished.stdout


def run_bash(commands, folder):
    return run(["bash", "-ec", commands.replace(".venv/bin/python", sys.executable)], folder)


@pytest.mark.parametrize("section", re.findall(r"^## (.*)", README, re.MULTILINE))
def test_python_examples_print_what_they_say(section, request):
    """Each in a process of its own, in the order of the page. Where a server is asked, test_serving_kit.py has one."""
    examples = [] if section == "Serve it" else blocks("python", section)
    assert examples or section not in ("Signatures", "Use the layers", "TensorFlow Lite")
    for commands in blocks("bash", section) if section == "TensorFlow Lite" else []:
        run_bash(commands, request.getfixturevalue("repository"))
    for example in examples:
        said = re.findall(r"  # -> (.*)", example)
        assert said
        assert run([sys.executable, "-c", example], request.getfixturevalue("repository")).splitlines() == said


def write_sounds(folder, names, seconds=1.0, rate=16000):
    """Noise, a sine and clicks, as wav files of slightly different sounds."""
    time = np.arange(round(seconds * rate)) / rate
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        sounds = {
            "noise": rng.normal(0, 0.1, len(time)),
            "sine": 0.5 * np.sin(2 * np.pi * rng.uniform(300, 900) * time),
            "clicks": (np.arange(len(time)) % rng.integers(2000, 4000) == 0).astype(float),
        }
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sounds[re.match("[a-z]+", name)[0]], rate)


def test_classify_your_own_sounds(repository):
    classes = ("noise", "sine", "clicks")
    # With a division of its own: nested cross-validation would take most of the time.
    for part, numbers in (("train", range(5)), ("test", range(5, 7))):
        names = [f"{name}/{number}.wav" for name in classes for number in numbers]
        write_sounds(repository / "my_sounds" / part, names)
    write_sounds(repository / "recordings", [f"{name}.wav" for name in classes])
    (commands,) = blocks("bash", "Classify your own sounds")
    printed = run_bash(commands, repository)
    for name in classes:
        row = next(line for line in printed.splitlines() if f"{name}.wav" in line)
        assert row.split(f"{name}.wav")[1].split()[0].strip(",:") == name


def test_every_flag_in_an_example_exists():
    for script, arguments in re.findall(r"scripts/(\w+)\.py((?:\\\n|[^\n`])*)", README):
        source = (ROOT / "scripts" / f"{script}.py").read_text() + (ROOT / "keras_audio_transfer/cli.py").read_text()
        for flag in re.findall(r"--[a-z-]+", arguments):
            assert f'"{flag}"' in source, f"{script}.py has no {flag}"
