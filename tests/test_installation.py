"""What a wheel carries, what it asks for, and that it works in an empty folder, far from any checkout."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import forked
import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_audio_transfer"
DEFAULT_MODEL = ROOT / "saved_models" / "convnet5.urbansound8k"

# Where the package to install is not called what is imported.
PACKAGES = {"grpc": "grpcio", "sklearn": "scikit-learn", "tensorflow_serving": "tensorflow-serving-api"}


def names_below(folder, at):
    return {f"{at}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}


def build(kind, source, folder):
    """Build the sdist or the wheel of a source folder, with this environment's setuptools; the file."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], cwd=source, capture_output=True, text=True, check=True)
    (built,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from the sdist, as package indexes have them. In a copy: nothing is written to the checkout."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for path in (PACKAGE, DEFAULT_MODEL):
        shutil.copytree(path, source / path.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    with tarfile.open(build("sdist", source, folder)) as sdist:
        sdist.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    return build("wheel", unpacked, folder)


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(file.read(name).decode())


def test_the_wheel_has_every_module_and_the_default_model_and_nothing_else(wheel):
    kinds = (".py", "/py.typed", ".jinja", ".css", ".js")
    sources = {name for name in names_below(PACKAGE, PACKAGE.name) if name.endswith(kinds)}
    model = names_below(DEFAULT_MODEL, f"{PACKAGE.name}/default")
    assert f"{PACKAGE.name}/py.typed" in sources
    assert {f"{PACKAGE.name}/default/{name}" for name in ("card.json", "1/saved_model.pb")} <= model
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        assert sources - names == set(), "name their packages in setup.cfg, [options] packages"
        assert names == sources | model
        for name in model:
            original = DEFAULT_MODEL / name.removeprefix(f"{PACKAGE.name}/default/")
            assert file.read(name) == original.read_bytes(), name


def test_the_metadata_say_who_what_and_where(metadata):
    assert metadata["Name"] == "keras_audio_transfer"
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert metadata["License"] == "MIT"
    assert metadata["Author"] in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert {"Programming Language :: Python :: 3.13", "Typing :: Typed"} <= {*metadata.get_all("Classifier")}
    assert {"completion", "docs", "io", "remote", "serving", "test"} <= {*metadata.get_all("Provides-Extra")}


def test_versions_are_ranges_but_for_tensorflow_io(metadata):
    # Exact versions cannot be installed beside anything else.
    required = [line.partition(";")[0].strip() for line in metadata.get_all("Requires-Dist")]
    assert [line for line in required if "==" in line] == ["tensorflow-io==0.37.1"]
    assert len(required) > 15


def required(section, option):
    """The packages that a list in setup.cfg names."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line for line in config[section][option].strip().splitlines() if not line.startswith("#")]
    return {line.replace(">", " ").replace("=", " ").replace("[", " ").split()[0].lower() for line in lines}


def imported():
    """The packages that the modules import, wherever in the file: as an index calls them."""
    found = set()
    for source in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    in_python = {*sys.stdlib_module_names, "tomllib"}  # from Python 3.11 on, below it tomli
    return {PACKAGES.get(name, name) for name in found - in_python - {PACKAGE.name}}


def test_what_is_imported_is_required_and_the_reverse():
    names = ("benchmark", "completion", "dask", "demo", "onnx", "remote", "server", "serving", "torch")
    extras = [required("options.extras_require", name) for name in names]
    assert imported() == required("options", "install_requires").union(*extras) - {"s3fs"}  # fsspec imports it


def environment():
    """The variables of a process that imports neither the checkout nor its tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def in_new_process(*command, cwd):
    """What a command prints, where neither the checkout nor its tests can be imported; it has to end well."""
    run = subprocess.run([*map(str, command)], cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(find_spec("tensorflow_io") is None, reason="tests the extra io, which is not installed")
def test_with_the_extra_io_tensorflow_knows_s3(tmp_path):
    code = "import tensorflow as tf, tensorflow_io; print(*tf.io.gfile.get_registered_schemes())"
    assert {"s3", "az", "hdfs"} <= {*in_new_process(sys.executable, "-c", code, cwd=tmp_path).split()}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of an environment with the wheel, and with what this environment has."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install"]
    in_new_process(*pip, "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # Named in a .pth file, a folder comes after the wheel, and its own .pth files are not read: not those of `-e`.
    here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages / "others.pth").write_text("\n".join(here))
    return python.parent


_FROM_THERE = """
import runpy, sys
import keras_audio_transfer
assert keras_audio_transfer.__file__.startswith(sys.path[0])
"""


def with_installed(installed, code, *arguments, cwd):
    """What Python code prints that imports the environment's package; TensorFlow is imported already, see `forked`."""
    (site_packages,) = installed.parent.glob("lib/python*/site-packages")
    run = forked.importing(_FROM_THERE + code, site_packages, cwd, environment(), arguments or ["-c"])
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_command_says_its_version(installed, metadata, empty):
    assert in_new_process(installed / "keras-audio-transfer", "--version", cwd=empty).strip() == metadata["Version"]
    code = "import keras_audio_transfer as kat; print(kat.__version__, kat.__file__)"
    version, file = in_new_process(installed / "python", "-c", code, cwd=empty).split()
    assert version == metadata["Version"]
    assert Path(file).is_relative_to(installed.parent)


@pytest.mark.slow
def test_hear_finds_the_model_that_comes_with_it(installed, empty):
    code = """
import tensorflow as tf
import keras_audio_transfer.hear as hear
model = hear.load_model()
print(hear.get_scene_embeddings(tf.zeros([2, 16000]), model).shape, model.scene_embedding_size)
"""
    assert with_installed(installed, code, cwd=empty) == "(2, 320) 320\n"


@pytest.mark.slow
def test_python_from_an_array_to_scores_of_probes(installed, empty):
    code = """
import numpy as np
import keras_audio_transfer as kat
noise = [np.random.default_rng(i).normal(0, 0.1, 8000) for i in range(6)]
sines = [0.5 * np.sin(2 * np.pi * (300 + 20 * i) * np.arange(8000) / 8000) for i in range(6)]
clips, labels = [(sound, 8000) for sound in noise + sines], ["noise"] * 6 + ["sine"] * 6
table = kat.extract(clips, kat.load_model(), labels=labels, clip_seconds=1)
print(table.to_frame().shape, len(kat.probe(table, combinations=["layer1"])))
"""
    assert with_installed(installed, code, cwd=empty) == "(12, 320) 1\n"


@pytest.mark.slow
def test_the_verbs_work_without_a_checkout(installed, empty):
    command = installed / "keras-audio-transfer"

    def run(*arguments):  # the first verb in a process of its own, the others as if
        code = "runpy.run_path(sys.argv[0], run_name='__main__')"
        return with_installed(installed, code, command, *arguments, "--quiet", cwd=empty)

    rate, rng = 16000, np.random.default_rng(0)
    time = np.arange(rate // 4) / rate
    # With splits of their own: nested cross-validation would take most of the time.
    for number, split in enumerate(["train"] * 4 + ["test"] * 2):
        sounds = {"noise": rng.normal(0, 0.1, len(time)), "sine": np.sin(2 * np.pi * rng.uniform(300, 900) * time)}
        for kind, sound in sounds.items():
            path = empty / "my_sounds" / split / kind / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.5 * sound, rate)
    in_new_process(
        *(command, "train", "--network", "sbcnn", "--clip-seconds", 0.25, "--epochs", 0, "--quiet"), cwd=empty
    )
    trained = empty / "saved_models" / "sbcnn.synthetic"
    assert (trained / "1" / "saved_model.pb").is_file()
    run("extract", trained, "my_sounds", "--output", "mine.npz")
    with np.load(empty / "mine.npz") as table:
        assert len(table["clip_ids"]) == 12
    run("classify", "my_sounds", "--output-dir", "mine", "--clip-seconds", 0.25)
    said = run("predict", "mine", "my_sounds/test/sine/5.wav")
    assert "sine" in said.split("5.wav")[1]
