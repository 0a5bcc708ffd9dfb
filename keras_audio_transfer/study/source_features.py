"""The features of a study's source for a target's clips: computed once, kept in a folder. Without TensorFlow."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.mfcc import floor_rows
from keras_audio_transfer.model_folder import latest_saved_model
from keras_audio_transfer.study.study_file import Source
from keras_audio_transfer.study.target_clips import label_names

FOLDER, MODELS = "features", "models"


def place_of(folder: Path, source: str, pooling: str, target: str) -> Path:
    """Where the features of a source lie; `folder`: of the study."""
    return folder / FOLDER / f"{'.'.join(filter(None, (source, pooling, target)))}.parquet"


def compute(
    folder: Path,
    source: Source,
    pooling: str,
    target: str,
    clips: list[Clip],
    seed: int,
    workers: int = 2,
    progress: Callable = iter,
) -> list[tuple[str, str]]:
    """Compute what no earlier run has of a source's features.

    Args:
        folder: of the study.
        source: a network or a floor.
        pooling: see `Study.poolings_of`.
        target, clips: the target's name, and its clips.
        seed: of random weights.
        workers: clips worked on at a time.
        progress: see `feature_tables.run.compute`.

    Returns:
        (clip id, reason) of the clips that have none.

    Raises:
        InputError: none has any; or the model cannot be used.
    """
    if source.card is None:
        rows_of, settings, batch_clips = floor_rows(source.name, workers), {"weights_sha256": {source.name: ""}}, 1
    else:
        from keras_audio_transfer import extraction

        extractor, batch_clips = _extractor(_saved_model(folder, source, pooling, seed)), source.card.batch_clips
        how = extractor, [*source.layers], source.card.audio, None, workers, batch_clips
        rows_of, settings = extraction.rows_and_settings(*how)
    output = place_of(folder, source.name, pooling, target)
    output.parent.mkdir(parents=True, exist_ok=True)
    found = feature_run.compute(output, clips, label_names(clips), settings, rows_of, batch_clips, progress)
    if not feature_run.publish(output):
        raise InputError(f"none of the {len(clips)} clips has features; {found.failures[0][1]}")
    return found.failures


@lru_cache(maxsize=1)  # all targets of a source, one after the other
def _extractor(saved_model: Path):
    from keras_audio_transfer import extraction

    return extraction.SavedExtractor(saved_model)


def _saved_model(folder, source, pooling, seed):
    """The source's own SavedModel, or one that is made of it."""
    is_own = pooling == (source.card.pooling or "mean")
    if is_own and not source.is_random:
        return latest_saved_model(source.model)
    made = folder / MODELS / f"{source.name}.{pooling}"
    if not made.exists():
        from keras_audio_transfer.export import variants

        with atomic_write(made) as partial:
            if is_own:
                variants.write_random(source.model, partial, seed)
            else:
                variants.write_pooled(source.model, partial, pooling, seed if source.is_random else None)
    return made
