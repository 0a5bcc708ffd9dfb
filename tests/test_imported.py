"""Names that stand for model folders, and what is built on where nothing is named."""

from pathlib import Path

import pytest
from conftest import run_main
from sounds import CONFIG

import keras_audio_transfer as kat
from keras_audio_transfer.commands import places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model import as_model
from keras_audio_transfer.model_folder import Card, default_model
from keras_audio_transfer.pretrained import imported


@pytest.fixture
def models(monkeypatch, tmp_path):
    """An empty folder of imported models."""
    monkeypatch.setenv(imported.ENVIRONMENT, str(tmp_path / "models"))
    return tmp_path / "models"


def put(folder, source):
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(source)


def test_a_name_stands_for_the_folder_it_was_imported_to(models, exported):
    put(models / "yamnet", exported)
    assert imported.find("yamnet") == places.model_folder("yamnet") == models / "yamnet"
    assert kat.load_model("yamnet").labels == kat.load_model(exported).labels
    assert imported.best() == models / "yamnet"


def test_every_function_takes_the_names(models, exported, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert as_model("default").labels == kat.load_model().labels
    assert kat.LayerFeatures("default").get_feature_names_out()[0] == "layer1/0"
    for use in (as_model, lambda name: kat.extract([], name), lambda name: kat.LayerFeatures(name).fit([])):
        with pytest.raises(
            InputError, match=r"^yamnet is a published network, not a model folder yet; first 'keras-au"
        ):
            use("yamnet")
    put(models / "yamnet", exported)
    assert as_model("yamnet").path == models / "yamnet"


def test_export_takes_the_names(models, exported):
    put(models / "yamnet", exported)
    with pytest.raises(InputError, match=r"1: exists; pass --overwrite"):  # it has read the card, and found the output
        run_main("export", "yamnet", "--output-dir", exported)


def test_what_lies_there_goes_before_names(models, exported, tmp_path, monkeypatch):
    put(models / "yamnet", exported)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "yamnet", exported)
    assert imported.find("yamnet") == Path("yamnet")


def test_a_folder_that_is_no_model_hides_none(models, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yamnet").mkdir()
    assert imported.find("yamnet") == Path("yamnet")  # whose error says what is wrong with it
    put(models / "yamnet", exported)
    assert imported.find("yamnet") == models / "yamnet"


def test_what_is_nearly_such_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, meant in (("yamnt", "yamnet"), ("Default", "default"), ("MSD_music", "MSD_musicnn")):
        message = rf"{text}: is not a folder; expected a model folder, .*; did you mean {meant}\?"
        with pytest.raises(InputError, match=f"^{message}$"):
            kat.load_model(text)
        with pytest.raises(InputError, match=f"^MODEL_DIR: {message} see --help$"):
            run_main("predict", text, "a.wav")
    assert imported.find("models/yamnt") == Path("models/yamnt")  # a path, whose error comes when it is read
    (tmp_path / "yamnt").mkdir()
    assert imported.find("yamnt") == Path("yamnt")
    assert imported.find("mine") == Path("mine")


def test_the_place_may_begin_at_home(monkeypatch):
    monkeypatch.setenv(imported.ENVIRONMENT, "~/networks")
    assert imported.models_dir() == Path.home() / "networks"


def test_a_user_without_a_home(monkeypatch):
    """As in a container: what comes with the package needs none."""

    def no_home(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(imported.platformdirs, "user_data_path", no_home)
    for given in ("", "~nosuchuser/networks"):
        monkeypatch.setenv(imported.ENVIRONMENT, given)
        assert imported.best() == imported.find("default") == default_model()
        with pytest.raises(InputError, match=r"^yamnet is a published network, not a model folder yet"):
            imported.find("yamnet")


def test_without_any(models):
    assert imported.find("default") == imported.best() == default_model()
    assert imported.find("some/folder") == Path("some/folder")
    with pytest.raises(InputError, match=r"^yamnet is a published network, not a model folder yet; first 'keras-aud"):
        imported.find("yamnet")
    with pytest.raises(InputError, match=r"^yamnet is a published network"):
        kat.load_model("yamnet")


@pytest.mark.slow
def test_import_without_a_folder_writes_where_names_are_looked_for(models, capsys):
    assert run_main("import", "speech_embedding", "--random", "--pooling", "mean", "--quiet") == 0
    assert f"written: {models / 'speech_embedding.random'}" in capsys.readouterr().out
    assert Card.read(models / "speech_embedding.random").network == "speech_embedding"
    with pytest.raises(InputError, match=r"speech_embedding\.random: exists; pass --overwrite"):
        run_main("import", "speech_embedding", "--random")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({}, []),
        ({"training_data": {"dataset": "none: random weights"}}, []),
        ({"training_data": {"dataset": "esc10", "licence": "CC BY 3.0."}}, ["esc10, CC BY 3.0"]),
        (
            {
                "training_data": {"dataset": "folder", "licence": "Your own"},
                "transferred_from": {
                    "dataset": "AudioSet: 2 million clips",
                    "licence": "Apache 2.0",
                    "transferred_from": {"dataset": "folder", "licence": "Your own"},
                },
            },
            ["folder, Your own", "AudioSet, Apache 2.0"],
        ),
        ({"transferred_from": {"dataset": "esc10", "licence": "CC BY 3.0"}}, ["esc10, CC BY 3.0"]),
    ],
)
def test_licences_of_all_that_the_weights_have_learnt_from(card, expected):
    assert Card(CONFIG, **card).licences() == expected
