"""`compare`: every source by itself and joined, on the same clips, beside the floors; a killed run is continued."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import run_main, some_quick
from sounds import CONFIG

from keras_audio_transfer import datasets, mfcc
from keras_audio_transfer.commands import source_features
from keras_audio_transfer.commands.compare import ALL, CHOICES, CHOSEN, LAST, SINGLE, arguments, sources_of
from keras_audio_transfer.commands.comparison_settings import sources_before
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.pretrained import imported

RATE = 2000


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A manifest of 18 sounds of two classes in three folds."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    rng = np.random.default_rng(0)
    for number in range(18):
        time = np.arange(rng.integers(600, 900)) / RATE
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time) if number % 2 else 0.0
        soundfile.write(folder / f"{number}.wav", 0.2 * tone + 0.1 * rng.normal(size=len(time)), RATE)
        rows.append({"path": f"{number}.wav", "label": ("noise", "tone")[number % 2], "fold": 1 + number // 2 % 3})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def models(exported, tmp_path_factory):
    """The small classifier's folder, twice."""
    other = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(exported, other)
    return exported, other


@pytest.fixture(scope="module")
def compare(run_script, clips):
    def run(out, *more):
        return run_script("compare", "--dataset", "manifest", "--data-dir", clips, "--output-dir", out, *more)

    return run


def write_features(out, clips, layers, weights=""):
    """What a run has kept that was killed when it had the features: of each source, with the labels in all of them."""
    rows = pd.read_csv(clips)
    labels = (rows["label"] == "tone").to_numpy(np.int64)
    about = labels, ["noise", "tone"], rows["fold"].to_numpy(), np.full(len(rows), "")
    for source, names in layers.items():
        rng = np.random.default_rng(0)  # the same for all
        values = {name: np.float32(rng.normal(size=(len(rows), 3)) + labels[:, None]) for name in names}
        of_weights = dict.fromkeys(names, weights if source not in mfcc.FLOORS else "")
        table = FeatureTable(values, rows["path"].to_numpy(str), *about, weights_sha256=of_weights)
        table.save(out / "features" / f"{source}.npz")
        cost = {"seconds_a_clip": 0.01, "failures": []}
        (out / "features" / f"{source}.json").write_text(json.dumps(cost))


