"""What a model folder holds: `card.json`, `model.keras`, and a SavedModel per version. Without TensorFlow."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_json

SCORES, PROBABILITIES, KNOWN = OF_HEAD = "scores", "probabilities", "known"  # the outputs that are no layer's
LONGEST = "longest_seconds"  # of `training_data`
CARD = "card"  # what a SavedModel's signature `info` returns
_CHECKOUT = Path(__file__).resolve().parents[1]

# What a field of `card.json` may hold besides null, and in words.
_TEXT = (lambda value: isinstance(value, str), "a text")
_TEXTS = (lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of texts")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_NUMBER = (lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a whole number")
_COUNT = (lambda value: _NUMBER[0](value) and value >= 1, "a whole number from 1 up")
_OBJECT = (lambda value: isinstance(value, dict), "an object")
_NUMBERS = (lambda value: isinstance(value, list) and all(_NUMBER[0](v) for v in value), "a list of whole numbers")
_SIZES = (lambda value: _OBJECT[0](value) and all(_NUMBER[0](v) for v in value.values()), "an object of whole numbers")


def _card_field(kind: tuple[Callable[[Any], bool], str], default: Any = None, **options: Any) -> Any:
    return field(**(options or {"default": default}), metadata={"kind": kind})


@dataclass(frozen=True)
class Card:
    """What `card.json` says of a model; a SavedModel carries the same text (signature `info`).

    Attributes:
        audio: the front end.
        layer_sizes: layer name -> channels of its features, in order of depth.
        network, network_citation: the backbone's name, and the paper that describes it.
        multiscale: dilations of the multiscale input; none for the spectrogram alone.
        initial_weights: what the training began with, such as 'imagenet'; None for random ones.
        pooling: how feature maps became features.
        labels: of the scores, in order; none for a model without a head.
        multi_label: whether a clip can have several labels.
        scores_are: what the scores mean, where they are no probabilities.
        probe: the SVM in the model: layers, channels, kernel, C, gamma, layer_weights, support_vectors; of several
            labels a clip also thresholds, label -> probability from which on a clip has it.
        training_data: dataset, licence, citation, division, clips; of `classify` also longest_seconds, of its clips.
        transferred_from: the training data of the network that this one was made of.
        epochs_trained: with the data above.
        scores: part ('test' ...) -> measure -> value.
        settings: of the command that made it.
        seed: of everything random.
        weights: where published weights come from.
        batch_clips: clips that have to be given to the model together; 1 unless a clip's features depend on its batch.
        calibration: the clips that statistics of normalisation were collected on.
        versions: package -> version.
        weights_sha256: of `training.fitting.weights_hash`.
        other: fields that this version of the package does not know; kept as they are.
    """

    audio: AudioConfig
    layer_sizes: Mapping[str, int] = _card_field(_SIZES, default_factory=dict)
    network: str | None = _card_field(_TEXT)
    network_citation: str | None = _card_field(_TEXT)
    multiscale: Sequence[int] = _card_field(_NUMBERS, ())
    initial_weights: str | None = _card_field(_TEXT)
    pooling: str | None = _card_field(_TEXT)
    labels: Sequence[str] = _card_field(_TEXTS, ())
    multi_label: bool = _card_field(_FLAG, False)
    scores_are: str | None = _card_field(_TEXT)
    probe: Mapping[str, Any] | None = _card_field(_OBJECT)
    training_data: Mapping[str, Any] | None = _card_field(_OBJECT)
    transferred_from: Mapping[str, Any] | None = _card_field(_OBJECT)
    epochs_trained: int | None = _card_field(_NUMBER)
    scores: Mapping[str, Any] | None = _card_field(_OBJECT)
    settings: Mapping[str, Any] | None = _card_field(_OBJECT)
    seed: int | None = _card_field(_NUMBER)
    weights: str | None = _card_field(_TEXT)
    batch_clips: int = _card_field(_COUNT, 1)
    calibration: Mapping[str, Any] | None = _card_field(_OBJECT)
    versions: Mapping[str, str] | None = _card_field(_OBJECT)
    weights_sha256: str | None = _card_field(_TEXT)
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, model_dir: Path) -> "Card":
        """The card of a model folder.

        Raises:
            InputError: there is none, or it is not what a card has to be.
        """
        path = model_dir / "card.json"
        if not path.is_file():
            raise InputError(f"{model_dir}: {why_no_model_folder(model_dir)}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON ({str(error)[:100]}); export the model again") from error
        return cls.from_dict(values, str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "card") -> "Card":
        """The card that `to_dict` described; `where` begins the error messages.

        Raises:
            InputError: a field that a model needs is missing, or one is of another kind.
        """
        if not isinstance(values, dict):
            raise InputError(f"{where}: is no object; export the model again")
        try:
            json.dumps(values, ensure_ascii=False, indent=2).encode()
        except (ValueError, RecursionError) as error:  # half of a character, or more brackets than can be written
            raise InputError(f"{where}: cannot be written ({str(error)[:100]}); export the model again") from error
        for name in ("audio", "layer_names"):
            if name not in values:
                raise InputError(f"{where}: has no {name!r}; export the model again")
        kinds = {"audio": _OBJECT, "layer_names": _TEXTS}
        kinds |= {f.name: f.metadata["kind"] for f in fields(cls) if f.metadata}
        for name, (is_kind, expected) in kinds.items():
            value = values.get(name)
            if not (is_kind(value) or (value is None and name not in ("audio", "layer_names"))):
                raise InputError(f"{where}: {name} is {json.dumps(value)[:60]}; expected {expected}; export it again")
        for name in ("layer_names", "labels"):
            twice = [text for text, count in Counter(values.get(name) or ()).items() if count > 1]
            if twice:
                raise InputError(f"{where}: {name} names {twice[0]!r} twice; expected each once; export it again")
        if "layer_sizes" in values and not {*(values["layer_sizes"] or {})} <= {*values["layer_names"]}:
            raise InputError(f"{where}: layer_sizes names other layers than layer_names; export it again")
        known = {f.name: values[f.name] for f in fields(cls) if f.metadata and values.get(f.name) is not None}
        sizes = known.get("layer_sizes", {})
        known["layer_sizes"] = {name: sizes.get(name, 0) for name in values["layer_names"]}
        other = {name: value for name, value in values.items() if name not in kinds}
        try:
            audio = AudioConfig.from_dict(values["audio"])
        except InputError as error:
            raise InputError(f"{where}: audio: {error}; export it again") from error
        return cls(audio=audio, **known, other=other)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `card.json`. What does not apply to the model is left out."""
        says_nothing = {"labels": len(self.labels) == 0, "batch_clips": self.batch_clips == 1}
        always = ("initial_weights", "transferred_from")  # null says something there
        optional = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata and f.name != "layer_sizes"}
        optional = {
            name: [*value] if name in ("multiscale", "labels") else value
            for name, value in optional.items()
            if name in always or not (value is None or says_nothing.get(name))
        }
        return {
            "audio": self.audio.to_dict(),
            "layer_names": self.layer_names,
            "layer_sizes": dict(self.layer_sizes),
            **optional,
            **self.other,
        }

    def write(self, model_dir: Path) -> None:
        """Write `card.json` into the model folder."""
        write_json(model_dir / "card.json", self.to_dict())

    @property
    def layer_names(self) -> list[str]:
        """The layers in order of depth."""
        return [*self.layer_sizes]

    def of_network(self) -> "Card":
        """What holds of the network itself, for the card of a model that is built on it."""
        kept = ("layer_sizes", "network", "network_citation", "multiscale", "initial_weights", "pooling")
        return Card(self.audio, **{name: getattr(self, name) for name in kept})

    def lineage(self) -> dict[str, Any] | None:
        """What a model that is built on this one says in `transferred_from`."""
        if self.transferred_from is None:
            return None if self.training_data is None else dict(self.training_data)
        return {**(self.training_data or {}), "transferred_from": self.transferred_from}

    def licences(self) -> list[str]:
        """Of all that the weights have learnt from, the latest first: 'urbansound8k, CC BY-NC 3.0'."""
        found, data = [], self.lineage()
        while isinstance(data, Mapping):
            if licence := data.get("licence"):
                found.append(f"{str(data.get('dataset')).partition(':')[0]}, {str(licence).rstrip('.')}")
            data = data.get("transferred_from")
        return [*dict.fromkeys(found)]

    def trained_on(self, weights_sha256: str) -> "Card":
        """The card for weights of that hash: of other weights than its own, what no longer holds is left out."""
        card = replace(self, weights_sha256=weights_sha256)
        if self.weights_sha256 in (None, weights_sha256):
            return card
        gone: dict[str, Any] = dict.fromkeys(("training_data", "scores", "scores_are", "probe", "settings", "seed"))
        return replace(card, **gone, transferred_from=self.training_data or self.transferred_from)

    def decisive(self) -> dict[str, Any]:
        """What a model's answers depend on; None for what the card does not say."""
        return {
            **{name: getattr(self, name) for name in ("weights_sha256", "network", "pooling")},
            **{f"audio.{name}": value for name, value in self.audio.to_dict().items()},
            "multiscale": [*self.multiscale],
            "layer_sizes": dict(self.layer_sizes),
            "labels": [*self.labels],
        }

    def fingerprint(self) -> str:
        """SHA-256 of what the model's answers depend on, for the settings of a run."""
        return hashlib.sha256(json.dumps(self.decisive()).encode("utf-8", "surrogateescape")).hexdigest()

    def differences(self, other: "Card") -> list[tuple[str, str, str]]:
        """What two cards of one model cannot disagree on: (field, of this one, of the other), in a few words."""
        mine, its = self.decisive(), other.decisive()
        unsaid = {name for name in ("weights_sha256", "network", "pooling") if None in (mine[name], its[name])}
        names = [name for name in mine if name not in unsaid and mine[name] != its[name]]
        return [(name, str(mine[name])[:60], str(its[name])[:60]) for name in names]

    @property
    def has_probabilities(self) -> bool:
        """Whether a probe gives probabilities beside its scores."""
        return "calibration" in (self.probe or {})

    def require_single_clips(self, model: Path, use: str) -> None:
        """Refuse a model whose features of a clip depend on the clips beside it, and say that `use` cannot have it.

        Raises:
            InputError: it is such a model.
        """
        if self.audio.decibel_maximum == "batch":
            raise InputError(
                f"{model}: its features depend on the whole batch, which {use}; import the calibrated version"
            )

    def meaning_of_scores(self, model: Path) -> str:
        """What the model's scores are, in words. Raises InputError for a model without labels, which has no scores."""
        if not self.labels:
            raise InputError(f"{model / 'card.json'}: names no labels, so there are no scores; expected a classifier")
        of_head = "a probability for each tag by itself" if self.multi_label else "probabilities, whose sum is 1"
        said = self.scores_are or of_head
        # The card speaks of the SavedModel's outputs; answers have the probabilities beside their scores.
        said = said.replace("no probabilities: these are", "they are no probabilities: those are")
        return said.replace("in the output `probabilities`", "beside them, as `probability`")


