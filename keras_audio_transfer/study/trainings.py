"""A cell of a study that is a training -> its rows of the table. Without TensorFlow, but where it trains."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_audio_transfer import own_processes
from keras_audio_transfer.audio.loading import WaveformStore, readable_clips
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets import hold_out
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import scratch_folder
from keras_audio_transfer.finetuning_config import FinetuningConfig, Trial
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.splits import Splits
from keras_audio_transfer.study.cells import Cell, folds_of
from keras_audio_transfer.study.evaluation import Evaluator, Rows, chance, reason_of
from keras_audio_transfer.study.study_file import EVERY, MULTISCALE, Study

_PARTS = 5  # of the clips to train on; one of them decides when a training stops, as in `transfer`


class Sounds(NamedTuple):
    """What the trainings of a source on a target have in common.

    Attributes:
        table: of the clips that have features: their labels, folds, splits and groups.
        clips: its rows.
        audio: the front end, for the target's clips.
        spectrograms: path of a `.npy` file of its rows, float32 (clips, frames, mels, 1).
    """

    table: FeatureTable
    clips: list[Clip]
    audio: AudioConfig
    spectrograms: Path


@dataclass(frozen=True)
class Trainer:
    """From cells that are trainings to what they have of their own in the table.

    Attributes:
        study: what is asked for, with `finetuning`.
        evaluator: of its other cells: both have the same clips and folds.
        clips: of each target.
    """

    study: Study
    evaluator: Evaluator
    clips: Mapping[str, list[Clip]]

    def outcomes(self, cells: Iterable[Cell], jobs: int = 1) -> Iterator[tuple[Cell, Rows | str]]:
        """Each cell with its rows, as of `Evaluator.outcome`, or why there are none, as they end.

        Args:
            cells: those of a source and target one after the other.
            jobs: trainings at a time, each in a process with one thread.
        """
        for (source, target), of_pair in groupby(cells, key=lambda cell: (cell.source, cell.target)):
            with scratch_folder(self.evaluator.folder / "trainings") as scratch:
                try:
                    sounds = self._sounds(source, target, scratch)
                except Exception as error:  # one bad source never ends a study
                    why = reason_of(error)
                    yield from ((cell, why) for cell in of_pair)
                    continue
                wanted, inputs = self.study.finetuning, self.study.sources[source].inputs
                calls = {
                    cell: (
                        cell,
                        inputs[MULTISCALE if cell.features.endswith(MULTISCALE) else ""],
                        *(sounds, wanted.config, wanted.folds, scratch / f"{number}"),
                    )
                    for number, cell in enumerate(of_pair)
                }
                with closing(own_processes.as_they_end(rows_of, calls, jobs)) as ended:
                    for cell, future in ended:
                        error = future.exception()
                        yield cell, future.result() if error is None else reason_of(error)

    def _sounds(self, name: str, target: str, scratch: Path) -> Sounds:
        from keras_audio_transfer.finetuning import Task, write_spectrograms
        from keras_audio_transfer.training.input_pipeline import evaluation_batches, targets

        source = self.study.sources[name]
        pooling = self.study.poolings_of(source)[0]
        if (why := self.evaluator.unusable.get((name, pooling, target))) is not None:
            raise InputError(why)
        table = replace(self.evaluator.table(name, pooling, target), layers={})
        of_id = {clip.clip_id: clip for clip in self.clips[target]}
        groups = [""] * len(table) if table.groups is None else table.groups
        clips = [replace(of_id[str(id)], group=str(group)) for id, group in zip(table.clip_ids, groups, strict=True)]
        store = WaveformStore(source.card.audio, cache="memory")
        clips, failures, longest = readable_clips(clips, store)
        if failures:
            raise InputError(failures[0][1])
        seconds = longest / store.sample_rate
        audio = source.card.audio.for_clips(seconds).for_batches_of(seconds)
        task = Task(clips[0].dataset, Splits(clips, [], [], ""), table.label_names, audio, scratch / "spectrograms.npy")
        write_spectrograms(task, evaluation_batches(clips, targets(clips, task.label_names), store, audio, 32))
        return Sounds(table, clips, audio, task.spectrograms)


def rows_of(
    cell: Cell, source: Path, sounds: Sounds, config: FinetuningConfig, n_folds: int, scratch: Path
) -> list[dict[str, Any]]:
    """Train a cell on each of its folds, as `transfer` trains, and score it: `Evaluator.outcome` has what a row holds.

    Args:
        cell: a training.
        source: the model folder.
        sounds: of its source and target.
        config: how it is trained.
        n_folds: at most so many folds, the last ones.
        scratch: a folder to make, for what is not kept.
    """
    from keras_audio_transfer.finetuning import Task, run_trial

    begin = time.monotonic()
    spectrograms, card = np.load(sounds.spectrograms, mmap_mode="r"), Card.read(source)
    trial = Trial(cell.features.removesuffix(MULTISCALE), 1.0, cell.seed)
    place = {clip.clip_id: row for row, clip in enumerate(sounds.clips)}
    labels, rows = sounds.table.labels, []
    for fold, fit, score in folds_of(sounds.table, cell, last=n_folds):
        run_dir = scratch / fold
        run_dir.mkdir(parents=True)
        splits = divided(*([sounds.clips[row] for row in part] for part in (fit, score)), cell)
        about = sounds.clips[0].dataset, splits, sounds.table.label_names, sounds.audio
        task = Task(*about, run_dir / "spectrograms.npy")
        np.save(task.spectrograms, spectrograms[[place[clip.clip_id] for clip in task.clips]])
        result = run_trial(trial, source, task, config, run_dir, None, run_dir / "predictions.csv")
        shutil.rmtree(run_dir, ignore_errors=True)  # where a file is still open, it goes with the others
        rows.append(
            {
                **{"fold": fold, "layers": "", "depth": None, "n_train": len(fit), "n_test": len(score)},
                **{"metric": "accuracy", "score": float(result["accuracy"])},
                "chance": chance(labels, fit, score),
                "n_features": card.layer_sizes[card.layer_names[-1]],
                "parameters": f"epochs={result['epochs']}",
            }
        )
    seconds = (time.monotonic() - begin) / len(rows)
    return [row | {"seconds": seconds} for row in rows]


def divided(fit: list[Clip], test: list[Clip], cell: Cell) -> Splits:
    """Divide the clips to train on into those that do and those that decide when a training stops.

    These are, as in `transfer`, the official validation split where all clips are trained on and there is one, and else
    a fifth of the groups; a fourth, third or half where there are too few clips or groups for that.

    Raises:
        InputError: one clip of a class, or one group, or a class that would have none to train on.
    """
    official = [clip for clip in fit if clip.split == "validation"]
    if official and cell.clips_a_class == EVERY:
        train, validation = [clip for clip in fit if clip.split != "validation"], official
    else:
        of_class = Counter(clip.labels for clip in fit)
        n_groups = len({clip.group or f"\0{clip.clip_id}" for clip in fit})
        parts = min(_PARTS, n_groups, max(of_class.values()))
        if parts < 2:
            raise InputError("one clip a class, or one group, is too little: some have to decide when a training stops")
        train, validation = hold_out(fit, 1 / parts, cell.seed)
    if missing := {clip.labels for clip in fit} - {clip.labels for clip in train}:
        ((name,), *_) = sorted(missing)
        raise InputError(f"class {name!r} has clips of too few groups: all would decide when a training stops")
    return Splits(train, validation, test, "")
