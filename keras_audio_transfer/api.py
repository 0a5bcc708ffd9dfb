"""What a notebook calls: features of files and arrays, probes, and tf.data for training."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_audio_transfer.audio.arrays import Waveform
from keras_audio_transfer.audio.loading import WaveformStore, crop_or_pad, readable_clips
from keras_audio_transfer.audio.sliding_windows import check_hop
from keras_audio_transfer.clip_inputs import ClipInputs, Label, clips_of, each_once, label_clips, label_names_of
from keras_audio_transfer.config import (
    LONG_CLIPS,
    MOST_THREADS,
    AudioConfig,
    checked_flag,
    checked_path,
    checked_whole,
    shown,
)
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.shards import SUFFIX, check_replaceable, check_suffix
from keras_audio_transfer.feature_tables.table import FeatureTable, check_table
from keras_audio_transfer.files import only_writer
from keras_audio_transfer.model import Model, as_model, front_end

_CACHE = "'memory', None, or the path of a folder"

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf


def extract(
    files_or_clips: ClipInputs,
    model: Model | str | PathLike[str] | None = None,
    *,
    layers: str | Iterable[str] | None = None,
    clip_seconds: float | None = None,
    hop_seconds: float | None = None,
    labels: Iterable[Label] | None = None,
    label_names: Iterable[str] | None = None,
    output: str | PathLike[str] | None = None,
    workers: int = 2,
    progress: bool = False,
) -> FeatureTable:
    """Compute the features of every layer for files, arrays or a data set: what the command `extract` does.

    Each clip is heard whole; or, where `clip_seconds` is given, cropped or padded to it.

    Args:
        files_or_clips: the path of an audio file, or of a folder to search to any depth; a `Clip`, such as
            `datasets.load` returns; or (audio, sample rate in Hz), the audio as in `Model.features`, where two
            dimensions are one clip with its channels on the shorter one. Or a list or other iterable of them.
        model: from `load_model`, or the path or name of a model folder; None for the one that comes with the package.
        layers: names, or one, in the order wanted; None for all.
        clip_seconds: the length of clips; None for whole clips, those shorter than `card.audio.clip_seconds` padded to
            it, as in training; `Model.features` pads none. (An older model may say in `card.audio.long_clips` that it
            hears only a part.)
        hop_seconds: features over time: of the windows of `clip_seconds` around every multiple of this, a row a window.
        labels: of files and arrays, one a clip: a text or whole number names its class, a list of texts its tags; a
            float, or a list of them, is what a regression is to predict. `Clip`s have labels of their own.
        label_names: the labels in order, or the targets; None: in the order of the clips' data set, else sorted.
        output: where to write the table, too: a file (`.npz`), or a folder of Parquet files (`.parquet`). It is written
            piece by piece, and the same call goes on where one was killed.
        workers: clips worked on at the same time. The command also gives each one thread of TensorFlow's, for its whole
            process; so does `extraction.use_one_thread_a_clip`, called before anything is computed.
        progress: whether to show a progress bar on stderr.

    Returns:
        A row a clip, in the order given, or a row a window. Clip ids are the paths as given, those of the `Clip`s, or
        for arrays clip0, clip1 ... Clips that cannot be read are left out, with a warning, and listed in `failures`. A
        clip that is there twice has one row, and a warning is logged. Copies, under several names, are one of the
        `groups`; those with other labels, or in other splits or folds, are named in a warning that is logged.

    Raises:
        InputError: an argument that cannot be, no clip can be read, or something else is at `output`, or another run.

    Examples:
        >>> import numpy as np
        >>> import keras_audio_transfer as kat
        >>> sines = [np.sin(2 * np.pi * f * np.arange(8000) / 8000) for f in (220, 440, 880)]
        >>> table = kat.extract([(sine, 8000) for sine in sines], labels=["low", "low", "high"], clip_seconds=1)
        >>> table
        <FeatureTable: 3 clips, 5 layers, 320 channels, 2 labels>
        >>> table.to_numpy(["layer4", "layer5"]).shape
        (3, 128)
        >>> table.to_frame(about_clips=True)["label"].to_dict()
        {'clip0': 'low', 'clip1': 'low', 'clip2': 'high'}
    """
    model = as_model(model)
    names, config, batch_clips = model.checked_layers(layers), model.front_end(clip_seconds), model.card.batch_clips
    workers, progress = _at_a_time("workers", workers), checked_flag("progress", progress)
    hop = None if hop_seconds is None else check_hop(hop_seconds)
    if hop is not None and batch_clips > 1:
        raise InputError(f"hop_seconds: {model.path} takes whole batches; import the calibrated version")
    clips, again = each_once(clips_of(files_or_clips, model.sample_rate))
    if labels is not None:
        clips = label_clips(clips, labels, again)
    of_labels = label_names_of(clips, label_names)
    place = None if output is None else _features_place(output)

    from keras_audio_transfer import extraction  # TensorFlow, once all that can be checked without it has been

    rows_of, settings = extraction.rows_and_settings(model.saved_model, names, config, hop, workers, batch_clips)
    bar = _bar("extracting", len(clips), progress)
    if place is None:
        table, failures = extraction.table_of(model.saved_model, bar(rows_of(clips)), of_labels)
    else:
        with only_writer(place):
            failures = feature_run.compute(place, clips, of_labels, settings, rows_of, batch_clips, bar).failures
            n_rows = feature_run.publish(place)
            table = FeatureTable.load(place) if n_rows else FeatureTable.of_clips({}, [], of_labels)
    if failures:
        said = f"{len(failures)} of {len(clips)} clips cannot be read"
        if not len(table):
            raise InputError(f"files_or_clips: {said}; the first: {failures[0][1]}")
        warnings.warn(f"{said}, see `failures` of the table; the first: {failures[0][1]}", stacklevel=2)
    return replace(table, failures=failures)


def _features_place(output: object) -> Path:
    place = checked_path("output", output, "the path of the features file to write")
    check_suffix("output", place)
    if place.suffix == SUFFIX:
        check_replaceable(place)
    elif place.is_dir():
        raise InputError(f"output: {place} is a folder; name a file")
    return place


def probe(
    table: FeatureTable | str | PathLike[str],
    combinations: str | Iterable[str | Iterable[str]] = "all",
    protocol: str = "nested",
    *,
    scale: bool | None = None,
    layer_weights: str = "channels",
    baseline: FeatureTable | str | PathLike[str] | None = None,
    target: str | None = None,
    seed: int = 0,
    n_jobs: int = 2,
) -> "pd.DataFrame":
    """Fit SVM probes: what does each layer, or a combination of layers, know of a task? What the command `probe` does.

    Args:
        table: the features of labelled clips, one label or number each; or the path of a features file.
        combinations: of layers, each the concatenation of its layers' features: 'all' (all 2^n - 1), 'layers' (each
            one, and all together), '<=2' (all of one or two layers), or a list such as ['layer1', 'layer2+layer3'] or
            [['layer1'], ['layer2', 'layer3']]. Or a choice of one, made where parameters are chosen: 'single' (one
            layer), 'blocks' (of each layer, each two neighbours, each quarter of the depth, and all), 'forward',
            'greedy' (forward until two steps in a row have not helped), 'backward', or 'best' (of all for up to 10
            layers, then forward).
        protocol: 'nested': scaling and parameters are chosen inside each training part of the data set's own folds or
            splits. 'choi2017': the best of the grid on the very folds that are reported, as in Choi et al. 2017.
        scale: whether each channel is brought to mean 0 and standard deviation 1 over the clips that are fitted on;
            None for the protocol's default (nested: yes; choi2017: no).
        layer_weights: how much a layer counts where layers are joined: 'channels' (in proportion to its channels),
            'equal' (as much as any other), or 'chosen' (the one of the two that does better where parameters are
            chosen). `n_features` is the number of channels in any case, and the gamma 'auto' is 1 / n_features.
        baseline: other features of the same clips, such as MFCCs: probed alone, and joined to every combination. Where
            layers are chosen its layers join the choice.
        target: which of several numbers a clip to predict (regression).
        seed: of shuffled folds, where the data set has none of its own; 0 to 4294967295.
        n_jobs: combinations worked on at a time.

    Returns:
        What the command writes as `scores.csv`, a row a combination; `probing.prober.Prober.rows` says what the columns
        hold.

    Raises:
        InputError: an argument that cannot be, or labels that are missing, several a clip, or too few.

    Examples:
        >>> import numpy as np
        >>> import keras_audio_transfer as kat
        >>> sines = [np.sin(2 * np.pi * (300 + 20 * n + 900 * (n % 2)) * np.arange(8000) / 8000) for n in range(20)]
        >>> table = kat.extract([(sine, 8000) for sine in sines], labels=["low", "high"] * 10, clip_seconds=1)
        >>> scores = kat.probe(table, ["layer1", "layer1+layer2"])
        >>> scores[["layers", "n_features", "metric"]].to_dict("list")
        {'layers': ['layer1', 'layer1+layer2'], 'n_features': [64, 128], 'metric': ['accuracy', 'accuracy']}
    """
    import pandas as pd

    from keras_audio_transfer.probing.layer_selection import wanted_combinations
    from keras_audio_transfer.probing.prober import Prober

    n_jobs, seed = _at_a_time("n_jobs", n_jobs), _checked_seed(seed)
    scale = None if scale is None else checked_flag("scale", scale)
    features = _table(table, "table").of_target(target)
    joined = None if baseline is None else _table(baseline, "baseline")
    wanted = wanted_combinations(
        _as_text(combinations), [*features.layers], tuple(joined.layers) if joined is not None else ()
    )
    if joined is not None:
        features = features.join(joined, "baseline")
    prober = Prober(features, protocol, scale, seed, n_jobs, layer_weights=layer_weights)
    return pd.DataFrame(prober.rows(wanted))


def audio_dataset(
    files_or_clips: ClipInputs,
    labels: Iterable[Label] | None = None,
    model: Model | AudioConfig | str | PathLike[str] | None = None,
    batch_size: int = 32,
    *,
    label_names: Iterable[str] | None = None,
    one_hot: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    clip_seconds: float | None = None,
    cache: str | PathLike[str] | None = "memory",
    progress: bool = False,
) -> "tf.data.Dataset":
    """Make a `tf.data.Dataset` of one's own sounds, to train a network on.

    Every clip is decoded once before the first batch, so that one that cannot be read is named at once. A pass over the
    data set is one epoch; the last batch is smaller where the clips do not divide. Nothing is augmented: see
    `training.input_pipeline.training_batches` for that.

    Args:
        files_or_clips: files, arrays with their rates, or `Clip`s, as in `extract`, without folders; each is trained on
            as often as it is there.
        labels: see `extract`. `Clip`s have labels of their own.
        model: whose front end the clips are for, or an `AudioConfig`: waveforms have its sample rate, and are cropped
            or padded to its clip length as it says. None for the model that comes with the package.
        batch_size: clips a batch.
        label_names: the labels in order; None: in the order of the clips' data set, else sorted. To train a model's own
            head, `model.labels`.
        one_hot: whether targets are a number for each label, or else the label's index.
        shuffle: whether each pass has another order.
        seed: of the orders; 0 to 4294967295.
        clip_seconds: another clip length than the front end's.
        cache: 'memory' (a float32 of 4 bytes a sample), None to decode again in each pass, or a folder for decoded
            waveforms. 'none' is None, as on the command line.
        progress: whether to show a progress bar on stderr while the clips are decoded.

    Returns:
        Batches for `keras.Model.fit`: waveforms float32 (batch, samples), and targets float32 (batch, labels): 1 for
        the clip's label or for each of its tags, else 0; for a regression the numbers to predict. Without `one_hot`
        targets are int64 (batch,).

    Raises:
        InputError: an argument that cannot be, a clip without a label, or one that cannot be read.

    Examples:
        >>> import numpy as np
        >>> import keras_audio_transfer as kat
        >>> sines = [np.sin(2 * np.pi * f * np.arange(8000) / 8000) for f in (220, 440, 880)]
        >>> model = kat.load_model()
        >>> batches = kat.audio_dataset([(s, 8000) for s in sines], ["low", "low", "high"], model, batch_size=2)
        >>> [(waveforms.shape, targets.shape) for waveforms, targets in batches.as_numpy_iterator()]
        [((2, 64000), (2, 2)), ((1, 64000), (1, 2))]
    """
    config = front_end(model if isinstance(model, AudioConfig) else as_model(model).card.audio, clip_seconds)
    batch_size, seed = _count("batch_size", batch_size), _checked_seed(seed)
    one_hot, shuffle = checked_flag("one_hot", one_hot), checked_flag("shuffle", shuffle)
    progress, kept = checked_flag("progress", progress), _checked_cache(cache)
    clips = clips_of(files_or_clips, config.sample_rate, folders=False)
    if labels is not None:
        clips = label_clips(clips, labels)
    names = label_names_of(clips, label_names)
    _check_labelled(clips, one_hot)
    clips = [replace(clip, clip_id=str(number)) for number, clip in enumerate(clips)]  # a cache tells clips by it
    store = WaveformStore(config, cache=kept)
    _, failures, _ = readable_clips(clips, store, _bar("decoding", len(clips), progress))
    if failures:
        raise InputError(f"{failures[0][1]} ({len(failures)} of {len(clips)} clips cannot be read)")

    import tensorflow as tf

    from keras_audio_transfer.training.input_pipeline import targets

    y = np.array([clip.targets for clip in clips], np.float32) if clips[0].targets else targets(clips, names)
    y = y if one_hot else y.argmax(axis=1)

    def waveform(number: int) -> Waveform:
        return crop_or_pad(
            store.load(clips[number]), config.n_samples, config.short_clips, crop=LONG_CLIPS[config.long_clips]
        )

    def element(number: Any) -> Any:
        x = tf.numpy_function(waveform, [number], tf.float32)
        return tf.ensure_shape(x, (config.n_samples,)), tf.gather(y, number)

    numbers = tf.data.Dataset.range(len(clips))
    if shuffle:
        numbers = numbers.shuffle(len(clips), seed=seed, reshuffle_each_iteration=True)
    return numbers.map(element, num_parallel_calls=2, deterministic=True).batch(batch_size).prefetch(2)


def _check_labelled(clips: list[Clip], one_hot: bool) -> None:
    """That each clip has a label, and one where targets are an index."""
    is_tagged = any(len(clip.labels) > 1 for clip in clips)
    for clip in clips:
        if not (clip.labels or clip.targets or is_tagged):
            raise InputError(f"labels: {clip.clip_id} has none; expected one for every clip; pass `labels`")
    if not one_hot and (is_tagged or clips[0].targets):
        raise InputError("one_hot: False is for one label a clip; expected True for tags and numbers")


def _bar(what: str, total: int, progress: bool) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """What wraps an iterator and shows on stderr how far it is."""
    from tqdm import tqdm

    return partial(tqdm, desc=what, total=total, unit="clip", disable=not progress)


def _count(name: str, value: object) -> int:
    return checked_whole(name, value, 1, "a whole number from 1 up")


def _at_a_time(name: str, value: object) -> int:
    return checked_whole(name, value, 1, f"a whole number from 1 to {MOST_THREADS}", MOST_THREADS)


def _checked_seed(seed: object) -> int:
    highest = 2**32 - 1
    return checked_whole("seed", seed, 0, f"a whole number from 0 to {highest}", highest)


def _checked_cache(cache: object) -> str | Path | None:
    if cache is None or (isinstance(cache, str) and cache == "none"):
        return None
    return cache if isinstance(cache, str) and cache == "memory" else checked_path("cache", cache, _CACHE)


def _table(table: object, name: str) -> FeatureTable:
    if isinstance(table, FeatureTable):
        return check_table(table, name)
    if isinstance(table, str | PathLike):
        return FeatureTable.load(table)
    raise InputError(f"{name}: is of type {type(table).__name__}; expected a FeatureTable or the path of its file")


def _as_text(combinations: str | Iterable[str | Iterable[str]]) -> str:
    """Combinations as the command line has them."""
    if isinstance(combinations, str):
        return combinations
    try:
        return ",".join(layers if isinstance(layers, str) else "+".join(layers) for layers in combinations)
    except TypeError as error:
        raise InputError(
            f"combinations: {shown(combinations)} is not allowed; expected texts or names of layers"
        ) from error
