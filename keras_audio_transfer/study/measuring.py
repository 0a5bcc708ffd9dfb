"""What may explain transfer, of every source and target of a study: the table of measures. Without TensorFlow."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from keras_audio_transfer.audio import load_sound, or_reason
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.study import measures, spectral_distance
from keras_audio_transfer.study.evaluation import Evaluator

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["source", "target", "layer", "measure", "value"]


def table_of(
    evaluator: Evaluator, usable: Iterable[tuple[str, str, str]], clips: Mapping[str, list[Clip]]
) -> "pd.DataFrame":
    """The measures in a long table: source, target, layer, measure, value.

    Those of `measures.of_features`; and where it is known which target a source was trained on, how far the others lie
    from it, by `spectral_distance`.

    Args:
        evaluator: gives the features.
        usable: (source, pooling, target) of those that are there; of several poolings the first counts.
        clips: of each target.
    """
    import pandas as pd

    first = {(source, target): pooling for source, pooling, target in reversed([*usable])}
    rows = []
    for source, target in reversed(first):
        features = evaluator.table(source, first[source, target], target)
        found = measures.of_features(features.layers, features.labels)
        rows += [{"source": source, "target": target} | row for row in found]
    heard = {name: source.heard for name, source in evaluator.sources.items() if source.heard}
    spectra = {target: spectral_distance.spectra(_waveforms(clips[target])) for target in clips if heard}
    for source, trained_on in heard.items():
        for target in clips:
            about = {"source": source, "target": target, "layer": ""}
            found = spectral_distance.distance(spectra[trained_on], spectra[target])._asdict()
            rows += [about | {"measure": measure, "value": value} for measure, value in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _waveforms(clips):
    """Of the clips that can be read, one after the other."""
    for clip in clips:
        sound = or_reason(lambda clip: load_sound(clip, spectral_distance.CONFIG.sample_rate), clip)
        if not isinstance(sound, str):
            yield sound.waveform