@pytest.fixture(scope="module")
def compared(compare, clips, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    (out / "features").mkdir(parents=True)
    models = [shutil.copytree(model, out.parent / model.name) for model in models]
    for model in models:  # of two layers, which have few combinations; they need not be run
        card = json.loads((model / "card.json").read_text())
        card |= {"layer_names": ["layer4", "layer5"], "layer_sizes": {"layer4": 3, "layer5": 3}}
        (model / "card.json").write_text(json.dumps(card))
    layers = dict.fromkeys(("tones", "other"), card["layer_names"]) | {"mfcc": ["mfcc"], "log_mel": ["log_mel"]}
    write_features(out, clips, layers, card["weights_sha256"])
    weights = {path.name: Card.read(path).weights_sha256 for path in models} | {"mfcc": None, "log_mel": None}
    settings = {"sources": weights, "dataset": "manifest", "clips": 18, "seed": 0, "join": True}
    (out / "config.json").write_text(json.dumps(settings))
    flags = "--models", *models, "--mfcc", "--log-mel", "--join"
    run = compare(out, *flags)
    assert run.returncode == 0, run.stderr
    assert "best single layer" in run.stdout
    return out, flags


def test_each_source_and_choice_has_a_row(compared):
    out, _ = compared
    scores = pd.read_csv(out / "scores.csv")
    found = scores.groupby("source", sort=False)["choice"].agg(list).to_dict()
    assert found == {
        "tones": [*CHOICES],
        "other": [*CHOICES],
        "mfcc": [ALL],
        "log_mel": [ALL],
        "joined": [SINGLE, ALL, CHOSEN],
    }
    assert scores["score"].between(0, 1).all()
    assert (scores["chosen_on"] == "training parts").all()
    np.testing.assert_allclose(scores["score"], scores[["fold_1", "fold_2", "fold_3"]].mean(axis=1))
    by_choice = scores[scores["source"] == "tones"].set_index("choice")
    assert by_choice.loc[LAST, "chosen"] == "layer5"
    assert by_choice.loc[ALL, "chosen"] == "layer4+layer5"
    assert (scores["seconds_a_clip"].isna() == (scores["source"] == "joined")).all()
    expected = {"config.json", "scores.csv", "differences.csv", "features", "sources.png", "sources.svg"}
    assert {path.name for path in out.iterdir()} == expected


def test_a_copy_of_a_source_scores_as_it_does(compared):
    scores = pd.read_csv(compared[0] / "scores.csv").set_index(["source", "choice"])["score"]
    pd.testing.assert_series_equal(scores["tones"], scores["other"])


def test_layers_of_all_sources_are_joined_by_name(compared):
    scores = pd.read_csv(compared[0] / "scores.csv").set_index(["source", "choice"])
    names = scores.loc[("joined", ALL), "chosen"].split("+")
    assert names == [f"{source}/layer{i}" for source in ("tones", "other") for i in (4, 5)]


def test_differences_are_those_of_the_folds(compared):
    scores = pd.read_csv(compared[0] / "scores.csv").groupby("source", sort=False).last()
    found = pd.read_csv(compared[0] / "differences.csv").set_index(["a", "b"])
    assert len(found) == 10
    by_fold = scores.loc["tones", ["fold_1", "fold_2", "fold_3"]] - scores.loc["mfcc", ["fold_1", "fold_2", "fold_3"]]
    row = found.loc[("tones", "mfcc")]
    assert row["difference"] == pytest.approx(by_fold.mean())
    # 4.303 is the 97.5 % point of Student's t with two degrees of freedom.
    half = 4.303 * np.std(by_fold.astype(float), ddof=1) / np.sqrt(3)
    assert row["interval_high"] - row["difference"] == pytest.approx(half, rel=1e-3, abs=1e-9)


@pytest.mark.slow
def test_a_killed_run_continues(compared, compare, tmp_path):
    out, flags = compared
    again = tmp_path / "again"
    shutil.copytree(out, again)
    scores = pd.read_csv(out / "scores.csv")
    scores[scores["source"] == "tones"].to_csv(again / "scores.csv", index=False)
    (again / "features" / "mfcc.json").unlink()  # killed within these features, they are extracted again
    before = (again / "features" / "other.npz").stat().st_mtime_ns
    run = compare(again, *flags)
    assert run.returncode == 0, run.stderr
    assert (again / "features" / "other.npz").stat().st_mtime_ns == before
    found = pd.read_csv(again / "scores.csv")
    kept = found["source"] != "mfcc"
    assert found.loc[~kept, "n_features"].tolist() == [120]
    pd.testing.assert_frame_equal(found[kept], scores[kept])
    assert not [*again.glob("unfinished*")]


class Killed(Exception):
    """In the place of a signal."""


@pytest.mark.parametrize("stop", some_quick([5, 18], [18]))
def test_a_run_goes_on_within_a_source(finished, clips, tmp_path, monkeypatch, stop):
    """Also when it was killed between the last shard and the table."""
    monkeypatch.setattr(feature_run, "CLIPS_A_SHARD", 4)
    computed, rows = [], mfcc.floor_rows

    def counted(layer, workers):
        def rows_of(clips):
            for of_clip in rows(layer, workers)(clips):
                if len(computed) == stop:
                    raise Killed
                computed.append((layer, of_clip[0].clip.clip_id))
                yield of_clip

        return rows_of

    def publish(output):
        raise Killed

    monkeypatch.setattr(mfcc, "floor_rows", counted)
    with monkeypatch.context() as patched:
        if stop == 18:
            patched.setattr(feature_run, "publish", publish)
        with pytest.raises(Killed):
            again(tmp_path / "new", clips)
    stop, before = -1, len(computed) // 4 * 4 if stop < 18 else 18
    assert not (tmp_path / "new" / "features" / "mfcc.npz").exists()
    del computed[:]
    assert again(tmp_path / "new", clips) == 0
    assert [layer for layer, _ in computed] == ["mfcc"] * (18 - before) + ["log_mel"] * 18
    for name in ("features/mfcc.npz", "features/log_mel.npz", "differences.csv", "config.json"):
        assert (tmp_path / "new" / name).read_bytes() == (finished / name).read_bytes()
    scores, expected = (pd.read_csv(out / "scores.csv") for out in (tmp_path / "new", finished))
    assert scores["seconds_a_clip"].notna().all()
    pd.testing.assert_frame_equal(scores.drop(columns="seconds_a_clip"), expected.drop(columns="seconds_a_clip"))
    assert sorted(path.name for path in (tmp_path / "new" / "features").iterdir()) == [
        *("log_mel.json", "log_mel.npz", "mfcc.json", "mfcc.npz")
    ]


def of_files(out, manifest, *files, more=()):
    """Compare features that are there, in this process."""
    arguments = "compare", "--features", *files, "--quiet", "--dataset", "manifest", "--data-dir", manifest
    return run_main(*arguments, "--output-dir", out, *more)


def test_features_at_hand_score_as_those_that_are_computed(finished, clips, tmp_path):
    FeatureTable.load(finished / "features" / "mfcc.npz").save(tmp_path / "cepstra.parquet")
    log_mel = shutil.copy(finished / "features" / "log_mel.npz", tmp_path / "bands.npz")
    out = tmp_path / "of_files"
    assert of_files(out, clips, tmp_path / "cepstra.parquet", log_mel, more=["--join"]) == 0
    names, expected = ["cepstra.parquet", "bands.npz"], pd.read_csv(finished / "scores.csv")
    scores = pd.read_csv(out / "scores.csv")
    assert scores["source"].drop_duplicates().tolist() == [*names, "joined"]
    assert scores["seconds_a_clip"].isna().all()
    assert scores[scores["source"] == "joined"].iloc[-2]["chosen"] == "cepstra.parquet/mfcc+bands.npz/log_mel"
    shared = ["choice", "chosen", "score", "fold_1", "fold_2", "fold_3", "parameters"]
    pd.testing.assert_frame_equal(scores[scores["source"].isin(names)][shared], expected[shared])
    log_mel.write_bytes((finished / "features" / "mfcc.npz").read_bytes())
    with pytest.raises(InputError, match=r": the features of bands\.npz have changed; make this as it was, or choose"):
        of_files(out, clips, tmp_path / "cepstra.parquet", log_mel, more=["--join"])


def test_features_at_hand_with_a_name_as_long_as_can_be(finished, clips, tmp_path):
    """Nothing that a source's name is a part of is longer than a file's name may be."""
    paths = [tmp_path / f"{letter * 251}.npz" for letter in "ab"]
    for path in paths:
        shutil.copy(finished / "features" / "log_mel.npz", path)
    assert of_files(tmp_path / "new", clips, *paths) == 0
    scores = pd.read_csv(tmp_path / "new" / "scores.csv")
    assert scores["source"].drop_duplicates().tolist() == [path.name for path in paths]
    assert not [*(tmp_path / "new").glob("*.jsonl")]


def test_a_model_with_a_name_as_long_as_can_be(compare, models, tmp_path):
    """Also where its features are computed, as are those of its random version, whose name is longer."""
    name = "m" * 250
    run = compare(tmp_path / "out", "--models", shutil.copytree(models[0], tmp_path / name), "--random")
    assert run.returncode == 0, run.stderr
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert scores["source"].drop_duplicates().tolist() == [name, f"{name} (random)"]
    kept = sorted(path.suffix for path in (tmp_path / "out" / "features").iterdir())
    assert kept == [".json", ".json", ".npz", ".npz"]


def test_features_at_hand_that_lack_clips(finished, clips, tmp_path, capfd):
    for name in ("mfcc", "log_mel"):
        table = FeatureTable.load(finished / "features" / f"{name}.npz")
        table.with_rows(np.arange(0 if name == "mfcc" else 2, 18)).save(tmp_path / f"{name}.npz")
    assert of_files(tmp_path / "new", clips, tmp_path / "mfcc.npz", tmp_path / "log_mel.npz") == 1
    assert f"failed: 0.wav: has no features in {tmp_path / 'log_mel.npz'}" in capfd.readouterr().err


OTHER = {
    "labels": lambda table: replace(table, labels=1 - table.labels),
    "folds": lambda table: replace(table, folds=np.roll(table.folds, 1)),
    "label_names": lambda table: replace(table, label_names=["noise", "click"]),
    "none of them": lambda table: replace(table, clip_ids=np.array([f"other/{n}.wav" for n in range(18)])),
    "others besides": lambda table: replace(table, clip_ids=np.array([f"{n}.wav" for n in range(1, 19)])),
    "no labels": lambda table: replace(table, labels=np.full(18, -1), label_names=[]),
}


@pytest.mark.parametrize("kind", OTHER)
def test_features_at_hand_of_other_clips_are_refused(finished, clips, tmp_path, kind):
    path = tmp_path / "mfcc.npz"
    OTHER[kind](FeatureTable.load(finished / "features" / "mfcc.npz")).save(path)
    with pytest.raises(InputError, match=rf"^--features: {path}.*extract it from the same"):
        of_files(tmp_path / "other", clips, path, finished / "features" / "log_mel.npz")
    assert not (tmp_path / "other").exists()


def test_features_at_hand_that_cannot_be_scored_are_refused_before_any_work(finished, clips, tmp_path):
    table = FeatureTable.load(finished / "features" / "mfcc.npz")
    of_one = table.with_rows(table.labels == 0)
    for name, changed, message in (
        ("a.npz", of_one, rf"a\.npz has {len(of_one)} of 18 clips: labels: every clip is"),
        ("a.npz", replace(table, layers={"a+b": table.layers["mfcc"]}), r"a\.npz: 'a\+b' holds what joins layers"),
        ("=a.npz", table, r"'=a\.npz' would be a formula in a spreadsheet; rename it"),
    ):
        changed.save(tmp_path / name)
        with pytest.raises(InputError, match=f"^--features: .*{message}"):
            of_files(tmp_path / "other", clips, tmp_path / name, finished / "features" / "log_mel.npz")
    assert not (tmp_path / "other").exists()


def test_where_no_clip_has_all_features_the_reasons_are_listed(finished, clips):
    for name, rows in (("mfcc", slice(0, 9)), ("log_mel", slice(9, 18))):
        path = finished / "features" / f"{name}.npz"
        table = FeatureTable.load(path)
        lost = [[str(clip), f"{clip}: was lost"] for clip in np.delete(table.clip_ids, rows)]
        table.with_rows(np.arange(18)[rows]).save(path)
        path.with_suffix(".json").write_text(json.dumps({"seconds_a_clip": 0.1, "failures": lost}))
    with pytest.raises(InputError, match="no clip has features of every source; see the first of them in failed"):
        again(finished, clips)
    assert len(pd.read_csv(finished / "failed.csv")) == 18


def test_clips_that_have_no_features_are_listed(compared, compare, tmp_path):
    out, flags = compared
    again = tmp_path / "again"
    shutil.copytree(out, again)
    cost = {"seconds_a_clip": 0.01, "failures": [["x.wav", "x.wav: empty file"]]}
    (again / "features" / "tones.json").write_text(json.dumps(cost))
    run = compare(again, *flags)
    assert run.returncode == 1
    assert "x.wav: empty file" in run.stderr
    assert "x.wav: empty file" in (again / "failed.csv").read_text()


def test_another_run_in_its_folder_is_refused(compared, compare, clips):
    out, flags = compared
    run = compare(out, *flags[:-1])
    assert run.returncode == 2
    remedy = "make this as it was, or choose another place"
    refused = f"--output-dir: {out} has another comparison: "
    assert f"{refused}--join was given, is left out; {remedy}\n" in run.stderr
    where = "--dataset", "manifest", "--data-dir", clips, "--output-dir", out
    of_name = {"--layer-weights": ("channels", "equal"), "--combinations": ("best", "blocks")}
    for flag, (was, name) in of_name.items():
        with pytest.raises(InputError, match=f"^{refused}{flag} was {was}, is {name}; {remedy}$"):
            run_main("compare", *where, *flags, flag, name)


@pytest.mark.slow
def test_the_same_network_with_random_weights(compare, models, tmp_path):
    run = compare(tmp_path / "out", "--models", models[0], "--random")
    assert run.returncode == 0, run.stderr
    files = (tmp_path / "out" / "features" / f"{name}.npz" for name in ("tones", "tones (random)"))
    trained, random = map(FeatureTable.load, files)
    for layer, values in trained.layers.items():
        assert values.shape == random.layers[layer].shape
        assert np.abs(values - random.layers[layer]).max() > 1e-3
    assert not any(random.weights_sha256.values())
    run = compare(tmp_path / "again", "--models", models[0], "--random")  # as a run has to that goes on within a source
    assert run.returncode == 0, run.stderr
    name = "features/tones (random).npz"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "twins"),
    [
        (["--models", "MODELS"], []),
        (["--models", "MODELS", "--random"], ["tones", "other"]),
        (["--random", "--models", "MODELS"], ["tones", "other"]),
        (["--random", "other", "--models", "MODELS"], ["other"]),
        (["--models", "MODELS", "--random", "other", "tones", "--mfcc"], ["tones", "other"]),
    ],
)
def test_random_weights_of_some_models_or_all(models, tmp_path, flags, twins):
    given = [path for flag in flags for path in (map(str, models) if flag == "MODELS" else [flag])]
    options = arguments().parse_args([*given, "--output-dir", str(tmp_path)])
    sources, _ = sources_of(options)
    by_name = {path.name: path for path in models}
    floor = {"mfcc": None} if "--mfcc" in flags else {}
    assert sources == by_name | {f"{name} (random)": by_name[name] for name in twins} | floor
    assert [*sources][2:] == [f"{name} (random)" for name in twins] + [*floor]


