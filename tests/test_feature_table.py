"""A features file comes back as it was, a wrong one is refused with a reason; a table gives frames and arrays."""

import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import keras_audio_transfer as kat
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.files import layer_names_in
from keras_audio_transfer.feature_tables.table import FeatureTable, check_table


def layers_of(n_clips):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(n_clips, size)).astype(np.float32) for name, size in (("layer2", 3), ("layer1", 5))}


CLIPS = {
    "single": [
        Clip("a/1.wav", None, ("dog",), fold=1, group="x"),
        Clip("ä/鳥.wav", None, ("cat",), fold=2),
        Clip("c.wav", None, ("dog",), fold=1),
    ],
    "tags": [
        Clip("1", None, ("rock", "loud"), split="train"),
        Clip("2", None, ("jazz",), split="validation"),
        Clip("3", None, (), split="test"),
    ],
    "unlabelled": [Clip("1.wav", None), Clip("2.wav", None)],
    "target": [Clip("1.wav", None, targets=(1 / 3,)), Clip("2.wav", None, targets=(-2.0,))],
    "targets": [Clip("1.wav", None, targets=(1 / 3, 4.0)), Clip("2.wav", None, targets=(-2.0, 1e-9))],
}
LABEL_NAMES = {
    "single": ["cat", "dog"],
    "tags": ["jazz", "loud", "rock"],
    "unlabelled": [],
    "target": ["arousal"],
    "targets": ["arousal", "valence"],
}
LABELS = {
    "single": [1, 0, 1],
    "tags": [[0, 1, 1], [1, 0, 0], [0, 0, 0]],
    "unlabelled": [-1, -1],
    "target": [1 / 3, -2.0],
    "targets": [[1 / 3, 4.0], [-2.0, 1e-9]],
}
LABELS_TYPE = {kind: np.float64 if "target" in kind else np.int64 for kind in CLIPS}
FOLDS = {kind: [clip.fold for clip in clips] for kind, clips in CLIPS.items()}
SPLITS = {kind: [clip.split for clip in clips] for kind, clips in CLIPS.items()}


def features_of(kind):
    return FeatureTable.of_clips(layers_of(len(CLIPS[kind])), CLIPS[kind], LABEL_NAMES[kind])


@pytest.mark.parametrize("kind", CLIPS)
def test_what_clips_say_of_themselves(kind):
    features = features_of(kind)
    assert features.clip_ids.tolist() == [clip.clip_id for clip in CLIPS[kind]]
    assert features.labels.tolist() == LABELS[kind]
    assert features.labels.dtype == LABELS_TYPE[kind]
    assert features.folds.dtype == np.int64
    assert features.folds.tolist() == FOLDS[kind]
    assert features.splits.tolist() == SPLITS[kind]


