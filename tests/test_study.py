"""`study`: cells that are what probes are, kept as they end, and a table that is the same however it came about."""

import json
import re
import shutil
from dataclasses import replace
from itertools import product

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import run_main
from sounds import CONFIG

from keras_audio_transfer import extraction
from keras_audio_transfer.audio.loading import crop_or_pad, load_for
from keras_audio_transfer.dask_cluster import Cluster
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import feature_maps_of, load_model
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.grid_search import GRID
from keras_audio_transfer.probing.layer_selection import all_combinations, thorough
from keras_audio_transfer.probing.prober import Prober, fit_svm
from keras_audio_transfer.study import evaluation, report, running, source_features, study_file, target_clips
from keras_audio_transfer.study.cells import subset

RATE = CONFIG.sample_rate


def write_sounds(folder, n_clips, folds, label_of):
    """A manifest of noises and tones."""
    folder.mkdir()
    rows, rng = [], np.random.default_rng(0)
    for number in range(n_clips):
        time = np.arange(rng.integers(600, 900)) / RATE
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time) if number % 2 else 0.0
        soundfile.write(folder / f"{number}.wav", 0.2 * tone + 0.1 * rng.normal(size=len(time)), RATE)
        rows.append({"path": f"{number}.wav", "label": label_of(number)})
        if folds:
            rows[-1]["fold"] = 1 + number // 2 % folds
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)


@pytest.fixture(scope="module")
def place(exported, tmp_path_factory):
    """A folder with a study of the small classifier and MFCC on two targets."""
    place = tmp_path_factory.mktemp("study")
    write_sounds(place / "folds", 18, 3, lambda number: ("noise", "tone")[number % 2])
    write_sounds(place / "none", 20, 0, lambda number: ("a low", "high")[number % 2])
    (place / "study.toml").write_text(f"""
        name = "mine"
        seeds = [0, 1]
        clips_a_class = [4, "all"]
        features = ["each", "chosen", "all+mfcc"]
        [sources.tones]
        model = "{exported}"
        kind = "music"
        layers = ["layer3", "layer4"]
        [sources.leaky]
        model = "{exported}"
        kind = "noises"
        layers = ["layer4"]
        features = ["last"]
        heard = "none"
        [sources.mfcc]
        floor = "mfcc"
        [targets.folds]
        dataset = "manifest"
        data_dir = "folds/clips.csv"
        kind = "tones"
        [targets.none]
        dataset = "manifest"
        data_dir = "none/clips.csv"
        kind = "noises"
    """)
    return place


def read(place, **changes):
    """The study, with lines of its file changed."""
    text = (place / "study.toml").read_text()
    for before, after in changes.get("lines", {}).items():
        assert before in text
        text = text.replace(before, after)
    path = place / f"{changes.get('name', 'study')}.toml"
    path.write_text(text)
    return study_file.read(path)


@pytest.fixture(scope="module")
def studied(place):
    folder = place / "out"
    return folder, running.run(read(place), folder, jobs=1)


@pytest.fixture
def copy(studied, tmp_path):
    shutil.copytree(studied[0], tmp_path / "copy")
    return tmp_path / "copy"


def features(folder, source, target):
    return FeatureTable.load(folder / "features" / f"{source}.{target}.parquet")


def rows_of(results, key):
    rows = results.cells[results.cells["cell"] == key]
    assert len(rows), key
    return rows


def same_but_for_seconds(folder, other):
    for name in ("cells", "measures"):
        ours, theirs = (pd.read_parquet(place / f"{name}.parquet") for place in (folder, other))
        drop = ["seconds"] if name == "cells" else []
        pd.testing.assert_frame_equal(ours.drop(columns=drop), theirs.drop(columns=drop), check_exact=True)