@pytest.mark.parametrize("written", ["default", "PATH", "yamnet", "FOLDER"])
def test_random_takes_a_model_as_it_is_written_at_models(models, tmp_path, monkeypatch, written):
    monkeypatch.setenv(imported.ENVIRONMENT, str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "yamnet").symlink_to(models[1])  # imported there
    default = imported.find("default").resolve().name
    text, name = {
        "default": ("default", default),
        "PATH": (f"{models[0].parent}/../{models[0].parent.name}/tones", "tones"),
        "yamnet": ("yamnet", "other"),
        "FOLDER": (default, default),
    }[written]

    def sources(*random):
        given = ["--models", "default", str(models[0]), "yamnet", "--random", *random, "--output-dir", str(tmp_path)]
        return sources_of(arguments().parse_args(given))[0]

    assert [*sources(text)] == [default, "tones", "other", f"{name} (random)"]
    for again_named in (text, name):
        with pytest.raises(InputError, match=rf"^--random: {re.escape(again_named)} is given twice; leave one out$"):
            sources(text, again_named)
    for unknown in ("", "yamnt", "MSD_musicnn", "a" * 256):
        with pytest.raises(
            InputError, match=rf"^--random: '{unknown}' is unknown; .*choose from {default}, tones, other$"
        ):
            sources(unknown)


