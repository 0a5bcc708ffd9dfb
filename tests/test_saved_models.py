"""The models in git: small, with a complete card, and still what the code can load."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.export.saved_model import largest_difference
from keras_audio_transfer.training.fitting import weights_hash
from keras_audio_transfer.training.heads import SCORES

FOLDER = Path(__file__).parent.parent / "saved_models"
NAMES = re.findall(r"^\| `([\w.]+)`", (FOLDER / "README.md").read_text(), re.MULTILINE)


def test_every_model_in_git_is_listed():
    kept = re.findall(r"^!saved_models/([\w.]+)/$", (FOLDER.parent / ".gitignore").read_text(), re.MULTILINE)
    assert kept == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_git(name):
    folder = FOLDER / name
    assert sum(path.stat().st_size for path in folder.rglob("*") if "tensorboard" not in path.parts) < 12e6
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert weights_hash(model) == card["weights_sha256"]
    assert [*model.output] == [*card["layer_names"], SCORES]
    assert model.output[SCORES].shape[-1] == len(card["labels"])
    assert {"licence", "citation", "division", "clips"} <= {*card["training_data"]}
    assert 0 < card["scores"]["test"]["accuracy"] < 1
    assert largest_difference(model, AudioConfig.from_dict(card["audio"]), folder / "1") < 1e-5
    # Every clip alone, as in a batch.
    waveforms = np.random.default_rng(0).normal(0, 0.1, (3, 16000)).astype(np.float32)
    together = model(tf.constant(waveforms))[SCORES].numpy()
    alone = np.concatenate([model(tf.constant(waveform[None]))[SCORES].numpy() for waveform in waveforms])
    np.testing.assert_allclose(together, alone, atol=1e-5)