def test_the_table_has_a_row_a_cell_and_fold(studied):
    folder, results = studied
    table = results.cells
    assert (table["status"] == "done").all()
    n_features = 2 + 1 + 1 + 1  # two layers, chosen, joined; and MFCC
    n_cells = {"folds": 2 + 1, "none": 2 + 2}  # 4 clips with both seeds, all clips with one where there are folds
    n_folds = {"folds": 3, "none": 5}
    for target, of_target in table.groupby("target"):
        there = n_features + (target == "folds")  # of the source that was trained on the other
        assert of_target["cell"].nunique() == there * n_cells[target]
        assert len(of_target) == of_target["cell"].nunique() * n_folds[target]
    assert not table.duplicated(["cell", "fold"]).any()
    kinds = table.groupby("source", sort=False)["source_kind"].first().to_dict()
    assert kinds == {"tones": "music", "leaky": "noises", "mfcc": "floor"}
    of_layers = table[table["features"] == "layer"].groupby("layers")["depth"].unique()
    assert {layer: [*depth] for layer, depth in of_layers.items()} == {"layer3": [0.6], "layer4": [0.8]}
    assert table[table["features"] == "all+mfcc"]["depth"].isna().all()
    assert (table[table["clips_a_class"] == "4"]["n_train"] == 8).all()
    assert (table[table["target"] == "none"].groupby("cell")["n_test"].sum() == 20).all()
    assert table["score"].between(0, 1).all()
    how = {"keep_default_na": False, "na_values": {"depth": ""}, "float_precision": "round_trip"}
    written = pd.read_csv(folder / "cells.csv", dtype={"clips_a_class": str}, **how)
    pd.testing.assert_frame_equal(written, table, check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "cells.parquet"), table)


def test_all_clips_are_what_the_prober_says(studied):
    folder, results = studied
    table = features(folder, "tones.mean", "folds")
    (expected,) = Prober(table).rows(thorough([*table.layers]))
    found = rows_of(results, "tones|folds|chosen|mean|svm|all|0")
    assert found["score"].tolist() == [expected[fold] for fold in ("fold_1", "fold_2", "fold_3")]
    assert "; ".join(found["layers"]) == expected["chosen_by_round"]
    assert "; ".join(found["parameters"]) == expected["parameters"]
    joined = table.join(features(folder, "mfcc", "folds"), "mfcc")
    (expected,) = Prober(joined).rows([("layer3", "layer4", "mfcc")])
    found = rows_of(results, "tones|folds|all+mfcc|mean|svm|all|0")
    assert found["score"].tolist() == [expected[fold] for fold in ("fold_1", "fold_2", "fold_3")]
    assert found["n_features"].unique().tolist() == [expected["n_features"]]


def test_the_last_layer_joined_with_a_floor_and_all_combinations(place, tmp_path):
    changed = {'"each", "chosen", "all+mfcc"': '"last+mfcc", "combinations"', '[4, "all"]': '["all"]'}
    changed['layers = ["layer3", '] = 'layers = ["layer2", "layer3", '
    results = running.run(read(place, name="last", lines=changed), tmp_path / "last", only="tones|folds|*")
    table = results.cells
    assert (table["status"] == "done").all()
    joined = table[table["features"] == "last+mfcc"]
    assert {*joined["layers"]} == {"layer4+mfcc"}
    assert joined["depth"].isna().all()
    of_tones = features(tmp_path / "last", "tones.mean", "folds")
    for row in Prober(of_tones).rows(all_combinations(["layer2", "layer3", "layer4"])):
        name = {1: f"layer:{row['layers']}", 2: f"layers:{row['layers']}", 3: "all"}[row["layers"].count("+") + 1]
        found = rows_of(results, f"tones|folds|{name}|mean|svm|all|0")
        assert found["score"].tolist() == [row[fold] for fold in found["fold"]]
        assert {*found["layers"]} == {row["layers"]}


def test_fewer_clips_are_scored_on_the_same_ones(studied):
    folder, results = studied
    table = features(folder, "mfcc", "folds")
    found = rows_of(results, "mfcc|folds|all|-|svm|4|1").set_index("fold")
    points = {str(point): point for point in GRID}
    for fold in (1, 2, 3):
        fit, score = subset(table, np.flatnonzero(table.folds != fold), 4, seed=1), table.folds == fold
        row = found.loc[f"fold_{fold}"]
        scaler, svm = fit_svm(table, ("mfcc",), points[row["parameters"]], fit)
        predicted = svm.predict(scaler.transform(table.layers["mfcc"][score].astype(float)))
        assert row["score"] == pytest.approx((predicted == table.labels[score]).mean())
        assert (row["n_train"], row["n_test"], row["chance"]) == (8, 6, 0.5)


