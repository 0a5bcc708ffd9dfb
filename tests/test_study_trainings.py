"""Cells of a study that are trainings: on which clips, by what, and that they are `transfer`'s."""

import json
from collections import Counter
from concurrent.futures import Future

import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from sounds import CONFIG

from keras_audio_transfer import finetuning, own_processes
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.cross_validation import outer_folds
from keras_audio_transfer.study import running, study_file, trainings
from keras_audio_transfer.study.cells import Cell, folds_of, subset

RATE = CONFIG.sample_rate
ONE = "tones|here|finetune|-|softmax|4|0"


def cell(clips_a_class, seed=0):
    return Cell("net", "own", "finetune", "", "", "softmax", clips_a_class, seed)


def clips_of(n_clips, n_groups=0, **about):
    return [
        Clip(f"{n}.wav", None, ("ab"[n % 2],), group=f"g{n // 2 % n_groups}" if n_groups else "", **about)
        for n in range(n_clips)
    ]


@pytest.mark.parametrize("folds", [0, 4])
def test_the_last_folds_have_the_clips_of_other_cells(folds):
    clips = [Clip(f"{n}.wav", None, ("ab"[n % 2],), fold=n // 2 % 4 if folds else -1) for n in range(40)]
    table = FeatureTable.of_clips({}, clips, ["a", "b"])
    *_, before, last = outer_folds(table, 3)[0]
    found = [*folds_of(table, cell("4", 3), last=2)]
    assert [name for name, *_ in found] == [before.name, last.name]
    for (_, fit, score), fold in zip(found, (before, last), strict=True):
        np.testing.assert_array_equal(fit, subset(table, fold.outer.fit, 4, 3))
        np.testing.assert_array_equal(score, fold.outer.score)
    ((_, fit, _),) = folds_of(table, cell("all", 3), last=1)
    np.testing.assert_array_equal(fit, last.outer.fit)


@pytest.mark.parametrize(("clips", "validates"), [(20, 4), (10, 2), (6, 2), (4, 2)])
def test_a_part_of_the_clips_decides_when_a_training_stops(clips, validates):
    """A fifth, or of fewer than five clips of a class one."""
    fit = clips_of(clips)
    splits = trainings.divided(fit, [], cell("all"))
    assert Counter(splits.train + splits.validation) == Counter(fit)
    assert len(splits.validation) == validates
    assert Counter(clip.labels for clip in splits.validation) == dict.fromkeys([("a",), ("b",)], validates // 2)


def test_no_group_is_divided():
    splits = trainings.divided(clips_of(20, n_groups=2), [], cell("10"))
    groups = [{clip.group for clip in part} for part in (splits.train, splits.validation)]
    assert sorted(map(sorted, groups)) == [["g0"], ["g1"]]


def test_the_official_validation_split_decides_where_all_clips_are_trained_on():
    official, others = clips_of(4, split="validation"), clips_of(20, split="train")
    splits = trainings.divided([*others, *official], [], cell("all"))
    assert (splits.train, splits.validation) == (others, official)
    some = trainings.divided([*others[:6], *official], [], cell("5"))
    assert len(some.validation) == 2


def test_too_few_clips_are_refused():
    with pytest.raises(InputError, match=r"^one clip a class, or one group, is too little"):
        trainings.divided(clips_of(2), [], cell("1"))
    apart = [Clip(f"{n}.wav", None, (label,), group=label) for n, label in enumerate("aaaaabbbbb")]
    with pytest.raises(InputError, match=r"^class '[ab]' has clips of too few groups: all would decide"):
        trainings.divided(apart, [], cell("5"))


@pytest.fixture(scope="module")
def place(exported, tmp_path_factory):
    """A folder with a study that trains the small classifier on noises and tones."""
    place, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    rows = []
    for number in range(48):
        time = np.arange(rng.integers(600, 900)) / RATE
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time) if number % 2 else 0.0
        soundfile.write(place / f"{number}.wav", 0.2 * tone + 0.1 * rng.normal(size=len(time)), RATE)
        rows.append((f"{number}.wav", ("noise", "tone")[number % 2], 1 + number // 2 % 3))
    pd.DataFrame(rows, columns=["path", "label", "fold"]).to_csv(place / "clips.csv", index=False)
    (place / "study.toml").write_text(f"""
        name = "mine"
        features = ["last"]
        clips_a_class = [4, "all"]
        [finetuning]
        strategies = ["finetune"]
        clips_a_class = [4, 99]
        epochs = 1
        min_steps = 1
        [sources.tones]
        model = "{exported}"
        kind = "music"
        [targets.here]
        dataset = "manifest"
        data_dir = "clips.csv"
        kind = "tones"
    """)
    return place


def here(function, calls, jobs):
    """In the place of `own_processes.as_they_end`, quicker."""
    for key, arguments in calls.items():
        future = Future()
        try:
            future.set_result(function(*arguments))
        except InputError as error:
            future.set_exception(error)
        yield key, future


@pytest.fixture
def eagerly():
    """For trainings of a step: to trace it takes far longer than to run it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning")  # tf.data traces as ever
def test_trainings_are_cells_like_others(place, monkeypatch, eagerly):
    trained, run_trial = [], finetuning.run_trial
    monkeypatch.setattr(own_processes, "as_they_end", here)
    monkeypatch.setattr(finetuning, "run_trial", lambda *about: trained.append(about) or run_trial(*about))
    study, folder = study_file.read(place / "study.toml"), place / "out"
    assert running.phases(study) == ["features of tones, mean, on here", "cells", "trainings"]
    table = running.run(study, folder).cells.set_index("cell")
    row, probe = table.loc[ONE], table.loc["tones|here|last|mean|svm|4|0"].query("fold == 'fold_3'").iloc[0]
    for name in ("fold", "n_train", "n_test", "metric", "chance", "status"):
        assert row[name] == probe[name], name
    assert (row["features"], row["classifier"], row["pooling"], row["layers"]) == ("finetune", "softmax", "", "")
    assert row["parameters"] == "epochs=1"
    too_many = table.loc["tones|here|finetune|-|softmax|99|0"]
    assert (too_many["status"], too_many["why"]) == (
        "failed",
        "class 'noise' has 16 clips to fit on; 99 were asked for",
    )

    ((trial, _, task, config, *_),) = trained
    assert (trial.strategy, trial.fraction, trial.seed, config.epochs) == ("finetune", 1.0, 0, 1)
    assert {clip.fold for clip in task.splits.test} == {3}
    assert [len(part) for part in (task.splits.train, task.splits.validation)] == [6, 2]
    assert not [*folder.glob(".*")]

    running.run(study, folder)  # what is done is not done again
    assert len(trained) == 1
    running.run(study, folder, only=ONE)  # raises where the cell is another
    assert len(trained) == 2
    more_epochs = (place / "study.toml").read_text().replace("epochs = 1", "epochs = 2")
    (place / "other.toml").write_text(more_epochs)
    with pytest.raises(InputError, match=r"config\.json: is of another run \(finetuning was .*; choose another folder"):
        running.run(study_file.read(place / "other.toml"), folder)


def told_apart(*arguments):
    """Rows with what a training says beside its accuracy, which few clips leave the same for many trainings."""
    said, run_trial = [], finetuning.run_trial
    finetuning.run_trial = lambda *about: said.append(run_trial(*about)) or said[-1]
    rows = trainings.rows_of(*arguments)
    return [
        row | {"parameters": json.dumps([of["loss"], of["validation_accuracy"]])}
        for row, of in zip(rows, said, strict=True)
    ]


@pytest.mark.slow
def test_trainings_are_those_of_transfer(place, exported, run_script, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "rows_of", told_apart)
    text = (place / "study.toml").read_text().replace('["finetune"]', '["finetune", "scratch"]')
    (place / "all.toml").write_text(text.replace("[4, 99]", '["all"]').replace("epochs = 1", "epochs = 3"))
    table = running.run(study_file.read(place / "all.toml"), tmp_path / "study", jobs=2).cells.set_index("features")
    arguments = ["--dataset", "manifest", "--data-dir", place / "clips.csv", "--output-dir", tmp_path / "transfer"]
    arguments += ["--fractions", 1, "--test-fold", 3, "--epochs", 3, "--min-steps", 1]
    run = run_script("transfer", exported, *arguments)
    assert run.returncode == 0, run.stderr
    rows = pd.read_csv(tmp_path / "transfer" / "results.csv").set_index("strategy")
    for strategy in ("finetune", "scratch"):
        expected, (loss, accuracy) = rows.loc[strategy], json.loads(table.loc[strategy]["parameters"])
        assert table.loc[strategy]["score"] == expected["accuracy"]
        assert (loss, accuracy) == (expected["loss"], expected["validation_accuracy"])
