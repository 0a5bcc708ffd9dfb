"""Runs the cells of a study, keeps each as it ends, and writes the tables. Without TensorFlow."""

from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_audio_transfer.datasets.clip import Clip, digest
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write, write_json, write_table
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.resume import Journal, difference, read_settings
from keras_audio_transfer.study import measuring, source_features, target_clips
from keras_audio_transfer.study.cells import Cell, cells_of
from keras_audio_transfer.study.evaluation import Evaluator, Rows, common_groups, reason_of
from keras_audio_transfer.study.study_file import FLOOR, MULTISCALE, TRAINED, Source, Study
from keras_audio_transfer.study.trainings import Trainer

if TYPE_CHECKING:
    import pandas as pd

    from keras_audio_transfer.dask_cluster import Cluster

CONFIG, KEPT, CELLS, MEASURES = "config.json", "cells.jsonl", "cells", "measures"
OUTPUTS = (
    *(f"{name}{suffix}" for name in (CELLS, MEASURES) for suffix in (".parquet", ".csv")),
    *(KEPT, measuring.KEPT, source_features.FOLDER, source_features.MODELS),
)
_OF_SETTINGS = ("source ", "target ", "left out of ", "groups of ", "finetuning")  # how their names begin
DONE, FAILED = "done", "failed"
_CELLS, _TRAININGS = "cells", "trainings"  # phases
_OF_ROW = {
    **{"fold": str, "layers": str, "depth": float, "n_train": int, "n_test": int, "metric": str, "score": float},
    **{"chance": float, "n_features": int, "parameters": str, "seconds": float},
}
_COLUMNS = [
    *("cell", "source", "source_kind", "target", "target_kind", "features", "layers", "depth", "classifier", "pooling"),
    *("clips_a_class", "seed", "fold", "n_train", "n_test", "metric", "score", "chance", "n_features", "parameters"),
    *("seconds", "status", "why"),
]
_NUMBERS = [name for name in _COLUMNS if _OF_ROW.get(name) in (int, float)]
Bar = Callable[[str, int, str], Callable]


class Results(NamedTuple):
    """What a study has found.

    Attributes:
        cells: the table, a row a cell and fold; docs/studies.md has the columns.
        measures: see `measuring.table_of`; None where only some cells were run.
        failed_cells: the keys of those that were asked for and failed.
        failed_clips: (clip, why) of clips without features, each named after its target.
        n_before: how many of the cells that were asked for were done before; with a pattern these were run again, and
            are equal.
        n_new: how many more of them are done now.
    """

    cells: "pd.DataFrame"
    measures: "pd.DataFrame | None"
    failed_cells: list[str]
    failed_clips: list[tuple[str, str]]
    n_before: int
    n_new: int


def phases(study: Study) -> list[str]:
    """The names of what `run` does, one after the other."""
    of_cells = [_CELLS] if study.finetuning is None else [_CELLS, _TRAININGS]
    return [*(_phase(*features) for features in _pairs(study, study.targets)), *of_cells]


def run(
    study: Study,
    folder: Path,
    jobs: int = 2,
    workers: int = 2,
    only: str | None = None,
    bar: Bar = lambda *about: iter,
    cluster: "Cluster | None" = None,
    say: Callable[[str], None] = lambda text: None,
) -> Results:
    """Run the cells that no earlier run in this folder has done, and write the tables (`OUTPUTS`).

    Args:
        study: what is asked for.
        folder: of the study; made if it is not there.
        jobs: cells worked on at a time, in threads; trainings, in processes.
        workers: clips worked on at a time.
        only: a pattern, as of names of files: these cells alone, again where they are done.
        bar: from a phase, its number of steps and what a step is, to what wraps an iterable and reports its progress.
        cluster: whose workers run the cells that are no trainings; they have to see the folder.
        say: is told what `target_clips.load` notes.

    Raises:
        InputError: a target that cannot be read or scored; a pattern that no cell has, or one where the folder's tables
            have cells of another study; what is kept in the folder is of other weights, clips or seeds.
    """
    clips = target_clips.load(study, say)
    cells = cells_of(study, {name for name, of_target in clips.items() if target_clips.is_divided(of_target)})
    wanted = [cell for cell in cells if only is None or fnmatchcase(cell.key, only)]
    if not wanted:
        raise InputError(f"only: {only!r} is the name of no cell; expected one such as '{cells[0].key}', or a pattern")
    if only is not None:
        _check_tables(folder, study, cells)
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder, _settings(study, clips))
    of_all = clips
    clips = {name: clips[name] for name in dict.fromkeys(cell.target for cell in wanted)}
    of_features = bar if only is None else lambda *about: _silent_where_kept(bar(*about))
    unusable, failed = _compute_features(study, folder, clips, workers, of_features)
    left_out = {target: frozenset(clip for of, clip in failed if of == target) for target in clips}
    groups = {target: _groups(study, folder, target, unusable) for target in clips}
    of_clips = {
        f"groups of {target}": digest([replace(clip, group=groups[target].get(clip.clip_id, "")) for clip in of_target])
        for target, of_target in clips.items()
    }
    _check_settings(folder, of_clips | {f"left out of {target}": sorted(ids) for target, ids in left_out.items()})
    evaluator = Evaluator(folder.absolute(), study.sources, unusable, left_out, groups)
    with Journal(folder / KEPT, _are_of_cell) as kept:
        n_before = sum(_is_done(kept.get(cell.key)) for cell in wanted)
        todo = [cell for cell in wanted if only is not None or not _is_done(kept.get(cell.key))]
        for phase, some, outcomes in _outcomes(evaluator, Trainer(study, evaluator, clips), todo, jobs, cluster):
            with closing(outcomes):
                for cell, outcome in bar(phase, len(some), "cell")(outcomes):
                    if only is not None and _is_done(kept.get(cell.key)):
                        _check_equal(cell, kept[cell.key], outcome)
                    else:
                        kept[cell.key] = [outcome] if isinstance(outcome, str) else outcome
        failed_cells = [cell.key for cell in wanted if not _is_done(kept[cell.key])]
        table = _table(study, [(cell, kept[cell.key]) for cell in cells if cell.key in kept])
    write(table, folder, CELLS)
    measured = None
    if only is None:
        there = ((source.name, pooling, target) for source, pooling, target in _pairs(study, clips))
        usable = [features for features in there if features[0] in study.sources and features not in unusable]
        measured = measuring.table_of(evaluator, usable, [*clips], of_all)
        write(measured, folder, MEASURES)
    failed_clips = [(f"{target}: {clip}", why) for (target, clip), why in failed.items()]
    n_new = len(wanted) - len(failed_cells) - n_before
    return Results(table, measured, failed_cells, failed_clips, n_before, n_new)