def why_no_model_folder(path: Path) -> str:
    """What to say of a path that is no model folder."""
    if path.exists():
        for folder in [*path.parents][:2]:  # of MODEL/model.keras, MODEL/1, MODEL/1/saved_model.pb
            if (folder / "card.json").is_file():
                return f"is inside a model folder; name the folder itself: {folder}"
    what = "has no card.json" if path.is_dir() else "is not a folder"
    return f"{what}; expected a model folder, as `train` and `export` write it"


def default_model() -> Path:
    """The model folder that comes with the package: ConvNet-5, trained on three folds of UrbanSound8K (CC BY-NC)."""
    packaged = Path(__file__).resolve().parent / "default"
    return packaged if packaged.is_dir() else _CHECKOUT / "saved_models" / "convnet5.urbansound8k"


def keras_file(model_dir: Path) -> Path:
    """The `model.keras` of a model folder, which can be trained on. Raises InputError where there is none."""
    path = model_dir / "model.keras"
    if not path.is_file():
        raise InputError(f"{model_dir}: has no model.keras to train on; export the model again")
    return path


def versions(model_dir: Path) -> list[Path]:
    """The folders of a model folder's versions, the newest last; none where there is no such folder."""
    return sorted((path for path in model_dir.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def latest_saved_model(model_dir: Path) -> Path:
    """The SavedModel with the highest version in a model folder, the one TF Serving would serve."""
    saved_models = [path for path in versions(model_dir) if (path / "saved_model.pb").is_file()]
    if not saved_models:
        raise InputError(f"{model_dir}: holds no SavedModel; expected {model_dir / '1' / 'saved_model.pb'}")
    return saved_models[-1]