@pytest.mark.parametrize("kind", CLIPS)
def test_features_come_back_as_they_were(tmp_path, kind):
    features = features_of(kind)
    path = tmp_path / "new" / "features.npz"
    features.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["features.npz"]
    loaded = FeatureTable.load(path)
    assert [*loaded.layers] == ["layer2", "layer1"]  # in order of depth, not of name
    for name, values in features.layers.items():
        assert loaded.layers[name].dtype == np.float32
        np.testing.assert_array_equal(loaded.layers[name], values)
    assert loaded.label_names == LABEL_NAMES[kind]
    assert loaded.labels.tolist() == LABELS[kind]
    assert loaded.labels.dtype == LABELS_TYPE[kind]
    assert loaded.folds.dtype == np.int64
    assert loaded.folds.tolist() == FOLDS[kind]
    assert loaded.splits.tolist() == SPLITS[kind]
    assert loaded.clip_ids.tolist() == [clip.clip_id for clip in CLIPS[kind]]
    assert ([""] * len(loaded) if loaded.groups is None else loaded.groups.tolist()) == [c.group for c in CLIPS[kind]]


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_layers_that_are_not_asked_for_are_not_read(tmp_path, name):
    rng, weights = np.random.default_rng(0), {"a": "0a", "b": "0b", "c": "0c"}
    layers = {layer: rng.normal(size=(3, 40)).astype(np.float32) for layer in weights}
    table = replace(features_of("single"), layers=layers, weights_sha256=weights)
    table.save(path := tmp_path / name)
    assert layer_names_in(path) == ["a", "b", "c"]
    part = path if name == "f.npz" else path / "part-00000.parquet"
    at = (content := part.read_bytes()).index(layers["b"].tobytes()[:16])  # noise is stored as it is
    part.write_bytes(content[:at] + b"damaged" + content[at + 7 :])
    with pytest.raises(InputError, match="damaged"):
        FeatureTable.load(path)
    assert [*FeatureTable.load(path, iter("ca")).layers] == ["c", "a"]
    for asked in (["c", "a"], ["a"], "c"):
        some = FeatureTable.load(path, asked)
        assert some.weights_sha256 == {layer: weights[layer] for layer in asked}
        assert {layer: values.tolist() for layer, values in some.layers.items()} == {
            layer: layers[layer].tolist() for layer in asked
        }
        assert [*some.layers] == [*asked]
        assert (some.labels.tolist(), some.label_names) == (table.labels.tolist(), table.label_names)
    for asked, message in (("d", "layers: 'd' is unknown; choose from a, b, c"), ([], "layers: is empty; expected")):
        with pytest.raises(InputError, match=message):
            FeatureTable.load(path, asked)


@pytest.mark.parametrize("kind", CLIPS)
def test_nothing_is_pickled(tmp_path, kind):
    features_of(kind).save(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = {"layer_names", "clip_ids", "labels", "label_names", "folds", "splits"}
    groups = [clip.group for clip in CLIPS[kind]]
    assert arrays.keys() == {"layer1", "layer2"} | about | ({"groups"} if any(groups) else set())
    assert arrays.get("groups", np.array(groups)).tolist() == groups
    assert {array.dtype.kind for array in arrays.values()} <= set("fiU")
    assert arrays["layer_names"].tolist() == ["layer2", "layer1"]


def test_lists_are_saved_as_text_too(tmp_path):
    features = features_of("single")
    features.clip_ids, features.splits = [*features.clip_ids], np.array(["", "", ""], dtype=object)
    features.save(tmp_path / "features.npz")
    assert FeatureTable.load(tmp_path / "features.npz").splits.tolist() == ["", "", ""]


def test_doubles_are_saved_as_float32(tmp_path):
    features = features_of("single")
    features.layers = {name: values.astype(np.float64) for name, values in features.layers.items()}
    features.save(tmp_path / "features.npz")
    assert {values.dtype for values in FeatureTable.load(tmp_path / "features.npz").layers.values()} == {np.dtype("f4")}


SOURCE = "expected what `extract` or `mfcc` writes"


def expect_error(path, reason):
    return pytest.raises(InputError, match=f"^{re.escape(str(path))}: {reason}$")


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_load_of_no_file(tmp_path, what):
    path = tmp_path / "gone.npz" if what == "missing" else tmp_path
    is_what = {"missing": "does not exist", "folder": "is a folder"}[what]
    with expect_error(path, f"{is_what}; expected a features file; make one with `extract`"):
        FeatureTable.load(path)


def truncated(path):
    features_of("single").save(path)
    path.write_bytes(path.read_bytes()[:-100])


def damaged(path):
    features_of("single").save(path)
    content = bytearray(path.read_bytes())
    at = content.index(np.float32(layers_of(3)["layer1"][1]).tobytes())
    content[at] ^= 255
    path.write_bytes(content)


def array(path):
    with path.open("wb") as file:  # np.save would add .npy to the path
        np.save(file, np.zeros((3, 4)))


def pickled(path):
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def compressed_and_damaged(path):
    np.savez_compressed(path, clip_ids=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[100:300] = bytes(200)
    path.write_bytes(content)


def encrypted(path):
    features_of("single").save(path)
    content = path.read_bytes()
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag in each header
        start = content.index(signature) + at
        content = content[:start] + b"\1" + content[start + 1 :]
    path.write_bytes(content)


NOT_FEATURES = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("clip,label\n"),
    "array": array,
    "pickled": pickled,
    "truncated": truncated,
    "damaged": damaged,
    "compressed and damaged": compressed_and_damaged,
    "encrypted": encrypted,
    "objects": lambda path: np.savez(path, clip_ids=np.array(["a", None], dtype=object)),
}


@pytest.mark.parametrize("what", NOT_FEATURES)
def test_load_of_something_else(tmp_path, what):
    path = tmp_path / "features.npz"
    NOT_FEATURES[what](path)
    with expect_error(path, rf"not a features file \(.npz\), or damaged; {SOURCE}"):
        FeatureTable.load(path)


def test_a_file_that_may_not_be_read_is_not_called_something_else(tmp_path, monkeypatch):
    (tmp_path / "features.npz").touch()

    def refuse(path, **settings):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(PermissionError):
        FeatureTable.load(tmp_path / "features.npz")


def saved_with(path, **changes):
    """A features file of three clips with other arrays in it; None removes one."""
    features_of("single").save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    "name", ["clip_ids", "labels", "label_names", "folds", "splits", "layer_names", "layer1", "layer2"]
)
def test_load_without_an_array(tmp_path, name):
    path = saved_with(tmp_path / "features.npz", **{name: None})
    with expect_error(path, f"has no array '{name}'; {SOURCE}"):
        FeatureTable.load(path)


