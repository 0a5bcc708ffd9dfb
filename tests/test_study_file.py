"""A study's file: what it says, and what is refused in a line that names the file and the key."""

import re
import shutil
from collections import Counter

import pytest
from conftest import ROOT, assert_refused

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.finetuning_config import FinetuningConfig
from keras_audio_transfer.model_folder import default_model
from keras_audio_transfer.study import study_file, target_clips
from keras_audio_transfer.study.cells import cells_of

TARGET = "[targets.halls]\nkind = 'halls'\ndataset = 'synthetic'\n"
FLOOR = "[sources.mfcc]\nfloor = 'mfcc'\n"


def written(folder, text):
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_what_a_file_says(tmp_path):
    text = f"""
    name = "mine"
    seeds = [3, 1]
    clips_a_class = [5, "all", 5]
    features = ["each", "all+log_mel"]
    poolings = ["max", "mean"]
    [sources.tones]
    model = "default"
    kind = "tones"
    random = true
    heard = "halls"
    layers = ["layer4", "layer2"]
    [sources.others]
    model = "default"
    kind = "tones"
    features = ["last", "last+mfcc"]
    {FLOOR}
    {TARGET}
    limit = 7
    [targets.mine]
    kind = "words"
    dataset = "folder"
    data_dir = "sounds"
    clips_a_class = [2]
    """
    study = study_file.read(written(tmp_path, text))
    assert (study.name, study.seeds) == ("mine", (3, 1))
    assert study.classifiers == ("svm",)
    assert study.joined_floors == ["mfcc", "log_mel"]
    tones, twin, others, mfcc = study.sources.values()
    assert tones.features == twin.features == ("each", "all+log_mel")
    assert (others.features, mfcc.features) == (("last", "last+mfcc"), ())
    assert (tones.kind, tones.heard, tones.layers, tones.is_random) == ("tones", "halls", ("layer2", "layer4"), False)
    assert (twin.name, twin.kind, twin.is_random, twin.model) == ("tones (random)", "random", True, default_model())
    assert (mfcc.kind, mfcc.layers, study.poolings_of(mfcc)) == ("floor", ("mfcc",), ("",))
    assert study.poolings_of(twin) == ("max", "mean")
    assert [tones.depth(layer) for layer in tones.layers] == [2 / 5, 4 / 5]
    assert (study.targets["halls"].limit, study.targets["halls"].clips_a_class) == (7, (5, "all"))
    assert study.targets["mine"].clips_a_class == (2,)
    assert study.targets["mine"].data_dir == tmp_path / "sounds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name = 'x'", ""), "name: is missing; expected a text of one line"),
        (("name = 'x'", "name = ["), "is no TOML"),
        (("name = 'x'", "name = 'x'\nseed = [1]"), "seed: the key 'seed' is unknown; did you mean seeds?"),
        (("name = 'x'", "name = 'x'\nseeds = []"), "seeds: is empty; expected one value at least"),
        (("name = 'x'", "name = 'x'\nseeds = [true]"), "seeds: 'True' is not allowed; expected a whole number, 0 to "),
        (("name = 'x'", "name = 'x'\nclips_a_class = [0.5]"), "clips_a_class: '0.5' is not allowed; expected numbers"),
        (("name = 'x'", "name = 'x'\nfeatures = ['al']"), "features: 'al' is unknown; did you mean all?"),
        (("name = 'x'", "name = 'x'\nclassifiers = ['knn']"), "classifiers: 'knn' is unknown; choose from svm, "),
        (("name = 'x'", "name = 'x'\npoolings = ['average']"), "poolings: 'average' is unknown; choose from mean, "),
        (
            ("kind = 'halls'", "kind = '(every)'"),
            "targets.halls.kind: '(every)' is not allowed; expected a text of one",
        ),
        (("name = 'x'", "name = 'x'\nfinetuning = []"), "finetuning: '[]' is not allowed; expected a table"),
        (("name = 'x'", f"name = 'x'\nseeds = [{'9' * 5000}]"), "is no TOML"),
        ((TARGET, ""), "targets: is missing; expected a table"),
        (("[targets.halls]", "[targets.'a|b']"), "targets: 'a|b' is not allowed; expected letters, digits"),
        (("[targets.halls]", f"[targets.{'a' * 61}]"), "targets: 'aaa"),
        ((TARGET, TARGET + TARGET.replace("halls", "Halls")), "targets: 'halls' and 'Halls' would be the same file on"),
        (("'synthetic'", "'synthetics'"), "targets.halls.dataset: 'synthetics' is unknown; did you mean synthetic?"),
        (("'synthetic'", "'esc10'"), "targets.halls: esc10: no folder given; pass `data_dir`"),
        (("'synthetic'", "'folder'\ndata_dir = 'gone'"), "targets.halls: folder: {folder}/gone"),
        (("'synthetic'", "'synthetic'\nlimit = 2.5"), "targets.halls.limit: '2.5' is not allowed; expected a whole"),
        (("'synthetic'", "'emomusic'\ndata_dir = '{folder}'"), "targets.halls: emomusic: {folder}"),
        ((FLOOR, "[sources.mine]\nfloor = 'mfcc'\n"), "sources.mine.floor: 'mfcc' received; a floor, and"),
        (
            (FLOOR, "[sources.mfcc]\nmodel = 'default'\nkind='x'\n"),
            "sources.mfcc.floor: nothing received; a floor, and nothing else, is called as what it is",
        ),
        (
            (FLOOR, "[sources.a]\nmodel = 'gone'\nkind = 'x'\n"),
            "sources.a.model: {folder}/gone: is not a folder; expected",
        ),
        (
            (FLOOR, "[sources.a]\nmodel = 'yamnet'\nkind = 'x'\n"),
            "sources.a.model: yamnet is a published network, not a",
        ),
        ((FLOOR, "[sources.a]\nmodel = 'default'\n"), "sources.a.kind: is missing"),
        (
            (FLOOR, "[sources.a]\nmodel = 'default'\nkind = 'x'\nlayers = ['layer9']\n"),
            "sources.a.layers: 'layer9' is unknown; did you mean layer5?",
        ),
        (
            (FLOOR, "[sources.a]\nmodel = 'default'\nkind = 'x'\nheard = 'words'\n"),
            "sources.a.heard: 'words' is unknown; choose from halls",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, change, message):
    before, after = (text.replace("{folder}", str(tmp_path)) for text in change)
    text = f"name = 'x'\n{FLOOR}{TARGET}"
    assert before in text
    path = written(tmp_path, text.replace(before, after))
    expected = f"{path}: {message}".replace("{folder}", str(tmp_path))
    with pytest.raises(InputError, match=f"^{re.escape(expected)}") as caught:
        target_clips.load(study_file.read(path))
    assert "\n" not in str(caught.value)