def test_a_random_twin_with_another_pooling(place, exported, tmp_path):
    lines = {'kind = "music"': 'kind = "music"\nrandom = true', 'name = "mine"': 'name = "mine"\npoolings = ["max"]'}
    study = read(place, name="twin", lines=lines)
    twin, clips = study.sources["tones (random)"], target_clips.load(study)["folds"]
    assert study.poolings_of(twin) == ("max",)
    source_features.compute(tmp_path, twin, "max", "folds", clips[:2], seed=3)
    found = features(tmp_path, "tones (random).max", "folds")
    keras.utils.set_random_seed(3)
    network = keras.models.clone_model(load_model(exported / "model.keras"))
    maps = keras.Model(network.input, feature_maps_of(network, "layer4"))
    for clip, of_clip in zip(clips, found.layers["layer4"], strict=False):
        sound = load_for(clip, CONFIG).waveform
        waveform = crop_or_pad(sound, CONFIG.n_samples, CONFIG.short_clips, CONFIG.long_clips)
        np.testing.assert_allclose(of_clip, np.max(maps(waveform[None])[0], axis=(0, 1)), atol=1e-4)


def test_what_is_measured(studied):
    _, results = studied
    table = results.measures
    of_layers = table[table["layer"] != ""]
    assert {*of_layers["layer"]} == {"layer3", "layer4", "mfcc"}
    distances = table[table["measure"] == "log_mel_distance"].set_index(["source", "target"])["value"]
    assert {*distances.index} == {("leaky", "none"), ("leaky", "folds")}
    assert distances["leaky", "none"] == 0 < distances["leaky", "folds"]
    overlaps = table[table["measure"] == "label_overlap"].set_index(["source", "target"])["value"]
    expected = {("tones", "folds"): 0, ("tones", "none"): 1 / 2, ("leaky", "folds"): 0}  # "a" is learnt
    assert {key: overlaps[key] for key in expected} == expected
    assert "mfcc" not in overlaps


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_tables(studied, copy, place):
    lines = (copy / "cells.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "cells.jsonl").write_bytes(b"".join(lines[: len(lines) // 3]) + lines[-1][:50])
    for gone in ("cells.csv", "cells.parquet", "measures.csv", "measures.parquet", "measures.jsonl"):
        (copy / gone).unlink()
    shutil.rmtree(copy / "features" / "mfcc.none.parquet")
    running.run(read(place), copy, jobs=2)
    same_but_for_seconds(studied[0], copy)
    assert len((copy / "cells.jsonl").read_bytes().splitlines()) == len(lines)


@pytest.mark.slow
def test_a_cluster_gives_the_same_tables(studied, copy, place):
    from distributed import LocalCluster

    (copy / "cells.jsonl").unlink()
    of_two = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with of_two as local, Cluster(local.scheduler_address) as cluster:
        running.run(read(place), copy, cluster=cluster)
    same_but_for_seconds(studied[0], copy)


def test_what_is_done_is_not_done_again(studied, copy, place, monkeypatch):
    for work in ("evaluation.scored", "measures.of_features", "spectral_distance.spectra"):
        monkeypatch.setattr(f"keras_audio_transfer.study.{work}", None)
    running.run(read(place), copy)
    same_but_for_seconds(studied[0], copy)


def test_a_changed_study_keeps_what_is_still_asked_for(studied, copy, place, monkeypatch):
    monkeypatch.setattr("keras_audio_transfer.study.evaluation.scored", None)
    fewer = read(place, name="fewer", lines={'"each", ': ""})
    table = running.run(fewer, copy).cells
    expected = studied[1].cells.query("features != 'layer'")
    pd.testing.assert_frame_equal(table, expected.reset_index(drop=True))
    running.run(read(place), copy)
    same_but_for_seconds(studied[0], copy)


def test_a_cell_run_again_is_equal(studied, copy, place):
    key = "tones|none|chosen|mean|svm|4|1"
    again = running.run(read(place), copy, only=key)
    assert again.measures is None
    assert (again.n_before, again.n_new) == (1, 0)
    same_but_for_seconds(studied[0], copy)
    lines = (copy / "cells.jsonl").read_text().splitlines()
    edited = []
    for line in map(json.loads, lines):
        if line[0] == key:
            line[1][0]["score"] = 0.123
        edited.append(json.dumps(line[:2]))  # as an older version wrote it, without a checksum
    (copy / "cells.jsonl").write_text("\n".join(edited) + "\n")
    with pytest.raises(InputError, match=r"tones\|none\|chosen\|mean\|svm\|4\|1: run again, it is another: .*0\.123"):
        running.run(read(place), copy, only=key)
    with pytest.raises(
        InputError, match=r"only: 'tones\*x' is the name of no cell; expected one such as 'tones\|folds"
    ):
        running.run(read(place), copy, only="tones*x")


def test_a_cell_that_fails_is_a_row_and_the_others_go_on(studied, copy, place):
    more = read(place, name="more", lines={'[4, "all"]': '[4, 9, "all"]'})
    table = running.run(more, copy).cells
    failed = table[table["status"] == "failed"]
    assert {*failed["target"]} == {"folds", "none"}
    assert failed["cell"].str.contains(r"\|9\|").all()
    assert failed["score"].isna().all()
    assert (failed["fold"] == "").all()
    assert {*failed.query("target == 'folds'")["why"]} == {"class 'noise' has 6 clips to fit on; 9 were asked for"}
    done = table[table["status"] == "done"].reset_index(drop=True)
    pd.testing.assert_frame_equal(done, studied[1].cells)


def test_a_source_that_cannot_be_used_fails_its_cells_only(place, exported, tmp_path):
    broken = place / "broken"
    shutil.copytree(exported, broken, dirs_exist_ok=True)
    (broken / "1" / "saved_model.pb").write_bytes(b"no model")
    lines = {
        f'model = "{exported}"': 'model = "broken"',
        '[4, "all"]': '["all"]',
    }
    table = running.run(read(place, name="broken", lines=lines), tmp_path / "out").cells
    assert {*table.query("source == 'mfcc'")["status"]} == {"done"}
    failed = table.query("source == 'tones'")
    assert {*failed["status"]} == {"failed"}
    assert failed["why"].str.contains("is not a SavedModel that serves").all()


def test_clips_too_short_for_a_network_are_said(place, exported, tmp_path):
    """The network that comes with the package hears four seconds; of a file that cannot be read nothing is known."""
    shutil.copytree(place, tmp_path / "place", ignore=shutil.ignore_patterns("out"))
    (tmp_path / "place" / "folds" / "3.wav").write_text("no audio")
    soundfile.write(tmp_path / "place" / "folds" / "4.wav", np.zeros(4 * RATE), RATE)
    said = []
    target_clips.load(read(tmp_path / "place", lines={f'model = "{exported}"': 'model = "default"'}), said.append)
    for target, n_clips, n_short in (("folds", 18, 16), ("none", 20, 20)):
        what = "clips shorter than what a network hears at once are repeated up to that"
        assert f"targets.{target}: {what} (tones 4 s: {n_short} of {n_clips}, leaky 4 s: {n_short} of {n_clips})" in (
            " ".join(said)
        )


def test_a_clip_that_cannot_be_read_is_left_out_of_all_sources(place, tmp_path):
    shutil.copytree(place, tmp_path / "place", ignore=shutil.ignore_patterns("out"))
    (tmp_path / "place" / "folds" / "3.wav").write_text("no audio")
    lines = {
        '[4, "all"]': '["all"]',
        '"each", "chosen", "all+mfcc"': '"last"',
    }
    results = running.run(read(tmp_path / "place", lines=lines), tmp_path / "out")
    assert [clip for clip, _ in results.failed_clips] == ["folds: 3.wav"]
    assert (results.cells.query("target == 'folds'").groupby("cell")["n_test"].sum() == 17).all()
    assert (results.cells["status"] == "done").all()


def test_other_clips_in_the_same_folder_are_refused(copy, place, tmp_path):
    shutil.copytree(place / "folds", tmp_path / "folds")
    clips = pd.read_csv(tmp_path / "folds" / "clips.csv")
    clips.iloc[2:].to_csv(tmp_path / "folds" / "clips.csv", index=False)
    other = read(place, name="other", lines={"folds/clips.csv": str(tmp_path / "folds" / "clips.csv")})
    with pytest.raises(
        InputError, match=r"config\.json: is of another run \(target folds was .*; choose another folder"
    ):
        running.run(other, copy)


def test_cells_of_unknown_clips_are_refused(copy, place):
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: does not say which clips the cells of cells\.jsonl are of"):
        running.run(read(place), copy)


def test_what_is_one_recording_for_a_source_is_one_for_all(place, tmp_path):
    """MFCC hear 29 seconds of each clip, and two clips are alike as far as that; log-mel statistics hear them whole."""
    rng, rows = np.random.default_rng(2), []
    for number in range(22):
        sound = rng.normal(size=RATE)
        if number in (0, 1):
            sound = np.concatenate([np.random.default_rng(1).normal(size=30 * RATE), sound])
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * sound, RATE)
        rows.append((f"{number}.wav", "ab"[number // 2 % 2]))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "clips.csv", index=False)
    floors = "".join(f"[sources.{name}]\nfloor = '{name}'\n" for name in ("mfcc", "log_mel"))
    target = "[targets.long]\ndataset = 'manifest'\ndata_dir = 'clips.csv'\nkind = 'noises'\n"
    (tmp_path / "study.toml").write_text(f"name = 'x'\nclassifiers = ['centroid']\n{floors}{target}")
    table = running.run(study_file.read(tmp_path / "study.toml"), tmp_path / "out").cells
    tables = [FeatureTable.load(tmp_path / "out" / "features" / f"{name}.long.parquet") for name in ("mfcc", "log_mel")]
    assert [each.groups is None for each in tables] == [False, True]
    sizes = table.set_index(["source", "fold"])["n_test"].unstack()
    assert (sizes.loc["mfcc"] == sizes.loc["log_mel"]).all()
    groups = evaluation.common_groups(tables)
    assert groups == {"0.wav": "copies of 0.wav", "1.wav": "copies of 0.wav"}
    assert evaluation.common_groups(reversed(tables)) == groups


def test_groups_of_several_sources_become_one():
    clips = [Clip(name, None, ("x",)) for name in "abcdef"]
    one, two = (
        FeatureTable.of_clips({}, [replace(clip, group=group) for clip, group in zip(clips, of, strict=True)], ["x"])
        for of in (["g", "g", "", "h", "h", ""], ["", "k", "k", "k", "", ""])
    )
    assert evaluation.common_groups([one]) == {"a": "g", "b": "g", "d": "h", "e": "h"}
    assert evaluation.common_groups([one, two]) == dict.fromkeys("abcde", "g")


def test_a_folder_of_something_else_is_left_alone(place, tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0}')  # as `compare` and `probe` write it
    with pytest.raises(InputError, match=r"config\.json: has 'seed', and is of no study; choose another folder$"):
        running.run(read(place), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("name", "value"), [("n_train", '"8"'), ("n_test", "-8"), ("score", "1.5"), ("score", "NaN"), ("value", '"8"}')]
)
def test_a_damaged_record_is_named(name, value, copy, place):
    record = copy / ("measures.jsonl" if name == "value" else "cells.jsonl")
    record.write_text(re.sub(f'"{name}": [^,]+', f'"{name}": {value}', record.read_text(), count=1))
    with pytest.raises(InputError, match=rf"{record.name}, line [0-9]+: is damaged"):
        running.run(read(place), copy)


def test_the_command_reports_what_it_has_found(studied, copy, place, monkeypatch, capsys):
    written = []
    monkeypatch.setattr(extraction, "use_one_thread_a_clip", lambda workers: None)  # TensorFlow has run here before
    monkeypatch.setattr(report, "write", lambda *what: written.append(what))
    read(place, name="more", lines={'[4, "all"]': '[4, 9, "all"]'})
    arguments = place / "more.toml", "--output-dir", copy, "--quiet"
    assert run_main("study", *arguments) == 1
    n_failed = (5 * 2 + 1) * 2  # features of all sources on both targets, of one on one of them; seeds
    first, why = r"tones\|folds\|layer:layer3\|mean\|svm\|9\|0", "class 'noise' has 6 clips to fit on; 9 were asked for"
    said = rf"{n_failed} cells failed, see why in cells\.csv: {first}: {why} \(and {n_failed - 1} others\)\n"
    assert re.search(said, capsys.readouterr().err)
    ((cells, measures, study, folder),) = written
    assert len(cells) == len(pd.read_parquet(copy / "cells.parquet"))
    pd.testing.assert_frame_equal(measures, pd.read_parquet(studied[0] / "measures.parquet"))
    assert (study.name, folder) == ("mine", copy)
    assert run_main("study", *arguments, "--only", "mfcc|folds|all|-|svm|4|*") == 0
    assert len(written) == 1
    with pytest.raises(InputError, match=r"^--only: 'x' is the name of no cell"):
        run_main("study", *arguments, "--only", "x")
    with pytest.raises(InputError, match=r"^--output-dir: .* is a file; name a folder"):
        run_main("study", place / "more.toml", "--output-dir", place / "more.toml")
    inside = place / "sounds" / "out"
    inside.parent.mkdir()
    (place / "inside.toml").write_text(
        "name = 'x'\n[sources.mfcc]\nfloor = 'mfcc'\n[targets.a]\nkind = 'x'\ndataset = 'folder'\ndata_dir = 'sounds'\n"
    )
    for folder in (inside, inside.parent):
        with pytest.raises(InputError, match=r"^--output-dir: .* is in an input, .*sounds, and would become a part"):
            run_main("study", place / "inside.toml", "--output-dir", folder)
    (place / "own").mkdir()
    (place / "own" / "README.md").write_text("a person's own")
    with pytest.raises(InputError, match=r"^--output-dir: .*README\.md stands there without its config\.json"):
        run_main("study", place / "more.toml", "--output-dir", place / "own")


FOLDER_STUDY = """
name = "words"
seeds = [0, 1]
[sources.mfcc]
floor = "mfcc"
[targets.words]
dataset = "folder"
data_dir = "words"
kind = "speech"
"""


@pytest.fixture
def words(tmp_path):
    """A study of a folder whose files are named after five speakers."""
    rng = np.random.default_rng(0)
    for word, speaker, take in product(("yes", "no"), range(5), range(2)):
        path = tmp_path / "words" / word / f"{speaker:08x}_nohash_{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.normal(size=600), RATE)
    (tmp_path / "study.toml").write_text(FOLDER_STUDY)
    return tmp_path


def test_speakers_that_names_tell_of_are_named_where_folds_may_cut_them(words):
    said = []
    clips = target_clips.load(study_file.read(words / "study.toml"), said.append)
    assert not any(clip.group for clip in clips["words"])
    (note,) = said
    assert note.startswith(f"{words / 'study.toml'}: targets.words: 5 recordings or speakers in 20 clips, as the names")
    key = re.search(r"; folds may cut them; (group_by = '.+') keeps each together$", note)[1]
    (words / "study.toml").write_text(f"{FOLDER_STUDY}{key}\n")
    clips = target_clips.load(study_file.read(words / "study.toml"), said.append)
    assert len({clip.group for clip in clips["words"]}) == 5
    assert len(said) == 1


def test_the_command_says_what_it_ran_again_and_what_is_new(words, capsys):
    command = "study", words / "study.toml", "--output-dir", words / "out", "--only"
    assert run_main(*command, "mfcc|*|0") == 0
    out, err = capsys.readouterr()
    assert out.startswith("run again and equal: 0 cells; new: 1 cell\nwritten: ")
    assert "folds may cut them; group_by = '" in err
    assert "1/2 features of mfcc on words: 20 clips\n" in err
    assert run_main(*command, "mfcc|*") == 0
    out, err = capsys.readouterr()
    assert out.startswith("run again and equal: 1 cell; new: 1 cell\nwritten: ")
    assert "features of" not in err


def test_tables_of_another_study_are_not_cut_to_a_few_cells(words):
    (words / "other.toml").write_text(FOLDER_STUDY.replace("mfcc", "log_mel"))
    other, out = study_file.read(words / "other.toml"), words / "out"
    running.run(study_file.read(words / "study.toml"), out, jobs=1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    foreign = r"\(2, such as 'mfcc\|words\|all\|-\|svm\|all\|0'\)"
    with pytest.raises(InputError, match=rf"^only: .*parquet has cells that .*other\.toml does not ask for {foreign}"):
        running.run(other, out, only="*|0")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    running.run(other, out, jobs=1)  # the remedy: what is kept of cells no longer asked for is in no table
    again = running.run(other, out, only="*|0")
    assert (again.n_before, again.n_new) == (1, 0)


def test_a_target_that_all_sources_were_trained_on_has_no_cells(place, tmp_path):
    """But a distance to the others, as where some source is scored on it."""
    floor = '[sources.mfcc]\n        floor = "mfcc"'
    lines = {
        floor: "",
        'layers = ["layer3", "layer4"]': 'layers = ["layer3"]\n        heard = "none"',
        '"each", "chosen", ': "",
    }
    results = running.run(read(place, name="all_heard", lines=lines), tmp_path / "out", jobs=1)
    assert not results.failed_cells
    assert {*results.cells["target"]} == {"folds"}
    measured = results.measures[results.measures["measure"] == "log_mel_distance"]
    assert measured[["source", "target"]].to_numpy().tolist() == [["tones", "folds"], ["leaky", "folds"]]
