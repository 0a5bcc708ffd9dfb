"""A model folder as one object: features and scores of audio in memory. TensorFlow is imported when it computes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from numbers import Real
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.answers import Answers
from keras_audio_transfer.audio.arrays import Samples, checked_rate, split_clips, to_float32
from keras_audio_transfer.audio.loading import crop_or_pad, mix_and_resample
from keras_audio_transfer.audio.sliding_windows import check_hop
from keras_audio_transfer.config import AudioConfig, checked_path, checked_whole, shown
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layer_names import selected_layers
from keras_audio_transfer.model_folder import SCORES, Card, default_model, latest_saved_model
from keras_audio_transfer.pretrained.imported import model_folder
from keras_audio_transfer.remote_paths import is_url
from keras_audio_transfer.streaming import FeatureStream

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from keras_audio_transfer.extraction import SavedExtractor

TIMES = "times"
_MODEL = "a model, the path of its folder, or None"
_TOP = "the model's labels, or None"

Features: TypeAlias = dict[str, npt.NDArray[np.floating[Any]]]
Audio: TypeAlias = npt.ArrayLike | Sequence[npt.ArrayLike]


def load_model(path: str | PathLike[str] | None = None) -> "Model":
    """Load a model folder.

    Fast: the network itself is loaded when it is first needed.

    Args:
        path: a model folder, as `train`, `classify` or `export` write it, or its address (`s3://...`); or the name of a
            published network that was imported without naming a folder, such as 'yamnet'. None: the one that comes with
            the package, ConvNet-5 trained on UrbanSound8K (its licence: CC BY-NC).

    Raises:
        InputError: no model folder.

    Examples:
        >>> import keras_audio_transfer as kat
        >>> model = kat.load_model()
        >>> model.sample_rate, model.layer_names
        (16000, ['layer1', 'layer2', 'layer3', 'layer4', 'layer5'])
        >>> model.labels[:3]
        ['air_conditioner', 'car_horn', 'children_playing']
    """
    expected = "the path of a model folder, or None"
    folder = default_model() if path is None else model_folder("path", path, expected)
    card = Card.read(folder)
    saved_model = latest_saved_model(folder)
    return Model(folder.absolute(), card, _modified(saved_model))


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model folder: features of every layer, and scores where it has labels. Make it with `load_model`.

    It never changes; a copy is the same object, and pickling keeps no more than its path.

    Attributes:
        path: of the model folder, absolute.
        card: what `card.json` says of the model: front end, training data with their licence, scores, versions.
        modified: when its SavedModel was written, in nanoseconds since 1970.
    """

    path: Path
    card: Card
    modified: int

    @property
    def sample_rate(self) -> int:
        """What the network hears, in Hz. Audio of any other rate is resampled to it."""
        return self.card.audio.sample_rate

    @property
    def layer_names(self) -> list[str]:
        """The layers in order of depth."""
        return self.card.layer_names

    @property
    def labels(self) -> list[str]:
        """The labels that scores are for, in order; none for a model that has only features."""
        return [*self.card.labels]

    @cached_property
    def keras_model(self) -> "keras.Model":
        """The Keras model, to reuse and to fine-tune: waveform -> dict of every layer's features, and `scores`.

        Its input is float32 (batch, samples) at `sample_rate`. It is not compiled; to train its head, compile it with
        `loss={"scores": "categorical_crossentropy"}` (`"binary_crossentropy"` for tags), and see `audio_dataset`.
        Training it changes neither the files nor what `features` and `predict` return.
        """
        from keras_audio_transfer.extractor import load_model as load_keras_model
        from keras_audio_transfer.training.fitting import check_described

        path = self.path / "model.keras"
        model = load_keras_model(path)
        check_described(model, self.card, path)
        return model

    @cached_property
    def saved_model(self) -> "SavedExtractor":
        """What `features` and `predict` run: the newest SavedModel in the folder.

        A function of float32 (batch, samples) at `sample_rate`, at least a frame, to a dict of arrays; loaded once in a
        process.
        """
        with _LOADING:
            return _saved_model(self.path, self.modified)

    @overload
    def features(
        self,
        audio: Audio,
        sample_rate: float | None = None,
        layers: str | Iterable[str] | None = None,
        hop_seconds: None = None,
    ) -> Features: ...

    @overload
    def features(
        self,
        audio: Audio,
        sample_rate: float | None = None,
        layers: str | Iterable[str] | None = None,
        hop_seconds: float | None = None,
    ) -> Features | list[Features]: ...

    def features(
        self,
        audio: Audio,
        sample_rate: float | None = None,
        layers: str | Iterable[str] | None = None,
        hop_seconds: float | None = None,
    ) -> Features | list[Features]:
        """The features of every layer, of one clip or of several.

        Audio is an array (samples,), or a list of such arrays of any lengths. With channels, an array has two
        dimensions: (samples, channels) alone, either way round in a list; they are averaged. Other arrays of two
        dimensions are a batch (clips, samples), and those of three one with channels (clips, samples, channels). So a
        stereo recording that is stored (2, samples), as librosa does, is passed as `[audio]` or `audio.T`.

        Args:
            audio: see above. Floats in [-1, 1] are taken as they are, and louder ones up to 100, beyond which they are
                taken for integers that were never scaled; int16, int32 and uint8 are scaled to [-1, 1].
            sample_rate: of the audio, in Hz; 100 to 768000. Needed always: audio of another rate than the model's is
                resampled to that.
            layers: names, or one, in the order wanted; None for all.
            hop_seconds: None: features of each clip, over its whole length. Otherwise features over time, of the
                windows of `card.audio.clip_seconds` around every multiple of this before the clip's end; at both ends
                the clip is reflected. At least 0.001.

        Returns:
            Layer -> float32 (channels,) of one clip; (clips, channels) of a list or batch, row by row what each clip
            has alone. A clip is heard as long as it is (one shorter than a frame is repeated or filled with zeros to
            one). `kat.extract`, `predict` and the commands first make a clip shorter than `card.audio.clip_seconds`
            that long, as in training: its features there are others.

            With `hop_seconds`: layer -> float32 (times, channels), and `times` -> float64 (times,), the windows'
            centres in seconds. For a list or batch a list of such dicts, because clips differ in their number of times.

        Raises:
            InputError: audio, a rate, layers or a hop that cannot be; or a model whose features of a clip depend on the
                clips beside it.

        Examples:
            >>> import numpy as np
            >>> import keras_audio_transfer as kat
            >>> model = kat.load_model()
            >>> sine = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
            >>> features = model.features(sine, 44100)
            >>> features["layer5"].shape, features["layer5"].dtype
            ((64,), dtype('float32'))
            >>> model.features([sine, sine[:9000]], 44100, layers=["layer4", "layer5"])["layer4"].shape
            (2, 64)
            >>> over_time = model.features(sine, 44100, hop_seconds=0.25)
            >>> over_time["layer5"].shape, over_time["times"].tolist()
            ((4, 64), [0.0, 0.25, 0.5, 0.75])
        """
        clips, is_one = split_clips(audio)
        names = self.checked_layers(layers)
        self.card.require_single_clips(self.path, "a clip alone does not have")
        rate = checked_rate(sample_rate, self.sample_rate)
        hop = None if hop_seconds is None else check_hop(hop_seconds)
        scaled = _scaled(clips, is_one)
        if hop is not None:
            over_time = [self._over_time(name, clip, rate, names, hop) for name, clip in scaled.items()]
            return over_time[0] if is_one else over_time
        rows = [self._of_whole(clip, rate, names) for clip in scaled.values()]
        return rows[0] if is_one else {name: np.stack([row[name] for row in rows]) for name in names}

    def stream(
        self, sample_rate: float, hop_seconds: float = 1.0, layers: str | Iterable[str] | None = None
    ) -> FeatureStream:
        """Features over time of a sound of any length that comes chunk by chunk, as from a microphone.

        They are those of `features` with this `hop_seconds` for the whole sound, however it is cut into chunks. Memory
        does not grow with the sound. The features of a window come with the chunk that completes it: half of
        `card.audio.clip_seconds` after its centre (the first of them when a whole window was heard), and, where the
        rate is not the model's, at most 1500 samples of the lower rate later (0.09 s at 16 kHz).

        Args:
            sample_rate: of the chunks, see `features`.
            hop_seconds: see `features`.
            layers: names, or one, in the order wanted; None for all layers. Of a classifier also 'scores', and of one
                of `classify` 'probabilities' and 'known': see `predict`; labels are in the order of `labels`.

        Raises:
            InputError: see `features`.

        Examples:
            >>> import numpy as np
            >>> import keras_audio_transfer as kat
            >>> stream = kat.load_model().stream(44100, hop_seconds=2.0, layers=["layer5", "scores"])
            >>> sine = np.sin(2 * np.pi * 440 * np.arange(5 * 44100) / 44100)
            >>> for chunk in np.split(sine, 10):
            ...     for time, features in stream.push(chunk):
            ...         print(time, features["layer5"].shape, features["scores"].shape)
            0.0 (64,) (10,)
            2.0 (64,) (10,)
            >>> [time for time, features in stream.flush()]
            [4.0]
        """
        from keras_audio_transfer.extraction import features_of_window

        self.card.require_single_clips(self.path, "a clip alone does not have")
        rate, hop = checked_rate(sample_rate, self.sample_rate), check_hop(hop_seconds)
        there = self.layer_names if layers is None else [*self.layer_names, *self.saved_model.of_head]
        features_of = partial(features_of_window, self.saved_model, selected_layers(layers, there))
        return FeatureStream(features_of, self.card.audio, rate, hop)

    def predict(self, audio: Audio, sample_rate: float | None = None, top: int | None = None) -> "pd.DataFrame":
        """The labels of one clip or of several, with their scores.

        Each clip is heard as `card.audio` says: whole, one shorter than `clip_seconds` padded to it first, as in
        training; the scores are those that the command `predict` gives for the same sound in a file. What scores mean
        differs from model to model: `card.meaning_of_scores(path)` says it, and so does the frame's
        `attrs["scores_are"]`.

        Args:
            audio, sample_rate: see `features`.
            top: number of labels a clip; None for all.

        Returns:
            Columns `label` and `score`, the highest score first. Of a model of `classify` also `probability`, the
            highest first, and `known`, of the clip: the share of held-out clips of the classes that were less like
            them, near 0 for what is unlike all that it has heard; where clips can have several labels no `known`, and
            `card.probe["thresholds"]` says from which probability on a clip has each. For a list or batch also `clip`
            before them: 0 for the first, 1 ...

        Raises:
            InputError: a model without labels, a `top` that is not 1 to their number, and see `features`.

        Examples:
            >>> import numpy as np
            >>> import keras_audio_transfer as kat
            >>> model = kat.load_model()
            >>> sine = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
            >>> table = model.predict(sine, 44100, top=3)
            >>> table.shape, list(table.columns)
            ((3, 2), ['label', 'score'])
            >>> table.attrs["scores_are"]
            'probabilities, whose sum is 1'
        """
        import pandas as pd

        scores_are = self.card.meaning_of_scores(self.path)
        labels = np.array(self.labels, dtype=object)
        clips, is_one = split_clips(audio)
        self.card.require_single_clips(self.path, "a clip alone does not have")
        rate = checked_rate(sample_rate, self.sample_rate)
        n_labels = len(labels)
        most = None if top is None else checked_whole("top", top, 1, f"1 to {n_labels}, {_TOP}", n_labels)
        answers = self._answers(_scaled(clips, is_one), rate)
        order = answers.order()[:, :most]
        columns = {"label": labels[order].ravel(), "score": np.take_along_axis(answers.scores, order, axis=1).ravel()}
        if answers.probabilities is not None:
            columns["probability"] = np.take_along_axis(answers.probabilities, order, axis=1).ravel()
        if answers.known is not None:
            columns["known"] = np.repeat(answers.known, order.shape[1])
        if not is_one:
            columns = {"clip": np.repeat(np.arange(len(clips)), order.shape[1]), **columns}
        table = pd.DataFrame(columns)
        table.attrs["scores_are"] = scores_are
        return table

    def checked_layers(self, layers: str | Iterable[str] | None) -> list[str]:
        """The layers asked for, in the order asked for; None for all.

        Raises:
            InputError: none, an unknown one, or one twice.
        """
        return selected_layers(layers, self.layer_names)

    def front_end(self, clip_seconds: float | None = None) -> AudioConfig:
        """The front end for clips of so many seconds; None for the length that the model was trained on.

        Raises:
            InputError: no length, or less than a frame.
        """
        return front_end(self.card.audio, clip_seconds)

    def _of_whole(self, samples: Samples, rate: int, names: list[str]) -> Features:
        config = self.card.audio
        waveform = mix_and_resample(samples, rate, config.sample_rate)
        if len(waveform) < config.n_fft:
            waveform = crop_or_pad(waveform, config.n_fft, config.short_clips)
        outputs = self.saved_model(waveform[np.newaxis])
        return {name: outputs[name][0] for name in names}

    def _over_time(self, name: str, samples: Samples, rate: int, names: list[str], hop_seconds: float) -> Features:
        from keras_audio_transfer.extraction import extract_windows

        clip = Clip(name, None, synthesise=partial(_sound, samples, rate))
        table, failures = extract_windows(self.saved_model, names, [clip], [], self.card.audio, hop_seconds)
        if failures:
            raise InputError(failures[0][1])
        return {**table.layers, TIMES: cast(npt.NDArray[np.float64], table.times)}

    def _answers(self, samples: dict[str, Samples], rate: int) -> Answers:
        from keras_audio_transfer.extraction import extract

        names = self.saved_model.of_head
        if SCORES not in names:
            raise InputError(f"{self.path}: its SavedModel returns no scores; expected a classifier")
        clips = [Clip(name, None, synthesise=partial(_sound, clip, rate)) for name, clip in samples.items()]
        table, failures = extract(self.saved_model, names, clips, [], self.card.audio)
        if failures:
            raise InputError(failures[0][1])
        return Answers.of(table.layers, self.labels)

    def __repr__(self) -> str:
        names = self.layer_names
        layers = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
        parts = [f"{self.sample_rate} Hz", f"{len(names)} layers ({layers})", f"{len(self.labels) or 'no'} labels"]
        return f"<Model {self.path.name}: {', '.join(parts)}>"

    def __copy__(self) -> "Model":
        return self

    def __deepcopy__(self, memo: object) -> "Model":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return load_model, (str(self.path),)