def test_load_of_another_zip_file(tmp_path):
    path = tmp_path / "features.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("clip_ids", "no array")
    with expect_error(path, f"'clip_ids' is no array; {SOURCE}"):
        FeatureTable.load(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("labels", np.zeros(2, np.int64)),
        ("folds", np.zeros(4, np.int64)),
        ("splits", np.array(["", ""])),
        ("layer1", np.zeros((2, 5), np.float32)),
    ],
)
def test_load_of_unequal_lengths(tmp_path, name, array):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    with expect_error(path, f"'{name}' has {len(array)} rows; expected 3, one a clip"):
        FeatureTable.load(path)


TEXTS, WHOLE = "texts in one dimension", "whole numbers in one dimension"
NUMBERS, LAYER = "numbers, a row a clip", "numbers of shape (clips, channels)"


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        *(("layer1", np.zeros(shape, np.float32), LAYER) for shape in ((), (3,), (3, 5, 1))),
        *(("layer1", np.zeros((3, 5), kind), LAYER) for kind in (complex, bool, str)),
        *((name, np.zeros((), str), TEXTS) for name in ("layer_names", "label_names", "clip_ids", "splits")),
        *((name, np.zeros(3), TEXTS) for name in ("layer_names", "label_names", "clip_ids", "splits")),
        ("clip_ids", np.array([["a"], ["b"], ["c"]]), TEXTS),
        ("splits", np.array([["train"]] * 3), TEXTS),
        *(("folds", np.array(values), WHOLE) for values in (1, [[1]] * 3, [1.0] * 3, [np.nan] * 3, ["1"] * 3)),
        *(("labels", np.array(values), NUMBERS) for values in (1, [[[1]]] * 3, [True] * 3, ["dog"] * 3)),
    ],
    ids=str,
)
def test_load_of_arrays_of_another_kind(tmp_path, name, array, expected):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    found = f"'{name}' is {array.dtype} of shape {array.shape}; expected {expected}"
    with expect_error(path, re.escape(found)):
        FeatureTable.load(path)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("layer1", np.zeros((3, 0), np.float32), "'layer1' has no channels; expected at least one"),
        ("layer_names", np.array([], str), f"'layer_names' names no layer; expected at least one; {SOURCE}"),
        (
            "layer_names",
            np.array(["layer1", "labels"]),
            "a layer is called 'labels', as another array of the file; rename it",
        ),
        ("layer_names", np.array(["layer1", "layer1"]), "'layer_names' names layer1 twice; expected each once"),
        ("clip_ids", np.array(["b", "a", "b"]), "'clip_ids' names b twice; expected each once"),
        ("clip_ids", np.full(3, 0x110000, np.uint32).view("U1"), f"'clip_ids' holds what is no text; {SOURCE}"),
        ("splits", np.array(["\ud800", "", ""]), f"'splits' holds what is no text; {SOURCE}"),
        (
            "folds",
            np.array([0, 1, 2**64 - 1], np.uint64),
            "'folds' has 18446744073709551615; expected numbers of folds, or -1; make the file again",
        ),
    ],
)
def test_load_of_nothing_or_of_the_same_twice(tmp_path, name, array, reason):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    with expect_error(path, reason):
        FeatureTable.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_load_of_features_that_are_not_finite(tmp_path, value):
    values = np.zeros((3, 5), np.float64 if value == 1e300 else np.float32)
    values[1, 4] = value
    path = saved_with(tmp_path / "features.npz", layer1=values)
    with expect_error(path, "'layer1' holds NaN or infinite values, first for ä/鳥.wav; extract it again"):
        FeatureTable.load(path)


