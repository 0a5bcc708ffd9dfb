"""What cannot work is refused in one line that names the culprit; one bad file does not stop the good ones."""

import csv
import re
from importlib import import_module

import numpy as np
import pytest
import soundfile

from keras_audio_transfer.commands import cli
from keras_audio_transfer.feature_tables.table import FeatureTable

SOME_FAILED, NOT_DONE = 1, 2


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with good and bad files; not to be written to."""
    root = tmp_path_factory.mktemp("inputs")
    for name in ("good", "empty", "bad"):
        (root / name).mkdir()
    for i in range(8):
        tone = 0.5 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(4000) / 16000)
        soundfile.write(root / "good" / f"{i}.wav", tone, 16000)
    (root / "empty" / "notes.txt").write_text("no audio here")
    (root / "bad" / "text.wav").write_text("not audio")
    (root / "bad" / "nothing.flac").touch()
    (root / "bad" / "cut.wav").write_bytes((root / "good" / "0.wav").read_bytes()[:2000])

    def manifest(name, *lines):
        (root / name).write_text("\n".join(("path,label,split", *lines)) + "\n", encoding="utf-8")

    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    manifest("clips.csv", *(f"good/{i}.wav,{'ab'[i % 2]},{split}" for i, split in enumerate(splits)))
    manifest("no_label.csv", "good/0.wav,a,train", "good/1.wav,,train")
    manifest("all_bad.csv", "bad/text.wav,a,train", "bad/nothing.flac,b,validation", "gone.wav,a,test")
    np.save(root / "array.npy", np.zeros((3, 4)))
    write_features(root / "features.npz")
    write_features(root / "nan.npz", layer1=np.full((24, 2), np.nan, dtype=np.float32))
    write_features(root / "short.npz", layer1=np.zeros((23, 2), dtype=np.float32))
    write_features(root / "one_class.npz", labels=np.zeros(24, dtype=np.int64))
    write_features(root / "unlabelled.npz", labels=np.full(24, -1))
    write_features(root / "few.npz", labels=np.array([0] * 21 + [1] * 3))
    mood = {"labels": np.zeros((24, 2)), "label_names": np.array(["arousal", "valence"])}
    write_features(root / "mood.npz", **mood)
    (root / "scores.csv").write_text("layers,score\nlayer1,0.5\n")
    (root / "twice.csv").write_text("layers,score\nlayer1,0.5\nlayer1,0.6\n")
    write_features(root / "other_clips.npz", layer_names=np.array(["mfcc"]), clip_ids=np.arange(24).astype(str))
    return root


def write_features(path, **changed):
    """A features file of 24 clips of two classes and two layers, with some of its arrays changed."""
    rng = np.random.default_rng(0)
    content = {name: rng.normal(size=(24, 2)).astype(np.float32) for name in ("layer1", "layer2", "mfcc")}
    content |= {"layer_names": np.array(["layer1", "layer2"]), "clip_ids": np.array([f"clip{i}" for i in range(24)])}
    content |= {"labels": np.arange(24) % 2, "label_names": np.array(["a", "b"])}
    content |= {"folds": np.full(24, -1), "splits": np.full(24, "")}
    np.savez(path, **{**content, **changed})


# What is refused: script, arguments, how the line begins after 'SCRIPT.py: error: '. In both, {data} is the folder
# `inputs`, {model} a model folder, {out} a folder to write to.
FROM_TABLE = "--dataset manifest --data-dir {data}/clips.csv --output-dir {out}/model"
REFUSED = {
    "unknown data set": (
        "train",
        "--dataset esc51 --output-dir {out}/model",
        "--dataset: 'esc51' is unknown; did you mean esc50? choose from synthetic, esc10, ",
    ),
    "unknown argument": (
        "train",
        "--output-dir {out}/model --epoch 1",
        "unrecognized argument: --epoch; did you mean --epochs? see --help",
    ),
    "text where a number belongs": (
        "train",
        "--output-dir {out}/model --epochs many",
        "--epochs: 'many' is not a whole number; expected at least 0, at most 2147483647; see --help",
    ),
    "an argument is missing": ("export", "{model}", "the following arguments are required: --output-dir; see --help"),
    "unknown network": (
        "train",
        f"{FROM_TABLE} --network convnet6",
        "--network: 'convnet6' is unknown; did you mean convnet5? ",
    ),
    "unknown pooling": (
        "train",
        f"{FROM_TABLE} --pooling meann",
        "--pooling: 'meann' is unknown; did you mean mean? choose from ",
    ),
    "unknown weights": (
        "train",
        f"{FROM_TABLE} --weights imagnet",
        "--weights: 'imagnet' is unknown; did you mean imagenet? ",
    ),
    "weights for another number of channels": (
        "train",
        f"{FROM_TABLE} --network resnet50 --multiscale --weights imagenet",
        "--weights: imagenet takes 1 or 3 channels, not 4; leave the multiscale input out",
    ),
    "unknown preset": (
        "train",
        "--preset choi --output-dir {out}/model",
        "--preset: 'choi' is unknown; did you mean choi2017? choose from choi2017, ",
    ),
    "no data dir": (
        "train",
        "--dataset esc10 --output-dir {out}/model",
        "esc10: no folder given; pass --data-dir, the folder the data are in",
    ),
    "data dir that is not there": (
        "train",
        "--dataset esc10 --data-dir {data}/gone --output-dir {out}/model",
        "esc10: {data}/gone is not a folder; get ESC-50 from https://",
    ),
    "data dir of something else": (
        "train",
        "--dataset urbansound8k --data-dir {data}/good --output-dir {out}/model",
        "urbansound8k: {data}/good has no ",
    ),
    "row without a label": (
        "train",
        "--dataset manifest --data-dir {data}/no_label.csv --output-dir {out}/model",
        "{data}/no_label.csv, row 3: good/1.wav has no label; name one or remove the row",
    ),
    "numbers instead of labels": (
        "train",
        "--dataset emomusic --data-dir {data}/good --output-dir {out}/model",
        "--dataset: emomusic has no labels but numbers (arousal and valence), and networks are trained on labels only",
    ),
    "clips of no length": (
        "train",
        "--clip-seconds 0 --output-dir {out}/model",
        "--clip-seconds: 0 is not allowed; expected more than 0, up to 3600 seconds",
    ),
    "clips of endless length": (
        "train",
        "--clip-seconds inf --output-dir {out}/model",
        "--clip-seconds: inf is not allowed; expected more than 0, up to 3600 seconds",
    ),
    "clips shorter than a frame": (
        "train",
        "--clip-seconds 0.01 --output-dir {out}/model",
        "--clip-seconds: 0.01 is shorter than a frame; expected at least 0.032",
    ),
    "negative epochs": ("train", "--epochs -1 --output-dir {out}/model", "--epochs: -1 is not allowed; expected at "),
    "empty batches": ("train", "--batch-size 0 --output-dir {out}/model", "--batch-size: 0 is not allowed; expected "),
    "negative seed": ("train", f"{FROM_TABLE} --seed -1", "--seed: -1 is not allowed; expected "),
    "negative mixup": ("train", f"{FROM_TABLE} --mixup -1", "--mixup: -1 is not allowed; expected at least 0"),
    "validation of all clips": (
        "train",
        f"{FROM_TABLE} --validation-fraction 1",
        "--validation-fraction: 1 is not allowed; expected 0 to 0.5",
    ),
    "fold of a data set with splits": ("train", f"{FROM_TABLE} --test-fold 1", "--test-fold: 1 received, but the "),
    "output that exists": (
        "train",
        "--output-dir {data}/good",
        "{data}/good: exists; pass --overwrite to replace it or another --output-dir",
    ),
    "output that is here": ("train", "--output-dir {model}", "{model}: exists; pass --overwrite to replace it or "),
    "output without a name": ("train", "--output-dir .", "--output-dir: . is the current folder; name a new one"),
    "output below a file": (
        "train",
        "--dataset manifest --data-dir {data}/clips.csv --output-dir {data}/clips.csv/model",
        "--output-dir: {data}/clips.csv is a file, so that {data}/clips.csv/model cannot be in it; name another place",
    ),
    "cache that is a file": ("train", f"{FROM_TABLE} --cache {{data}}/clips.csv", "--cache: {data}/clips.csv"),
    "no clip of a data set can be read": (
        "train",
        "--dataset manifest --data-dir {data}/all_bad.csv --output-dir {out}/deeper/model",
        "manifest: none of its 3 clips can be read; {data}/bad/text.wav: cannot be decoded",
    ),
    "model folder without a card": (
        "extract",
        "{data}/good {data}/good --output {out}/f.npz",
        "{data}/good: has no card.json; expected a model folder",
    ),
    "model folder that is not there": (
        "extract",
        "{data}/gone {data}/good --output {out}/f.npz",
        "{data}/gone: is not a folder; expected a model folder",
    ),
    "unknown layer": (
        "extract",
        "{model} {data}/good --layers layer1,layer6 --output {out}/f.npz",
        "--layers: 'layer6' is unknown; did you mean layer5? choose from layer1, layer2, layer3, layer4, layer5",
    ),
    "folder without audio": (
        "extract",
        "{model} {data}/empty --output {out}/f.npz",
        "{data}/empty: holds no audio; expected .wav, .flac, .ogg, .mp3, ",
    ),
    "nothing to extract from": (
        "extract",
        "{model} --output {out}/f.npz",
        "inputs: expected either files and folders ",
    ),
    "data folder without a data set": (
        "mfcc",
        "{data}/good --data-dir {data}/good --output {out}/f.npz",
        "--data-dir: belongs to a data set; name it with --dataset, or leave --data-dir out",
    ),
    "download without a data set": (
        "mfcc",
        "{data}/good --download --output {out}/f.npz",
        "--download: belongs to a data set; name it with --dataset, or leave --download out",
    ),
    "features with another ending": (
        "extract",
        "{model} {data}/good --output {out}/f.csv",
        "--output: {out}/f.csv ends in neither .npz nor .parquet; name features to write",
    ),
    "features instead of a folder": (
        "extract",
        "{model} {data}/good --output {data}/good",
        "--output: {data}/good is a folder; name a file",
    ),
    "no workers": ("extract", "{model} {data}/good --workers 0 --output {out}/f.npz", "--workers: 0 is not allowed; "),
    "features of clips of no length": (
        "extract",
        "{model} {data}/good --clip-seconds 0 --output {out}/f.npz",
        "--clip-seconds: 0 is not allowed; expected ",
    ),
    "text instead of features": (
        "probe",
        "{data}/clips.csv --output-dir {out}/probes",
        "{data}/clips.csv: not a features file (.npz), or damaged; expected what `extract` or `mfcc` ",
    ),
    "an array instead of features": (
        "probe",
        "{data}/array.npy --output-dir {out}/probes",
        "{data}/array.npy: not a features file (.npz), or damaged; expected what `extract` or `mfcc` ",
    ),
    "features that are not there": (
        "probe",
        "{data}/gone.npz --output-dir {out}/probes",
        "{data}/gone.npz: does not exist; expected a features file; make one with `extract`",
    ),
    "features with NaN": (
        "probe",
        "{data}/nan.npz --output-dir {out}/probes",
        "{data}/nan.npz: 'layer1' holds NaN or infinite values, first for clip0; extract it again",
    ),
    "features of different lengths": (
        "probe",
        "{data}/short.npz --output-dir {out}/probes",
        "{data}/short.npz: 'layer1' has 23 rows; expected 24, one a clip",
    ),
    "features of one class": (
        "probe",
        "{data}/one_class.npz --output-dir {out}/probes",
        "{data}/one_class.npz: labels: every clip is 'a'; expected at least two classes",
    ),
    "features without labels": (
        "probe",
        "{data}/unlabelled.npz --output-dir {out}/probes",
        "{data}/unlabelled.npz: labels: clip0 has none; extract a data set, such as 'folder', or give labels",
    ),
    "fewer clips of a class than folds": (
        "probe",
        "{data}/few.npz --output-dir {out}/probes",
        "{data}/few.npz: labels: class 'b' has 3 clips, 5-fold cross-validation needs 5; add clips or leave ",
    ),
    "fewer clips of a class than the paper's folds": (
        "probe",
        "{data}/few.npz --protocol choi2017 --output-dir {out}/probes",
        "{data}/few.npz: labels: class 'b' has 3 clips, 10-fold cross-validation needs 10; add clips or leave ",
    ),
    "combination with an unknown layer": (
        "probe",
        "{data}/features.npz --combinations layer1+layer3 --output-dir {out}/probes",
        "--combinations: layer 'layer3' is unknown; did you mean layer2? choose from layer1, layer2",
    ),
    "unknown protocol": (
        "probe",
        "{data}/features.npz --protocol paper --output-dir {out}/probes",
        "--protocol: 'paper' is unknown; choose from nested, choi2017",
    ),
    "baseline of other clips": (
        "probe",
        "{data}/features.npz --baseline {data}/other_clips.npz --output-dir {out}/probes",
        "{data}/other_clips.npz: has no features of clip0 (24 missing); extract it from the same clips",
    ),
    "baseline with the same layers": (
        "probe",
        "{data}/features.npz --baseline {data}/features.npz --output-dir {out}/probes",
        "{data}/features.npz: layer 'layer1' is in both features files; rename one",
    ),
    "comparison with no table": (
        "probe",
        "{data}/features.npz --compare random={data}/gone.csv --output-dir {out}/probes",
        "--compare: 'random={data}/gone.csv' names no table; expected NAME=SCORES.csv",
    ),
    "comparison with an empty table": (
        "probe",
        "{data}/features.npz --compare random={data}/bad/nothing.flac --output-dir {out}/probes",
        "--compare: {data}/bad/nothing.flac has no scores, one a combination; expected the scores.csv of ",
    ),
    "comparison with no text": (
        "probe",
        "{data}/features.npz --beside random={data}/good/0.wav --output-dir {out}/probes",
        "--beside: {data}/good/0.wav has no scores, one a combination; expected the scores.csv of `probe`",
    ),
    "table with a combination twice": (
        "probe",
        "{data}/features.npz --beside a={data}/twice.csv --output-dir {out}/probes",
        "--beside: {data}/twice.csv has no scores, one a combination; expected the scores.csv of `probe`",
    ),
    "two tables of one name": (
        "probe",
        "{data}/features.npz --beside a={data}/scores.csv --beside a={data}/scores.csv --output-dir {out}/probes",
        "--beside: 'a' names two tables (this run's is 'features'); rename one",
    ),
    "another table of this run's name": (
        "probe",
        "{data}/features.npz --beside features={data}/scores.csv --output-dir {out}/probes",
        "--beside: 'features' names two tables (this run's is 'features'); rename one",
    ),
    "several numbers a clip": (
        "probe",
        "{data}/mood.npz --output-dir {out}/probes",
        "{data}/mood.npz: labels: the file has several numbers a clip; name one as --target: arousal, valence",
    ),
    "target that is none": (
        "probe",
        "{data}/mood.npz --target tempo --output-dir {out}/probes",
        "--target: 'tempo' is unknown; choose from arousal, valence",
    ),
    "no jobs": (
        "probe",
        "{data}/features.npz --jobs 0 --output-dir {out}/probes",
        "--jobs: 0 is not allowed; expected 1 to 1024; see --help",
    ),
    "more threads than TensorFlow starts": (
        "extract",
        "{model} {data}/good --workers 50000 --output {out}/features.npz",
        "--workers: 50000 is not allowed; expected 1 to 1024; see --help",
    ),
    "folder that is not the authors' repository": (
        "reproduce_choi2017",
        "{data}/good --output {out}/scores.csv",
        "{data}/good: has no data_csv/; expected a copy of https://github.com/keunwoochoi/transfer_learning_music",
    ),
    "scores that are a folder": (
        "reproduce_choi2017",
        "{data}/good --output {data}/good",
        "--output: {data}/good is a folder; name a file",
    ),
    "pictures that are a file": (
        "reproduce_choi2017",
        "{data}/good --output {out}/scores.csv --pictures {data}/clips.csv",
        "--pictures: {data}/clips.csv is a file; name a folder",
    ),
    "calibration on a folder of no data set": (
        "import_choi2017",
        "{data}/good --weights v1 --data-dir {data}/good --output-dir {out}/model",
        "--data-dir: needs --dataset, the clips to calibrate on",
    ),
    "calibration on a download of no data set": (
        "import_choi2017",
        "{data}/good --weights v1 --download --output-dir {out}/model",
        "--download: needs --dataset, the clips to calibrate on",
    ),
    "calibration on clips of no data set": (
        "import_choi2017",
        "{data}/good --weights v1 --limit 5 --output-dir {out}/model",
        "--limit: needs --dataset, the clips to calibrate on",
    ),
    "download of random weights": (
        "import_choi2017",
        "{data}/good --weights random --download-weights --output-dir {out}/model",
        "--download-weights: random weights are drawn; leave it out, or pass --weights v1 or v2",
    ),
    "export of no model": (
        "export",
        "{data}/good --output-dir {out}/model",
        "{data}/good: has no card.json; expected a model folder",
    ),
    "export of no file": (
        "export",
        "{data}/gone.keras --output-dir {out}/model",
        "{data}/gone.keras: does not exist; expected a model folder or a model.keras",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what, inputs, request, capsys, tmp_path):
    script, arguments, begin = REFUSED[what]
    out = tmp_path / "out"
    model = request.getfixturevalue("model_dir") if "{model}" in arguments else None
    places = {"data": inputs, "model": model, "out": out}
    before = sorted(inputs.rglob("*"))
    capsys.readouterr()
    returncode, stdout, stderr = run_to_its_end(script, arguments.format(**places).split(), capsys)
    assert returncode == NOT_DONE
    assert len(stderr.splitlines()) == 1, stderr
    assert stderr.startswith(f"{script}.py: error: {begin.format(**places)}")
    assert stdout == ""
    written = {path.name for path in out.rglob("*") if path.is_file()}
    assert written <= {"failed.csv"}
    assert sorted(inputs.rglob("*")) == before


def run_to_its_end(script, arguments, capsys):
    """What the script does in a process of its own, up to the exit: its code and what it printed."""
    name, main = f"{script}.py", import_module(f"keras_audio_transfer.commands.{script}").main
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: main([*arguments, "--quiet"], name), name)
    return end.value.code, *capsys.readouterr()


# ---- some files are bad


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file)]


def failed_lines(stderr):
    return [line for line in stderr.splitlines() if line.startswith("failed: ")]


def test_bad_files_among_good_ones(inputs, model_dir, run_script, tmp_path):
    output = tmp_path / "out" / "features.npz"
    good, gone = inputs / "good", inputs / "gone.wav"
    run = run_script("extract", model_dir, good / "1.wav", gone, inputs / "bad", good / "0.wav", "--output", output)
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == SOME_FAILED
    bad = {
        gone: "does not exist; ",
        inputs / "bad" / "cut.wav": "truncated: 1956 of 8000 bytes of audio are there; ",
        inputs / "bad" / "nothing.flac": "empty file (0 bytes); ",
        inputs / "bad" / "text.wav": "cannot be decoded (Format not recognised); ",
    }
    header, *rows = table(output.parent / "failed.csv")
    assert header == ["clip", "reason"]
    assert [clip for clip, _ in rows] == [str(path) for path in bad]
    for (_, reason), (path, expected) in zip(rows, bad.items(), strict=True):
        assert reason.startswith(f"{path}: {expected}")
    assert failed_lines(run.stderr) == [f"failed: {reason}" for _, reason in rows]
    assert run.stderr.splitlines()[-1] == f"4 failed, see {output.parent / 'failed.csv'}"
    features = FeatureTable.load(output)
    assert features.clip_ids.tolist() == [str(good / "1.wav"), str(good / "0.wav")]
    assert features.labels.tolist() == [-1, -1]
    assert {values.shape[0] for values in features.layers.values()} == {2}
    assert not np.array_equal(*features.layers["layer5"])


@pytest.mark.slow
def test_when_all_files_are_bad_no_features_are_written(inputs, model_dir, run_script, tmp_path):
    output = tmp_path / "features.npz"
    run = run_script("extract", model_dir, inputs / "bad", "--output", output)
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == SOME_FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["failed.csv"]
    assert len(table(tmp_path / "failed.csv")) == 4
    assert len(failed_lines(run.stderr)) == 3
    assert f"not written: {output} (no clip could be read)" in run.stderr.splitlines()
    assert run.stdout == ""


# ---- nothing is wrong


def test_quiet_training_says_nothing_but_results(trained):
    run, folder = trained
    assert run.stderr == ""
    assert re.search(rf"^written: {re.escape(str(folder))}$", run.stdout, re.MULTILINE)


def test_quiet_extraction_says_nothing_but_results(inputs, model_dir, run_script, tmp_path):
    (tmp_path / "failed.csv").write_text("clip,reason\nof an,earlier run\n")
    run = run_script("extract", model_dir, inputs / "good", "--layers", "layer5,layer2", "--output", tmp_path / "f.npz")
    assert run.returncode == 0
    assert run.stdout == f"written: {tmp_path / 'f.npz'} (8 clips, 2 layers)\n"
    assert [*FeatureTable.load(tmp_path / "f.npz").layers] == ["layer5", "layer2"]
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]
    assert run.stderr == ""
