"""Clips -> features with an exported SavedModel, several clips at a time, without Keras."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from hashlib import sha256
from itertools import chain, islice, repeat
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from keras_audio_transfer.audio.loading import as_heard, crop_or_pad, load_for, or_reason, ordered_map
from keras_audio_transfer.audio.sliding_windows import Window, windows
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip, segment_id
from keras_audio_transfer.errors import InputError, reason_of
from keras_audio_transfer.feature_tables.run import RowsOf
from keras_audio_transfer.feature_tables.table import FeatureTable, Row
from keras_audio_transfer.model_folder import CARD, OF_HEAD, SCORES, Card
from keras_audio_transfer.signature_loading import load_signatures
from keras_audio_transfer.tensor_float_32 import warn_where_on
from keras_audio_transfer.tensorflow_alone import tf

SERVED = "serving_default", "info"  # what is needed of a SavedModel here
# What a thread decodes before the network runs for any of it: in turn, clip by clip, each of both would find little of
# its own in the processor's caches, which costs a small network a tenth of its speed.
_BATCHES_AHEAD = 8
_SAMPLES_AHEAD = 2**21


class SavedExtractor:
    """A SavedModel with its weights frozen into the graph, where TensorFlow has less to do than with variables.

    Args:
        saved_model: the folder that holds `saved_model.pb`.

    Attributes:
        names: of the outputs.
        weights_sha256: what the card beside it says; '' where there is no card, or it does not say.
        sha256: of its graph, and of the index of its weights, which has their checksums.

    Raises:
        InputError: see `load_saved_model`; or it does not take waveforms, and these alone, or does not give what the
            card beside it names.
    """

    def __init__(self, saved_model: Path):
        loaded = load_saved_model(saved_model, SERVED)  # owns the variables until they are frozen
        signature = loaded.signatures["serving_default"]
        received = signature.structured_input_signature[1]
        if [*received] != ["waveform"] or not _are_rows(received["waveform"]):
            what = ", ".join(f"{name}, {spec.dtype.name} {spec.shape}" for name, spec in received.items())
            expected = "waveform, float32 (batch, samples), alone"
            raise InputError(f"{saved_model}: takes {what}; expected {expected}; export it with `export`")
        # A frozen function returns a list, in the order in which TensorFlow flattens a dict: by sorted names.
        self.names = sorted(signature.structured_outputs)
        self.weights_sha256 = ""
        if (saved_model.parent / "card.json").is_file():
            card = Card.read(saved_model.parent)
            self.weights_sha256 = card.weights_sha256 or ""
            scores = {SCORES: len(card.labels)} if card.labels and SCORES in self.names else {}
            for name, size in (dict.fromkeys(card.layer_names) | scores).items():
                if not _are_rows(signature.structured_outputs.get(name), size):
                    what = f"gives no {name}, float32 (batch, {size or 'channels'}), which card.json beside it names"
                    raise InputError(f"{saved_model}: {what}; put back the files of one model, or export it again")
        files = saved_model / "saved_model.pb", saved_model / "variables" / "variables.index"
        self.sha256 = sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()
        with native_messages_discarded():
            self.frozen = _frozen(signature, saved_model)
        # At the first call TensorFlow optimises the graph, and would do so in each of several at once.
        self._alone: AbstractContextManager = Lock()

    @property
    def of_head(self) -> list[str]:
        """The outputs of its head, without which it is no classifier."""
        return [name for name in OF_HEAD if name in self.names]

    def __call__(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for waveforms, float32 (batch, samples), at the model's rate: output name -> (batch, channels)."""
        with self._alone:
            outputs = self.frozen(tf.constant(waveforms))
            self._alone = nullcontext()
        shape = len(waveforms), -1  # `known` is one number a clip
        return {name: output.numpy().reshape(shape) for name, output in zip(self.names, outputs, strict=True)}


def _are_rows(spec: Any, size: int | None = None) -> bool:
    """Whether a tensor is one of rows, a clip each, that can have this size."""
    return spec is not None and spec.dtype == tf.float32 and spec.shape.is_compatible_with([None, size])