def write(table: "pd.DataFrame", folder: Path, name: str) -> None:
    """Write a table as `NAME.parquet` and `NAME.csv`."""
    with atomic_write(folder / f"{name}.parquet") as partial:
        table.to_parquet(partial, index=False)
    rows = [["" if value != value else value for value in row] for row in table.to_numpy(object).tolist()]  # NaN
    write_table(folder / f"{name}.csv", [*table], rows)


# ---- features


def _compute_features(study: Study, folder: Path, clips: dict[str, list[Clip]], workers: int, bar: Bar):
    """Why there are no features, by (source, pooling, target); and why a clip has none, by (target, clip)."""
    unusable: dict[tuple[str, str, str], str] = {}
    failed: dict[tuple[str, str], str] = {}
    for source, pooling, target in _pairs(study, clips):
        progress = bar(_phase(source, pooling, target), len(clips[target]), "clip")
        try:
            about = folder, source, pooling, target, clips[target], study.seeds[0], workers
            found = source_features.compute(*about, progress)
            failed = {(target, clip): why for clip, why in found} | failed
        except Exception as error:  # one bad source never ends a study
            unusable[source.name, pooling, target] = reason_of(error)
    return unusable, failed


def _groups(study: Study, folder: Path, target: str, unusable: Container[tuple[str, str, str]]) -> dict[str, str]:
    """See `common_groups`; of all sources of a target that have features."""
    return common_groups(
        FeatureTable.load(source_features.place_of(folder, source.name, pooling, target), source.layers[:1])
        for source, pooling, _ in _pairs(study, [target])
        if (source.name, pooling, target) not in unusable
    )


def _silent_where_kept(progress: Callable) -> Callable:
    """A bar that begins with the first clip whose features no earlier run has; of one that has them the step is None.

    So nothing is said of features that are complete.
    """

    def watched(steps: Iterable) -> Iterator:
        steps = iter(steps)
        for n_kept, step in enumerate(steps):
            if step is not None:
                yield from progress(chain(repeat(None, n_kept), [step], steps))

    return watched


def _pairs(study: Study, targets: Iterable[str]) -> Iterator[tuple[Source, str, str]]:
    """(source, pooling, target) of all features, also of floors that are only joined to others."""
    floors = {floor: Source(floor, FLOOR, layers=(floor,)) for floor in study.joined_floors}
    for source in (floors | dict(study.sources)).values():
        yield from ((source, pooling, target) for pooling in study.poolings_of(source) for target in targets)


def _phase(source: Source, pooling: str, target: str) -> str:
    return f"features of {source.name}{f', {pooling},' if pooling else ''} on {target}"


# ---- cells