# ---- frames and arrays


@pytest.mark.parametrize("as_type", [str, lambda path: path], ids=["str", "Path"])
def test_paths_may_be_texts(tmp_path, as_type):
    path = as_type(tmp_path / "features.npz")
    features_of("single").save(path)
    assert FeatureTable.load(path).clip_ids.tolist() == ["a/1.wav", "ä/鳥.wav", "c.wav"]


def test_arrays_of_layers_in_the_order_asked_for():
    features = features_of("single")
    both = features.to_numpy()
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both, np.hstack([features.layers["layer2"], features.layers["layer1"]]))
    np.testing.assert_array_equal(features.to_numpy(["layer1", "layer2"]), both[:, [3, 4, 5, 6, 7, 0, 1, 2]])
    np.testing.assert_array_equal(features.to_numpy("layer1"), features.layers["layer1"])
    assert features.column_names(["layer2"]) == ["layer2/0", "layer2/1", "layer2/2"]


def test_a_frame_has_a_row_a_clip_and_a_column_a_channel():
    features = features_of("single")
    frame = features.to_frame()
    assert frame.index.name == "clip_id"
    assert frame.index.tolist() == ["a/1.wav", "ä/鳥.wav", "c.wav"]
    assert frame.columns.tolist() == [f"layer2/{i}" for i in range(3)] + [f"layer1/{i}" for i in range(5)]
    assert set(frame.dtypes) == {np.dtype(np.float32)}
    np.testing.assert_array_equal(frame, features.to_numpy())
    assert features.to_frame("layer1").columns.tolist() == [f"layer1/{i}" for i in range(5)]


ABOUT = {
    "single": {"label": ["dog", "cat", "dog"], "fold": [1, 2, 1], "split": ["", "", ""]},
    "tags": {
        "label": [("loud", "rock"), ("jazz",), ()],
        "fold": [-1, -1, -1],
        "split": ["train", "validation", "test"],
    },
    "unlabelled": {"label": [None, None], "fold": [-1, -1], "split": ["", ""]},
    "target": {"arousal": [1 / 3, -2.0], "fold": [-1, -1], "split": ["", ""]},
    "targets": {"arousal": [1 / 3, -2.0], "valence": [4.0, 1e-9], "fold": [-1, -1], "split": ["", ""]},
}


