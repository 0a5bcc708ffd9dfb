"""The one command: its verbs, help and suggestions; what is checked before any work; phases and progress."""

import argparse
import errno
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import ROOT, run_main
from sounds import noise

from keras_audio_transfer.audio import loading
from keras_audio_transfer.backbones import BACKBONES
from keras_audio_transfer.commands import classify, cli, places, progress, train, transfer
from keras_audio_transfer.commands.main import PROGRAM, VERBS, main, module_of
from keras_audio_transfer.config import POOLINGS
from keras_audio_transfer.errors import InputError, near_miss
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.files import only_writer, size_of
from keras_audio_transfer.model_folder import default_model
from keras_audio_transfer.pretrained import imported
from keras_audio_transfer.resume import check_settings

COMMANDS = ROOT / "keras_audio_transfer" / "commands"
EVERY_VERB = pytest.mark.parametrize("verb", VERBS)
# No help waits for them, which takes up to seconds.
HEAVY = (
    *("tensorflow", "keras", "kapre", "pandas", "scipy", "sklearn", "matplotlib", "librosa", "h5py", "soundfile"),
    *("soxr", "pooch", "tqdm"),
)


def python(*arguments, **environment):
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def end_of(argv, capsys):
    """The exit code of the command, and what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*map(str, argv)])
    return end.value.code, *capsys.readouterr()


# ---- verbs


def test_every_command_is_a_verb_and_a_script():
    shared = {"__init__", "addresses", "cli", "main", "pages", "parsing", "places", "progress"}
    shared |= {"classify_tags", "estimates", "own_sounds"}  # of classify
    shared |= {"features", "source_features", "comparison_settings"}  # of extract and mfcc; of compare
    modules = {path.stem for path in COMMANDS.glob("*.py")} - shared
    assert modules == {verb.replace("-", "_") for verb in VERBS}
    assert modules == {path.stem for path in (ROOT / "scripts").glob("*.py")}


@EVERY_VERB
def test_a_verbs_summary_is_its_modules_first_line(verb):
    assert VERBS[verb] == module_of(verb).__doc__.splitlines()[0]


def test_help_lists_the_verbs(capsys):
    for argv in ([], ["-h"], ["--help"]):
        code, out, err = end_of(argv, capsys)
        assert (code, err) == (0, "")
        assert re.findall(r"^  ([a-z0-9-]+) ", out, re.MULTILINE) == [*VERBS]
        assert all(summary in out for summary in VERBS.values())
        assert f"    {PROGRAM} classify my_sounds --output-dir mine\n" in out


def test_version(capsys):
    import keras_audio_transfer

    assert end_of(["--version"], capsys) == (0, f"{keras_audio_transfer.__version__}\n", "")


def test_an_unknown_verb(capsys):
    code, out, err = end_of(["trian", "--epochs", 3], capsys)
    assert (code, out) == (2, "")
    assert err == f"{PROGRAM}: error: verb: 'trian' is unknown; did you mean train? choose from {', '.join(VERBS)}\n"
    assert end_of(["xyz"], capsys)[2].startswith(f"{PROGRAM}: error: verb: 'xyz' is unknown; choose from train, ")


def test_the_name_in_usage_and_errors_is_what_was_called(capsys):
    for verb in ("summarise-transfer", "summarise_transfer"):  # as the scripts are called, too
        code, out, _ = end_of([verb, "--help"], capsys)
        assert (code, out.splitlines()[0][:50]) == (0, f"usage: {PROGRAM} summarise-transfer [-h]"[:50])
    assert end_of(["train", "--epochs", -1], capsys)[2] == (
        f"{PROGRAM} train: error: --epochs: -1 is not allowed; expected at least 0, at most 2147483647; see --help\n"
    )
    run = python("-m", "keras_audio_transfer", "import_choi2017", "--help")
    assert run.stdout.startswith(f"usage: {PROGRAM} import-choi2017 [-h]")
    run = python("scripts/train.py", "--epochs", -1)
    assert (run.returncode, run.stdout) == (2, "")
    assert (
        run.stderr
        == "train.py: error: --epochs: -1 is not allowed; expected at least 0, at most 2147483647; see --help\n"
    )
    assert python("scripts/train.py", "--help").stdout.startswith("usage: train.py [-h]")


# ---- help


def test_no_help_imports_what_is_slow():
    code = (
        "import sys; from keras_audio_transfer.commands.main import VERBS, module_of, help_text; help_text()\n"
        "for verb in VERBS: module_of(verb).arguments().format_help()\n"
        f"print(*sorted({{*{HEAVY}}} & {{*sys.modules}}))"
    )
    run = python("-c", code)
    assert (run.returncode, run.stdout) == (0, "\n"), run.stderr


def options_of(verb):
    return [action for action in module_of(verb).arguments()._actions if action.help is not argparse.SUPPRESS]


@EVERY_VERB
def test_help_lists_every_choice_and_default(verb):
    parser = module_of(verb).arguments()
    text = " ".join(parser.format_help().split())
    for action in options_of(verb):
        said = parser._get_formatter()._expand_help(action)
        assert " ".join(said.split()) in text.replace("- ", "-") or said
        for choice in action.choices or ():
            assert re.search(rf"\b{re.escape(choice)}\b", said), f"{action.dest}: {choice} is not listed"
        if action.option_strings and not action.required and action.nargs != 0:
            assert "(default: " in said, action.dest
    assert "see above" not in text
    assert "[]" not in text
    assert "None" not in text


def examples_in(verb):
    lines = module_of(verb).__doc__.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    ") and PROGRAM in line]


@EVERY_VERB
def test_help_has_examples_that_parse(verb):
    examples = examples_in(verb)
    assert examples
    for program, of, *arguments in examples:
        assert (program, of) == (PROGRAM, verb)
        module_of(verb).arguments().parse_args(arguments)


def test_the_names_that_help_lists_are_those_there_are():
    from keras_audio_transfer.backbones.applications import APPLICATIONS
    from keras_audio_transfer.extractor import POOLINGS as LAYERS

    assert tuple(LAYERS) == POOLINGS, "name a pooling in config.POOLINGS as well, which help lists without Keras"
    assert {*APPLICATIONS} <= {*BACKBONES}, "name a network of keras.applications in backbones.KERAS_NETWORKS as well"


# ---- suggestions


@pytest.mark.parametrize(
    ("name", "choices", "meant"),
    [
        ("densnet40", BACKBONES, "densenet40"),
        ("DenseNet40", BACKBONES, "densenet40"),
        ("xyz", BACKBONES, None),
        ("layer2", ["layer1", "layer22"], "layer22"),
        ("x", [], None),
        (3, ["3x"], "3x"),
    ],
)
def test_near_misses(name, choices, meant):
    assert near_miss(name, choices) == meant


NEAR_MISSES = {
    "network": (
        "train --network densnet40",
        "--network: 'densnet40' is unknown; did you mean densenet40? choose from ",
    ),
    "preset": (
        "train --preset short16",
        "--preset: 'short16' is unknown; did you mean short16k? choose from choi2017, ",
    ),
    "pooling": ("train --pooling maxx", "--pooling: 'maxx' is unknown; did you mean max? choose from mean, max, "),
    "weights": ("train --weights ImageNet", "--weights: 'ImageNet' is unknown; did you mean imagenet? choose from "),
    "data set": ("train --dataset urbansound", "--dataset: 'urbansound' is unknown; did you mean urbansound8k? "),
    "data set to extract": (
        "mfcc --dataset esc-10 --output f.npz",
        "--dataset: 'esc-10' is unknown; did you mean esc10",
    ),
    "strategy": (
        "transfer m --output-dir o --strategy head finetun",
        "--strategy: 'finetun' is unknown; did you mean fi",
    ),
    "protocol": (
        "probe f.npz --output-dir o --protocol choi",
        "--protocol: 'choi' is unknown; did you mean choi2017? ",
    ),
    "weights of layers": (
        "probe f.npz --output-dir o --layer-weights equals",
        "--layer-weights: 'equals' is unknown; did you mean equal? choose from channels, equal, chosen",
    ),
    "way to choose layers": (
        "compare --output-dir o --combinations block",
        "--combinations: 'block' is unknown; did you mean blocks? choose from best, blocks, forward, ",
    ),
    "format": (
        "predict m a.wav --format jsn",
        "--format: 'jsn' is unknown; did you mean json? choose from table, csv, ",
    ),
    "task": (
        "reproduce-choi2017 r --output s.csv --task gtzan-genre",
        "--task: 'gtzan-genre' is unknown; did you mean g",
    ),
    "published weights": (
        "import-choi2017 r --weights rndom --output-dir o",
        "--weights: 'rndom' is unknown; did you mean random? choose from v1, v2, random",
    ),
    "network of the benchmark": (
        "benchmark --training resnet:light16k",
        "network: 'resnet' is unknown; did you mean re",
    ),
    "preset of the benchmark": (
        "benchmark --serving sbcnn:light16",
        "preset: 'light16' is unknown; did you mean light16",
    ),
    "flag": ("train --epoch 3", "unrecognized argument: --epoch; did you mean --epochs? see --help"),
    "flag with a value": ("train --Epochs=3", "unrecognized argument: --Epochs; did you mean --epochs? see --help"),
    "flag that is needed": (
        "classify sounds --output_dir o",
        "unrecognized argument: --output_dir; did you mean --output-d",
    ),
    "value like a flag": (
        "classify sounds --group-by -([0-9]+)-",
        "--group-by: expected one argument; write --group-by=VALUE where it begins with -; see --help",
    ),
    "flag like no other": ("train --xyz", "unrecognized argument: --xyz; see --help"),
}


@pytest.mark.parametrize("what", NEAR_MISSES)
def test_suggestions(what, capsys):
    line, begin = NEAR_MISSES[what]
    verb, *_ = argv = line.split()
    code, out, err = end_of(argv, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{PROGRAM} {verb}: error: {begin}"), err


def test_a_value_is_no_flag():
    parser = cli.parser("Something.")
    parser.add_argument("--compare")
    parser.add_argument("files", nargs="*")
    assert parser.parse_args(["--compare", "a --b", "x"]).compare == "a --b"
    assert parser.parse_args(["--", "--quite"]).files == ["--quite"]


# ---- ranges

RANGES = {
    "train": {
        "--epochs": (["-1", "1.5", "many"], "expected at least 0"),
        "--patience": (["0"], "expected at least 1"),
        "--batch-size": (["0", "2147483648"], "expected at least 1"),
        "--learning-rate": (["0", "nan", "inf", "-1"], "expected a number above 0"),
        "--dropout": (["1", "-0.1", "nan"], "expected 0 to below 1"),
        "--label-smoothing": (["1"], "expected 0 to below 1"),
        "--spec-augment": (["-1"], "expected at least 0"),
        "--noise-probability": (["1.1", "-1"], "expected 0 to 1"),
        "--mixup": (["-1", "inf"], "expected at least 0"),
        "--gain-decibel": (["-1"], "expected at least 0"),
        "--shift-seconds": (["-1"], "expected at least 0"),
        "--clip-seconds": (["0", "3601", "nan"], "expected more than 0, up to 3600 seconds"),
        "--validation-fraction": (["0.6", "-0.1"], "expected 0 to 0.5"),
        "--test-fold": (["-1"], "expected the number of a fold, at least 0"),
        "--seed": (["-1", "4294967296"], "expected 0 to 4294967295"),
    },
    "extract m a.wav --output f.npz": {
        "--workers": (["0"], "expected 1 to 1024"),
        "--hop-seconds": (["0", "0.0001", "3601", "1.7e308", "nan", "inf"], "expected seconds from 0.001 to 3600"),
    },
    "probe f.npz --output-dir o": {"--jobs": (["0"], "expected 1 to 1024")},
    "transfer m --output-dir o": {
        "--fractions": (["0", "1.1", "0.5 nan"], "expected more than 0 and at most 1"),
        "--seeds": (["0"], "expected at least 1"),
        "--epochs": (["0"], "expected at least 1"),
        "--backbone-learning-rate-factor": (["0"], "expected a number above 0"),
        "--unfreeze-epochs": (["-1"], "expected at least 0"),
        "--validation-fraction": (["0"], "expected more than 0, up to 0.5: the validation clips decide when a "),
    },
    "predict m a.wav": {"--top": (["0"], "expected at least 1")},
    "suggest m recordings": {"--number": (["0"], "expected at least 1")},
    "demo m": {
        "--port": (["-1", "65536"], "expected 0 to 65535; 0 for one that is free"),
        "--max-seconds": (["0", "3601"], "expected more than 0, up to 3600 seconds"),
        "--max-waiting": (["0"], "expected at least 1"),
    },
    "serve m": {
        "--port": (["-1", "65536"], "expected 0 to 65535; 0 for one that is free"),
        "--max-request-mib": (["0"], "expected at least 1"),
        "--max-batch": (["0"], "expected at least 1"),
        "--batch-wait-ms": (["-1", "nan", "10001"], "expected 0 to 10000 milliseconds"),
        "--jobs": (["0"], "expected 1 to 1024"),
    },
    "export m --output-dir o": {
        "--version": (["0", "1.5", "9223372036854775808"], "expected 1 to 9223372036854775807")
    },
    "benchmark": {
        "--requests": (["0"], "expected at least 1"),
        "--growth-clips": (["39", "50 x"], "expected at least 40"),
    },
    "summarise-scale f.json --page p.md": {
        "--hours": (["0", "nan"], "expected a number above 0"),
        "--core-hour-price": (["-1"], "expected at least 0"),
        "--gigabyte-month-price": (["-1"], "expected at least 0"),
    },
}


@pytest.mark.parametrize(
    ("line", "flag", "value", "rule"),
    [
        (line, flag, value, rule)
        for line, of in RANGES.items()
        for flag, (values, rule) in of.items()
        for value in values
    ],
)
def test_ranges(line, flag, value, rule):
    verb, *arguments = line.split()
    with pytest.raises(InputError) as error:
        run_main(verb.replace("-", "_"), *arguments, flag, *value.split())
    *_, wrong = value.split()
    what = rf"{wrong} is not allowed|'{wrong}' is not a (whole )?number"
    assert re.match(rf"^{flag}: ({what}); {re.escape(rule)}", str(error.value))


def test_every_number_has_a_range():
    for verb in VERBS:
        assert [action.dest for action in options_of(verb) if action.type in (int, float)] == []


# ---- checked before any work


@pytest.fixture
def folder_of(tmp_path):
    """A folder that looks like a model folder, as far as it is read before any work."""
    card = json.loads((ROOT / "saved_models/convnet5.urbansound8k/card.json").read_text(encoding="utf-8"))
    (tmp_path / "mine" / "1").mkdir(parents=True)
    (tmp_path / "mine" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    for name in ("model.keras", "1/saved_model.pb"):
        (tmp_path / "mine" / name).touch()
    return tmp_path / "mine"


TAKE_A_MODEL_FOLDER = (
    "extract {model} {sounds} --output {out}/f.npz",
    "predict {model} {sounds}",
    "suggest {model} {sounds} --output {out}/s.csv",
    "demo {model}",
    "serve {model}",
    "classify {sounds} --model {model} --output-dir {out}",
    "transfer {model} --dataset synthetic --output-dir {out}",
    "benchmark --growth {model}",
    "benchmark --serving {model}",
    "benchmark --rest {model}",
    "benchmark --sources {model} --esc-dir {sounds}",
)
POINTS_TO_IT = [(line, inside) for line in TAKE_A_MODEL_FOLDER for inside in ("1", "model.keras", "1/saved_model.pb")]


@pytest.mark.parametrize(("line", "inside"), [*POINTS_TO_IT, ("export {model} --output-dir {out}", "1")])
def test_what_is_inside_a_model_folder_points_to_it(line, inside, folder_of, tmp_path):
    model, (verb, *arguments) = folder_of / inside, line.split()
    places = {"model": model, "sounds": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(InputError) as error:
        run_main(verb, *(argument.format(**places) for argument in arguments))
    assert str(error.value) == f"{model}: is inside a model folder; name the folder itself: {folder_of}"
    assert not (tmp_path / "out").exists()


def test_a_version_in_the_current_folder_points_to_it(folder_of, monkeypatch):
    monkeypatch.chdir(folder_of)
    with pytest.raises(InputError, match=r"^1: is inside a model folder; name the folder itself: \.$"):
        run_main("predict", "1", "a.wav")


def test_a_classifier_is_built_on_the_model_that_comes_with_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(imported, "default_model", lambda: tmp_path / "packaged")
    with pytest.raises(InputError, match="packaged: is not a folder; expected a model folder"):
        run_main("classify", tmp_path, "--output-dir", tmp_path / "out")
    default = "(default: yamnet if it was imported, else the model that comes with the package)"
    assert default in " ".join(classify.arguments().format_help().split())


@pytest.fixture
def clips(tmp_path):
    """The table of a data set with folds: its path."""
    rng, rows = np.random.default_rng(0), ["path,label,fold"]
    for number in range(24):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 8000), 16000)
        rows.append(f"{number}.wav,{'ab'[number % 2]},{1 + number // 12}")
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "clips.csv"


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("train", ["--test-fold", 3], "--test-fold: 3 is not there; this data has folds 1, 2"),
        (
            "train",
            ["--validation-fraction", 0.1],
            "--validation-fraction: 1/10 of the clips needs 10 of a label, the most there are ",
        ),
        ("train", ["--output-dir", "{data}"], "{data}: exists; pass --overwrite to replace it or another --output-dir"),
        (
            "train",
            ["--network", "sbcnn", "--weights", "imagenet"],
            "--weights: imagenet exists for densenet121, densenet169, densenet201, resnet50 only, not for sbcnn; ",
        ),
        ("transfer", ["--test-fold", 3], "--test-fold: 3 is not there; this data has folds 1, 2"),
        ("transfer", ["--output-dir", "{data}/clips.csv"], "--output-dir: {data}/clips.csv is a file; name a folder"),
        ("transfer", ["--layers", "layer1+layr2"], "--layers: 'layr2' is unknown; did you mean layer2? choose from "),
        (
            "transfer",
            ["--layers", "layer1+layer1"],
            "--layers: ['layer1', 'layer1'] names a layer twice; expected each once",
        ),
        ("transfer", ["--layers", ""], "--layers: '' is unknown; choose from layer1, "),
        ("transfer", ["--finetune-from", "layer9"], "--finetune-from: 'layer9' is unknown; did you mean layer"),
        ("transfer", ["--data-dir", "{data}/gone.csv"], "manifest: {data}/gone.csv is not a file; pass a CSV file "),
        ("extract", ["--layers", "layer1,Layer2"], "--layers: 'Layer2' is unknown; did you mean layer2? choose from "),
        (
            "extract",
            ["--layers", "layer1,layer1"],
            "--layers: ['layer1', 'layer1'] names a layer twice; expected each once",
        ),
        ("extract", ["--layers", ""], "--layers: '' is unknown; choose from layer1, "),
        ("extract", ["--output", "{data}/clips.csv/f.npz"], "--output: {data}/clips.csv is a file, so that {data}/cl"),
    ],
)
def test_names_and_places_are_checked_before_anything_is_decoded(
    verb, arguments, message, clips, folder_of, monkeypatch, tmp_path
):
    def decoded(*_, **__):
        raise AssertionError("decoded a clip")

    monkeypatch.setattr(loading, "load_waveform", decoded)
    output = ["--output", tmp_path / "f.npz"] if verb == "extract" else ["--output-dir", tmp_path / "out"]
    model = [] if verb == "train" else [folder_of]
    arguments = [str(argument).format(data=clips.parent) for argument in arguments]
    with pytest.raises(InputError) as error:
        run_main(verb, *model, "--dataset", "manifest", "--data-dir", clips, *output, *arguments)
    assert str(error.value).startswith(message.format(data=clips.parent))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "begin"),
    [
        ("benchmark --esc-dir {gone}", "esc10: {gone} is not a folder; get ESC-50 from "),
        ("benchmark --urbansound-dir {gone}", "urbansound8k: {gone} is not a folder; "),
        ("benchmark --choi2017-dir {gone}", "{gone}: has no data_csv/; expected a copy of "),
        ("import_choi2017 {gone} --weights v2 --output-dir o", "{gone}: is no folder; expected a copy of "),
    ],
)
def test_folders_of_data_are_checked_before_tensorflow_is_imported(line, begin, tmp_path):
    verb, *arguments = line.format(gone=tmp_path / "gone").split()
    with pytest.raises(InputError) as error:
        run_main(verb, *arguments)
    assert str(error.value).startswith(begin.format(gone=tmp_path / "gone"))


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("train --output-dir {place}/deep/model", "--output-dir"),
        ("classify {place} --model {model} --output-dir {place}/mine", "--output-dir"),
        ("transfer {model} --dataset synthetic --output-dir {place}", "--output-dir"),
        ("probe f.npz --output-dir {place}/probes", "--output-dir"),
        ("export {model} --output-dir {place}/model", "--output-dir"),
        ("import-choi2017 r --weights v2 --output-dir {place}/model", "--output-dir"),
        ("extract {model} a.wav --output {place}/f.npz", "--output"),
        ("mfcc a.wav --output {place}/f.npz", "--output"),
        ("predict {model} a.wav --output {place}/classes.csv", "--output"),
        ("suggest {model} {model} --output {place}/s.csv", "--output"),
        ("atlas {model} --dataset synthetic --output {place}/a.html", "--output"),
        ("reproduce-choi2017 r --output {place}/scores.csv", "--output"),
        ("summarise-scale figures.json --page {place}/page.md", "--page"),
        ("summarise-sources comparison --page {place}/page.md", "--page"),
        ("summarise-transfer t.csv --page {place}/page.md", "--page"),
        ("benchmark --training sbcnn:light16k --output {place}/figures.json", "--output"),
    ],
)
def test_a_place_that_may_not_be_written_to_is_refused_first(line, flag, folder_of, monkeypatch, tmp_path):
    place = tmp_path / "locked"
    place.mkdir()
    real = tempfile.NamedTemporaryFile

    def refused(*args, dir, **kwargs):  # who runs the tests may be allowed everything
        if dir == place:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place / "a"))
        return real(*args, dir=dir, **kwargs)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refused)
    verb, *arguments = line.format(place=place, model=folder_of).split()
    with pytest.raises(InputError) as error:
        run_main(verb.replace("-", "_"), *arguments)
    why = "cannot be written to (Read-only file system)"
    assert str(error.value).startswith(f"{flag}: {place} {why}; name another place for {place}")
    assert [*place.iterdir()] == []


def test_a_disk_that_takes_names_but_no_content_is_found_out(monkeypatch, tmp_path):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **_: Full())
    with pytest.raises(
        InputError, match=r"^--output: .* cannot be written to \(No space left on device\); name another"
    ):
        places.check_file("--output", tmp_path / "deep" / "f.npz")
    assert [*tmp_path.iterdir()] == []


def test_work_goes_on_where_nobody_reads_its_results(tmp_path):
    code = "from keras_audio_transfer.commands import cli; [cli.show('x' * 9999) for _ in range(99)]; open('done', 'w')"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **pipes)
    process.stdout.close()  # before it has written anything
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ""),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "a.npz"), "a.npz: "),
        (RuntimeError("UNKNOWN: mine/1/variables; No space left on device\n[Op:SaveV2]"), ""),
    ],
)
def test_a_full_disk_is_said_in_one_line(error, where, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main, "verb")
    assert end.value.code == cli.NOT_DONE
    what = f"{where}no space left on the device; free some, or name another place for the output"
    assert capsys.readouterr().err == f"verb: error: {what}\n"


def test_too_few_threads_are_said_in_one_line(capsys):
    def main():
        raise RuntimeError("can't start new thread")  # as `threading` does

    with pytest.raises(SystemExit) as end:
        cli.run(main, "verb")
    assert end.value.code == cli.NOT_DONE
    what = "not enough memory or threads (can't start new thread); give it less at a time, or close other programs"
    assert capsys.readouterr().err == f"verb: error: {what}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_on_a_full_disk_is_one_line(option, monkeypatch, capsys):
    def full(*values, **options):
        if options.get("file") is not sys.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        print_(*values, **options)

    print_ = print
    monkeypatch.setattr("builtins.print", full)
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == cli.NOT_DONE
    assert capsys.readouterr().err.startswith(f"{PROGRAM}: error: no space left on the device")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_is_no_place_for_the_next_file(number, tmp_path):
    code = """
