"""probe.py as a user runs it: its files, a baseline, a run that is killed and continued, and settings that changed."""

import errno
import json
import shutil
import signal
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from conftest import run_main
from matplotlib.figure import Figure

import keras_audio_transfer as kat
from keras_audio_transfer import picture_labels, plots
from keras_audio_transfer.feature_tables.table import FeatureTable

ROOT = Path(__file__).resolve().parents[1]


def write(path, n=60, names=("layer1", "layer2"), labels=None, order=None):
    """FeatureTable of n clips of three classes from which the class can be read in part."""
    rng = np.random.default_rng(len(names[0]))
    labels = np.arange(n) % 3 if labels is None else labels
    layers = {name: (rng.normal(size=(n, 4)) + labels[:, np.newaxis]).astype(np.float32) for name in names}
    order = np.arange(n) if order is None else order
    ids = np.array([f"clip{i}" for i in range(n)])
    names = [] if labels.dtype.kind == "f" else ["a", "b", "c"]
    nowhere = np.full(n, -1), np.full(n, "")
    FeatureTable({k: v[order] for k, v in layers.items()}, ids[order], labels[order], names, *nowhere).save(path)
    return path


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write(tmp_path_factory.mktemp("features") / "sounds.npz")


def probe(*arguments):
    """The command without its pictures, which take most of a small run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "save", lambda figure, path: plots.plt.close(figure))
        return run_main("probe", *arguments, "--jobs", 1, "--quiet")


def scores_of(folder):
    return pd.read_csv(folder / "scores.csv").set_index("layers")


def test_with_a_baseline(features, run_script, tmp_path):
    baseline = write(tmp_path / "mfcc.npz", names=("mfcc",), order=np.random.default_rng(0).permutation(60))
    other = tmp_path / "random.csv"
    other.write_text("layers,score\nlayer1,0.4\nlayer2,0.5\n")
    arguments = ("--baseline", baseline, "--compare", f"random weights={other}", "--beside", f"other task={other}")
    out = tmp_path / "out"
    run = run_script("probe", features, "--output-dir", out, *arguments, "--protocol", "choi2017")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    scores = scores_of(out)
    alone, joined = ["layer1", "layer2", "layer1+layer2"], ["layer1+mfcc", "layer2+mfcc", "layer1+layer2+mfcc"]
    assert [*scores.index] == [*alone, "mfcc", *joined]
    assert (scores["chosen_on"] == "reported folds").all()
    assert "choice of parameters was made on the reported folds" in run.stdout
    config = json.loads((out / "config.json").read_text())
    assert config["chosen_on"] == "reported folds"
    assert config["scale"] is False
    assert config["baseline"] == "mfcc.npz"
    pictures = ("scores", "dimensions", "depth", "confusion", "tasks")
    tables = {"scores.csv", "predictions.csv", "classes.csv"}
    expected = {"config.json"} | tables | {f"{name}.{suffix}" for name in pictures for suffix in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == expected
    assert "known" not in pd.read_csv(out / "predictions.csv")  # nothing is left to calibrate on
    best = picture_labels.label(scores["score"].idxmax())
    assert f"<!-- {best}: best of 7 combinations on the scored clips -->" in (out / "confusion.svg").read_text()


def test_a_folder_of_features(features, tmp_path):
    folder = tmp_path / "sounds.parquet"
    FeatureTable.load(features).save(folder)
    assert probe(folder, "--output-dir", tmp_path / "out", "--combinations", "layer1") == 0
    (expected,) = kat.probe(features, ["layer1"])["score"]
    assert scores_of(tmp_path / "out")["score"].tolist() == [pytest.approx(expected)]


@pytest.mark.slow
def test_regression(run_script, tmp_path):
    labels = np.linspace(0, 2, 60)
    run = run_script("probe", write(tmp_path / "mood.npz", labels=labels), "--output-dir", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    scores = scores_of(tmp_path / "out")
    assert (scores["metric"] == "r2").all()
    assert scores["score"].max() > 0.1
    assert not (tmp_path / "out" / "confusion.png").exists()
    assert not (tmp_path / "out" / "classes.csv").exists()
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert np.corrcoef(predicted["true"], predicted["predicted"])[0, 1] > 0.3


@pytest.mark.slow
def test_selection(features, run_script, tmp_path):
    run = run_script("probe", features, "--output-dir", tmp_path / "out", "--combinations", "best")
    assert run.returncode == 0, run.stderr
    scores = scores_of(tmp_path / "out")
    assert [*scores.index] == ["best"]
    assert "of 5)" in scores.loc["best", "chosen"]
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv")
    names = [f"probability_{name}" for name in pd.read_csv(tmp_path / "out" / "classes.csv")["label"]]
    assert [*predicted.columns] == ["clip", "true", "predicted", "fold", *names, "known", "notes"]
    assert ("probability_" + predicted["predicted"] == predicted[names].idxmax(axis=1)).all()
    assert "<!-- chosen inside each training part: layer" in (tmp_path / "out" / "confusion.svg").read_text()


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_with_the_same_files(features, run_script, tmp_path):
    arguments = ("--combinations", "all", "--jobs", "2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script("probe", features, "--output-dir", whole, *arguments).returncode == 0
    script, command = ROOT / "scripts" / "probe.py", [features, "--output-dir", killed, *arguments, "--quiet"]
    journal = killed / "unfinished.jsonl"
    for lines in (5, 60):
        run = forked.killed(
            script, command, lambda n=lines: journal.exists() and journal.read_bytes().count(b"\n") >= n
        )
        assert run.returncode == -signal.SIGKILL, "ended before it could be killed"
        assert journal.exists()
    done = journal.read_bytes().count(b"\n")
    run = run_script("probe", features, "--output-dir", killed, "--combinations", "layers")
    assert run.returncode == 2
    assert "config.json: is of another run (combinations was" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert journal.read_bytes().count(b"\n") == done
    run = run_script("probe", features, "--output-dir", killed, *arguments)
    assert run.returncode == 0, run.stderr
    for name in ("scores.csv", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not journal.exists()
    again = run_script("probe", features, "--output-dir", killed, *arguments)  # finished: nothing is computed again
    assert again.stdout == run.stdout


UNUSABLE = {
    "empty": "",
    "text": "layers,score\nlayer1,high\n",
    "another table": "layers,score\nlayer1,0.5\n",
    "rows missing": None,
}


@pytest.fixture(scope="module")
def finished(features, tmp_path_factory):
    """The folder of a run that has ended; not to be written to."""
    folder = tmp_path_factory.mktemp("probes") / "finished"
    assert probe(features, "--output-dir", folder) == 0
    return folder


def refused(run, message):
    assert run.returncode == 2
    assert run.stderr == f"probe.py: error: {message}\n"
    assert run.stdout == ""


@pytest.mark.parametrize("what", UNUSABLE)
def test_scores_that_are_not_this_runs_are_not_presented(what, finished, features, run_script, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "out")
    path = folder / "scores.csv"
    content = UNUSABLE[what]
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) if content is None else content)
    run = run_script("probe", features, "--output-dir", folder)
    refused(run, f"{path}: is not the table that this run would have written; remove it to probe again")


def test_scores_without_the_settings_they_were_computed_with_are_not_presented(
    finished, features, run_script, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "out")
    (folder / "config.json").unlink()
    run = run_script("probe", features, "--output-dir", folder, "--seed", 1)
    what = f"{folder / 'scores.csv'} stands there without its config.json, which says of which run it is"
    refused(run, f"--output-dir: {what}; put that back, move scores.csv away, or name another place")
    assert not (folder / "config.json").exists()


def test_a_damaged_journal_is_refused(finished, features, run_script, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "out")
    (folder / "unfinished.jsonl").write_text("garbage\n")
    run = run_script("probe", features, "--output-dir", folder)
    refused(run, f"{folder / 'unfinished.jsonl'}, line 1: is damaged; remove the file to start again")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--seed", 1), "seed was 0, is 1"),
        (("--protocol", "choi2017"), 'protocol was "nested", is "choi2017"'),
        (("--no-scale",), "scale was true, is false"),
    ],
)
def test_the_argument_that_changed_is_named(arguments, name, finished, features, run_script):
    run = run_script("probe", features, "--output-dir", finished, *arguments)
    remedy = "remove it together with the results beside it, or choose another place"
    refused(run, f"{finished / 'config.json'}: is of another run ({name}); {remedy}")


def test_help_shows_no_default_that_says_nothing(run_script):
    assert "[]" not in run_script("probe", "--help").stdout


def full(*arguments, **options):
    """What takes the place of `Figure.savefig` where the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_when_pictures_are_drawn_costs_no_table(features, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Figure, "savefig", full)
    assert run_main("probe", features, "--output-dir", tmp_path, "--quiet", "--jobs", 1) == 0
    assert capsys.readouterr().err == "no picture (OSError: [Errno 28] No space left on device: 'scores.png')\n"
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "predictions.csv", "classes.csv", "config.json"}


def test_layers_of_no_combination_are_not_read(features, tmp_path):
    damaged, layer = tmp_path / "sounds.npz", FeatureTable.load(features).layers["layer1"]
    content = features.read_bytes()
    damaged.write_bytes(content.replace(layer.tobytes(), bytes(layer.nbytes)))
    assert damaged.read_bytes() != content
    for place, path in (("whole", features), ("damaged", damaged)):
        assert probe(path, "--combinations", "layer2", "--output-dir", tmp_path / place) == 0
    whole, damaged = ((tmp_path / place / "scores.csv").read_bytes() for place in ("whole", "damaged"))
    assert whole == damaged
