"""`models` lists what `import` knows; what is imported is a model folder that answers as the published program does."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, read_card, run_main, some_quick

import keras_audio_transfer as kat
from keras_audio_transfer.commands.benchmarks import arithmetic
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_json
from keras_audio_transfer.pretrained import catalogue, yamnet
from keras_audio_transfer.pretrained.catalogue import CATALOGUE
from keras_audio_transfer.pretrained.source import build, source

PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED")
needs_published = pytest.mark.skipif(
    not PUBLISHED, reason="KAT_TEST_PRETRAINED does not name a folder of published files"
)


def test_the_list_says_what_there_is(capsys):
    assert run_main("models") == 0
    text = capsys.readouterr().out
    assert run_main("models", "--format", "csv") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["name"].tolist() == [*CATALOGUE]
    assert table["weights"].tolist() == [entry.weights for entry in CATALOGUE.values()]
    assert table["operations"].tolist() == [entry.operations * 10**6 for entry in CATALOGUE.values()]
    for name, entry in CATALOGUE.items():
        assert f"{name}\n" in text
        assert entry.licence in text
        assert f"  parameters:     {entry.weights}\n" in text
        assert f"  operations:     {entry.operations} million a second of sound\n" in text
        assert (entry.url or "published at:   where pip finds wheels") in text
        cited = entry.citation
        dated = cited.rstrip(".")[-4:].isdigit() or "arXiv:" in cited or "tensorflow" in cited
        assert dated, f"catalogue.py: the citation of {name} ends in no year and has no arXiv:NUMBER"


@pytest.mark.parametrize("path", sorted(Path(catalogue.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_every_source_is_in_the_catalogue(path):
    sources = getattr(import_module(f"keras_audio_transfer.pretrained.{path.stem}"), "SOURCES", {})
    missing = {*sources} - {name for name, entry in CATALOGUE.items() if entry.module == path.stem}
    assert not missing, f"CATALOGUE in pretrained/catalogue.py does not name {missing} of {path.stem}; add it"


# Of the same networks with other weights, one.
ONE_A_NETWORK = (
    *("MTT_musicnn", "MTT_vgg", "yamnet", "vggish", "panns_cnn14", "panns_mobilenet", "speech_embedding"),
    "efficientnet_lite0",
)


@pytest.mark.parametrize("name", some_quick(CATALOGUE, (*ONE_A_NETWORK, "openl3_mel128_env")))
def test_every_source_keeps_the_contract(name):
    """Layers in order, scores that are named, and as many weights and operations as the list says."""
    model = build(source(name))
    taps = [tap for tap in model.output if tap != "scores"]
    assert len(taps) >= 2, f"maps returns {taps}; expected two layers at least"
    names = {layer.name for layer in model.layers}
    for tap in taps:
        assert tap in names, f"{tap}: a tap is a layer of the same name; pass name={tap!r} to the Keras layer"
        assert model.get_layer(f"{tap}_joined").input[0] is model.get_layer(tap).output, tap
    assert ("scores" in model.output) == bool(source(name).labels), "maps returns scores, or labels are named; add both"
    if source(name).labels:
        assert model.output["scores"].shape == (None, len(source(name).labels))
    assert model.count_params() == CATALOGUE[name].weights, f"catalogue.py: {name} has {model.count_params()} weights"
    config = source(name).config
    operations = arithmetic.of_network(model, config, 60 * config.sample_rate) / 60e6
    assert round(operations) == CATALOGUE[name].operations, (
        f"catalogue.py: {name} takes {operations:.0f} million operations for a second of a minute of sound"
    )
    assert config.long_clips == "whole", "clips are cut; pass long_clips='whole' to the AudioConfig"
    assert config.patches_of(config.n_samples) >= 1
    features = model(np.zeros((1, 500), np.float32))  # shorter than a patch
    assert all(np.isfinite(values).all() for values in features.values())


def refused(message, *arguments):
    with pytest.raises(InputError, match=message):
        run_main("import", *arguments)


def test_what_cannot_be_imported(tmp_path):
    out = "--output-dir", tmp_path / "out"
    other = tmp_path / "other.tflite"
    other.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    refused(r"NAME: 'yamnett' is unknown; did you mean yamnet\?|did you mean yamnet", "yamnett", "--random", *out)
    refused(r"nothing\.tflite: does not exist; expected the published yamnet\.tflite$", "yamnet", "--from",
            tmp_path / "nothing.tflite", *out)  # fmt: skip
    refused(r"other\.tflite: ", "yamnet", "--from", other, *out)
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_as_one_that_is_not_there(tmp_path):
    """As for `export`."""
    out = tmp_path / "out"
    out.mkdir()
    assert run_main("import", "speech_embedding", "--random", "--quiet", "--output-dir", out) == 0
    assert read_card(out)["network"] == "speech_embedding"
    refused(r"out: exists; pass --overwrite to replace it", "speech_embedding", "--random", "--output-dir", out)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_what_a_killed_import_leaves_goes_when_something_is_next_written_there(tmp_path):
    """Nothing is left where nobody looks for it."""
    models, temporary = tmp_path / "models", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, ROOT / "scripts" / "import.py", "speech_embedding", "--random", "--output-dir"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen([*command, models / "a"], env=environment, start_new_session=True) as process:
        while process.poll() is None and not [*tmp_path.rglob("batches.npz")]:  # written, and being checked
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not any(temporary.iterdir())
    assert [*models.glob(".a.*.partial")]
    write_json(models / "b.json", {})
    assert {path.name for path in models.iterdir()} == {".a.lock", "b.json"}


def test_a_file_that_is_not_the_published_one(tmp_path):
    (tmp_path / "yamnet.tflite").write_bytes(b"another")
    with pytest.raises(InputError, match=r"yamnet\.tflite: its SHA-256 is [0-9a-f]{64}; expected 10c95ea3.*; get it"):
        catalogue.check("yamnet", tmp_path / "yamnet.tflite")
    for file, start in (("openl3_audio_mel256_music-v0_4_0.h5.gz", "e379f41e"), ("unpacked.h5", "624ee7b1")):
        (tmp_path / file).write_bytes(b"another")
        with pytest.raises(InputError, match=rf"{file}: its SHA-256 is [0-9a-f]{{64}}; expected {start}.*; get it"):
            catalogue.check("openl3_mel256_music", tmp_path / file)
    (tmp_path / "yamnet.h5").write_bytes(b"another")  # whose checksum nobody states
    expected = "yamnet.h5", hashlib.sha256(b"another").hexdigest()
    assert catalogue.check("yamnet_float", tmp_path / "yamnet.h5") == expected


def test_no_name_and_no_folder_hides_a_file_that_is_not_the_published_one(tmp_path):
    for name in ("yamnet.tflite", "yamnet.bin", "YAMNET.TFLITE", "embedding_model.onnx", *CATALOGUE["MSD_vgg"].members):
        (tmp_path / name).write_bytes(b"another")
    for network, name in (("yamnet", "yamnet.bin"), ("yamnet", "YAMNET.TFLITE"), ("speech_embedding", "yamnet.bin")):
        with pytest.raises(InputError, match=rf"{name}: its SHA-256 is "):
            catalogue.check(network, tmp_path / name)
    for network, name in (
        ("yamnet", "yamnet.tflite"),
        ("speech_embedding", "embedding_model.onnx"),
        ("MSD_vgg", ".data-00000-of-00001"),
    ):
        with pytest.raises(InputError, match=rf"/{name}: its SHA-256 is "):
            catalogue.check(network, catalogue.find(network, tmp_path))


def test_what_is_checked_in_a_folder_is_what_is_read(tmp_path):
    """Under each of the names that people have; an altered file beside it is neither."""
    second = CATALOGUE["yamnet"].also[0]
    (tmp_path / second).write_bytes(b"altered")
    assert catalogue.find("yamnet", tmp_path) == tmp_path / second
    (tmp_path / "yamnet").mkdir()
    (tmp_path / "yamnet" / "yamnet.tflite").write_bytes(b"not looked at")
    with pytest.raises(InputError, match=rf"{second}: its SHA-256 is "):
        run_main("import", "yamnet", "--from", tmp_path, "--output-dir", tmp_path / "out")
    (tmp_path / "openl3_audio_mel128_env.h5").write_bytes(b"")
    assert catalogue.find("openl3_mel128_env", tmp_path).name == "openl3_audio_mel128_env.h5"
    with pytest.raises(InputError, match=r": holds no vggish_model\.ckpt; name the file itself$"):
        catalogue.find("vggish", tmp_path)


def test_nothing_is_read_of_a_file_that_is_not_the_published_one(tmp_path, monkeypatch):
    """What takes all memory when it is read is known by its checksum before."""

    def read(path):
        raise AssertionError(f"{path} was read")

    (tmp_path / "yamnet.tflite").write_bytes(b"another")
    monkeypatch.setitem(yamnet.SOURCES, "yamnet", replace(yamnet.SOURCES["yamnet"], read=read))
    with pytest.raises(InputError, match=r"yamnet\.tflite: its SHA-256 is "):
        run_main("import", "yamnet", "--from", tmp_path / "yamnet.tflite", "--output-dir", tmp_path / "out")


@needs_published
def test_what_was_published_is_known_in_every_form(tmp_path):
    wheel = Path(PUBLISHED) / CATALOGUE["MSD_musicnn"].file
    assert catalogue.check("MSD_musicnn", wheel)[0] == wheel.name
    assert catalogue.find("MSD_musicnn", wheel.parent) == wheel
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    folder = catalogue.find("MSD_musicnn", tmp_path)
    assert catalogue.check("MSD_musicnn", folder)[0] == ".data-00000-of-00001"
    assert catalogue.check("MTT_vgg", tmp_path / "musicnn" / "MTT_vgg")[0] == ".data-00000-of-00001"
    with pytest.raises(InputError, match=r"\.data-00000-of-00001: its SHA-256"):
        catalogue.check("MSD_vgg", tmp_path / "musicnn" / "MTT_vgg")


def test_a_file_whose_checksum_nobody_states_is_not_downloaded(tmp_path):
    with pytest.raises(InputError, match=r"^yamnet_float: no public source states the checksum of https.*h5; get"):
        catalogue.download("yamnet_float", tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_wheel_that_pip_cannot_find(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"^MTT_vgg: pip could not download musicnn==0\.1\.0 \(.+\); check"):
        catalogue.download("MTT_vgg", tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@needs_published
def test_an_imported_network_answers_as_its_own_program(tmp_path):
    """Through the SavedModel, of whole clips."""
    wheel = Path(PUBLISHED) / CATALOGUE["speech_embedding"].file
    assert run_main("import", "speech_embedding", "--from", wheel, "--output-dir", tmp_path / "speech") == 0
    card = read_card(tmp_path / "speech")
    assert CATALOGUE["speech_embedding"].sha256 in card["weights"]
    assert card["training_data"]["licence"] == "Apache 2.0 (of the weights)"
    model = kat.load_model(tmp_path / "speech")
    with np.load(Path(PUBLISHED) / "reference_speech.npz") as reference:
        for number, n_samples in enumerate(reference["num_samples"]):
            features = model.features(reference["waveforms"][number, :n_samples], 16000)
            expected = reference[f"speech_embedding/{number}/embedding"].mean(axis=0)
            np.testing.assert_allclose(features["embedding"], expected, atol=1e-4 * np.abs(expected).max())
            for layer in range(1, 20):
                expected = reference[f"speech_embedding/{number}/conv{layer}_mean"].mean(axis=0)
                np.testing.assert_allclose(features[f"conv{layer}"], expected, atol=1e-4 * np.abs(expected).max())