PLAIN = ROOT / "saved_models" / "densenet40.urbansound8k"
MULTISCALE = PLAIN.with_name("densenet40.multiscale.urbansound8k")
NETWORKS = f"[sources.a]\nmodel = '{PLAIN}'\nkind = 'x'\nrandom = true\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no summary.json (No such file or directory); expected a folder that `study` wrote; run that study"),
        ("{", "summary.json: is not what `study` writes; run that study again"),
        ('{"answers": [{"name": "layers"}]}', "summary.json: is not what `study` writes; run that study again"),
    ],
)
def test_a_study_beside_it_has_to_be_one(tmp_path, content, message):
    path = written(tmp_path, f"name = 'x'\nbeside = ['other']\n{FLOOR}{TARGET}")
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "summary.json").write_text(content)
    with pytest.raises(InputError) as error:
        study_file.read(path)
    assert str(error.value).startswith(f"{path}: beside: {tmp_path}/other")
    assert message in str(error.value)
    (tmp_path / "other" / "summary.json").write_text('{"answers": []}')
    assert study_file.read(path).beside == (tmp_path / "other",)


def test_a_study_of_nothing_is_refused(tmp_path):
    network = "[sources.a]\nmodel = 'default'\nkind = 'x'\nheard = 'halls'\n"
    path = written(tmp_path, f"name = 'x'\n{network}{TARGET}")
    assert_refused(f"{path}: targets: every source was trained on the only one", lambda: study_file.read(path))
    written(tmp_path, f"name = 'x'\n{network}{FLOOR}{TARGET}")
    assert [cell.source for cell in cells_of(study_file.read(path), divided=())] == ["mfcc"]
    written(tmp_path, f"name = 'x'\n{network.replace('x', 'floor')}{FLOOR}{TARGET}")
    assert_refused(f"{path}: sources.a.kind: 'floor' is not allowed", lambda: study_file.read(path))