def test_random_weights_of_one_model_are_added_to_a_comparison(compared, compare, clips, tmp_path):
    """What is there stays, and no other model gets a twin."""
    _, (_, *models, _, _, _) = compared
    cards, out = {path.name: Card.read(path) for path in models}, tmp_path / "out"
    layers = ["layer4", "layer5"]
    (out / "features").mkdir(parents=True)  # computed already
    write_features(out, clips, dict.fromkeys(cards, layers), cards["tones"].weights_sha256)
    write_features(out, clips, {"tones (random)": layers})
    weights = {name: card.weights_sha256 for name, card in cards.items()}
    settings = {"sources": weights, "dataset": "manifest", "clips": 18, "seed": 0, "join": False}
    (out / "config.json").write_text(json.dumps(settings))
    run = compare(out, "--models", *models)
    assert run.returncode == 0, run.stderr
    before = pd.read_csv(out / "scores.csv")
    run = compare(out, "--models", *models, "--random", "tones")
    assert run.returncode == 0, run.stderr
    scores = pd.read_csv(out / "scores.csv")
    assert scores["source"].drop_duplicates().tolist() == ["tones", "other", "tones (random)"]
    pd.testing.assert_frame_equal(scores[: len(before)], before)
    config = json.loads((out / "config.json").read_text())
    assert config["sources"] == weights | {"tones (random)": weights["tones"]}