@pytest.mark.parametrize("kind", CLIPS)
def test_a_frame_says_what_is_known_of_the_clips(kind):
    features = features_of(kind)
    frame = features.to_frame(about_clips=True)
    about = frame.columns[: -len(features.column_names())]
    assert {name: frame[name].tolist() for name in about} == ABOUT[kind]
    np.testing.assert_array_equal(frame[features.column_names()], features.to_numpy())


def test_a_frame_of_windows_has_their_times():
    features = features_of("unlabelled")
    features.times = np.array([0.0, 0.5])
    assert features.to_frame(about_clips=True)["time"].tolist() == [0.0, 0.5]


def test_a_frame_of_numbers_without_a_name():
    features = features_of("target")
    features.label_names = []
    assert features.to_frame(about_clips=True)["target"].tolist() == [1 / 3, -2.0]


def test_layers_that_are_not_there():
    features = features_of("single")
    for method in (features.to_numpy, features.to_frame, features.column_names):
        with pytest.raises(
            InputError, match=r"^layers: 'layer3' is unknown; did you mean layer\d\? choose from layer2, "
        ):
            method(["layer1", "layer3"])
        with pytest.raises(InputError, match=r"^layers: is empty; expected some of layer2, layer1, or None for all$"):
            method([])


def test_a_table_says_in_one_line_what_it_holds():
    features = features_of("single")
    assert len(features) == 3
    assert repr(features) == "<FeatureTable: 3 clips, 2 layers, 8 channels, 2 labels>"
    features.failures = [("b.wav", "b.wav: empty file")]
    assert repr(features).endswith("2 labels, 1 failure>")
    assert repr(features_of("target")) == "<FeatureTable: 2 clips, 2 layers, 8 channels, 1 target>"


@pytest.mark.parametrize("name", ["labels", "notes", "weights_sha256", "file"])
def test_a_layer_with_the_name_of_another_array_is_not_saved(tmp_path, name):
    features = features_of("single")
    features.layers = {name: next(iter(features.layers.values()))}
    with pytest.raises(InputError, match=rf"^table: .*{name}"):
        features.save(tmp_path / "features.npz")
    assert [*tmp_path.iterdir()] == []


def test_what_could_not_be_read_again_is_not_saved(tmp_path):
    features = features_of("single")
    features.layers["layer1"][0, 0] = np.nan
    with pytest.raises(InputError, match=r"^table: 'layer1' holds NaN or infinite values, first for"):
        features.save(tmp_path / "features.npz")


def test_failures_are_not_saved(tmp_path):
    features = features_of("single")
    features.failures = [("b.wav", "b.wav: empty file")]
    features.save(tmp_path / "features.npz")
    assert FeatureTable.load(tmp_path / "features.npz").failures == []


def test_windows_of_an_older_file_belong_to_their_recordings(tmp_path):
    features = replace(
        features_of("single"),
        clip_ids=np.array([f"night {i % 2}.wav#{i:09.3f}" for i in range(len(features_of("single")))]),
        times=np.arange(len(features_of("single")), dtype=np.float64),
        groups=None,
    )
    features.save(tmp_path / "f.npz")
    assert {*FeatureTable.load(tmp_path / "f.npz").groups} == {"night 0.wav", "night 1.wav"}


def test_notes_are_kept(tmp_path):
    clips = [Clip("a", None, ("dog",)), Clip("b", None, ("dog",), notes=("digital silence", "cut"))]
    table = FeatureTable.of_clips({"layer1": np.zeros((2, 3), np.float32)}, clips, ["dog"])
    table.save(tmp_path / "f.npz")
    assert FeatureTable.load(tmp_path / "f.npz").notes.tolist() == ["", "digital silence; cut"]


