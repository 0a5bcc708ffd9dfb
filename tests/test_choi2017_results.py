"""The authors' files are read as they are; a copy that lacks one is refused; the published scores come out again."""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_main

from keras_audio_transfer.commands import reproduce_choi2017
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import choi2017_results
from keras_audio_transfer.pretrained.choi2017_results import LAYERS, MFCC, find_tasks, published_scores, read_task
from keras_audio_transfer.probing.layer_selection import all_combinations
from keras_audio_transfer.probing.prober import Prober

PUBLISHED = os.environ.get("KAT_TEST_CHOI2017")
needs_published_files = pytest.mark.skipif(
    not PUBLISHED, reason="KAT_TEST_CHOI2017 does not name a folder with transfer_learning_music/"
)


def write_task(root, task, columns, n=30, scores=("mine_0", "mine_024", "mfcc_4", "mfcc+12345_4"), results=None):
    """A task of the repository's layout: random features of n clips, scores 0.1, 0.2, ..."""
    for folder in ("data_csv", "data_feats", "result_transfer"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    ids = {"id": [f"id{i}" for i in range(n)], "filepath": [f"some/clip{i}.wav" for i in range(n)]}
    pd.DataFrame({**ids, **columns}).to_csv(root / "data_csv" / f"{task}.csv")
    for i in range(5):
        np.save(root / "data_feats" / f"{task}_layer_{i}.npy", rng.normal(size=(n, 4)).astype(np.float32))
    np.save(root / "data_feats" / f"{task}_mfcc.npy", rng.normal(size=(n, 6)))
    for name in results or [task]:
        for i, feature in enumerate(scores, 1):
            machine = "SVR" if task == "emoMusic" else "SVC"
            np.save(root / "result_transfer" / f"T_{name}_F_{feature}_CL_{machine}.npy", i / 10)
    return root


@pytest.fixture
def repository(tmp_path):
    """Four small tasks, one of each kind of evaluation."""
    root = tmp_path / "transfer_learning_music"
    labels = [i % 3 for i in range(30)]
    write_task(root, "gtzan_genre", {"label": labels})
    write_task(root, "urbansound", {"label": labels, "fold": [1 + i // 10 for i in range(30)]})
    category = ["train"] * 15 + ["valid"] * 5 + ["test"] * 10
    write_task(root, "jamendo_vd", {"label": [i % 2 for i in range(30)], "category": category})
    numbers = [round(i / 31, 12) for i in range(30)]
    emotions = {"label_arousal": numbers, "label_valence": numbers[::-1]}
    write_task(root, "emoMusic", emotions, results=["emoMusic_a", "emoMusic_v"])
    return root


def test_layers_and_labels(repository):
    features = read_task(repository, "gtzan_genre")
    assert [*features.layers] == [*LAYERS, MFCC]
    np.testing.assert_array_equal(features.layers["layer3"], np.load(repository / "data_feats/gtzan_genre_layer_2.npy"))
    assert features.layers[MFCC].dtype == np.float64
    assert features.label_names == ["0", "1", "2"]
    assert [*features.labels] == [i % 3 for i in range(30)]
    assert features.clip_ids[7] == "some/clip7.wav"
    assert (features.folds == -1).all()
    assert (features.splits == "").all()


def test_folds(repository):
    assert [*np.bincount(read_task(repository, "urbansound").folds)] == [0, 10, 10, 10]


def test_splits(repository):
    assert [*read_task(repository, "jamendo_vd").splits] == ["train"] * 15 + ["validation"] * 5 + ["test"] * 10


def test_regression(repository):
    arousal, valence = (read_task(repository, f"emoMusic_{letter}") for letter in "av")
    assert arousal.is_regression
    assert arousal.label_names == []
    assert arousal.labels[1] == round(1 / 31, 12)
    np.testing.assert_array_equal(arousal.labels, valence.labels[::-1])


def test_published_scores(repository):
    assert published_scores(repository, "gtzan_genre") == {
        ("layer1",): 0.1,
        ("layer1", "layer3", "layer5"): 0.2,
        ("mfcc",): 0.3,
        ("mfcc", *LAYERS): 0.4,
    }


def test_tasks(repository):
    assert find_tasks(repository, "all") == ["gtzan_genre", "emoMusic_a", "emoMusic_v", "jamendo_vd", "urbansound"]
    assert find_tasks(repository, "emoMusic") == ["emoMusic_a", "emoMusic_v"]
    assert find_tasks(repository, "emoMusic_v") == ["emoMusic_v"]


def test_known_exceptions():
    tasks = choi2017_results.TASKS
    assert "not published" in tasks["urbansound"].known_exception(("layer1", "layer5"))
    assert tasks["jamendo_vd"].known_exception(("layer1", "layer4")) == ""
    assert tasks["jamendo_vd"].known_exception(LAYERS) == ""
    assert tasks["gtzan_genre"].known_exception(LAYERS) == ""
    fours = [LAYERS[:4], LAYERS[1:], LAYERS, (MFCC,), (MFCC, *LAYERS)]
    published = [*all_combinations(LAYERS, 3), *fours]
    known = {name: sum(map(bool, map(task.known_exception, published))) for name, task in tasks.items()}
    assert {name: number for name, number in known.items() if number} == {"jamendo_vd": 13, "urbansound": 14}


@pytest.mark.parametrize(
    ("task", "layers", "difference", "known"),
    [
        ("jamendo_vd", ("layer2", "layer5"), 0.0015, True),
        ("jamendo_vd", ("layer2", "layer5"), -0.0015, True),
        ("jamendo_vd", ("layer2", "layer5"), 0.0009, False),
        ("jamendo_vd", LAYERS, 0.0015, False),
        ("ballroom_extended", ("layer1",), 0.0015, False),
        ("urbansound", (MFCC, *LAYERS), np.nan, True),
    ],
)
def test_an_exception_excuses_a_score_only_where_it_differs(task, layers, difference, known):
    row = reproduce_choi2017.compared(task, layers, {"layers": "+".join(layers), "score": 0.5 + difference}, 0.5)
    assert bool(row["known_exception"]) == known


SCORE = "result_transfer/T_gtzan_genre_F_mine_0_CL_SVC.npy"


def write_archive(path):
    with path.open("wb") as file:
        np.savez(file, np.zeros((30, 6)))


def spoil_header(path):
    path.write_bytes(path.read_bytes().replace(b"}", b" "))


BROKEN = {
    "no folder": (lambda root: (root / "data_feats").rename(root / "feats"), "has no data_feats/; expected a copy of"),
    "no table": (lambda root: (root / "data_csv/gtzan_genre.csv").unlink(), "gtzan_genre.csv: does not exist"),
    "no layer": (
        lambda root: (root / "data_feats/gtzan_genre_layer_3.npy").unlink(),
        "gtzan_genre_layer_3.npy: does not exist; expected a file of the authors' repository",
    ),
    "not an array": (
        lambda root: (root / "data_feats/gtzan_genre_mfcc.npy").write_text("version https://git-lfs"),
        "gtzan_genre_mfcc.npy: not an array file",
    ),
    "an archive of arrays": (
        lambda root: write_archive(root / "data_feats/gtzan_genre_mfcc.npy"),
        "gtzan_genre_mfcc.npy: not an array file",
    ),
    "half an archive": (
        lambda root: (root / "data_feats/gtzan_genre_mfcc.npy").write_bytes(b"PK\x03\x04 and no more"),
        "gtzan_genre_mfcc.npy: not an array file",
    ),
    "a damaged header": (
        lambda root: spoil_header(root / "data_feats/gtzan_genre_mfcc.npy"),
        "gtzan_genre_mfcc.npy: not an array file",
    ),
    "no channels": (
        lambda root: np.save(root / "data_feats/gtzan_genre_layer_0.npy", np.zeros((30, 0))),
        r"gtzan_genre_layer_0.npy: is float64 \(30, 0\); expected float \(30, channels\)",
    ),
    "other length": (
        lambda root: np.save(root / "data_feats/gtzan_genre_layer_0.npy", np.zeros((29, 4))),
        r"gtzan_genre_layer_0.npy: is float64 \(29, 4\); expected float \(30, channels\)",
    ),
    "NaN": (
        lambda root: np.save(root / "data_feats/gtzan_genre_layer_0.npy", np.full((30, 4), np.nan)),
        "gtzan_genre_layer_0.npy: holds NaN",
    ),
    "label that is no number": (
        lambda root: (root / "data_csv/gtzan_genre.csv").write_text(",id,filepath,label\n0,a,a.wav,blues\n"),
        "gtzan_genre.csv, row 2: label is 'blues'; expected a whole number",
    ),
    "label with a point": (
        lambda root: (root / "data_csv/gtzan_genre.csv").write_text(",id,filepath,label\n0,a,a.wav,0.0\n"),
        "gtzan_genre.csv, row 2: label is '0.0'; expected a whole number",
    ),
    "no label column": (
        lambda root: (root / "data_csv/gtzan_genre.csv").write_text(",id,filepath\n0,a,a.wav\n"),
        "gtzan_genre.csv: no column 'label'",
    ),
    "no published scores": (
        lambda root: [path.unlink() for path in (root / "result_transfer").glob("T_gtzan_genre*")],
        "holds no scores of gtzan_genre",
    ),
    **{
        f"a published score that is {name}": (
            lambda root, value=value: np.save(root / SCORE, value),
            rf"_CL_SVC.npy: is {what}; expected one finite number; get the file again",
        )
        for name, value, what in [
            ("two", np.zeros(2), r"float64 \(2,\)"),
            ("text", np.array("0.8"), "0.8"),
            ("NaN", np.nan, "nan"),
        ]
    },
    "a published score that is an archive": (lambda root: write_archive(root / SCORE), "_CL_SVC.npy: not an array"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_copy(repository, spoil, message):
    spoil(repository)
    with pytest.raises(InputError, match=message):  # noqa: PT012
        for task in find_tasks(repository, "gtzan_genre"):
            read_task(repository, task)
            published_scores(repository, task)


def test_unknown_task_and_category(repository):
    with pytest.raises(
        InputError,
        match=r"^task: 'gtzan' is unknown; did you mean .*choose from all, ballroom_.*, emoMusic$",
    ):
        find_tasks(repository, "gtzan")
    path = repository / "data_csv" / "emoMusic.csv"
    path.write_text(path.read_text().replace(",0.0,", ",nan,", 1))
    with pytest.raises(InputError, match=r"row 2: label_arousal is 'nan'; expected a number"):
        read_task(repository, "emoMusic_a")
    path = repository / "data_csv" / "jamendo_vd.csv"
    path.write_text(path.read_text().replace(",valid", ",dev"))
    with pytest.raises(InputError, match="row 17: category is 'dev'; expected train, valid, test"):
        read_task(repository, "jamendo_vd")


# ---- the script


def test_reproduce_small_tasks(repository, run_script, tmp_path):
    for task in ("gtzan_genre", "emoMusic"):
        (repository / "data_csv" / f"{task}.csv").unlink()
    output, pictures = tmp_path / "out" / "scores.csv", tmp_path / "pictures"
    arguments = ("--output", output, "--protocol", "nested", "--pictures", pictures)
    run = run_script("reproduce_choi2017", repository, *arguments)
    assert run.returncode == 0, run.stderr
    table = pd.read_csv(output)
    assert [*table] == ["task", "layers", "published", "ours", "difference", "nested", "known_exception"]
    assert len(table) == 2 * 4
    np.testing.assert_allclose(table["ours"] - table["published"], table["difference"])
    assert table["nested"].notna().all()
    assert [*table["layers"][:4]] == [
        "layer1",
        "layer1+layer3+layer5",
        "mfcc",
        "mfcc+layer1+layer2+layer3+layer4+layer5",
    ]
    assert table.loc[table["task"] == "urbansound", "known_exception"].notna().sum() == 2
    assert "urbansound: " in run.stdout
    for row in table.itertuples():
        line = f"{row.task} {row.layers}: published {row.published:.4f}, ours {row.ours:.4f}, nested {row.nested:.4f}\n"
        assert line in run.stdout
    assert "known exception: published score came from a layer 5 that was not published" in run.stdout
    assert "chosen on the reported folds" in run.stdout
    assert {path.name for path in output.parent.iterdir()} == {"scores.csv"}
    assert {"tasks.png", "tasks.svg", "urbansound.png", "jamendo_vd.svg"} <= {path.name for path in pictures.iterdir()}


def test_reproduce_refuses_a_broken_copy(repository, run_script, tmp_path):
    (repository / "data_feats/urbansound_layer_4.npy").unlink()
    run = run_script("reproduce_choi2017", repository, "--output", tmp_path / "out" / "scores.csv")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "urbansound_layer_4.npy: does not exist" in run.stderr
    assert not (tmp_path / "out").exists()


def test_reproduce_names_the_task_whose_labels_are_few(run_script, tmp_path):
    repository = write_task(tmp_path / "repository", "gtzan_genre", {"label": [0] * 27 + [1] * 3})
    run = run_script(
        "reproduce_choi2017", repository, "--output", tmp_path / "out" / "s.csv", "--pictures", tmp_path / "p"
    )
    assert run.returncode == 2
    assert run.stderr.startswith("reproduce_choi2017.py: error: gtzan_genre: labels: class '1' has 3 clips, 10-fold")
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_reproduce_does_not_continue_with_other_features(repository, run_script, tmp_path):
    unfinished = tmp_path / "scores.csv.unfinished"
    unfinished.mkdir()
    settings = {"task": "gtzan_genre", "protocol": "choi2017", "seed": 0}
    settings |= {"combinations at a time": reproduce_choi2017.AT_A_TIME, "features of gtzan_genre": "others"}
    (unfinished / "settings.json").write_text(json.dumps(settings))
    run = run_script("reproduce_choi2017", repository, "--task", "gtzan_genre", "--output", tmp_path / "scores.csv")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert 'settings.json: is of another run (features of gtzan_genre was "others", is "' in run.stderr


def test_rows_are_shown_as_soon_as_they_are_known_and_no_time(repository, capsys, monkeypatch, tmp_path):
    shown_before, rows, said = [], Prober.rows, []

    def watched(prober, wanted):
        captured = capsys.readouterr()
        shown_before.append(len(captured.out.splitlines()))
        said.extend(captured.err.splitlines())
        return rows(prober, wanted)

    monkeypatch.setattr(reproduce_choi2017, "AT_A_TIME", 3)
    monkeypatch.setattr(Prober, "rows", watched)
    arguments = (repository, "--task", "jamendo_vd", "--output", tmp_path / "s.csv", "--protocol", "nested")
    assert run_main("reproduce_choi2017", *arguments) == 0
    assert shown_before == [0, 0, 3, 0]  # of each three combinations first the paper's scores, then the nested ones
    assert said == ["jamendo_vd", *(f"jamendo_vd: combinations {which} of 4" for which in ("1 to 3", "4 to 4"))]
    assert capsys.readouterr().err == ""


def test_other_features_have_another_fingerprint(repository):
    features = read_task(repository, "gtzan_genre")
    fingerprint = reproduce_choi2017.fingerprint
    assert fingerprint(features) == fingerprint(read_task(repository, "gtzan_genre"))
    others = [
        replace(features, clip_ids=features.clip_ids[::-1]),
        replace(features, labels=features.labels[::-1]),
        replace(features, folds=features.labels),
        replace(features, splits=np.array(["train"] * 15 + ["test"] * 15)),
        replace(features, layers={name: values.reshape(15, -1) for name, values in features.layers.items()}),
    ]
    assert len({*map(fingerprint, [features, *others])}) == 6


def test_a_score_that_is_no_number_is_not_reproduced():
    row = {"layers": "layer1", "published": 0.5, "ours": np.nan, "difference": np.nan, "known_exception": ""}
    assert reproduce_choi2017.summary("genre", [row]).splitlines() == [
        "genre: 0 of 1 within 0.001",
        "  layer1: published 0.5000, ours nan; NOT a known exception",
    ]


def test_reproduce_draws_folds_by_its_seed(repository):
    options, features = argparse.Namespace(seed=3, jobs=1), read_task(repository, "urbansound")
    probers = reproduce_choi2017.probers_of("urbansound", features, ["nested", "choi2017"], options)
    assert {protocol: (prober.seed, prober.scale) for protocol, prober in probers.items()} == {
        "nested": (3, False),
        "choi2017": (3, False),
    }


@pytest.mark.slow
@needs_published_files
def test_published_scores_come_out_again(run_script, tmp_path):
    """Speech against music whole; of the others what is quick: the paper's numbers to the last digit."""
    repository = Path(PUBLISHED) / "transfer_learning_music"
    run = run_script("reproduce_choi2017", repository, "--task", "gtzan_speechmusic", "--output", tmp_path / "s.csv")
    assert run.returncode == 0, run.stderr
    assert "gtzan_speechmusic: 30 of 30 within 0.001" in run.stdout


@needs_published_files
@pytest.mark.parametrize(
    "task", ["gtzan_genre", *(pytest.param(name, marks=pytest.mark.slow) for name in ("emoMusic_a", "emoMusic_v"))]
)
def test_a_published_score_comes_out_again(task):
    repository = Path(PUBLISHED) / "transfer_learning_music"
    layers = ("layer1", "layer5")
    (row,) = Prober(read_task(repository, task), "choi2017", n_jobs=2).rows([layers])
    assert row["score"] == pytest.approx(published_scores(repository, task)[layers], abs=1e-4)
