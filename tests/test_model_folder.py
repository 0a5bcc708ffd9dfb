"""A model folder is of one model: its card, its SavedModel and its network say the same, or it is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import read_card, some_quick
from sounds import CONFIG
from tensorflow.core.protobuf import fingerprint_pb2

import keras_audio_transfer as kat
from keras_audio_transfer import hear, one_vs_rest_layers, svm_layers
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extraction import SavedExtractor, load_saved_model
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.finetuning import load_network
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.training.fitting import weights_hash

PACKAGED = Path(__file__).resolve().parents[1] / "saved_models" / "convnet5.urbansound8k"


@pytest.fixture
def folder(model_dir, tmp_path):
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def rewrite(folder, **changes):
    card = read_card(folder)
    for name, value in changes.items():
        if name == "audio":
            value = {**card["audio"], **value}
        card[name] = value
    (folder / "card.json").write_text(json.dumps(card))


def test_scores_are_said_to_be_what_answers_show():
    """Whose column is `probability`, also where the card speaks of the SavedModel's outputs."""

    def said(scores_are):
        return Card(CONFIG, labels=["a", "b"], scores_are=scores_are).meaning_of_scores(Path("model"))

    assert said(svm_layers.SCORES_ARE).endswith(
        "the largest is the class; they are no probabilities: those are beside them, as `probability`"
    )
    assert "; probabilities are beside them, as `probability`, and" in said(one_vs_rest_layers.SCORES_ARE)
    assert said(None) == "probabilities, whose sum is 1"


@pytest.mark.slow
def test_a_folder_as_it_was_written(folder):
    assert load_saved_model(folder / "1").signatures["info"]
    assert SavedExtractor(folder / "1").weights_sha256 == read_card(folder)["weights_sha256"]


@pytest.mark.slow
def test_a_saved_model_without_a_folder_has_nothing_to_compare(model_dir, tmp_path):
    shutil.copytree(model_dir / "1", tmp_path / "alone" / "1")
    assert SavedExtractor(tmp_path / "alone" / "1").weights_sha256 == ""


@pytest.mark.slow
def test_the_keras_model_of_another_training(folder):
    shutil.copy(PACKAGED / "model.keras", folder / "model.keras")
    with pytest.raises(InputError, match=r"model\.keras: is not the model that card\.json beside it describes; export"):
        print(kat.load_model(folder).keras_model)


def test_the_saved_model_of_another_network(folder, run_script, tmp_path):
    shutil.rmtree(folder / "1")
    shutil.copytree(PACKAGED / "1", folder / "1")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    message = r"card.json: weights_sha256 is \w+, but the SavedModel 1 beside it says \w+; they are of two models; put"
    with pytest.raises(InputError, match=message):
        SavedExtractor(folder / "1")
    with pytest.raises(InputError, match=message):
        hear.load_model(str(folder))
    with pytest.raises(InputError, match=message):
        print(kat.load_model(folder).saved_model)
    run = run_script("extract", folder, tmp_path / "a.wav", "--output", tmp_path / "f.npz")
    assert (run.returncode, run.stdout) == (2, "")
    assert re.search(message, run.stderr)


def test_the_keras_model_with_another_pooling(folder):
    """Its weights are the same."""
    network = kat.load_model(folder).keras_model
    max_pooled = build_extractor(Card.read(folder).audio, pooling="max")
    max_pooled.set_weights(network.get_weights()[: len(max_pooled.get_weights())])
    max_pooled.save(folder / "model.keras")
    rewrite(folder, weights_sha256=weights_hash(max_pooled))
    with pytest.raises(InputError, match=r"model\.keras: is not the model that card\.json beside it describes; export"):
        print(kat.load_model(folder).keras_model)
    with pytest.raises(InputError, match=r"model\.keras: is not the model that card\.json beside it describes; export"):
        load_network(folder)
    rewrite(folder, pooling="max")
    assert load_network(folder).output.keys() == max_pooled.output.keys()