def test_the_weights_of_layers_are_kept(tmp_path):
    table = replace(features_of("target"), weights_sha256={"layer1": "1a", "layer2": "2b"})
    for other in ({"mfcc": ""}, {}):
        baseline = replace(table, layers={"mfcc": np.zeros((len(table), 2), np.float32)}, weights_sha256=other)
        joined = table.of_target("arousal").join(baseline, "other.npz")
        joined.save(tmp_path / "f.npz")
        with np.load(tmp_path / "f.npz") as file:
            assert file["weights_sha256"].tolist() == ["2b", "1a", ""]  # in the order of `layer_names`
        assert FeatureTable.load(tmp_path / "f.npz").weights_sha256 == {"layer1": "1a", "layer2": "2b"}
        baseline.save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as file:
            assert "weights_sha256" not in file.files
        assert FeatureTable.load(tmp_path / "m.npz").weights_sha256 == {}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (np.zeros(2), f"'weights_sha256' is float64 of shape (2,); expected {TEXTS}"),
        (np.array([["1a", "2b"]]), f"'weights_sha256' is <U2 of shape (1, 2); expected {TEXTS}"),
        (np.array(["1a"]), "'weights_sha256' has 1 texts; expected 2, one a layer"),
    ],
)
def test_load_of_weights_that_cannot_be(tmp_path, weights, reason):
    path = saved_with(tmp_path / "features.npz", weights_sha256=weights)
    with expect_error(path, re.escape(reason)):
        FeatureTable.load(path)


def test_a_layer_may_be_called_as_the_weights_are(tmp_path):
    layer = np.ones((3, 2), np.float32)
    path = saved_with(tmp_path / "features.npz", layer_names=np.array(["weights_sha256"]), weights_sha256=layer)
    assert FeatureTable.load(path).weights_sha256 == {}


def test_weights_in_memory_are_a_dict():
    with pytest.raises(InputError, match=r"^table: 'weights_sha256' is of type list; expected a dict of texts$"):
        check_table(replace(features_of("single"), weights_sha256=["1a", "2b"]), "table")


@pytest.mark.parametrize("value", [None, 3, b"a"])
def test_groups_that_are_no_texts(value):
    table = features_of("single")
    groups = np.array([value, *["a"] * (len(table) - 1)], dtype=object)
    with pytest.raises(InputError, match=f"^table: 'groups' holds {value!r}; expected texts, '' for none$"):
        check_table(replace(table, groups=groups), "table")


@pytest.mark.parametrize(
    ("ours", "theirs", "joined"),
    [
        (["a", "", "a; b"], ["b", "b", "b; c"], ["a; b", "b", "a; b; c"]),
        (["a", "", ""], None, ["a", "", ""]),
        (None, ["", "", "b"], ["", "", "b"]),
        (None, None, None),
    ],
)
def test_a_join_keeps_the_notes_of_both(ours, theirs, joined):
    table = features_of("single")
    order = [2, 0, 1]
    other = replace(table, layers={"mfcc": np.zeros((3, 2), np.float32)}, clip_ids=table.clip_ids[order])
    other = replace(other, **{name: getattr(table, name)[order] for name in ("labels", "folds", "splits")})
    table, other = (replace(t, notes=n if n is None else np.array(n)) for t, n in ((table, ours), (other, theirs)))
    if theirs is not None:
        other.notes = other.notes[order]
    notes = table.join(other, "other.npz").notes
    assert (notes if notes is None else notes.tolist()) == joined


@pytest.mark.parametrize("what", ["labels", "folds", "splits", "label_names", "unlabelled"])
def test_a_baseline_of_other_labels_folds_or_splits_is_refused(what):
    table = features_of("single")
    other = replace(table, layers={"mfcc": np.zeros((len(table), 2), np.float32)})
    if what == "unlabelled":
        other = replace(other, labels=np.full(len(table), -1), label_names=[])
        assert [*table.join(other, "other.npz").layers][-1] == "mfcc"
        return
    if what == "label_names":
        other = replace(other, label_names=[*reversed(other.label_names)])
        message = r"other\.npz: its labels are .*, not .*; extract it from the same clips"
    else:
        values = np.array(getattr(other, what))
        values[1] = {"labels": 1 - table.labels[1], "folds": 7, "splits": "odd"}[what]
        other = replace(other, **{what: values})
        message = rf"other\.npz: {what} of .* are .* there and .* here \(1 such clips\); extract it from the same clips"
    with pytest.raises(InputError, match=message):
        table.join(other, "other.npz")


