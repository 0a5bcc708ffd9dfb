"""A study's file: which sources, targets, features, classifiers, trainings, numbers of clips and seeds.

Without TensorFlow.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from keras_audio_transfer.config import POOLINGS
from keras_audio_transfer.datasets import DATASETS
from keras_audio_transfer.errors import InputError, is_unknown
from keras_audio_transfer.finetuning_config import STRATEGIES, FinetuningConfig
from keras_audio_transfer.layer_names import selected_layers
from keras_audio_transfer.mfcc import FLOORS
from keras_audio_transfer.model_folder import Card, keras_file
from keras_audio_transfer.pretrained import imported
from keras_audio_transfer.pretrained.catalogue import CATALOGUE
from keras_audio_transfer.study.other_studies import answered

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LAST, EACH, SINGLE, ALL, CHOSEN, COMBINATIONS = "last", "each", "single", "all", "chosen", "combinations"
_WITH_FLOORS = tuple(f"{layers}+{floor}" for layers in (LAST, ALL) for floor in FLOORS)
FEATURES = (LAST, EACH, SINGLE, ALL, CHOSEN, COMBINATIONS, *_WITH_FLOORS)
_MOST_COMBINED = 6  # layers of which all combinations are scored, 63 then
SVM, LOGISTIC, CENTROID = CLASSIFIERS = ("svm", "logistic", "centroid")
TRAINED = "softmax"  # the classifier of cells that are trainings
MULTISCALE = "+multiscale"  # the end of their features' name
EVERY = "all"  # of the clips of a class
RANDOM, FLOOR = "random", "floor"  # kinds of sources
TWIN = f" ({RANDOM})"  # the end of the name of a network with random weights
_NAME = (  # of files, too
    lambda value: isinstance(value, str) and re.fullmatch(r"\w[\w-]{,59}", value),
    "letters, digits, '_' and '-', at most 60",
)
_TEXT = (lambda value: isinstance(value, str) and value.strip() and value.isprintable(), "a text of one line")
_KIND = (  # what begins with a bracket stands for all kinds in a report
    lambda value: _TEXT[0](value) and not value.startswith("(") and value != FLOOR,
    f"a text of one line that does not begin with '(', and is not {FLOOR!r}",
)
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_NUMBER = (lambda value: type(value) in (int, float) and abs(value) < 2**63, "a number")
_CLIPS = (lambda value: (type(value) is int and value >= 1) or value == EVERY, f"numbers from 1 up, or '{EVERY}'")
_TABLE = (lambda value: isinstance(value, dict), "a table")
_Kind = tuple[Callable[[Any], Any], str]


def _whole(least: int, most: int) -> _Kind:
    return (lambda value: type(value) is int and least <= value <= most), f"a whole number, {least} to {most}"


_FOLDS, _COUNT, _SEED = _whole(1, 2**31 - 1), _whole(0, 2**31 - 1), _whole(0, 2**32 - 1)


@dataclass(frozen=True)
class Source:
    """What is heard with: a network, or a floor.

    Attributes:
        name: letters, digits, '_' and '-'; of a network with random weights, its twin's and ' (random)'; of a floor
            'mfcc' or 'log_mel'.
        kind: what it was trained on, in a word of the study's own: 'music', 'speech', ...; 'random'; 'floor'.
        model: the model folder; None of a floor.
        card: that folder's.
        layers: those that are looked at, in order of depth; of a floor its name.
        is_random: whether its weights are random.
        heard: the name of the target that it was trained on; '' where it is none of them.
        features: some of `FEATURES`; of a floor none.
        multiscale: the model folder of the same network with a multiscale input, for trainings; None for none.
    """

    name: str
    kind: str
    model: Path | None = None
    card: Card | None = None
    layers: tuple[str, ...] = ()
    is_random: bool = False
    heard: str = ""
    features: tuple[str, ...] = ()
    multiscale: Path | None = None

    @property
    def inputs(self) -> dict[str, Path]:
        """'' or `MULTISCALE` -> the model folder of the network with that input."""
        own = {MULTISCALE if self.card.multiscale else "": self.model}
        return own if self.multiscale is None else own | {MULTISCALE: self.multiscale}

    def depth(self, layer: str) -> float:
        """Where a layer lies in the whole network: above 0, of the last one 1."""
        names = self.layers if self.card is None else self.card.layer_names
        return (names.index(layer) + 1) / len(names)


@dataclass(frozen=True)
class Target:
    """A data set of one label a clip, to which is transferred.

    Attributes:
        name: letters, digits, '_' and '-'.
        kind: of its sounds, in a word of the study's own.
        dataset, data_dir: see `datasets.load`.
        group_by: see `groups.grouped`.
        limit: at most so many clips of each class, of data sets with folds or splits in each of them; 0 for all.
        clips_a_class: how many clips of each class are fitted on: numbers, or 'all'.
    """

    name: str
    kind: str
    dataset: str
    data_dir: Path | None = None
    group_by: str | None = None
    limit: int = 0
    clips_a_class: tuple[int | str, ...] = (EVERY,)


@dataclass(frozen=True)
class Finetuning:
    """Which networks are trained on which targets, and how.

    Attributes:
        strategies: some of `STRATEGIES`, but no probes.
        sources: names of networks.
        targets: names.
        clips_a_class: as of `Study`.
        folds: at most so many of each target are scored, its last ones.
        config: of all trainings.
    """

    strategies: tuple[str, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    clips_a_class: tuple[int | str, ...]
    folds: int
    config: FinetuningConfig


@dataclass(frozen=True)
class Study:
    """Everything that is compared with everything.

    Attributes:
        path: of the file.
        name: of the study.
        seeds: of subsets, and of folds where a target has none of its own; of random weights the first.
        classifiers: some of `CLASSIFIERS`.
        poolings: some of `config.POOLINGS`; none: each network's own.
        sources: by their names; after each network its random twin, where one is asked for.
        targets: by their names.
        finetuning: what is trained; None for nothing.
        beside: folders of other studies, whose answers the report has where there is none of its own.
    """

    path: Path
    name: str
    seeds: tuple[int, ...]
    classifiers: tuple[str, ...]
    poolings: tuple[str, ...]
    sources: Mapping[str, Source]
    targets: Mapping[str, Target]
    finetuning: Finetuning | None = None
    beside: tuple[Path, ...] = ()

    @property
    def joined_floors(self) -> list[str]:
        """The floors whose features are joined to those of networks."""
        names = [name for source in self.sources.values() for name in source.features]
        return [floor for floor in FLOORS if any(name.endswith(f"+{floor}") for name in names)]

    def poolings_of(self, source: Source) -> tuple[str, ...]:
        """The poolings of a source's features: of a floor one of no name."""
        if source.card is None:
            return ("",)
        return self.poolings or (source.card.pooling or "mean",)