def test_what_cannot_be_compared(clips, models, tmp_path):
    def refused(message, *flags, dataset=("--dataset", "manifest", "--data-dir", clips)):
        with pytest.raises(InputError, match=message):
            run_main("compare", "--output-dir", tmp_path / "out", *dataset, *flags)

    refused(r"^--models: nothing to compare; name two or more, or one beside --mfcc", "--models", models[0])
    refused(r"^--models: .*tones is given twice; leave one out$", "--models", models[0], models[0])
    shutil.copytree(models[0], tmp_path / "tones")
    refused(
        r"^--models: .*tones and .*tones have the same name; rename one$", "--models", models[0], tmp_path / "tones"
    )
    refused(r"yamnet is a published network, not a model folder yet; first 'keras-audio-tr", "--models", "yamnet")
    refused(r"^--join: joins the layers of two or more models", "--models", models[0], "--mfcc", "--join")
    refused(r"^--features: 'tones' is the name of another", "--models", models[0], "--features", tmp_path / "tones")
    refused(r"^--dataset: is missing; name one, or manifest", "--models", *models, dataset=())
    unknown = r"^--random: 'tonse' is unknown; did you mean tones\? choose from tones, other$"
    refused(unknown, "--models", *models, "--random", "other", "tonse")
    refused(r"^--random: 'a' is not there; name its folder with --models$", "--mfcc", "--log-mel", "--random", "a")
    refused(r"missing: has no card|missing: is not a folder", "--models", models[0], tmp_path / "missing")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def of_floors(compare, tmp_path_factory):
    """A comparison of both floors; not to be written to."""
    out = tmp_path_factory.mktemp("floors") / "out"
    run = compare(out, "--mfcc", "--log-mel")
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture
def finished(of_floors, tmp_path):
    """A copy of it."""
    return shutil.copytree(of_floors, tmp_path / "out")


def again(out, manifest, *more):
    """Call it again, in this process: for what is refused before TensorFlow is set up."""
    arguments = "compare", "--mfcc", "--log-mel", "--quiet", "--dataset", "manifest", "--data-dir", manifest
    return run_main(*arguments, "--output-dir", out, *more)