def test_all_combinations_are_of_few_layers(tmp_path, monkeypatch):
    network = "[sources.a]\nmodel = 'default'\nkind = 'x'\nfeatures = ['combinations']\n"
    path = written(tmp_path, f"name = 'x'\n{network}{TARGET}")
    assert study_file.read(path).sources["a"].features == ("combinations",)
    monkeypatch.setattr(study_file, "_MOST_COMBINED", 4)
    too_many = "sources.a.features: 'combinations' of 5 layers would be 31; expected at most 4 layers; name some as"
    assert_refused(f"{path}: {too_many} `layers`, or leave it out", lambda: study_file.read(path))


def test_what_is_trained(tmp_path):
    text = f"name = 'x'\nclips_a_class = [5]\n{FLOOR}{TARGET}{NETWORKS}multiscale = '{MULTISCALE}'\n"
    study = study_file.read(written(tmp_path, f"{text}[finetuning]\n"))
    assert study.sources["a"].inputs == {"": PLAIN, "+multiscale": MULTISCALE}
    default = study_file.Finetuning(("finetune", "scratch"), ("a",), ("halls",), (5,), 1, FinetuningConfig())
    assert study.finetuning == default
    cells = [cell.key for cell in cells_of(study, divided=()) if cell.classifier == "softmax"]
    assert cells == [
        f"a|halls|{each}|-|softmax|5|0" for each in ("finetune", "scratch", "finetune+multiscale", "scratch+multiscale")
    ]
    keys = "strategies = ['head']\nclips_a_class = ['all']\nfolds = 2\nepochs = 3\nlearning_rate = 1\nsources = ['b']\n"
    other = f"[sources.b]\nmodel = '{MULTISCALE}'\nkind = 'x'\n"
    study = study_file.read(written(tmp_path, f"{text}{other}[finetuning]\n{keys}"))
    config = FinetuningConfig(epochs=3, learning_rate=1.0)
    expected = study_file.Finetuning(("head",), ("b",), ("halls",), ("all",), 2, config)
    assert study.finetuning == expected
    assert study.sources["b"].inputs == {"+multiscale": MULTISCALE}
    rooms = TARGET.replace("halls", "rooms")
    study = study_file.read(written(tmp_path, f"{text}{rooms}[finetuning]\ntargets = ['rooms']\n"))
    assert {cell.target for cell in cells_of(study, divided=()) if cell.classifier == "softmax"} == {"rooms"}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("strategies = ['probe']", "strategies: 'probe' is unknown; choose from finetune, scratch, head, random"),
        ("sources = ['mfcc']", "sources: 'mfcc' is a floor or has random weights; there is nothing to fine-tune"),
        ("sources = ['a (random)']", "sources: 'a (random)' is a floor or has random weights; there is nothing"),
        ("sources = ['b']", "sources: 'b' is unknown; choose from a"),
        ("targets = ['hall']", "targets: 'hall' is unknown; did you mean halls"),
        ("epochs = 0", "epochs: 0 is not allowed; expected at least 1"),
        ("epochs = 1.5", "epochs: '1.5' is not allowed; expected a whole number, 0 to 2147483647"),
        (f"batch_size = {2**31}", "batch_size: '2147483648' is not allowed; expected a whole number, 0 to 2147483647"),
        ("learning_rate = nan", "learning_rate: 'nan' is not allowed; expected a number"),
        ("unfreeze_epochs = 5", "unfreeze_epochs: 5 would train stem from epoch 21 on, of 12"),
        ("clips_a_class = [0.4]", "clips_a_class: '0.4' is not allowed; expected numbers from 1 up, or 'all'"),
        ("folds = 0", "folds: '0' is not allowed; expected a whole number, 1 to 2147483647"),
        ("layers = 'stage1'", "layers: the key 'layers' is unknown; choose from "),
    ],
)
def test_bad_trainings_are_refused(tmp_path, key, message):
    path = written(tmp_path, f"name = 'x'\n{FLOOR}{TARGET}{NETWORKS}[finetuning]\n{key}\n")
    assert_refused(f"{path}: finetuning.{message}", lambda: study_file.read(path))