# ---- other types


def test_layers_of_any_type():
    features = features_of("single")
    for layers in (np.array("layer1"), np.array(["layer1"]), np.str_("layer1"), ["layer1"], ("layer1",)):
        np.testing.assert_array_equal(features.to_numpy(layers), features.layers["layer1"])
        layers = iter(layers) if isinstance(layers, tuple) else layers
        assert features.to_frame(layers).columns.tolist() == [f"layer1/{i}" for i in range(5)]
    assert features.column_names(features.layers) == features.column_names()


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (["layer1", "layer1"], r"\['layer1', 'layer1'\] names a layer twice; expected each once$"),
        (np.array(["layer1", "layer1"]), r"\['layer1', 'layer1'\] names a layer twice; expected each once$"),
        (b"layer1", "b'layer1' is not allowed; expected names of layers in order, or None for all$"),
        ([b"layer1"], "\"b'layer1'\" is unknown; did you mean layer1"),
        (5, "5 is not allowed; expected names of layers"),
        (np.array(5), r"array\(5\) is not allowed; expected names of layers"),
        ({"layer1"}, "{'layer1'} is not allowed; expected names of layers in order"),
        ([["layer1"]], "\"\\['layer1'\\]\" is unknown"),
        ([None], "'None' is unknown"),
    ],
    ids=str,
)
def test_layers_that_cannot_be(layers, reason):
    features = features_of("single")
    for method in (features.to_numpy, features.to_frame, features.column_names):
        with pytest.raises(InputError, match=f"^layers: {reason}"):
            method(layers)


@pytest.mark.parametrize("path", [None, 5, b"features.npz", ["features.npz"]], ids=repr)
def test_what_is_no_path(path):
    kind = type(path).__name__
    with pytest.raises(InputError, match=f"^path: is of type {kind}; expected the path of a features file$"):
        FeatureTable.load(path)
    with pytest.raises(InputError, match=f"^path: is of type {kind}; expected the path of the features file to write$"):
        features_of("single").save(path)


@pytest.mark.parametrize(
    ("labels", "label_names", "reason"),
    [
        ([[0, 1], [1, 2], [0, 0]], ["a", "b"], "'labels' has 2 for a tag; expected 0 or 1; make the file again"),
        ([[0, 1], [1, -1], [0, 0]], ["a", "b"], "'labels' has -1 for a tag; expected 0 or 1; make the file again"),
        ([[0, 1], [1, 1], [0, 0]], ["a"], "'labels' has 2 columns, but there are 1 label_names; make the file again"),
        ([[0], [1], [0]], [], "'labels' has 1 columns, but there are 0 label_names; make the file again"),
    ],
)
def test_load_of_tags_that_cannot_be(tmp_path, labels, label_names, reason):
    names = np.array(label_names, dtype=str)
    path = saved_with(tmp_path / "features.npz", labels=np.array(labels), label_names=names)
    with expect_error(path, reason):
        FeatureTable.load(path)


@pytest.mark.parametrize("kind", CLIPS)
def test_a_table_in_memory_is_as_good_as_its_file(kind):
    check_table(features_of(kind), "table")


