"""The recipes of CONTRIBUTING.md, followed as they are written, step by step; and what is left out is said."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import forked
import keras
import numpy as np
import pytest

import keras_audio_transfer as kat
from keras_audio_transfer.spectrogram import spectrogram_layers

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"""^(?:Write\ `(?P<new>[^`]+)`
        |In\ `(?P<file>[^`]+)`,\ (?:at\ the\ (?P<end>end)
            |(?P<place>below|above)\ the\ line\ that\ begins\s+with\ (?P<ticks>`+)\ ?(?P<line>.+?)\ ?(?P=ticks)(?!`)))
        [^`:]*:\n\n```(?:python|markdown)\n(?P<code>.*?)^```""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


class Step(NamedTuple):
    """What a recipe says to write: the file; 'new', 'end', 'below' or 'above'; the line meant; the text."""

    file: str
    place: str
    line: str
    code: str


class Recipe(NamedTuple):
    """The steps of a recipe, and the command it ends with."""

    steps: list[Step]
    command: str


def recipe(section):
    steps = []
    for match in STEP.finditer(section):
        place = "new" if match["new"] else match["end"] or match["place"]
        steps.append(Step(match["new"] or match["file"], place, match["line"] or "", match["code"]))
    (command,) = re.findall(r"^```bash\n(.*?)\n```", section, re.MULTILINE | re.DOTALL)
    return Recipe(steps, command)


RECIPES = {
    section.split("\n")[0].split()[-1]: recipe(section)
    for section in TEXT.split("\n## Recipes\n")[1].split("\n### Add ")[1:]
}


def copy_of_the_repository(folder):
    for name in ("keras_audio_transfer", "tests", "docs", "scripts", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    (folder / "saved_models").symlink_to(ROOT / "saved_models")
    return folder


def follow(steps, root):
    for step in steps:
        path = root / step.file
        if step.place == "new":
            assert not path.exists(), f"{step.file} is there already"
            path.write_text(step.code, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        number = len(lines)
        if step.place != "end":
            numbers = [number for number, line in enumerate(lines) if line.strip().startswith(step.line)]
            assert numbers, f"CONTRIBUTING.md: {step.file} has no line that begins with {step.line}"
            number = numbers[0] + (step.place == "below")
        lines.insert(number, step.code)
        path.write_text("".join(lines), encoding="utf-8")


def run(command, root):
    python, option, module, *arguments = shlex.split(command.replace("\\\n", " "))
    assert (python, option) == ("python", "-m")
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_ADDOPTS": "-n0 -q -p no:cacheprovider"}
    return forked.module(module, arguments, root, environment)


SLOW = pytest.mark.slow
each_recipe = pytest.mark.parametrize("name", RECIPES)


def test_the_recipes_are_there():
    assert [*RECIPES] == ["set", "network", "pooling", "weights", "signature"]
    written = sum(len(re.findall(r"^```(?:python|markdown)$", section, re.M)) for section in TEXT.split("\n### ")[1:])
    assert sum(len(made.steps) for made in RECIPES.values()) == written, "a block stands below no step"


@each_recipe
def test_every_step_can_be_done_and_is_clean(name, tmp_path):
    root = copy_of_the_repository(tmp_path)
    follow(RECIPES[name].steps, root)
    files = sorted({step.file for step in RECIPES[name].steps if step.file.endswith(".py")})
    for command in (["check", "--fix", "--quiet"], ["format", "--quiet"], ["check", "--quiet"]):
        finished = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files], cwd=root, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout
    for step in RECIPES[name].steps:
        if step.place == "new":
            assert (root / step.file).read_text(encoding="utf-8") == step.code, (
                f"{step.file}: ruff formats it otherwise"
            )


@SLOW  # they start TensorFlow several times
@each_recipe
def test_what_was_added_keeps_the_contracts(name, tmp_path):
    root = copy_of_the_repository(tmp_path)
    follow(RECIPES[name].steps, root)
    finished = run(RECIPES[name].command, root)
    assert finished.returncode == 0, finished.stdout
    assert " passed" in finished.stdout


# Recipe; the files whose steps are left out; what is left out of a new file; what the tests then say. Of the signature,
# whose recipe ends with the tests of all signatures, those that say it are run.
THOSE_THAT_SAY_IT = {"signature": " -k 'stands_in_the_table or every_warmup_request'"}
LEFT_OUT = {
    "set: not named": ("set", ["keras_audio_transfer/datasets/__init__.py"], (), ["does not name door_sounds"]),
    "set: parts": (
        "set",
        ["tests/test_datasets.py", "docs/datasets.md"],
        ['LICENSE = "CC BY 4.0"\n'],
        [
            r"datasets/door_sounds.py has no LICENSE; expected CITATION, LICENSE, REMOTES, LABELS, clips",
            "TINY in test_datasets.py has no files for door_sounds; add a few",
            "docs/datasets.md: no row `door_sounds` in its table; add one",
        ],
    ),
    "network: not named": (
        "network",
        ["keras_audio_transfer/backbones/__init__.py"],
        (),
        ["OWN in backbones/__init__.py does not name minicnn; add it"],
    ),
    "network: parts": (
        "network",
        ["tests/test_package.py"],
        ['CITATION = "A. Author: A network of two convolutions. 2026, https://example.org/minicnn"\n', "name=name"],
        [
            "backbones/minicnn.py has no CITATION",
            "block1: a tap is an inner layer of the same name; pass name='block1'",
            "name backbones.minicnn in WITH_TENSORFLOW",
        ],
    ),
    "pooling: in one place only": (
        "pooling",
        [
            *("keras_audio_transfer/config.py", "tests/test_extractor.py", "tests/test_layers.py"),
            *("docs/layers.md", "docs/reference/layers.md"),
        ],
        (),
        [
            "config.POOLINGS does not name rms",
            "CASES in test_layers.py lacks {'GlobalRootMeanSquarePooling2D'}",
            "the table of docs/layers.md lacks GlobalRootMeanSquarePooling2D; add a row",
            "docs/reference/layers.md lacks GlobalRootMeanSquarePooling2D; add it",
        ],
    ),
    "weights: not in the catalogue": (
        "weights",
        ["keras_audio_transfer/pretrained/catalogue.py"],
        (),
        ["CATALOGUE in pretrained/catalogue.py does not name .*tiny_tagger"],
    ),
    "weights: not in the file map": (
        "weights",
        ["docs/architecture.md"],
        ['name="layer2"'],
        [
            r"the file map of docs/architecture.md lacks .*tiny_tagger.py",
            "layer2: a tap is a layer of the same name; pass name='layer2' to the Keras layer",
        ],
    ),
    "signature: parts": (
        "signature",
        ["keras_audio_transfer/export/tf_serving.py", "docs/serving.md"],
        (),
        [
            "the table of signatures in docs/serving.md lacks peak_normalised; add a row",
            "example_requests has none for peak_normalised; add one",
        ],
    ),
}


@SLOW
@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_is_said(what, tmp_path):
    name, files, left_out, expected = LEFT_OUT[what]
    root = copy_of_the_repository(tmp_path)
    steps = [step for step in RECIPES[name].steps if step.file not in files]
    assert len(steps) < len(RECIPES[name].steps) or left_out
    follow(steps, root)
    (new,) = [root / step.file for step in steps if step.place == "new"][:1] or [None]
    for text in left_out:
        content = new.read_text(encoding="utf-8")
        assert text in content
        new.write_text(content.replace(text, ""), encoding="utf-8")
    finished = run(RECIPES[name].command + THOSE_THAT_SAY_IT.get(name, ""), root)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    for message in expected:
        assert re.search(message, finished.stdout), finished.stdout


@pytest.mark.slow
def test_the_imported_weights_are_a_model(tmp_path):
    root = copy_of_the_repository(tmp_path / "copy")
    follow(RECIPES["weights"].steps, root)
    rng = np.random.default_rng(0)
    shapes = {"layer1": [(3, 3, 1, 8), (8,)], "layer2": [(3, 3, 8, 8), (8,)], "scores_of_patches": [(8, 2), (2,)]}
    weights = {
        f"{layer}/{kind}": rng.normal(0, 0.01, shape).astype(np.float32)
        for layer, both in shapes.items()
        for kind, shape in zip(("kernel", "bias"), both, strict=True)
    }
    np.savez(tmp_path / "weights.npz", **weights)
    places = f"--from {tmp_path}/weights.npz --output-dir {tmp_path}/tagger"
    verb = f"python -m keras_audio_transfer import tiny_tagger {places}"
    finished = run(verb, root)
    assert finished.returncode == 0, finished.stderr
    assert "licence: CC BY 4.0, which allows commercial use" in finished.stdout
    model = kat.load_model(tmp_path / "tagger")
    assert (model.sample_rate, model.labels) == (8000, ["calm", "loud"])
    sound = rng.normal(0, 0.1, 8000).astype(np.float32)
    # The mean of layer 1 by hand, from the decibels that the network sees: two patches of 32 frames, 16 apart.
    config = model.card.audio
    decibels = np.asarray(keras.Sequential(spectrogram_layers(config))(sound[None]))[0, :, :, 0]
    patches = [decibels[start : start + 32] for start in range(0, len(decibels) - 31, 16)]
    windows = np.lib.stride_tricks.sliding_window_view(np.stack(patches), (3, 3), axis=(1, 2))
    maps = np.einsum("pfbij,ijc->pfbc", windows, weights["layer1/kernel"][:, :, 0]) + weights["layer1/bias"]
    expected = np.maximum(maps, 0).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(model.features(sound, 8000)["layer1"], expected, rtol=1e-3, atol=1e-4)
    finished = run(verb.replace("weights.npz", "nothing.npz").replace("/tagger", "/other"), root)
    assert finished.returncode == 2
    assert "nothing.npz: does not exist; expected the published tiny_tagger.npz" in finished.stderr
