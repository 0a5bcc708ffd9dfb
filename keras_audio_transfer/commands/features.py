"""What verbs share that compute features: the sounds, the rows, and the file or folder that is written."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.commands.progress import Estimate
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.table import Row
from keras_audio_transfer.files import size_of, write_failures

if TYPE_CHECKING:
    from keras_audio_transfer.dask_cluster import Cluster

Result = TypeVar("Result")


def add_input_arguments(arguments: argparse.ArgumentParser) -> None:
    """A data set, or audio files and folders; and the features file to write."""
    arguments.add_argument(
        "inputs", type=Path, nargs="*", default=[], metavar="FILE_OR_FOLDER", help="audio, instead of a data set"
    )
    cli.add_dataset_arguments(arguments)
    text = "features to write: a file (.npz), or a folder of Parquet files (.parquet) for many clips"
    arguments.add_argument("--output", type=Path, required=True, metavar="FEATURES.npz", help=text)
    cli.add_workers_argument(arguments)
    cli.add_scheduler_argument(arguments, "compute the features")


def check_inputs(options: argparse.Namespace) -> None:
    """Refuse what `add_input_arguments` asks for where it cannot end in a features file, before any work is done."""
    places.check_features(options.output, [*options.inputs, options.data_dir])
    if bool(options.inputs) == bool(options.dataset):
        raise InputError("inputs: expected either files and folders or --dataset, not both and not neither")
    if options.dataset is None:
        for flag, given in (("--data-dir", options.data_dir), ("--download", options.download)):
            if given:
                raise InputError(f"{flag}: belongs to a data set; name it with --dataset, or leave {flag} out")


def load_inputs(options: argparse.Namespace) -> tuple[list[Clip], list[str]]:
    """The clips that `add_input_arguments` asked for, and the names of their labels (or targets)."""
    if options.dataset is None:
        from keras_audio_transfer.clip_inputs import clips_below

        return clips_below(options.inputs), []
    clips = cli.load_clips(options)
    return clips, cli.label_names(clips)


def on_clips(
    cluster: "Cluster",
    function: Callable[[Iterable[Clip]], Iterable[Result]],
    clips: Iterable[Clip],
    failed: Callable[[Clip, str], Result],
    paths: Iterable[Path | None],
    batch_clips: int = 1,
) -> Iterator[Result]:
    """`Cluster.map` of clips. `paths`: the user's, which every machine has to see; of a file its folder."""
    there = {path if path.is_dir() else path.parent for path in paths if path and path.exists()}
    absolute = (clip if clip.path is None else replace(clip, path=clip.path.absolute()) for clip in clips)

    def killed(clip, reason):
        return failed(clip, f"{clip.clip_id}: {reason}; leave it out, or give workers more memory")

    return cluster.map(function, absolute, killed, [path.absolute() for path in there], batch_clips)


def rows_on(
    cluster: "Cluster",
    function: Callable[[Iterable[Clip]], Iterable[list[Row]]],
    paths: Iterable[Path | None],
    batch_clips: int = 1,
) -> feature_run.RowsOf:
    """What computes the rows on a cluster. `paths`: see `on_clips`."""
    paths = [*paths]

    def failed(clip, reason):
        return [Row(clip, reason)]

    return lambda clips: on_clips(cluster, function, clips, failed, paths, batch_clips)


def rows_of_floor(
    options: argparse.Namespace, name: str, cluster: "Cluster | None", paths: Iterable[Path | None]
) -> tuple[feature_run.RowsOf, dict]:
    """What `feature_tables.run.compute` takes for the features of `mfcc`: what computes the rows, and the settings.

    Args:
        options: with `workers`.
        name: of the floor, and of its layer.
        cluster: where they are computed; None: here.
        paths: where the sounds are.
    """
    from keras_audio_transfer.mfcc import floor_rows

    rows_of = floor_rows(name, 1 if cluster else options.workers)
    return rows_on(cluster, rows_of, paths) if cluster else rows_of, {"weights_sha256": {name: ""}}


def rows_of_model(
    options: argparse.Namespace,
    saved_model: Path,
    layers: list[str],
    config: AudioConfig,
    cluster: "Cluster | None",
    paths: Iterable[Path | None],
    hop_seconds: float | None = None,
    batch_clips: int = 1,
) -> tuple[feature_run.RowsOf, dict]:
    """The same for the features of `extraction`; see there for the model, its layers and the front end."""
    from keras_audio_transfer import extraction

    extractor = extraction.SavedExtractor(saved_model)
    how = layers, config, hop_seconds
    rows_of, settings = extraction.rows_and_settings(extractor, *how, options.workers, batch_clips)
    if cluster:
        what = saved_model.absolute(), extractor.sha256, *how, batch_clips
        rows_of = rows_on(cluster, partial(extraction.rows_on_worker, *what), [saved_model, *paths], batch_clips)
    return rows_of, settings


def write_features(
    options: argparse.Namespace,
    clips: list[Clip],
    names: list[str],
    settings: dict,
    rows_of: feature_run.RowsOf,
    batch_clips: int = 1,
) -> int:
    """Compute the features, or go on where a run was killed, and write `failed.csv` beside them; the exit code.

    See `feature_tables.run.compute` for the arguments.
    """
    estimate = Estimate(options, "extracting")
    bar = cli.Phases(options, "extracting").bar("extracting", len(clips))

    def progress(steps):
        return bar(estimate.watch(steps, len(clips), bytes_of=lambda added: added))

    found = feature_run.compute(options.output, clips, names, settings, rows_of, batch_clips, progress)
    write_failures(options.output, found.failures)
    cli.say_notes(options, found.notes)
    if n_rows := feature_run.publish(options.output):
        cli.show(f"written: {options.output} ({n_rows} clips, {len(settings['weights_sha256'])} layers)")
        estimate.compare(size_of(options.output))
    else:
        cli.say_not_written(options.output)
    return cli.report_failures(found.failures, options.output)
