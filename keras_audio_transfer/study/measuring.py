"""What may explain transfer, of every source and target of a study: the table of measures. Without TensorFlow."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from keras_audio_transfer.audio.loading import load_sound, or_reason
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.resume import Journal
from keras_audio_transfer.study import measures, spectral_distance
from keras_audio_transfer.study.evaluation import Evaluator

if TYPE_CHECKING:
    import pandas as pd

KEPT = "measures.jsonl"  # in the folder of the study
COLUMNS = ["source", "target", "layer", "measure", "value"]


def table_of(
    evaluator: Evaluator,
    usable: Iterable[tuple[str, str, str]],
    targets: Iterable[str],
    clips: Mapping[str, list[Clip]],
) -> "pd.DataFrame":
    """The measures in a long table: source, target, layer, measure, value.

    Those of `measures.of_features`; where it is known which target a source was trained on, how far the others lie
    from it, by `spectral_distance`; and where a source has labels, how many of a target's classes these name. What
    takes long, and an earlier run has measured in this folder, is not measured again.

    Args:
        evaluator: gives the features, of which the study has checked that they are what they were.
        usable: (source, pooling, target) of those that are there; of several poolings the first counts.
        targets: that have cells.
        clips: of each target, also of one that has none because all sources were trained on it.
    """
    import pandas as pd

    first = {(source, target): pooling for source, pooling, target in reversed([*usable])}
    rows = []
    heard = {name: source.heard for name, source in evaluator.sources.items() if source.heard}
    spectra = cache(lambda target: spectral_distance.spectra(_waveforms(clips[target])))
    with Journal(evaluator.folder / KEPT, _are_measures) as kept:
        for source, target in reversed(first):
            pooling = first[source, target]
            if (key := f"{source}|{pooling}|{target}") not in kept:
                features = evaluator.table(source, pooling, target)
                kept[key] = measures.of_features(features.layers, features.labels)
            rows += [{"source": source, "target": target} | row for row in kept[key]]
        for source, trained_on in heard.items():
            for target in targets:
                if (key := f"{trained_on}|{target}") not in kept:
                    found = spectral_distance.distance(spectra(trained_on), spectra(target))._asdict()
                    kept[key] = [{"layer": "", "measure": name, "value": value} for name, value in found.items()]
                rows += [{"source": source, "target": target} | row for row in kept[key]]
    classes = {target: {name for clip in of_target for name in clip.labels} for target, of_target in clips.items()}
    learnt = {
        name: source.card.labels for name, source in evaluator.sources.items() if source.card and not source.is_random
    }
    for source, target in reversed(first):
        if learnt.get(source):
            value = measures.label_overlap(learnt[source], classes[target])
            rows.append({"source": source, "target": target, "layer": "", "measure": "label_overlap", "value": value})
    return pd.DataFrame(rows, columns=COLUMNS)


def _are_measures(values: list) -> bool:
    kinds = {"layer": str, "measure": str, "value": float}
    return bool(values) and all(
        isinstance(row, dict) and {name: type(value) for name, value in row.items()} == kinds for row in values
    )


def _waveforms(clips):
    """Of the clips that can be read, one after the other."""
    for clip in clips:
        sound = or_reason(lambda clip: load_sound(clip, spectral_distance.CONFIG.sample_rate), clip)
        if not isinstance(sound, str):
            yield sound.waveform
