"""What a model folder holds: `card.json`, `model.keras`, and a SavedModel per version. Without TensorFlow."""

import json
from pathlib import Path

from keras_audio_transfer.errors import InputError

SCORES = "scores"  # the output that is no layer's


def read_card(model_dir: Path) -> dict:
    """The card of a model folder. Raises InputError where there is none, or it lacks what a model needs."""
    path = model_dir / "card.json"
    if not path.is_file():
        what = "has no card.json" if model_dir.is_dir() else "is not a folder"
        raise InputError(f"{model_dir}: {what}; expected a model folder as scripts/train.py and export.py write it")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); export the model again") from error
    for key in ("audio", "layer_names"):
        if key not in card:
            raise InputError(f"{path}: has no {key!r}; export the model again")
    return card


def require_single_clips(model_dir: Path, card: dict, use: str) -> None:
    """Refuse a model whose features of a clip depend on the clips beside it, and say that this `use` cannot have it."""
    if card["audio"].get("decibel_maximum") == "batch":
        raise InputError(
            f"{model_dir}: its features depend on the whole batch, which {use}; import the calibrated version"
        )


def meaning_of_scores(model_dir: Path, card: dict) -> str:
    """What a model's scores are, in words. Raises InputError for a model without labels, which has no scores."""
    if not card.get("labels"):
        raise InputError(f"{model_dir / 'card.json'}: names no labels, so there are no scores; expected a classifier")
    of_head = "a probability for each tag by itself" if card.get("multi_label") else "probabilities, whose sum is 1"
    return card.get("scores_are", of_head)


def versions(model_dir: Path) -> list[Path]:
    """The folders of a model folder's versions, the newest last; none where there is no such folder."""
    return sorted((path for path in model_dir.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def latest_saved_model(model_dir: Path) -> Path:
    """The SavedModel with the highest version in a model folder, the one TF Serving would serve."""
    saved_models = [path for path in versions(model_dir) if (path / "saved_model.pb").is_file()]
    if not saved_models:
        raise InputError(f"{model_dir}: holds no SavedModel; expected {model_dir / '1' / 'saved_model.pb'}")
    return saved_models[-1]