def test_sources_are_added_to_a_comparison(finished, clips, tmp_path):
    """What is there stays, and the whole is what one comparison of all gives."""
    (features := tmp_path / "new").mkdir()
    write_features(features, clips, {"first": ["a", "b"], "second": ["a"]})
    first, second = (features / "features" / f"{name}.npz" for name in ("first", "second"))
    before = pd.read_csv(finished / "scores.csv")
    kept = (finished / "features" / "mfcc.npz").stat().st_mtime_ns
    assert again(finished, clips, "--features", second) == 0
    assert again(finished, clips, "--features", first, second) == 0  # in the order of their names here
    assert (finished / "features" / "mfcc.npz").stat().st_mtime_ns == kept
    assert again(tmp_path / "at_once", clips, "--features", first, second) == 0
    for name in ("differences.csv", "config.json"):
        assert (finished / name).read_bytes() == (tmp_path / "at_once" / name).read_bytes()
    grown, at_once = (pd.read_csv(out / "scores.csv") for out in (finished, tmp_path / "at_once"))
    pd.testing.assert_frame_equal(grown.drop(columns="seconds_a_clip"), at_once.drop(columns="seconds_a_clip"))
    pd.testing.assert_series_equal(grown["seconds_a_clip"][: len(before)], before["seconds_a_clip"])
    with pytest.raises(InputError, match=r"out also has first\.npz; name it, too, or choose another place$"):
        again(finished, clips, "--features", second)  # to leave one out is another comparison
    cannot = r"--join was left out, is given; with --join a comparison cannot grow; make this as it was, or choose"
    with pytest.raises(InputError, match=cannot):
        again(finished, clips, "--features", first, second, "--join")


SETTINGS = {
    "sources": {"A": "1", "B": "2", "A (random)": "1", "B (random)": "2", "mfcc": None, "log_mel": None},
    "dataset": "esc10",
    "clips": 18,
    "seed": 0,
    "join": False,
    "clips_sha256": "3",
    "cards_sha256": {"A": "4", "B": "5", "A (random)": "4", "B (random)": "5", "mfcc": None, "log_mel": None},
}


ALL_SOURCES = tuple(SETTINGS["sources"])


def changed(of_sources=(), sources=ALL_SOURCES, **others):
    """These settings, of some of the sources; `of_sources`: other weights and cards."""
    kept = {key: {name: SETTINGS[key].get(name) for name in sources} for key in ("sources", "cards_sha256")}
    kept["sources"].update(of_sources)
    return SETTINGS | kept | others


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            SETTINGS,
            changed(sources=["A", "B", "mfcc"]),
            "also has 'A (random)', 'B (random)' and log_mel; name these, too, or choose another place",
        ),
        (changed(sources=["A", "B"]), changed(sources=["A", "C"]), "also has B; name it, too, or choose another place"),
        (SETTINGS, changed({"A": "9", "A (random)": "9"}), "the weights of A have changed"),
        (
            SETTINGS,
            changed({"A": "9"}, sources=["A", "B"], seed=1, clips=17, clips_sha256="9"),
            "the number of clips was 18, is 17; --seed was 0, is 1; the weights of A have changed; it also has "
            "'A (random)', 'B (random)', mfcc and log_mel",
        ),
        (
            SETTINGS,
            SETTINGS | {"dataset": "fsdd", "clips_sha256": "9", "combinations": "blocks", "layer_weights": "equal"},
            "--dataset was esc10, is fsdd; --combinations was best, is blocks; --layer-weights was channels, is equal",
        ),
        (
            changed(sources=["A", "B"], join=True),
            changed(sources=["A", "B", "mfcc"], join=True),
            "with --join a comparison cannot grow by mfcc",
        ),
        (
            changed(sources=["A", "B"]),
            changed(sources=["A", "B", "mfcc"], join=True),
            "--join was left out, is given; with --join a comparison cannot grow by mfcc",
        ),
        (changed(join=True), SETTINGS, "--join was given, is left out"),
    ],
)
def test_what_another_comparison_has_is_said_in_a_line(tmp_path, before, now, message):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(before))
    refused = f"--output-dir: {tmp_path} "
    if not message.startswith("also has"):
        refused += "has another comparison: "
        message += "; make this as it was, or choose another place"
    with pytest.raises(InputError, match=f"^{re.escape(refused + message)}$"):
        sources_before(SimpleNamespace(output_dir=tmp_path), now, {})
    assert json.loads(config.read_text()) == before