def test_networks_that_cannot_be_trained_are_refused(tmp_path):
    (tmp_path / "served").mkdir()
    shutil.copy(PLAIN / "card.json", tmp_path / "served")
    text = f"name = 'x'\n{TARGET}[sources.served]\nmodel = 'served'\nkind = 'x'\n[finetuning]\n"
    path = written(tmp_path, text)
    assert_refused(
        f"{path}: finetuning.sources: no source is a network that can be trained", lambda: study_file.read(path)
    )
    written(tmp_path, f"{text}sources = ['served']\n")
    assert_refused(
        f"{path}: finetuning.sources: {tmp_path / 'served'}: has no model.keras", lambda: study_file.read(path)
    )


@pytest.mark.parametrize(
    ("model", "other", "message"),
    [
        (PLAIN, PLAIN, f"{PLAIN}: has no multiscale input; train one with --multiscale, or leave it out"),
        (MULTISCALE, MULTISCALE, f"{MULTISCALE}, the source itself, has a multiscale input; name the plain network"),
        ("default", MULTISCALE, f"{MULTISCALE}: is another network than "),
        (PLAIN, "gone", "{folder}/gone: is not a folder; expected a model folder"),
        (PLAIN, "", "'' is not allowed; expected a text of one line"),
    ],
)
def test_an_impossible_multiscale_input_is_refused(tmp_path, model, other, message):
    network = f"[sources.a]\nmodel = '{model}'\nkind = 'x'\nmultiscale = '{other}'\n"
    path = written(tmp_path, f"name = 'x'\n{TARGET}{network}")
    expected = f"{path}: sources.a.multiscale: {message.replace('{folder}', str(tmp_path))}"
    assert_refused(expected, lambda: study_file.read(path))


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "study.toml", tmp_path):
        with pytest.raises(InputError, match=rf"^{path}: cannot be read \(.*\); expected a study's file"):
            study_file.read(path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    assert study_file.read(written(tmp_path, f"\ufeffname = 'x'\n{FLOOR}{TARGET}")).name == "x"


def test_a_target_needs_one_label_a_clip(tmp_path):
    (tmp_path / "clips.csv").write_text("path,label\na.wav,dog\nb.wav,dog|cat\n")
    path = written(
        tmp_path, f"name = 'x'\n{FLOOR}{TARGET}".replace("'synthetic'", "'manifest'\ndata_dir = 'clips.csv'")
    )
    with pytest.raises(
        InputError, match=r"study\.toml: targets\.halls: b\.wav has 2 labels; a study compares data sets"
    ):
        target_clips.load(study_file.read(path))


def test_a_limit_keeps_so_many_of_each_class_and_fold(tmp_path):
    clips = [f"{n}.wav,{'ab'[n % 2]},{1 + n % 3}\n" for n in range(60)]
    (tmp_path / "clips.csv").write_text(f"path,label,fold\n{''.join(clips)}")
    target = TARGET.replace("'synthetic'", "'manifest'\ndata_dir = 'clips.csv'\nlimit = 4")
    study = study_file.read(written(tmp_path, f"name = 'x'\n{FLOOR}{target}"))
    found = target_clips.load(study)["halls"]
    assert {*Counter((clip.labels, clip.fold) for clip in found).values()} == {4}
    assert len(found) == 2 * 3 * 4
    assert found == target_clips.load(study)["halls"]