def front_end(config: AudioConfig, clip_seconds: float | None) -> AudioConfig:
    """A front end for clips of so many seconds; None for its own length. Raises InputError for no such length."""
    if clip_seconds is not None and not (isinstance(clip_seconds, Real) and not isinstance(clip_seconds, bool)):
        raise InputError(f"clip_seconds: {shown(clip_seconds)} is not allowed; expected seconds, or None")
    return config.with_clip_seconds(clip_seconds)


def as_model(model: "Model | str | PathLike[str] | None") -> Model:
    """A model as it is, or that of a model folder; None for the one that comes with the package."""
    if isinstance(model, Model):
        return model
    if model is not None and not is_url(model):
        checked_path("model", model, _MODEL)  # the message names this argument
    return load_model(model)


def _scaled(clips: list[Samples], is_one: bool) -> dict[str, Samples]:
    """What errors call each clip -> its samples, as float32."""
    names = ["audio"] if is_one else [f"audio[{place}]" for place in range(len(clips))]
    return {name: to_float32(clip, name) for name, clip in zip(names, clips, strict=True)}


def _sound(samples: Samples, rate: int) -> tuple[Samples, int]:
    return samples, rate


_LOADING = Lock()  # a model is loaded once, however many threads ask for it


@lru_cache(maxsize=4)  # a process that unpickles the same model again and again, as joblib's, loads it once
def _saved_model(path: Path, modified: int) -> "SavedExtractor":
    from keras_audio_transfer.extraction import SavedExtractor

    return SavedExtractor(latest_saved_model(path))


def _modified(saved_model: Path) -> int:
    return (saved_model / "saved_model.pb").stat().st_mtime_ns
