"""Clips -> features, with any function of waveforms: several at a time, bad files set aside. Without TensorFlow."""

from collections.abc import Callable
from itertools import chain

import numpy as np

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.decoding import in_order
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import Features


def collect(
    compute: Callable[[list[np.ndarray]], dict[str, np.ndarray]],
    load: Callable[[Clip], np.ndarray],
    layer_names: list[str],
    clips: list[Clip],
    label_names: list[str],
    workers: int = 2,
    batch_clips: int = 1,
    progress=iter,
) -> tuple[Features, list[tuple[str, str]]]:
    """Load clips and compute their features, one clip (or batch) at a time on each worker.

    Args:
        compute: from waveforms, each float32 (samples,), to name -> float32 (waveforms, channels).
        load: a clip's waveform; an InputError sets the clip aside.
        layer_names: which of the computed features to keep, in order.
        clips: to work on.
        label_names: the labels' names in the order wanted, or the targets'; empty for unlabelled clips.
        workers: clips (or batches) worked on at the same time.
        batch_clips: so many consecutive clips are given to `compute` at once.
        progress: wraps the iterator of results, e.g. `tqdm`.

    Returns:
        The features of the clips that could be read, and (clip id, reason) of those that could not. Memory does not
        grow with the number of clips beyond their features.
    """

    def waveform_or_reason(clip):
        try:
            return load(clip)
        except InputError as error:
            return str(error)

    def features_or_reasons(batch):
        results = [waveform_or_reason(clip) for clip in batch]
        readable = [i for i, result in enumerate(results) if not isinstance(result, str)]
        if readable:
            outputs = compute([results[i] for i in readable])
            for row, i in enumerate(readable):
                results[i] = [outputs[name][row] for name in layer_names]
        return results

    batches = [clips[start : start + batch_clips] for start in range(0, len(clips), batch_clips)]
    results = chain.from_iterable(in_order(features_or_reasons, batches, workers))
    results = [*zip(clips, progress(results), strict=True)]
    good = [(clip, result) for clip, result in results if not isinstance(result, str)]
    failures = [(clip.clip_id, result) for clip, result in results if isinstance(result, str)]
    columns = zip(*(result for _, result in good), strict=True)
    layers = {name: np.stack(column) for name, column in zip(layer_names, columns, strict=True)} if good else {}
    return Features.of_clips(layers, [clip for clip, _ in good], label_names), failures