# ---- what would be lost, or become something else


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": {"a": 0, "a.npy": 1}}, "a layer is called 'a.npy'; expected a name that ends in no .npy"),
        ({"layers": {"labels.npy": 0}}, "a layer is called 'labels.npy'; expected a name that ends in no .npy"),
        ({"layers": {"a\0b": 0}}, "'layer_names' holds what is no text"),
        ({"layers": {"a": 0, "a\0": 1}}, r"'layer_names' holds 'a\\x00'; expected texts"),
        ({"label_names": ["dog", "dog"]}, "'label_names' names dog twice; expected each once"),
        ({"label_names": [1, 2]}, "'label_names' holds 1; expected texts"),
        ({"label_names": None}, "'label_names' holds None; expected texts"),
        ({"groups": [None, "a", "b"]}, "'groups' holds None; expected texts"),
        ({"groups": 5}, "'groups' holds 5; expected texts"),
        (
            {"labels": np.ma.masked_array([0, 1, 1], [1, 0, 0])},
            "'labels' has masked values; expected all of them; fill",
        ),
        ({"folds": np.ma.masked_array([0, 1, 1], [1, 0, 0])}, "'folds' has masked values"),
        ({"splits": np.ma.masked_array(["a", "b", "c"], [1, 0, 0])}, "'splits' holds masked; expected texts"),
        ({"labels": None}, "has no array 'labels'"),
        ({"labels": ["a", "b", "c"]}, "'labels' is of type list; expected an array of numbers, a row a clip"),
        ({"labels": np.array([0, 1, 7])}, "'labels' has 7, but there are 2 label_names"),
    ],
    ids=str,
)
def test_a_table_that_could_not_be_kept_is_refused(changes, reason, tmp_path):
    table = features_of("single")
    if "layers" in changes:
        changes = {"layers": {name: table.layers["layer2"] + i for name, i in changes["layers"].items()}}
    table = replace(table, **changes)
    uses = [lambda: table.save(tmp_path / "f.npz"), lambda: table.to_frame(about_clips=True), lambda: kat.probe(table)]
    for use in uses:
        with pytest.raises(InputError, match=f"^table: {reason}"):
            use()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("mask", [True, [[False] * 3, [False] * 3, [True, False, False]]], ids=["all", "one"])
def test_features_that_are_masked_are_refused(mask, tmp_path):
    table = features_of("single")
    table.layers["layer2"] = np.ma.masked_array(table.layers["layer2"], mask)
    for use in (lambda: table.save(tmp_path / "f.npz"), table.to_numpy, table.to_frame, lambda: kat.probe(table)):
        with pytest.raises(InputError, match=r"^table: 'layer2' has masked values; expected all of them; fill them"):
            use()
    table.layers["layer2"] = np.ma.masked_array(table.layers["layer2"].data)  # nothing is masked
    assert check_table(table, "table")


def test_imaginary_parts_are_not_dropped():
    table = features_of("single")
    table.layers["layer2"] = table.layers["layer2"] + 1j
    for use in (table.to_numpy, table.to_frame):
        with pytest.raises(InputError, match=r"^table: 'layer2' is complex\d+ of shape \(3, 3\); expected numbers of"):
            use()


def test_a_layer_that_another_version_has_called_as_an_array_of_the_file(tmp_path):
    path = saved_with(tmp_path / "f.npz", layer_names=np.array(["a", "a.npy"]), a=np.ones((3, 2)))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **arrays, **{"a.npy": np.zeros((3, 2))})
    with expect_error(path, "a layer is called 'a.npy'; expected a name that ends in no .npy; rename it"):
        FeatureTable.load(path)


def test_texts_in_lists_become_arrays():
    clips = [Clip(f"{i}", None, (name,)) for i, name in enumerate(["dog", "cat"] * 12)]
    table = FeatureTable.of_clips({"layer1": np.random.default_rng(0).normal(size=(24, 2))}, clips, ["cat", "dog"])
    table.groups = np.array([f"{i // 2}" for i in range(24)])
    in_lists = replace(table, groups=[*table.groups], splits=[""] * 24, clip_ids=[*table.clip_ids])
    assert kat.probe(in_lists)["score"].between(0, 1).all()
    for name in ("groups", "splits", "clip_ids"):
        np.testing.assert_array_equal(getattr(check_table(in_lists, "table"), name), getattr(table, name))