def _frozen(signature, saved_model):
    """The function of a signature with its weights as constants.

    What `convert_variables_to_constants_v2` does, which then copies each operation once more, in four times the time.
    """
    from tensorflow.python.framework import convert_to_constants

    lowered = convert_to_constants._FunctionConverterDataInEager(
        func=signature, lower_control_flow=True, aggressive_inlining=False
    )
    graph, _ = convert_to_constants._replace_variables_by_constants(lowered)
    if sum(node.op == "Placeholder" for node in graph.node) > 1:
        what = "its graph needs more than a waveform and its weights, such as a table"
        raise InputError(f"{saved_model}: {what}; expected a network alone; export it with `export`")
    waveform, outputs = signature.inputs[0].name, [output.name for output in signature.outputs]

    def imported(samples):
        return tf.graph_util.import_graph_def(graph, {waveform: samples}, outputs, name="")

    return tf.compat.v1.wrap_function(imported, [signature.structured_input_signature[1]["waveform"]])


def load_saved_model(saved_model: Path, signatures: Collection[str] | None = None) -> Any:
    """What TensorFlow makes of a SavedModel that serves.

    Load only models that you trust: a SavedModel is a program.

    Args:
        saved_model: the folder.
        signatures: those that are wanted, `info` among them; None for all, which takes longer.

    Raises:
        InputError: see `load_whole` and `check_card`.
    """
    loaded = load_whole(saved_model, signatures)
    check_card(saved_model, loaded)
    return loaded


def load_whole(saved_model: Path, signatures: Collection[str] | None = None) -> Any:
    """What TensorFlow makes of a SavedModel that serves, whatever the `card.json` beside it says; see above.

    Raises:
        InputError: it cannot be loaded, or its graph and weights are of two models.
    """
    warn_where_on()
    try:
        loaded = load_signatures(saved_model, signatures)
        loaded.signatures["serving_default"]
        is_whole = _is_as_saved(saved_model)
    except Exception as error:  # there are as many kinds as ways to damage its files
        first, *_ = f"{error}".splitlines() or [""]
        raise InputError(f"{saved_model}: is not a SavedModel that serves ({first[:200]}); export it again") from error
    if not is_whole:
        what = "its graph and its weights were not saved together, as when half of a folder is copied over another"
        raise InputError(f"{saved_model}: {what}; copy it again")
    return loaded


def check_card(saved_model: Path, loaded: Any) -> None:
    """Compare the `card.json` beside a SavedModel with what it says of itself (signature `info`).

    Args:
        saved_model: the folder.
        loaded: what `load_whole` made of it.

    Raises:
        InputError: they are of two models, as when files of two models are copied together, or one was changed.
    """
    folder, own = saved_model.parent, own_card(saved_model, loaded)
    if own is None or not (folder / "card.json").is_file():
        return
    for name, here, there in Card.read(folder).differences(own):
        what = f"{name} is {here}, but the SavedModel {saved_model.name} beside it says {there}"
        raise InputError(f"{folder / 'card.json'}: {what}; they are of two models; put back the files of one")


def own_card(saved_model: Path, loaded: Any) -> Card | None:
    """The card that a SavedModel carries (signature `info`); None of one without. Arguments: as of `check_card`."""
    if "info" not in loaded.signatures:
        return None
    try:
        values = json.loads(loaded.signatures["info"](query=tf.zeros([1], tf.int32))[CARD].numpy()[0])
    except Exception as error:  # of TensorFlow and of JSON, where it is another program's
        raise InputError(f"{saved_model}: its signature `info` gives no card; export it with `export`") from error
    return Card.from_dict(values, str(saved_model))


def _is_as_saved(saved_model):
    """Whether graph and weights are those that were saved; TensorFlow keeps a fingerprint, but does not compare it."""
    from tensorflow.core.protobuf import fingerprint_pb2
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    path = saved_model / "fingerprint.pb"
    if not path.is_file():  # of an older TensorFlow
        return True
    then, now = (
        fingerprint_pb2.FingerprintDef.FromString(content)
        for content in (path.read_bytes(), fingerprinting.CreateFingerprintDef(str(saved_model)))
    )
    return all(getattr(then, name) == getattr(now, name) for name in ("saved_model_checksum", "checkpoint_hash"))


@contextmanager
def native_messages_discarded() -> Iterator[None]:
    """TensorFlow's graph optimiser and converter write to stderr whatever the log level: of GPUs, of dialects."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def use_one_thread_a_clip(workers: int) -> None:
    """Let TensorFlow run `workers` clips side by side on one thread each: faster than one clip on several threads.

    Must be called before TensorFlow runs its first operation. More threads than processors would only wait for one
    another, and TensorFlow ends the process without a word where the system gives it no more.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(min(workers, os.cpu_count() or 1))


