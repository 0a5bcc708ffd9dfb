"""Features of layers as a scikit-learn transformer, which computes each clip once. Without TensorFlow until it does."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from keras_audio_transfer.clip_inputs import ClipInputs, clips_of
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layer_names import column_names
from keras_audio_transfer.model import Model, as_model

CACHE_BYTES = 256 * 2**20
_KEY_BYTES = 500  # about what a key takes beside its features


class LayerFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Audio files or arrays -> the features of a network's layers, as a step of a scikit-learn pipeline.

    What it takes as X: paths of audio files, or pairs (audio, sample rate in Hz), or `Clip`s: a list, array or Series
    of them, a data frame with one column, or for `fit_transform` and `transform` any iterable. Each is heard
    whole; or, where `clip_seconds` is given, cropped or padded to it.

    The features of all layers are kept in memory by what the model and the clip hold (of a file: its path, size and
    date), so that a grid over `layers`, or the folds of a cross-validation, compute each clip once in a process. At
    most 256 MB are kept, those last used; `clear_cache` frees them.

    It learns nothing from the clips: `fit` checks the parameters, and `transform` can be called without it.

    Args:
        model: from `load_model`, or the path or name of a model folder; None for the one that comes with the package.
        layers: names, or one, in the order wanted; None for all.
        clip_seconds: the length of clips; None for whole clips, those shorter than `card.audio.clip_seconds` padded to
            it. (An older model may say in `card.audio.long_clips` that it hears only a part.)

    Raises:
        InputError: (from `fit`, `transform`) a parameter that cannot be, or a clip that cannot be read. An unknown
            layer is refused by `set_params` already, so that a grid search with one stops at once.

    Examples:
        >>> import numpy as np
        >>> from sklearn.model_selection import GridSearchCV
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.svm import SVC
        >>> sines = [np.sin(2 * np.pi * (300 + 20 * n + 900 * (n % 2)) * np.arange(8000) / 8000) for n in range(12)]
        >>> pipeline = make_pipeline(LayerFeatures(clip_seconds=1), SVC())
        >>> search = GridSearchCV(pipeline, {"layerfeatures__layers": [["layer1"], ["layer4", "layer5"]]}, cv=2)
        >>> search = search.fit([(sine, 8000) for sine in sines], ["low", "high"] * 6)
        >>> search.best_estimator_[0].get_feature_names_out()[0] in ("layer1/0", "layer4/0")
        True
    """

    def __init__(
        self,
        model: Model | str | PathLike[str] | None = None,
        layers: str | Iterable[str] | None = None,
        clip_seconds: float | None = None,
    ) -> None:
        self.model = model
        self.layers = layers
        self.clip_seconds = clip_seconds

    def fit(self, X: ClipInputs, y: object = None) -> "LayerFeatures":
        """Check the parameters and that X holds clips; nothing is decoded.

        Args:
            X: see the class.
            y: ignored.

        Raises:
            InputError: see the class.
        """
        model, _, _ = self._checked()
        clips_of(X, model.sample_rate, "X", folders=False)
        return self

    def fit_transform(self, X: ClipInputs, y: object = None, **fit_params: Any) -> npt.NDArray[np.float32]:
        """`fit`, then `transform`, of the same clips, which may come from a generator.

        Args:
            X: see the class.
            y: ignored.
            fit_params: none are known.

        Returns:
            See `transform`.

        Raises:
            InputError: see the class.
        """
        clips: Any = [*X] if isinstance(X, Iterator) else X
        features: npt.NDArray[np.float32] = super().fit_transform(clips, y, **fit_params)
        return features

    def transform(self, X: ClipInputs) -> npt.NDArray[np.float32]:
        """The features of clips.

        Args:
            X: see the class.

        Returns:
            float32 (clips, channels), the layers' channels beside one another; see `get_feature_names_out`.

        Raises:
            InputError: see the class.
        """
        model, layers, config = self._checked()
        rows = _features(model, config, clips_of(X, model.sample_rate, "X", folders=False))
        sizes = model.card.layer_sizes
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
        return rows[:, np.concatenate([np.arange(sizes[name]) + starts[name] for name in layers])]

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """The names of the channels: `layer/channel`, channels from 0.

        Args:
            input_features: ignored; clips have no names of features.
        """
        model, layers, _ = self._checked()
        return np.array(column_names({name: model.card.layer_sizes[name] for name in layers}), dtype=object)

    def set_params(self, **params: Any) -> "LayerFeatures":
        """Set parameters by name.

        Raises:
            InputError: `layers` names none, or one that the model does not have. Other parameters are checked by `fit`.
        """
        before = self.get_params(deep=False)
        super().set_params(**params)
        if "layers" in params and isinstance(self.layers, Iterable) and not isinstance(self.layers, Iterator):
            try:
                model = as_model(self.model)
            except InputError:  # `fit` says it
                return self
            try:
                model.checked_layers(self.layers)
            except InputError:
                super().set_params(**before)
                raise
        return self

    @staticmethod
    def clear_cache() -> None:
        """Forget the features of all clips."""
        with _CACHE_LOCK:
            _CACHE.clear()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def _checked(self) -> tuple[Model, list[str], AudioConfig]:
        model = as_model(self.model)
        model.card.require_single_clips(model.path, "a clip alone does not have")
        return model, model.checked_layers(self.layers), model.front_end(self.clip_seconds)


_CACHE: OrderedDict[Hashable, npt.NDArray[np.float32]] = OrderedDict()
_CACHE_LOCK = Lock()  # also while clips are computed: two threads never compute the same


def _features(model: Model, config: AudioConfig, clips: list[Clip]) -> npt.NDArray[np.float32]:
    """The features of all layers, float32 (clips, channels), from the cache or put there."""
    of_model = (model.path, model.modified, config)
    keys: list[Hashable] = [(of_model, _content(clip)) for clip in clips]
    with _CACHE_LOCK:
        found = {key: _CACHE[key] for key in keys if key in _CACHE}
        missing = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in found}
        if missing:
            found |= _computed(model, config, missing)
        _CACHE.update(found)
        for key in keys:
            _CACHE.move_to_end(key)
        n_bytes = sum(row.nbytes + _KEY_BYTES for row in _CACHE.values())
        while n_bytes > CACHE_BYTES:
            _, oldest = _CACHE.popitem(last=False)
            n_bytes -= oldest.nbytes + _KEY_BYTES
    return np.stack([found[key] for key in keys])


def _computed(
    model: Model, config: AudioConfig, clips: dict[Hashable, Clip]
) -> dict[Hashable, npt.NDArray[np.float32]]:
    from keras_audio_transfer.extraction import extract

    sounds = [replace(clip, labels=(), targets=(), fold=-1, split="") for clip in clips.values()]
    table, failures = extract(model.saved_model, model.layer_names, sounds, [], config)
    if failures:
        raise InputError(failures[0][1])
    return {key: row.copy() for key, row in zip(clips, table.to_numpy(), strict=True)}


def _content(clip: Clip) -> Hashable:
    """What tells a clip's sound from any other."""
    if clip.synthesise is not None:
        samples, rate = clip.synthesise()
        digest = hashlib.blake2b(samples.tobytes(), digest_size=20).digest()
        return digest, samples.shape, rate, clip.start_seconds, clip.duration_seconds
    path = cast(Path, clip.path)  # as `clips_of` has checked
    try:
        status = path.stat()
    except (OSError, ValueError):  # the decoder says what is wrong
        return path
    return path.resolve(), status.st_size, status.st_mtime_ns, clip.start_seconds, clip.duration_seconds, clip.stored