def _outcomes(
    evaluator: Evaluator, trainer: Trainer, cells: list[Cell], jobs: int, cluster: "Cluster | None"
) -> Iterator[tuple[str, list[Cell], Generator]]:
    """The phases of the cells, each with its name, its cells and what comes of them."""
    others = [cell for cell in cells if cell.classifier != TRAINED]
    there = [evaluator.folder / source_features.FOLDER]
    if cluster is None:
        outcomes = evaluator.outcomes(others, jobs)
    else:
        outcomes = cluster.map(evaluator.outcomes, others, lambda cell, why: (cell, f"{cell.key}: {why}"), there)
    yield _CELLS, others, outcomes
    if trainer.study.finetuning is not None:
        trained = [cell for cell in cells if cell.classifier == TRAINED]
        yield _TRAININGS, trained, trainer.outcomes(trained, jobs)


def _is_done(rows: list | None) -> bool:
    return rows is not None and isinstance(rows[0], dict)


def _are_of_cell(values: list) -> bool:
    """Whether these are what a cell leaves behind: its rows, or why there is none."""
    if len(values) == 1 and isinstance(values[0], str):
        return True
    return bool(values) and all(
        isinstance(row, dict)
        and row.keys() == _OF_ROW.keys()
        and all(type(row[name]) is kind or (name == "depth" and row[name] is None) for name, kind in _OF_ROW.items())
        and min(row["n_train"], row["n_test"]) > 0
        and all(0 <= row[name] <= 1 for name in ("score", "chance"))
        for row in values
    )


def _check_equal(cell: Cell, before: Rows, now: Rows | str) -> None:
    """Refuse a cell that, run again, is not what it was."""
    if isinstance(now, str) or [_timeless(row) for row in before] != [_timeless(row) for row in now]:
        was, is_now = ([row["score"] for row in rows] if isinstance(rows, list) else rows for rows in (before, now))
        raise InputError(
            f"{cell.key}: run again, it is another: its scores were {was}, and are {is_now}; of other versions of the "
            "packages perhaps; run the whole study in another folder"
        )


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


# ---- the tables, the settings


def _table(study: Study, kept: list[tuple[Cell, list]]) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for cell, outcome in kept:
        about = {
            "cell": cell.key,
            **{name: getattr(cell, name) for name in ("source", "target", "features", "classifier", "pooling")},
            **{"clips_a_class": cell.clips_a_class, "seed": cell.seed},
            "source_kind": study.sources[cell.source].kind,
            "target_kind": study.targets[cell.target].kind,
        }
        if _is_done(outcome):
            rows += [about | row | {"status": DONE, "why": ""} for row in outcome]
        else:
            nothing = {"fold": "", "layers": cell.layer, "metric": "", "parameters": "", "n_train": 0, "n_test": 0}
            rows.append(about | nothing | {"n_features": 0, "status": FAILED, "why": outcome[0]})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.astype({name: _OF_ROW[name] for name in _NUMBERS})


def _settings(study: Study, clips: dict[str, list[Clip]]) -> dict[str, Any]:
    """What the results depend on, source by source and target by target, so that others may come and go."""
    result: dict[str, Any] = {}
    for source in study.sources.values():
        if source.card is not None:
            seed = {"seed": study.seeds[0]} if source.is_random else {}
            about = {"answers": source.card.fingerprint(), "layers": [*source.layers], **seed}
            result[f"source {source.name}"] = {name: str(value) for name, value in about.items()}
    if (wanted := study.finetuning) is not None:
        result["finetuning"] = {"folds": wanted.folds, **asdict(wanted.config)}
        for name in wanted.sources:
            if (multiscale := study.sources[name].multiscale) is not None:
                result[f"source {name}{MULTISCALE}"] = Card.read(multiscale).fingerprint()
    return result | {f"target {name}": digest(of_target) for name, of_target in clips.items()}


def _check_tables(folder: Path, study: Study, cells: list[Cell]) -> None:
    """Refuse to replace tables with cells that the study does not have, where only some of its own will be run."""
    import pandas as pd

    path, there = folder / f"{CELLS}.parquet", []
    with suppress(OSError, ValueError):  # no table, or a damaged one, has nothing to lose
        there = [*pd.read_parquet(path, columns=["cell"])["cell"].unique()]
    asked_for = {cell.key for cell in cells}
    if foreign := [key for key in there if key not in asked_for]:
        what = f"{path} has cells that {study.path} does not ask for ({len(foreign)}, such as '{foreign[0]}')"
        remedy = "run the whole study, without a pattern, or choose another folder"
        raise InputError(f"only: {what}, and would lose them; {remedy}")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Compare settings with those that an earlier run had for the same sources and targets, and keep them all."""
    path = folder / CONFIG
    before = read_settings(path) if path.exists() else {}
    if foreign := next((name for name in before if not name.startswith(_OF_SETTINGS)), None):
        raise InputError(f"{path}: has {foreign[:60]!r}, and is of no study; choose another folder")
    if (folder / KEPT).exists() and not any(name.startswith("target ") for name in before):
        raise InputError(f"{path}: does not say which clips the cells of {KEPT} are of; remove both to start again")
    if found := difference(before, settings, added=[*before, *settings]):
        raise InputError(f"{path}: is of another run ({found}); choose another folder, or rename what has changed")
    write_json(path, before | settings)