@pytest.mark.parametrize("what", ["saved_model_checksum", pytest.param("checkpoint_hash", marks=pytest.mark.slow)])
def test_the_graph_or_the_weights_of_another_training(folder, what):
    path = folder / "1" / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    setattr(fingerprint, what, getattr(fingerprint, what) ^ 1)
    path.write_bytes(fingerprint.SerializeToString())
    with pytest.raises(InputError, match="1: its graph and its weights were not saved together, as when half of a"):
        SavedExtractor(folder / "1")
    path.unlink()
    assert SavedExtractor(folder / "1").names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["a", "b", "c", "d", "e"]}, r"labels is \['a', 'b', .*, but the SavedModel 1 .* says \['harmonic'"),
        pytest.param({"labels": []}, r"labels is \[\], but the SavedModel", marks=pytest.mark.slow),
        ({"pooling": "max"}, "pooling is max, but the SavedModel 1 beside it says mean"),
        pytest.param(
            {"audio": {"sample_rate": 22050}},
            "audio.sample_rate is 22050, but the SavedModel 1 beside it says 16000",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"layer_names": ["layer1"], "layer_sizes": {"layer1": 64}},
            "layer_sizes is {'layer1': 64}, but the SavedModel",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"layer_sizes": dict.fromkeys([f"layer{i}" for i in range(1, 6)], 3)},
            "layer_sizes is {'layer1': 3, ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_card_that_was_changed(folder, change, said):
    rewrite(folder, **change)
    with pytest.raises(InputError, match=rf"card.json: {said}"):
        SavedExtractor(folder / "1")


DAMAGES = ["cut weights", "no weights", "cut index", "cut graph", "empty graph"]


@pytest.mark.parametrize("damage", some_quick(DAMAGES, ["cut weights", "empty graph"]))
def test_a_damaged_saved_model_is_one_line(folder, damage):
    variables = folder / "1" / "variables"
    data, index, graph = next(variables.glob("*data*")), variables / "variables.index", folder / "1" / "saved_model.pb"
    if damage == "no weights":
        shutil.rmtree(variables)
    elif damage == "empty graph":
        graph.write_bytes(b"")
    else:
        path = {"cut weights": data, "cut index": index, "cut graph": graph}[damage]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"1: is not a SavedModel that serves \(.*\); export it again$") as error:
        SavedExtractor(folder / "1")
    assert "\n" not in str(error.value)


def card(**changes):
    audio = {"sample_rate": 2000, "clip_seconds": 0.25, "n_fft": 64, "hop_length": 32, "n_mels": 8}
    audio |= {"mel_f_min": 0.0, "mel_f_max": 1000.0}
    return {"audio": audio, "layer_names": ["layer1", "layer2"], **changes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (card(audio=None), "audio is null; expected an object"),
        (card(audio="16000"), 'audio is "16000"; expected an object'),
        (card(audio={**card()["audio"], "sample_rate": 16000.5}), "sample_rate: 16000.5 is not allowed"),
        (card(audio={**card()["audio"], "sample_rate": 10**12}), "sample_rate: "),
        (card(audio={**card()["audio"], "sample_rate": "16000"}), "sample_rate: '16000' is not allowed"),
        (card(layer_names=None), "layer_names is null; expected a list of texts"),
        (card(layer_names=["a", "a"]), "layer_names names 'a' twice; expected each once"),
        (card(layer_sizes={"layer3": 4}), "layer_sizes names other layers than layer_names"),
        (card(labels="dog"), 'labels is "dog"; expected a list of texts'),
        (card(labels=["dog", "dog"]), "labels names 'dog' twice; expected each once"),
        (card(multi_label="yes"), 'multi_label is "yes"; expected true or false'),
        (card(batch_clips=-1), "batch_clips is -1; expected a whole number from 1 up"),
        (card(batch_clips=0), "batch_clips is 0; expected a whole number from 1 up"),
        ([], "is no object"),
        (None, "is no object"),
    ],
)
def test_what_is_no_card(content, said, tmp_path):
    (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        Card.read(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ufeff{}", "NaN", '{"audio": 1'])
def test_what_is_no_json(text, tmp_path):
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"card\.json: (is not JSON|is no object|has no 'audio')"):
        Card.read(tmp_path)


@pytest.mark.parametrize("content", [card(network="\ud800"), card(remark={"a": ["\ud800"]})])
def test_a_card_of_half_a_character_could_not_be_written_again(content, tmp_path):
    (tmp_path / "card.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"card\.json: cannot be written \(.*surrogates not allowed\); export the mod"):
        Card.read(tmp_path)


def test_a_card_of_bytes_that_are_no_text(tmp_path):
    (tmp_path / "card.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"card\.json: is not JSON"):
        Card.read(tmp_path)
