"""The features of the sources that `compare` compares: computed shard by shard, or read from files at hand."""

import math
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands import features
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import beside, read_json, scratch_folder, write_json
from keras_audio_transfer.layer_names import check_joinable
from keras_audio_transfer.model_folder import Card, latest_saved_model

FEATURES = "features"


def place_of(options, name):
    """Where a source's features are kept that are computed."""
    return beside(options.output_dir / FEATURES / name, ".npz")


def computed(options, name, path, clips, label_names, cluster, phases):
    """A source's features, from the run that was killed where it got so far; and what they cost.

    Args:
        options: of the command.
        name: of the source.
        path: its model folder; None for a floor.
        clips, label_names: of the data set.
        cluster: where they are computed; None: here.
        phases: of the run.
    """
    file, card = place_of(options, name), path and Card.read(path)
    about, answers = beside(file.parent / name, ".json"), card and card.fingerprint()
    cost = read_json(about) if about.exists() else None
    if file.exists() and about.exists():
        table = FeatureTable.load(file)
        is_kept = _is_cost(cost) and _is_of(table, clips, label_names) and _is_from(table, name, card)
        if not (is_kept and cost.get("answers", answers) == answers):
            what = f"is not what this run had kept, or of another network named {name}, or {about.name} is"
            raise InputError(f"{file}: {what}; remove both to go on")
        return table, cost
    begin, n_computed = time.monotonic(), 0
    with ExitStack() as stack:
        rows_of, settings = _rows_and_settings(options, name, path, card, cluster, stack)

        def counted(clips):
            nonlocal n_computed
            for rows in rows_of(clips):
                n_computed += 1
                yield rows

        progress = phases.bar(name, len(clips))
        failures = feature_run.compute(file, clips, label_names, settings, counted, progress=progress).failures
    if len(failures) == len(clips):
        raise InputError(f"{name}: none of the {len(failures)} clips has features; {failures[0][1]}")
    before = cost["seconds_a_clip"] if _is_cost(cost) else None
    seconds = (time.monotonic() - begin) / n_computed if n_computed else before
    cost = {"seconds_a_clip": seconds, "failures": failures, "answers": answers}
    write_json(about, cost)  # first, so that it is there when the table is
    feature_run.publish(file)
    return FeatureTable.load(file), cost


def _is_cost(content):
    """Whether this is what `computed` says of a source."""
    if not isinstance(content, dict) or not isinstance(content.get("seconds_a_clip", ""), int | float | None):
        return False
    if not math.isfinite(content["seconds_a_clip"] or 0):
        return False
    failures = content.get("failures")
    pairs = isinstance(failures, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in failures)
    return pairs and all(isinstance(text, str) for pair in failures for text in pair)


def _is_of(table, clips, label_names):
    """Whether a table has these clips, but for those that failed, with what they say of themselves."""
    expected = FeatureTable.of_clips({}, _in(table, clips), label_names)
    names = ("clip_ids", "labels", "folds", "splits")
    same = all(np.array_equal(getattr(table, name), getattr(expected, name)) for name in names)
    return same and [*table.label_names] == [*label_names]


def _is_from(table, name, card):
    """Whether a table has the layers of a source, and no other network's. Of random weights nothing is on record."""
    from keras_audio_transfer.study.study_file import TWIN

    layers = [name] if card is None else [*card.layer_names]
    weights = [] if card is None or name.endswith(TWIN) else [card.weights_sha256]
    return [*table.layers] == layers and [*{*table.weights_sha256.values()} - {""}] == weights


def _in(table, clips):
    ids = {*map(str, table.clip_ids)}
    return [clip for clip in clips if clip.clip_id in ids]


def _rows_and_settings(options, name, path, card, cluster, stack):
    """What `feature_tables.run.compute` takes for a source."""
    from keras_audio_transfer.study.study_file import TWIN

    if path is None:
        return features.rows_of_floor(options, name, cluster, [options.data_dir])
    saved_model = latest_saved_model(path)
    is_random = name.endswith(TWIN)
    if is_random:
        from keras_audio_transfer.export import variants

        saved_model = stack.enter_context(scratch_folder(options.output_dir / "random")) / "1"
        variants.write_random(path, saved_model, options.seed)
    how = card.layer_names, card.audio, cluster, [options.data_dir]
    rows_of, settings = features.rows_of_model(options, saved_model, *how)
    if is_random:  # whenever they are written, the same weights are in other bytes
        del settings["model_sha256"]
    return rows_of, settings


# ---- files at hand


def read(path, clips, label_names):
    """The features in a file, and what is said in the place of their cost.

    Groups are those of the data set, and where it has none, those of the file, which knows of copies.

    Raises:
        InputError: it is of other clips, or they have other labels, folds, splits or places in it; or it has too few
            of them, or a layer whose name could not be told from a combination's.
    """
    from keras_audio_transfer.probing.cross_validation import outer_folds

    table = FeatureTable.load(path)
    expected = FeatureTable.of_clips({}, there := _in(table, clips), label_names)
    if there:
        expected.join(table, f"--features: {path}")  # says what differs
    if not there or not _is_of(table, clips, label_names):
        what = "has none of these clips, or others besides, or in another order, or without labels"
        raise InputError(f"--features: {path} {what}; extract it from the same data set")
    for layer in table.layers:
        check_joinable(layer, f"--features: {path}")
    try:
        outer_folds(expected)
    except InputError as error:
        raise InputError(f"--features: {path} has {len(there)} of {len(clips)} clips: {error}") from error
    groups = table.groups if expected.groups is None else expected.groups
    if table.groups is not None:
        groups = np.where(groups == "", table.groups, groups)
    ids = {clip.clip_id for clip in there}
    missing = [clip.clip_id for clip in clips if clip.clip_id not in ids]
    failures = [[clip_id, f"{clip_id}: has no features in {path}"] for clip_id in missing]
    return replace(table, groups=groups), {"seconds_a_clip": None, "failures": failures}


# ---- tables


def of_all_sources(tables):
    """The tables with the clips that every source has features of."""
    common = set.intersection(*({*map(str, table.clip_ids)} for table in tables.values()))
    if not common:
        raise InputError("--models: no clip has features of every source; see the first of them in failed.csv")
    return {
        name: table.with_rows(np.array([str(clip) in common for clip in table.clip_ids]))
        for name, table in tables.items()
    }


def joined(tables):
    """The layers of several sources in one table, named SOURCE/LAYER."""
    result = None
    for name, table in tables.items():
        renamed = table.with_layer_names({layer: f"{name}/{layer}" for layer in table.layers})
        result = renamed if result is None else result.join(renamed, name)
    return result


def table_on_worker(paths: Iterable[Path], names: Iterable[str], left_out: Iterable[str]) -> FeatureTable:
    """The features in a source's file, or those of several `joined`, without the clips that some source lacks."""
    tables = {}
    for path, name in zip(paths, names, strict=True):
        table = FeatureTable.load(path)
        tables[name] = table.with_rows(np.array([str(clip) not in left_out for clip in table.clip_ids]))
    return joined(tables) if len(tables) > 1 else tables[name]