@pytest.mark.parametrize("damage", [{"sources": []}, {"sources": {}}, {"sources": None}, {"extra": 1}])
def test_settings_that_no_comparison_writes(tmp_path, damage):
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS | damage))
    with pytest.raises(InputError, match=r"config\.json: is of another run .*; remove it together with the results"):
        sources_before(SimpleNamespace(output_dir=tmp_path), SETTINGS, {})


def test_an_added_source_must_have_the_clips_of_the_others(finished, clips, tmp_path):
    (features := tmp_path / "new").mkdir()
    write_features(features, clips, {"first": ["a"]})
    path = features / "features" / "first.npz"
    FeatureTable.load(path).with_rows(np.arange(2, 18)).save(path)
    before = {name: (finished / name).read_bytes() for name in ("scores.csv", "config.json")}
    assert not (finished / "failed.csv").exists()
    what = "--output-dir: only 16 of the 18 clips on which the other sources were scored have features "
    for _ in range(2):
        with pytest.raises(InputError, match=what):
            again(finished, clips, "--features", path)
    assert before == {name: (finished / name).read_bytes() for name in before}
    assert not (finished / "failed.csv").exists()  # of another comparison
    (finished / "scores.csv").unlink()  # then no score is of more clips
    assert again(finished, clips, "--features", path) == 1


def test_another_data_set_in_its_folder_is_refused(finished, clips, tmp_path):
    """Also one of as many clips: features and scores that are kept are those of certain clips."""
    shutil.copytree(clips.parent, tmp_path / "clips")
    table = pd.read_csv(clips)
    table["label"] = table["label"].to_numpy()[::-1]
    table.to_csv(tmp_path / "clips" / "clips.csv", index=False)
    with pytest.raises(InputError, match=r": the clips have changed \(their labels or folds, or their files\); make"):
        again(finished, tmp_path / "clips" / "clips.csv")


def test_sources_that_answer_otherwise_are_another_run(finished, clips, monkeypatch):
    """Such as a network that was imported again with another pooling: its weights are the same."""
    config = json.loads((finished / "config.json").read_text())
    assert config["cards_sha256"] == {"mfcc": None, "log_mel": None}
    config["cards_sha256"]["mfcc"] = "0"
    (finished / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=": the network, pooling or front end of mfcc has changed; make this as it was"
    ):
        again(finished, clips)
    card = Card(CONFIG, {"layer1": 4}, pooling="mean", weights_sha256="0")
    others = replace(card, pooling="max"), replace(card, network="sbcnn"), replace(card, multiscale=(1, 2))
    assert len({a.fingerprint() for a in (card, *others)}) == 4
    assert card.fingerprint() == replace(card, seed=3, settings={"a": 1}).fingerprint()


def test_a_folder_named_as_the_random_version_of_another(clips, tmp_path):
    (tmp_path / "mine (random)").mkdir()
    flags = "--dataset", "manifest", "--data-dir", clips, "--output-dir", tmp_path / "out"
    with pytest.raises(InputError, match=r"--models: 'mine \(random\)' is the name of another source; rename"):
        run_main("compare", "--models", tmp_path / "mine (random)", "--mfcc", *flags)


@pytest.mark.parametrize(
    "content", [{}, [], None, {"seconds_a_clip": "1", "failures": []}, {"seconds_a_clip": 1, "failures": [1]}]
)
def test_what_is_said_of_kept_features_is_checked(content):
    assert source_features._is_cost({"seconds_a_clip": 1.0, "failures": [["a", "a: empty"]]})
    assert source_features._is_cost({"seconds_a_clip": None, "failures": []})
    assert not source_features._is_cost(content)


@pytest.mark.parametrize("damage", ["nothing", "labels", "folds", "clip_ids"])
def test_kept_features_of_other_clips_are_refused(finished, clips, damage):
    table = FeatureTable.load(finished / "features" / "mfcc.npz")
    if damage != "nothing":
        getattr(table, damage)[:] = np.roll(getattr(table, damage), 1)
    of_run = datasets.load("manifest", clips)
    assert source_features._is_of(table, of_run, ["noise", "tone"]) == (damage == "nothing")


def test_kept_features_of_another_source_are_refused(finished, clips):
    """Such as those of a network that an addition which was refused has left, where its name is another network's."""
    features = finished / "features"
    shutil.copy(features / "log_mel.npz", features / "mfcc.npz")
    refused = r"mfcc\.npz: is not what this run had kept, or of another network named mfcc.*; remove both to go on$"
    with pytest.raises(InputError, match=refused):
        again(finished, clips)