def read(path: Path) -> Study:
    """The study that a TOML file describes; docs/studies.md has the keys. Paths in it begin at its folder.

    Raises:
        InputError: no such file or no TOML; a key is missing, unknown or of another type; a name that does not exist;
            a model folder that is none; a study beside it that has not been run.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "study.toml"
    >>> sources, targets = "[sources.mfcc]\\nfloor='mfcc'\\n", "[targets.a]\\nkind='halls'\\ndataset='synthetic'"
    >>> _ = path.write_text(f"name = 'tiny'\\n{sources}{targets}")
    >>> study = read(path)
    >>> [*study.sources], [*study.targets], study.seeds
    (['mfcc'], ['a'], (0,))
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a study's file (TOML)") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InputError(f"{path}: is no TOML ({' '.join(str(error).split())[:100]}); see docs/studies.md") from error
    file = _Keys(path, "", content)
    clips_a_class = file.listed("clips_a_class", _CLIPS, (EVERY,))
    features = file.listed("features", FEATURES, (LAST, SINGLE, ALL))
    sources = {source.name: source for keys in file.tables("sources") for source in _sources(keys, features)}
    targets = {keys.name: _target(keys, clips_a_class) for keys in file.tables("targets")}
    trained = None
    if "finetuning" in content:
        trained = _finetuning(file.table("finetuning"), clips_a_class, sources, tuple(targets))
    study = Study(
        path,
        name=file.get("name", _TEXT),
        seeds=file.listed("seeds", _SEED, (0,)),
        classifiers=file.listed("classifiers", CLASSIFIERS, (SVM,)),
        poolings=file.listed("poolings", POOLINGS, (), may_be_empty=True),
        targets=targets,
        sources=sources,
        finetuning=trained,
        beside=tuple(
            {folder.resolve(): folder for folder in map(file.beside, file.listed("beside", _TEXT, ()))}.values()
        ),
    )
    file.check_all_known()
    for source in study.sources.values():
        if source.heard and source.heard not in study.targets:
            raise file.error(f"sources.{source.name}.heard", is_unknown(source.heard, study.targets))
    if {source.heard for source in study.sources.values()} == {*study.targets}:  # then there is one target
        raise file.error("targets", "every source was trained on the only one, and is not scored there; add another")
    for folder in study.beside:
        try:
            answered(folder)
        except InputError as error:
            raise file.error("beside", f"{error}") from error
    return study


def _sources(keys: "_Keys", features: tuple[str, ...]) -> list[Source]:
    """A source, and its random twin where one is asked for. The features are those of the whole study."""
    floor = keys.get("floor", tuple(FLOORS), "")
    if floor or keys.name in FLOORS:
        if floor != keys.name:
            what = f"{floor!r}" if floor else "nothing"
            raise keys.error("floor", f"{what} received; a floor, and nothing else, is called as what it is")
        found = [Source(floor, keys.get("kind", _TEXT, FLOOR), layers=(floor,))]
    else:
        model, kind, layers = keys.get("model", _TEXT), keys.get("kind", _KIND), keys.listed("layers", _TEXT, ())
        multiscale, key = keys.get("multiscale", _TEXT, ""), "model"
        try:
            model = keys.model_folder(model)
            card = Card.read(model)
            card.require_single_clips(model, "a study does not have")
            key = "layers"
            layers = selected_layers(layers or None, card.layer_names)
            key = "multiscale"
            multiscale = _multiscale(keys, multiscale, model, card) if multiscale else None
        except InputError as error:
            raise keys.error(key, str(error).removeprefix("layers: ")) from error
        about = model, card, tuple(sorted(layers, key=card.layer_names.index))
        features = keys.listed("features", FEATURES, features)
        if COMBINATIONS in features and len(layers) > _MOST_COMBINED:
            what = f"{COMBINATIONS!r} of {len(layers)} layers would be {2 ** len(layers) - 1}; expected at most "
            raise keys.error("features", f"{what}{_MOST_COMBINED} layers; name some as `layers`, or leave it out")
        about_it = {"heard": keys.get("heard", _NAME, ""), "features": features, "multiscale": multiscale}
        found = [Source(keys.name, kind, *about, **about_it)]
        if keys.get("random", _FLAG, False):
            found.append(Source(f"{keys.name}{TWIN}", RANDOM, *about, is_random=True, features=features))
    keys.check_all_known()
    return found


def _multiscale(keys: "_Keys", text: str, model: Path, card: Card) -> Path:
    """The folder of the network with a multiscale input that is named."""
    folder = keys.model_folder(text)
    other = Card.read(folder)
    if card.multiscale:
        raise InputError(f"{model}, the source itself, has a multiscale input; name the plain network as `model`")
    if not other.multiscale:
        raise InputError(f"{folder}: has no multiscale input; train one with --multiscale, or leave it out")
    if (other.network, other.audio) != (card.network, card.audio):
        raise InputError(f"{folder}: is another network than {model}, or has another front end; expected the same")
    return folder


def _finetuning(
    keys: "_Keys", clips_a_class: tuple[int | str, ...], sources: Mapping[str, Source], targets: tuple[str, ...]
) -> Finetuning:
    """What is trained: by default all networks that can be, on all targets."""
    numbers = {field.name: type(field.default) for field in fields(FinetuningConfig) if field.default is not None}
    values = {
        name: kind(keys.get(name, _NUMBER if kind is float else _COUNT, getattr(FinetuningConfig, name)))
        for name, kind in numbers.items()
    }
    networks = {source.name: source for source in sources.values() if source.card and not source.is_random}
    wanted, trained = keys.listed("sources", _TEXT, ()), []
    for name in wanted or networks:
        if name not in networks:
            known = f"{name!r} is a floor or has random weights; there is nothing to fine-tune"
            raise keys.error("sources", known if name in sources else is_unknown(name, networks))
        try:
            _ = [keras_file(folder) for folder in networks[name].inputs.values()]
            trained.append(name)
        except InputError as error:
            if wanted:
                raise keys.error("sources", f"{error}") from error
    if not trained:
        raise keys.error("sources", "no source is a network that can be trained; add one, or leave [finetuning] out")
    try:
        config = FinetuningConfig(**values)
        for name in trained:
            config.check_layers(networks[name].card.layer_names)
    except InputError as error:
        key, _, what = f"{error}".partition(": ")
        raise keys.error(key, what) from error
    strategies = tuple(name for name in STRATEGIES if name != "probe")  # those are what the other cells are
    found = Finetuning(
        keys.listed("strategies", strategies, ("finetune", "scratch")),
        tuple(trained),
        keys.listed("targets", targets, targets),
        keys.listed("clips_a_class", _CLIPS, clips_a_class),
        keys.get("folds", _FOLDS, 1),
        config,
    )
    keys.check_all_known()
    return found


def _target(keys: "_Keys", clips_a_class: tuple[int | str, ...]) -> Target:
    """A target; the numbers of clips are those of the whole study."""
    data_dir = keys.get("data_dir", _TEXT, "")
    target = Target(
        keys.name,
        kind=keys.get("kind", _KIND),
        dataset=keys.get("dataset", tuple(DATASETS)),
        data_dir=keys.beside(data_dir) if data_dir else None,
        group_by=keys.get("group_by", _TEXT, "") or None,
        limit=keys.get("limit", _COUNT, 0),
        clips_a_class=keys.listed("clips_a_class", _CLIPS, clips_a_class),
    )
    keys.check_all_known()
    return target


class _Keys:
    """A table of the file, whose keys are asked for one after the other; a message names the file and the key."""

    def __init__(self, path: Path, where: str, content: dict[str, Any]):
        self._path, self._where, self._content, self._asked = path, where, content, dict.fromkeys(())
        self.name = where.rpartition(".")[2]

    def error(self, key: str, what: str) -> InputError:
        return InputError(f"{self._path}: {f'{self._where}.{key}'.lstrip('.')}: {what}")

    def get(self, key: str, kind: "_Kind | Sequence[str]", default: Any = None) -> Any:
        """A value of a kind, or one of some names."""
        self._asked[key] = None
        if key not in self._content:
            if default is None:
                raise self.error(key, f"is missing; expected {_expected(kind)}")
            return default
        return self._checked(key, self._content[key], kind)

    def listed(self, key: str, kind: "_Kind | Sequence[str]", default: tuple, may_be_empty: bool = False) -> tuple:
        """The values of a list, each once."""
        values = self.get(key, (lambda value: isinstance(value, list), "a list"), default)
        if not values and key in self._content and not may_be_empty:
            raise self.error(key, "is empty; expected one value at least, or leave it out")
        return tuple(dict.fromkeys(self._checked(key, value, kind) for value in values))

    def table(self, key: str) -> "_Keys":
        """A table in the file."""
        return _Keys(self._path, key, self.get(key, _TABLE))

    def tables(self, key: str) -> "list[_Keys]":
        """The tables in a table, by their names."""
        found = self.get(key, _TABLE)
        if not found:
            raise self.error(key, f"is empty; expected one at least, as in [{key}.NAME]")
        for name, content in found.items():
            self._checked(f"{key}.{name}", content, _TABLE)
            self._checked(key, name, _NAME)
            if alike := [other for other in found if other != name and other.casefold() == name.casefold()]:
                raise self.error(key, f"{name!r} and {alike[0]!r} would be the same file on some disks; rename one")
        return [_Keys(self._path, f"{key}.{name}", content) for name, content in found.items()]

    def check_all_known(self) -> None:
        for key in self._content:
            if key not in self._asked:
                raise self.error(key, f"the key {is_unknown(key, self._asked)}")

    def beside(self, text: str) -> Path:
        """A path that begins at the file's folder."""
        return self._path.parent / text

    def model_folder(self, text: str) -> Path:
        """Such a path, or what a name stands for; see `imported.find`."""
        there = self.beside(text)
        return imported.find(text) if text in (imported.DEFAULT, *CATALOGUE) and not there.exists() else there

    def _checked(self, key, value, kind):
        if isinstance(kind[0], str):
            if value not in kind:
                raise self.error(key, is_unknown(value, kind))
        elif not kind[0](value):
            raise self.error(key, f"{str(value)[:60]!r} is not allowed; expected {kind[1]}")
        return value


def _expected(kind):
    return f"one of {', '.join(kind)}" if isinstance(kind[0], str) else kind[1]