def extract(
    extractor: SavedExtractor,
    layer_names: list[str],
    clips: list[Clip],
    label_names: list[str],
    config: AudioConfig,
    workers: int = 2,
    batch_clips: int = 1,
    progress=iter,
) -> tuple[FeatureTable, list[tuple[str, str]]]:
    """Decode clips and compute the features of every layer, one clip (or batch) at a time on each worker.

    Args:
        extractor: the model.
        layer_names: which of its outputs to keep, in order.
        clips: of any length and sample rate; they are resampled, then cropped or padded to `config.clip_seconds`.
        label_names: the labels' names in the order wanted, or the targets'; empty for unlabelled clips.
        config: the model's front end.
        workers: clips (or batches) worked on at the same time.
        batch_clips: number of consecutive clips that are given to the model at once. More than one is slower, and is
            meant for models whose features depend on the batch (the published weights of Choi et al. 2017, version 1).
        progress: wraps the iterator of results, e.g. `tqdm`.

    Returns:
        The features of the clips that could be read, and (clip id, reason) of those that could not. Memory does not
        grow with the number of clips beyond their features.
    """
    rows = clip_rows(extractor, layer_names, config, workers, batch_clips)(clips)
    return table_of(extractor, progress(rows), label_names)


def clip_rows(
    extractor: SavedExtractor, layer_names: list[str], config: AudioConfig, workers: int = 2, batch_clips: int = 1
) -> RowsOf:
    """What computes the rows of `extract`, one a clip, for a run that keeps them as they come; see there."""

    def rows_of(clips: Iterable[Clip]) -> Iterator[list[Row]]:
        clips = iter(clips)
        # A batch at first: of few clips every worker is to have some.
        growing = chain.from_iterable(repeat(size, 2 * workers) for size in (1, 2, 4))
        sizes = chain(growing, repeat(_BATCHES_AHEAD))
        tasks = iter(lambda: [*islice(clips, batch_clips * next(sizes))], [])
        of_task = partial(_rows_of_task, extractor, layer_names, config, batch_clips)
        for rows in ordered_map(of_task, tasks, workers):
            yield from ([row] for row in rows)

    return rows_of


def table_of(
    extractor: SavedExtractor, rows: Iterable[list[Row]], label_names: list[str]
) -> tuple[FeatureTable, list[tuple[str, str]]]:
    """The table of what `clip_rows` or `window_rows` gives, and (clip id, reason) of the clips that failed."""
    table, failures = FeatureTable.from_rows(chain.from_iterable(rows), label_names)
    return replace(table, weights_sha256=dict.fromkeys(table.layers, extractor.weights_sha256)), failures


def _rows_of_task(extractor, layer_names, config, batch_clips, clips) -> list[Row]:
    rows, waiting, n_samples = [], [], 0
    for start in range(0, len(clips), batch_clips):
        batch = clips[start : start + batch_clips]
        waiting.append([(clip, or_reason(partial(_sound, config), clip)) for clip in batch])
        n_samples += sum(len(sound.waveform) for _, sound in waiting[-1] if not isinstance(sound, str))
        if n_samples > _SAMPLES_AHEAD or start + batch_clips >= len(clips):
            rows.extend(chain.from_iterable(_rows_of_batch(extractor, layer_names, sounds) for sounds in waiting))
            waiting, n_samples = [], 0
    return rows


def _rows_of_batch(extractor, layer_names, sounds):
    """The rows of these clips, each given with its sound, or with why it has none."""
    heard = [(clip, sound) for clip, sound in sounds if not isinstance(sound, str)]
    features = iter(_features_of_batch(extractor, layer_names, heard) if heard else ())
    return [
        Row(clip, sound) if isinstance(sound, str) else Row(as_heard(clip, sound), next(features))
        for clip, sound in sounds
    ]


def _features_of_batch(extractor, layer_names, heard):
    """The features of each of these clips, or why it has none."""
    try:
        outputs = extractor(np.stack([sound.waveform for _, sound in heard]))
    except Exception as error:  # TensorFlow's, of which there are many
        return [reason_of(error, clip.clip_id) for clip, _ in heard]
    result = []
    for i, (clip, _) in enumerate(heard):
        features = {name: outputs[name][i] for name in layer_names}
        is_finite = all(np.isfinite(values).all() for values in features.values())
        result.append(features if is_finite else f"{clip.clip_id}: its features are not finite; leave it out")
    return result