import os, sys
os.close(int(sys.argv[1]))
from keras_audio_transfer.commands import cli
def main():
    opened = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
    os.write(opened, b"%d" % opened)
    for stream in (sys.stdout, sys.stderr):
        print("said", file=stream, flush=True)
    return cli.DONE
cli.run(main)
"""
    run = python("-c", code, number, tmp_path / "file")
    assert run.returncode == cli.DONE, run.stderr
    assert int((tmp_path / "file").read_text()) > 2
    assert (run.stdout, run.stderr) == tuple("" if number == stream else "said\n" for stream in (1, 2))


def test_a_current_folder_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    def of_library():
        raise FileNotFoundError("bucket/key")

    with pytest.raises(SystemExit):
        cli.run(of_library, "verb")
    assert capsys.readouterr().err == "verb: error: bucket/key\n"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit):
        cli.run(os.getcwd, "verb")
    assert capsys.readouterr().err == "verb: error: the current folder is no longer there; go to another\n"


def test_recordings_that_names_tell_of_are_named_where_folds_may_cut_them(tmp_path, capsys):
    for name in [f"{word}/{speaker}_{take}.wav" for word in ("yes", "no") for speaker in "abcde" for take in (1, 2)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, noise(100, seed=len(name)), 16000)
    options = argparse.Namespace(download=False, dataset="folder", data_dir=tmp_path, group_by=None, quiet=False)
    assert not any(clip.group for clip in cli.load_clips(options))
    said = capsys.readouterr().err
    assert said.startswith("5 recordings or speakers in 20 clips, as the names of the files say; folds may cut them; ")
    options.group_by = shlex.split(said)[-4]
    assert {clip.group for clip in cli.load_clips(options)} == {*"abcde"}
    assert capsys.readouterr().err == ""


def test_what_the_library_warns_of_cannot_control_the_terminal():
    code = "import logging; from keras_audio_transfer.commands import cli\n"
    said = 'logging.getLogger("keras_audio_transfer.datasets.walk").warning("left out: %s", "a\\x1b[31m\\n.txt")'
    run = python("-c", f"{code}cli.run(lambda: {said})")
    assert (run.returncode, run.stderr) == (0, "left out: a\\x1b[31m\\n.txt\n")


@pytest.mark.parametrize(
    "line",
    [
        "extract {model} gone.wav --output {out}/f.npz",
        "mfcc gone.wav --output {out}/f.npz",
        "predict {model} gone.wav --output {out}/classes.csv",
        "suggest {model} gone.wav --output {out}/s.csv",
    ],
)
def test_an_input_that_is_not_there_is_refused_before_tensorflow_is_imported(line, folder_of, tmp_path):
    words = line.format(model=folder_of, out=tmp_path / "out").split()
    code = "import sys; from keras_audio_transfer.commands.main import main\ntry: main()\n"
    run = python("-c", f"{code}finally: assert not {{'tensorflow', 'librosa'}} & {{*sys.modules}}", *words)
    assert run.returncode == 2
    why = "gone.wav: does not exist; expected an audio file or a folder of them; check the path"
    assert run.stderr == f"{PROGRAM} {words[0]}: error: {why}\n"
    assert not (tmp_path / "out").exists()


def test_only_what_is_missing_is_named():
    with pytest.raises(InputError, match=r"^the following arguments are required: MODEL_DIR; see --help$"):
        run_main("extract", "--dataset", "synthetic", "--output", "f.npz")


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["extract", "m", "", "--output", "f.npz"], "FILE_OR_FOLDER"),
        (["extract", "", "a.wav", "--output", "f.npz"], "MODEL_DIR"),
        (["predict", "m", "a.wav", "--output", ""], "--output"),
        (["mfcc", "--dataset", "folder", "--data-dir", "", "--output", "f.npz"], "--data-dir"),
        (["classify", "", "--output-dir", "o"], "FOLDER_OF_CLASSES"),
        (["train", "--output-dir="], "--output-dir"),
        (["train", "--cache", ""], "--cache"),
        (["probe", "", "--output-dir", "o"], "FEATURES.npz"),
        (["export", "m", "--output-dir", ""], "--output-dir"),
        (["import-choi2017", "r", "--weights", "v2", "--output-dir", ""], "--output-dir"),
    ],
)
def test_no_path_is_not_the_current_folder(words, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        run_main(words[0].replace("-", "_"), *words[1:])
    assert str(error.value) == f"{argument}: '' is no path; expected the name of a file or folder; see --help"


def test_what_the_encoding_of_a_pipe_lacks_is_shown_by_its_number():
    code = "from keras_audio_transfer.commands import cli; cli.run(lambda: cli.show('\u65e5.wav'))"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "\\u65e5.wav\n", "")


# ---- outputs that would destroy something


@pytest.fixture
def precious(folder_of, clips):
    """A folder with a model folder `mine`, a table of clips with another name for it, and sounds."""
    root = clips.parent
    (root / "sounds" / "a").mkdir(parents=True)
    (root / "sounds" / "a" / "0.wav").write_bytes((root / "0.wav").read_bytes())
    shutil.copytree(root / "sounds", root / "voices.training")
    shutil.copytree(root / "sounds", root / "moved" / "unfinished")
    shutil.copytree(root / "sounds", root / "t.csv.unfinished")
    for name in ("sounds/a/0.txt", "mine/predictions.csv"):
        shutil.copy(clips, root / name)
    os.link(root / "0.wav", root / "hard.csv")
    (root / "soft.csv").symlink_to(root / "0.wav")
    shutil.copy(root / "0.wav", root / "sound.npz")
    shutil.copy(clips, root / "failed.csv")
    shutil.copytree(root / "sounds", root / "mine" / "sounds")
    for name in ("data_csv", "data_feats", "result_transfer"):
        (root / "repository" / name).mkdir(parents=True)
    (root / "repository" / "data_csv" / "gtzan_genre.csv").write_text("id,label\n")
    (root / "results").mkdir()
    for name in ("scores.csv", "scores.png", "unfinished.jsonl", "results.csv", "settings.json"):
        shutil.copy(root / "0.wav", root / "results" / name)
    return root


DESTROY = {
    "predict mine 0.wav --output 0.wav": "--output: 0.wav is an input, 0.wav, and would be replaced; name another",
    "predict mine 0.wav --output hard.csv": "--output: hard.csv is an input, 0.wav, and",
    "predict mine 0.wav --output soft.csv": "--output: soft.csv is an input, 0.wav, and",
    "predict mine sounds --output sounds/a/0.wav": "--output: sounds/a/0.wav is an input, sounds/a/0.wav, and",
    "predict mine 0.wav --output mine/card.json": "--output: mine/card.json is an input, mine/card.json, and",
    "predict mine 0.wav --output mine/1/saved_model.pb": "--output: mine/1/saved_model.pb is an input, ",
    "predict mine 0.wav --output mine/predictions.csv": "--output: mine/predictions.csv is an input, ",
    "predict mine sounds --hop-seconds 1 --format raven --output sounds/a": "--output: sounds/a/0.txt exists, and may",
    "suggest mine sounds --output mine/card.json": "--output: mine/card.json is an input, mine/card.json, and",
    "suggest mine sounds --output sounds/a/0.wav": "--output: sounds/a/0.wav exists, and may hold labels; name another",
    "extract mine sound.npz --output sound.npz": "--output: sound.npz is an input, sound.npz, and",
    "mfcc sound.npz --output ./sound.npz": "--output: sound.npz is an input, sound.npz, and",
    "mfcc --dataset manifest --data-dir failed.csv --output f.npz": "--output: failed.csv is an input, failed.csv, and",
    "train --dataset manifest --data-dir failed.csv --output-dir new": "--output-dir: failed.csv is an input, ",
    "train --dataset folder --data-dir sounds --output-dir sounds --overwrite": "sounds: has no card.json; expected a ",
    "train --dataset folder --data-dir mine/sounds --output-dir mine --overwrite": "--output-dir: mine holds an",
    "train --dataset folder --data-dir sounds --output-dir voices": "--output-dir: voices.training stands there",
    "classify sounds --labelled mine/card.json --output-dir mine --overwrite": "--output-dir: mine holds an input, ",
    "classify sounds --model mine --output-dir mine --overwrite": "--output-dir: mine holds an input, mine, which",
    "export mine --output-dir sounds": "sounds: has no card.json; expected a model folder or an empty one; name",
    "export mine --output-dir 0.wav": "--output-dir: 0.wav is a file; name a folder",
    "probe results/scores.csv --output-dir results": "--output-dir: results/scores.csv is an input, ",
    "probe results/scores.png --output-dir results": "--output-dir: results/scores.png is an input, ",
    "probe f.npz --baseline results/unfinished.jsonl --output-dir results": "--output-dir: results/unfinished.jsonl",
    "transfer mine --dataset manifest --data-dir results/results.csv --output-dir results": "--output-dir:",
    "transfer mine --dataset folder --data-dir sounds --output-dir moved": "--output-dir: moved/unfinished stands",
    "reproduce-choi2017 repository --output repository/data_csv/gtzan_genre.csv": "--output: repository/data_csv/gtzan",
    "reproduce-choi2017 repository --output t.csv": "--output: t.csv.unfinished stands there without its settings.json",
}


@pytest.mark.parametrize("line", DESTROY)
def test_nothing_that_is_an_input_or_no_result_is_destroyed(line, precious, monkeypatch):
    def content():
        return {path: path.read_bytes() for path in precious.rglob("*") if path.is_file()}

    monkeypatch.chdir(precious)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # it is found out before
    before, (verb, *arguments) = content(), line.split()
    with pytest.raises(InputError) as error:
        run_main(verb.replace("-", "_"), *arguments)
    assert str(error.value).startswith(DESTROY[line])
    assert content() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_device_or_pipe_is_not_replaced_by_a_file(folder_of, clips, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"^--output: .*pipe is a device or pipe; name a file$"):
        run_main("predict", folder_of, clips.with_name("0.wav"), "--output", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_mounted_folder_is_no_model_folder_to_replace(folder_of, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == folder_of)
    with pytest.raises(InputError, match=r"^--output-dir: .*mine is mounted, and cannot be replaced; name a folder in"):
        run_main("train", "--output-dir", folder_of, "--overwrite")


# ---- one run at a time


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train --output-dir out", "folder"),
        ("classify sounds --model mine --output-dir out", "folder"),
        ("transfer mine --dataset synthetic --output-dir out", "folder"),
        ("export mine --output-dir out", "folder"),
        ("export mine --output-dir out --tflite", "folder"),
        ("probe f.npz --output-dir out", "folder"),
        ("reproduce-choi2017 repository --output out", "file"),
        ("import-choi2017 repository --weights random --output-dir out", "folder"),
    ],
)
def test_a_second_run_into_the_same_output_is_refused_at_once(line, what, precious, monkeypatch):
    monkeypatch.chdir(precious)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    before, (verb, *arguments) = sorted(precious.rglob("*")), line.split()
    with only_writer(precious / "out"), pytest.raises(InputError) as error:
        run_main(verb.replace("-", "_"), *arguments)
    assert str(error.value) == f"out: another run writes there; wait for it, or name another {what}"
    assert sorted(precious.rglob("*")) == before


def test_a_run_that_ends_or_fails_lets_go_of_its_output(precious, monkeypatch):
    monkeypatch.chdir(precious)
    before = sorted(precious.rglob("*"))
    for _ in range(2):
        with pytest.raises(InputError, match=r"f\.npz: does not exist"):
            run_main("probe", "f.npz", "--output-dir", "new/deep")
        assert sorted(precious.rglob("*")) == before


def test_a_name_of_the_full_length_can_be_written(clips, monkeypatch):
    monkeypatch.chdir(clips.parent)
    name = f"{'ä' * 125}x.npz"
    assert len(os.fsencode(name)) == 255
    assert run_main("mfcc", "0.wav", "--output", name, "--quiet") == cli.DONE
    assert Path(name).stat().st_size > 0
    why = r"'x?ä{55,56}\.\.\. is not allowed \(File name too long\)"
    refused = f"{why}; expected at most 255 bytes a name; choose a shorter one$"
    for flag, verb, *arguments in (
        ("--output", "mfcc", "0.wav"),
        ("--output", "predict", "default", "0.wav"),
        ("--output-dir", "import", "speech_embedding", "--random"),
        ("--output-dir", "export", "default"),
    ):
        for place in (f"x{name}", f"ä{name}/below"):
            with pytest.raises(InputError, match=f"^{flag}: {refused}"):
                run_main(verb, *arguments, flag, place, "--quiet")
    with pytest.raises(InputError, match=r"^--output: 'x.* is not allowed \(File name too long\); expected"):
        run_main("mfcc", "0.wav", "--output", f"x{name[:-3]}parquet", "--quiet")


def test_links_that_lead_nowhere_are_named(clips, monkeypatch):
    monkeypatch.chdir(clips.parent)
    for link, to in (("round", "round"), ("gone", "nothing")):
        Path(link).symlink_to(to)
        for place in (link, f"{link}/below"):
            for verb, *arguments in (("mfcc", "0.wav", "--output"), ("export", "default", "--output-dir")):
                with pytest.raises(
                    InputError, match=rf"^{arguments[-1]}: {link} is a link to what is not there; remove"
                ):
                    run_main(verb, *arguments, place, "--quiet")


# ---- what is said meanwhile


class Terminal(io.StringIO):
    """A stderr that somebody looks at."""

    def isatty(self):
        return True


def options(quiet=False):
    return SimpleNamespace(quiet=quiet)


def test_progress_is_a_line_every_ten_per_cent_where_stderr_is_no_terminal(capsys):
    phases = cli.Phases(options(), "decoding", "extracting", "exporting")
    assert [*phases.bar("decoding", 200)(iter(range(200)))] == [*range(200)]
    bar = phases.bar("extracting", 3, "fit")()
    for _ in range(3):
        bar.update()
    bar.close()
    phases.begin("exporting")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    first, *lines = err.splitlines()
    assert first == "1/3 decoding: 200 clips"
    assert [re.sub(r"\d+ s", "n s", line) for line in lines] == [
        *(f"1/3 decoding: {10 * tenth} % ({20 * tenth} of 200, n s left)" for tenth in range(1, 11)),
        "2/3 extracting: 3 fits",
        "2/3 extracting: 33 % (1 of 3)",
        *(f"2/3 extracting: {100 * n // 3} % ({n} of 3, n s left)" for n in (2, 3)),
        "3/3 exporting",
    ]


def test_one_phase_has_no_number_and_nothing_to_do_no_progress(capsys):
    assert [*cli.Phases(options(), "predicting").bar("predicting", 1)(["a"])] == ["a"]
    assert [*cli.Phases(options(), "predicting").bar("predicting", 0)([])] == []
    assert capsys.readouterr().err == "predicting: 1 clip\npredicting: 100 % (1 of 1, 0 s left)\npredicting\n"


def test_what_was_done_at_once_is_no_measure_of_time(capsys):
    bar = progress.Phases(SimpleNamespace(quiet=False), "probing").bar("probing", 100, "fit")()
    bar.update(50)  # found where a run was stopped
    assert capsys.readouterr().err.splitlines()[1:] == ["probing: 50 % (50 of 100)"]


def test_what_comes_before_the_first_step_is_not_counted(monkeypatch, capsys):
    clock = iter([0.0, *(100.0 + step for step in range(100))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = progress.Phases(SimpleNamespace(quiet=False), "probing").bar("probing", 4, "fit")()
    for _ in range(2):
        bar.update()
    assert re.search(r"50 % \(2 of 4, (\d+) s left\)", capsys.readouterr().err)[1] in ("4", "6", "8")


def test_a_long_phase_soon_says_how_long_it_takes(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SOON_SECONDS", 0.0)
    bar = progress.Phases(SimpleNamespace(quiet=False), "probing").bar("probing", 1000, "fit")()
    for _ in range(3):
        bar.update()
    first, soon = re.sub(r"\d+ s left", "n s left", capsys.readouterr().err).splitlines()
    assert (first, soon) == ("probing: 1000 fits", "probing: 0 % (2 of 1000, n s left)")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to its only number."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def estimated(clock, capsys, sizes, seconds_a_step, n_bytes, total=100, quiet=False):
    """What is said of a run of these steps."""
    estimate = progress.Estimate(options(quiet), "extracting")
    for _ in estimate.watch(sizes, total, bytes_of=lambda size: size):
        clock[0] += seconds_a_step
    estimate.compare(n_bytes)
    return capsys.readouterr().err


def test_a_long_run_is_estimated_once_and_compared_at_its_end(clock, capsys):
    shards = [*[0] * 9, 1_000_000] * 10
    first, last = estimated(clock, capsys, shards, 2.0, 10_100_000).splitlines()
    assert first == "extracting: about 0:03:18 and 10.0MB in all"
    assert last == "extracting: took 0:03:20 and 10.1MB; estimated: 0:03:18 and 10.0MB"


def test_what_was_there_counts_in_the_size_alone(clock, capsys):
    first, _ = estimated(clock, capsys, [*[None] * 50, *[0] * 9, 1_000_000, *[0] * 40], 2.0, 1).splitlines()
    assert first == "extracting: about 0:03:18 and 10.0MB in all"


@pytest.mark.parametrize(
    ("sizes", "seconds", "quiet"),
    [([1] * 100, 0.5, False), ([0] * 100, 2.0, False), ([1] * 100, 2.0, True)],
    ids=["short", "of no known size", "quiet"],
)
def test_nothing_is_estimated_of(sizes, seconds, quiet, clock, capsys):
    assert estimated(clock, capsys, sizes, seconds, 1, quiet=quiet) == ""


@pytest.mark.parametrize(
    ("seconds", "quiet", "said"), [(2.0, False, ("0:01:50", "0:02:02")), (0.5, False, None), (2.0, True, None)]
)
def test_steps_are_estimated_when_the_first_part_of_them_is_done(seconds, quiet, said, clock, capsys):
    estimate = progress.Estimate(options(quiet), "estimating")
    count = estimate.counter(100, 20)
    for number in [*[1] * 10, 10, 1]:  # ten were left out
        assert capsys.readouterr().err == ""
        clock[0] += seconds
        count(number)
        if number == 10 and said:
            assert capsys.readouterr().err == f"estimating: about {said[0]} in all\n"
    clock[0] += 98
    estimate.compare()
    assert capsys.readouterr().err == (f"estimating: took {said[1]}; estimated: {said[0]}\n" if said else "")


@pytest.mark.parametrize("output", ["f.npz", "f.parquet"])
def test_an_estimate_is_of_what_is_written(output, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(progress, "_MEASURED", 0.0)
    monkeypatch.setattr(progress, "_SHORT", 0.0)
    monkeypatch.setattr(feature_run, "CLIPS_A_SHARD", 4)
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", noise(2000, seed=i), 8000)
    assert run_main("mfcc", tmp_path, "--output", tmp_path / output) == 0
    said = re.findall(r"^extracting: .*? and (.*?)kB(?: in all|; .* and (.*)kB)$", capsys.readouterr().err, re.M)
    (estimate, _), (size, again) = said
    assert again == estimate
    assert float(estimate) == pytest.approx(float(size), rel=0.5)
    assert float(size) == pytest.approx(size_of(tmp_path / output) / 1000, rel=0.01)


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert [*cli.Phases(options(), "decoding", "extracting").bar("extracting", 5)(iter("abcde"))] == [*"abcde"]
    assert "\r2/2 extracting: 100%" in sys.stderr.getvalue()


@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_quiet_silences_both(stderr, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr())
    phases = cli.Phases(options(quiet=True), "decoding", "extracting")
    assert [*phases.bar("decoding", 5)(iter("abcde"))] == [*"abcde"]
    phases.begin("extracting")
    assert sys.stderr.getvalue() == ""
    assert progress.of_download(options(quiet=True), "esc10") is False


def test_progress_of_a_download(capsys, monkeypatch):
    """The second try counts from the start, where it finds what the first has brought, and says nothing twice."""
    bar = progress.of_download(options(), "esc10")
    for _ in range(2):
        bar.reset()
        bar.total = 1000
        for _ in range(5):
            bar.update(100)
    for _ in range(5):
        bar.update(100)
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "downloading esc10",
        *(f"downloading esc10: {10 * tenth} %" for tenth in range(1, 11)),
    ]
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert progress.of_download(options(), "esc10") is True


def test_scores_are_shown_as_soon_as_they_are_known(clips, monkeypatch, tmp_path, capsys):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    monkeypatch.setattr(train, "write", stop)
    arguments = ["--dataset", "manifest", "--data-dir", clips, "--epochs", 0, "--output-dir", tmp_path / "out"]
    with pytest.raises(Stopped):
        run_main("train", *arguments)
    out, err = capsys.readouterr()
    assert [line.partition(" ")[0] for line in out.splitlines()] == ["train:", "validation:", "test:"]
    assert [line for line in err.splitlines() if re.fullmatch(r"\d/\d \w+", line)] == ["2/3 training", "3/3 exporting"]


# ---- transfer: a flag and a setting that had another name


def test_the_former_name_of_a_flag_is_taken_and_warned_of(capsys):
    parser = transfer.arguments()
    parser.prog = "transfer.py"
    arguments = ["m", "--output-dir", "o"]
    assert parser.parse_args([*arguments, "--share-below-head", "0.5"]).backbone_learning_rate_factor == 0.5
    said = "transfer.py: warning: --share-below-head is deprecated; use --backbone-learning-rate-factor\n"
    assert capsys.readouterr().err == said
    assert (
        parser.parse_args([*arguments, "--backbone-learning-rate-factor", "0.3"]).backbone_learning_rate_factor == 0.3
    )
    assert parser.parse_args(arguments).backbone_learning_rate_factor == 1.0
    assert capsys.readouterr().err == ""
    assert "share-below-head" not in parser.format_help()
    with pytest.raises(InputError, match="--share-below-head: 0 is not allowed; expected a number above 0"):
        parser.parse_args([*arguments, "--share-below-head", "0"])


def test_errors_name_the_flag_of_today():
    def refuse(_):
        raise InputError("backbone_learning_rate_factor: is odd; lower `learning_rate`, or ask `extract`")

    message = "^--backbone-learning-rate-factor: is odd; lower --learning-rate, or ask `extract`$"
    with pytest.raises(InputError, match=message):
        cli.command(transfer.arguments)(refuse)(["m", "--output-dir", "o"])


def test_settings_of_an_older_version_are_continued(tmp_path):
    older = next((ROOT / "docs" / "mcmahan2018").rglob("finetune_0.3_0.002/settings.json"))
    shutil.copy(older, tmp_path / "settings.json")
    settings = json.loads(older.read_text(encoding="utf-8"))
    assert settings["share_below_head"] == 0.3
    settings["backbone_learning_rate_factor"] = settings.pop("share_below_head")
    check_settings(tmp_path / "settings.json", settings, transfer.RENAMED)
    with pytest.raises(InputError, match=r"is of another run \(backbone_learning_rate_factor was 0.3, is 1.0\)"):
        check_settings(tmp_path / "settings.json", {**settings, "backbone_learning_rate_factor": 1.0}, transfer.RENAMED)


# ---- completion


def completions(line, tmp_path):
    """What a shell is told that a line may go on with."""
    answer = tmp_path / "answer"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    run = python("-m", "keras_audio_transfer", **environment)
    assert run.returncode == 0, run.stderr
    return [text.strip() for text in answer.read_text(encoding="utf-8").splitlines()]


def test_completion(tmp_path):
    pytest.importorskip("argcomplete")
    assert completions(f"{PROGRAM} tra", tmp_path) == ["train", "transfer"]
    assert completions(f"{PROGRAM} train --ep", tmp_path) == ["--epochs"]
    assert {"densenet40", "densenet121"} <= {*completions(f"{PROGRAM} train --network dense", tmp_path)}


def test_without_being_asked_nothing_is_completed():
    code = "import sys; from keras_audio_transfer.commands.main import main\ntry: main(['--version'])\n"
    run = python("-c", f"{code}finally: assert 'argcomplete' not in sys.modules")
    assert run.returncode == 0, run.stderr


def test_modules_are_imported_by_their_names():
    assert import_module("keras_audio_transfer.commands.import_choi2017") is module_of("import-choi2017")
    assert Path(module_of("train").__file__) == COMMANDS / "train.py"


def test_the_model_that_comes_with_the_package_has_a_name(tmp_path, monkeypatch):
    assert places.model_folder("default") == default_model()
    assert places.model_folder("mine") == Path("mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    assert places.model_folder("default") == Path("default"), "a folder of that name hides it"


def test_no_name_of_a_file_controls_the_terminal(tmp_path, capsys):
    folder = tmp_path / "a\x1b[31mb"
    cli.say(SimpleNamespace(quiet=False), f"{folder}: 3 folds")
    cli.say_notes(SimpleNamespace(quiet=False), [["cut\x1b"]])
    cli.say_not_written(folder / "f.npz")
    assert cli.report_failures([("c", f"{folder}/c.wav: gone")], folder / "f.npz") == cli.SOME_FAILED
    said = capsys.readouterr().err
    shown = f"{tmp_path}/a\\x1b[31mb"
    assert said.splitlines() == [
        f"{shown}: 3 folds",
        r"notes on clips: 1 of 1 cut\x1b",
        f"not written: {shown}/f.npz (no clip could be read)",
        f"failed: {shown}/c.wav: gone",
        f"1 failed, see {shown}/failed.csv",
    ]