def test_kept_features_are_those_of_the_network_that_is_named(compared, clips, tmp_path):
    out, flags = compared
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out" / "features" / "tones.npz"
    table = FeatureTable.load(path)
    cost = tmp_path / "out" / "features" / "tones.json"
    cost.write_text(json.dumps({"seconds_a_clip": 0.01, "failures": [], "answers": "of another pooling"}))
    options, of_run = SimpleNamespace(output_dir=tmp_path / "out"), datasets.load("manifest", clips)

    def computed():
        return source_features.computed(options, "tones", flags[1], of_run, ["noise", "tone"], None, None)

    refused = r"tones\.npz: is not what this run had kept, or of another network named tones, or tones\.json is; remove"
    with pytest.raises(InputError, match=refused):
        computed()
    cost.write_text((out / "features" / "tones.json").read_text())  # which an older version wrote
    np.testing.assert_array_equal(computed()[0].layers["layer5"], table.layers["layer5"])
    replace(table, weights_sha256=dict.fromkeys(table.layers, "0" * 64)).save(path)
    with pytest.raises(InputError, match=refused):
        computed()


@pytest.mark.parametrize("edit", ["1 rows of ghost; expected none", "1 rows of mfcc; expected all layers"])
def test_scores_that_are_not_the_whole_are_refused(finished, clips, edit):
    scores = pd.read_csv(finished / "scores.csv")
    if "ghost" in edit:
        scores = pd.concat([scores, scores[:1].assign(source="ghost")])
    else:
        scores["choice"] = scores["choice"].where(scores["source"] != "mfcc", LAST)
    scores.to_csv(finished / "scores.csv", index=False)
    with pytest.raises(
        InputError, match=rf"scores\.csv: is not a table that compare writes \(it has {edit}\); remove it"
    ):
        again(finished, clips)


@pytest.mark.parametrize("left", ["scores.csv", "features", "unfinished.mfcc.jsonl"])
def test_what_a_run_has_kept_without_its_settings_is_refused(finished, clips, left, tmp_path):
    """It may be of other settings, for which those of the next run would vouch."""
    out = tmp_path / "other"
    out.mkdir()
    if left == "features":
        shutil.copytree(finished / left, out / left)
    else:
        (out / left).write_text("[]\n")
    with pytest.raises(InputError, match=rf"^--output-dir: {out / left} stands there without its config\.json, which"):
        again(out, clips)
    assert [path.name for path in out.iterdir()] == [left]


def test_sources_are_compared_on_the_clips_that_all_have(finished, compare):
    """Of what failed in one of them, the reason is told."""
    (finished / "scores.csv").unlink()
    tables = {name: FeatureTable.load(finished / "features" / f"{name}.npz") for name in ("mfcc", "log_mel")}
    lost = [[str(name), f"{name}: was lost"] for name in tables["log_mel"].clip_ids[:2]]
    tables["log_mel"] = tables["log_mel"].with_rows(np.arange(2, 18))
    tables["log_mel"].save(finished / "features" / "log_mel.npz")
    (finished / "features" / "log_mel.json").write_text(json.dumps({"seconds_a_clip": 0.1, "failures": lost}))
    common = source_features.of_all_sources(tables)
    assert [len(table) for table in common.values()] == [16, 16]
    np.testing.assert_array_equal(common["mfcc"].clip_ids, common["log_mel"].clip_ids)
    run = compare(finished, "--mfcc", "--log-mel")
    assert run.returncode == 1
    assert run.stderr.count("was lost") == len(pd.read_csv(finished / "failed.csv")) == 2


@pytest.mark.parametrize("name", ["scores.csv", "differences.csv", "config.json"])
def test_no_output_is_the_manifest(clips, tmp_path, name):
    manifest = tmp_path / name
    shutil.copy(clips, manifest)
    with pytest.raises(InputError, match=rf"--output-dir: .*{name} is an input"):
        again(tmp_path, manifest)
    assert manifest.read_bytes() == clips.read_bytes()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("label", "same", "every clip is 'same'"), ("fold", 1, "found 1; expected two or more")],
)
def test_clips_that_cannot_be_scored_are_refused_before_any_work(clips, tmp_path, column, value, message):
    table = pd.read_csv(clips)
    table[column] = value
    table["path"] = [str(clips.parent / name) for name in table["path"]]
    table.to_csv(tmp_path / "clips.csv", index=False)
    with pytest.raises(InputError, match=rf"^{tmp_path / 'clips.csv'}: .*{message}"):
        again(tmp_path / "out", tmp_path / "clips.csv")
    assert not (tmp_path / "out").exists()