def _sound(config, clip):
    sound = load_for(clip, config)
    waveform = crop_or_pad(sound.waveform, config.least_samples, config.short_clips, config.long_clips)
    return sound._replace(waveform=waveform)


def extract_windows(
    extractor: SavedExtractor,
    layer_names: list[str],
    clips: list[Clip],
    label_names: list[str],
    config: AudioConfig,
    hop_seconds: float,
    workers: int = 2,
    progress=iter,
) -> tuple[FeatureTable, list[tuple[str, str]]]:
    """Compute the features of every layer over time, in recordings of any length.

    Args:
        extractor, layer_names, label_names, workers: see `extract`.
        clips: the recordings.
        config: the front end; its `clip_seconds` is the window's length.
        hop_seconds: from window to window, see `audio.sliding_windows.windows`.
        progress: wraps the iterator of the recordings, e.g. `tqdm`.

    Returns:
        The features, a row a window, with `times`; its `clip_ids` name recording and time (`segment_id`). And (clip id,
        reason) of the recordings that could not be read to their end.
    """
    rows = window_rows(extractor, layer_names, config, hop_seconds, workers)(clips)
    return table_of(extractor, progress(rows), label_names)


def window_rows(
    extractor: SavedExtractor, layer_names: list[str], config: AudioConfig, hop_seconds: float, workers: int = 2
) -> RowsOf:
    """What computes the rows of `extract_windows`, those of a recording at a time; see there."""
    features_of = partial(features_of_window, extractor, layer_names)

    def over_time(clip):
        return [*ordered_map(features_of, windows(clip, config, hop_seconds), workers)]

    def rows_of(clips: Iterable[Clip]) -> Iterator[list[Row]]:
        for clip in clips:
            found = or_reason(over_time, clip)
            yield [Row(clip, found)] if isinstance(found, str) else [_of_window(clip, *window) for window in found]

    return rows_of


def rows_and_settings(
    extractor: SavedExtractor,
    layer_names: list[str],
    config: AudioConfig,
    hop_seconds: float | None = None,
    workers: int = 2,
    batch_clips: int = 1,
) -> tuple[RowsOf, dict[str, Any]]:
    """What `feature_tables.run.compute` takes for `extract`, or with a hop for `extract_windows`; see there."""
    settings = {
        "model_sha256": extractor.sha256,
        "weights_sha256": dict.fromkeys(layer_names, extractor.weights_sha256),
        "audio": config.to_dict(),
        "hop_seconds": hop_seconds,
    }
    if hop_seconds is not None:
        return window_rows(extractor, layer_names, config, hop_seconds, workers), settings
    workers = workers if batch_clips == 1 else 1
    return clip_rows(extractor, layer_names, config, workers, batch_clips), settings


def rows_on_worker(
    saved_model: Path,
    sha256_of_model: str,
    layer_names: list[str],
    config: AudioConfig,
    hop_seconds: float | None,
    batch_clips: int,
    clips: Iterable[Clip],
) -> Iterator[list[Row]]:
    """The rows of `rows_and_settings` in a process that is given some clips at a time, and loads the model once.

    Raises:
        InputError: what lies there is not the model of this SHA-256.
    """
    with _LOADING:
        extractor = _loaded(saved_model, sha256_of_model, batch_clips)
    rows_of, _ = rows_and_settings(extractor, layer_names, config, hop_seconds, 1, batch_clips)
    return rows_of(clips)


_LOADING = Lock()


@lru_cache(maxsize=1)
def _loaded(saved_model, expected, batch_clips):
    from distributed import get_worker

    if batch_clips == 1:
        with suppress(RuntimeError):  # TensorFlow has run there before
            use_one_thread_a_clip(get_worker().state.nthreads)
    extractor = SavedExtractor(saved_model)
    if extractor.sha256 != expected:
        raise InputError(f"{saved_model}: is another model than where the command runs; share one folder")
    return extractor


def _of_window(clip, time, features):
    window = replace(clip, clip_id=segment_id(clip.clip_id, time), group=clip.group or clip.clip_id)
    return Row(window, features, time)


def features_of_window(
    extractor: SavedExtractor, layer_names: list[str], window: Window
) -> tuple[float, dict[str, np.ndarray]]:
    """The time of a window of `sliding_windows`, and its features: output name -> (channels,)."""
    time, waveform = window
    outputs = extractor(waveform[np.newaxis])
    return time, {name: outputs[name][0] for name in layer_names}
