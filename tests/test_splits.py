"""Every clip is on one side, a recording never on two; official folds and splits are kept; errors say what to do."""

import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_audio_transfer.datasets import load, stratified_group_folds
from keras_audio_transfer.datasets.clip import SPLITS, Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.splits import Splits, divide, nested_subset


def clips_of(n_groups, per_group, labels=("a", "b"), **place):
    """Groups of clips, the groups' labels in turn; `place` holds functions of the group's number."""
    return [
        Clip(
            f"{group}/{i}",
            None,
            (labels[group % len(labels)],),
            group=f"g{group}",
            **{name: function(group) for name, function in place.items()},
        )
        for group in range(n_groups)
        for i in range(per_group)
    ]


def sides_of(splits):
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def assert_every_clip_once(splits, clips):
    assert sorted(c.clip_id for side in sides_of(splits).values() for c in side) == sorted(c.clip_id for c in clips)


def assert_groups_apart(splits):
    sides_of_group = Counter(group for side in sides_of(splits).values() for group in {clip.group for clip in side})
    assert set(sides_of_group.values()) <= {1}


# ---- splits


def test_official_splits_are_kept():
    clips = load("synthetic")
    splits = divide(clips, None, 0.2, seed=0)
    for split, side in sides_of(splits).items():
        assert side == [clip for clip in clips if clip.split == split]
    assert splits.description == "official splits"


def test_validation_is_held_out_where_it_is_not_official():
    clips = clips_of(20, 3, split=lambda group: "test" if group >= 16 else "train")
    splits = divide(clips, None, 0.25, seed=7)
    assert splits.test == [clip for clip in clips if clip.split == "test"]
    assert len(splits.validation) == 12
    assert len(splits.train) == 36
    assert_every_clip_once(splits, clips)
    assert_groups_apart(splits)
    assert splits.description == "official splits; 25% of the training recordings for validation (seed 7)"


def test_a_fraction_of_zero_holds_nothing_out():
    clips = clips_of(8, 2, split=lambda group: "test" if group >= 6 else "train")
    splits = divide(clips, None, 0.0, seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 0, 4)
    assert splits.description == "official splits"


def test_splits_leave_no_choice_of_a_fold():
    clips = clips_of(4, 1, split=lambda group: SPLITS[group % 3], fold=lambda group: group)
    with pytest.raises(InputError, match=r"^test_fold: 1 received, but the data set has splits, not folds; leave it"):
        divide(clips, 1, 0.2, seed=0)


def test_some_clips_without_a_split():
    clips = clips_of(4, 1, split=lambda group: "train" if group < 3 else "")
    with pytest.raises(InputError, match=r"^data set: 1 of 4 clips have no split; give every clip one$"):
        divide(clips, None, 0.0, seed=0)


# ---- folds


@pytest.mark.parametrize(("test_fold", "scored"), [(None, 10), (1, 1), (3, 3)])
def test_one_fold_is_scored(test_fold, scored):
    clips = clips_of(12, 4, fold=lambda group: (1, 3, 10)[group // 4])
    splits = divide(clips, test_fold, 0.25, seed=0)
    assert splits.test == [clip for clip in clips if clip.fold == scored]
    assert {clip.fold for clip in splits.train + splits.validation} == {1, 3, 10} - {scored}
    assert len(splits.validation) == 8
    assert_every_clip_once(splits, clips)
    assert_groups_apart(splits)
    others = ", ".join(str(fold) for fold in (1, 3, 10) if fold != scored)
    assert splits.description == (
        f"fold {scored} scored, folds {others} for training; 25% of the training recordings for validation (seed 0)"
    )


def test_folds_without_validation():
    clips = clips_of(4, 2, fold=lambda group: group // 2)
    splits = divide(clips, 0, 0.0, seed=0)
    assert (splits.train, splits.validation, splits.test) == (clips[4:], [], clips[:4])


def test_a_fold_that_is_not_there():
    clips = clips_of(4, 2, fold=lambda group: group + 1)
    with pytest.raises(InputError, match=r"^test_fold: 7 is not there; this data has folds 1, 2, 3, 4$"):
        divide(clips, 7, 0.0, seed=0)


def test_some_clips_without_a_fold():
    clips = clips_of(4, 2, fold=lambda group: group - 1)
    with pytest.raises(InputError, match=r"^data set: some clips have a fold and some have none; give every clip one$"):
        divide(clips, None, 0.0, seed=0)


@pytest.mark.parametrize("validation_fraction", [0.0, 0.2])
@pytest.mark.parametrize(
    "place", [{"fold": lambda group: 5}, {"split": lambda group: "test"}], ids=["one fold", "test only"]
)
def test_nothing_left_to_train_on(place, validation_fraction):
    with pytest.raises(InputError, match=r"^data set: no clips are left for training; it needs a second fold or a "):
        divide(clips_of(10, 2, **place), None, validation_fraction, seed=0)


# ---- neither


def test_a_fifth_is_scored_where_nothing_is_official():
    clips = clips_of(20, 3)
    splits = divide(clips, None, 0.25, seed=4)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (36, 12, 12)
    assert_every_clip_once(splits, clips)
    assert_groups_apart(splits)
    for side in sides_of(splits).values():
        assert Counter(clip.labels[0] for clip in side) == {"a": len(side) // 2, "b": len(side) // 2}
    assert splits.description == (
        "no official folds or splits: 20% of the recordings scored (seed 4); "
        "25% of the training recordings for validation (seed 4)"
    )


def test_the_seed_decides_who_is_held_out():
    clips = clips_of(20, 2)
    assert divide(clips, None, 0.25, seed=1) == divide(clips, None, 0.25, seed=1)
    some = {tuple(clip.clip_id for clip in divide(clips, None, 0.25, seed).test) for seed in range(4)}
    assert len(some) > 1


def test_sides_keep_the_order_of_the_clips():
    clips = clips_of(20, 2)
    place = {clip.clip_id: i for i, clip in enumerate(clips)}
    for side in sides_of(divide(clips, None, 0.25, seed=0)).values():
        places = [place[clip.clip_id] for clip in side]
        assert places == sorted(places)


def test_a_fold_where_there_are_none():
    with pytest.raises(InputError, match=r"^test_fold: 1 received, but the data set has no folds; leave it out$"):
        divide(clips_of(10, 1), 1, 0.0, seed=0)


def test_too_few_recordings_to_hold_one_out():
    with pytest.raises(InputError, match=r"there are 3"):
        divide(clips_of(3, 5), None, 0.0, seed=0)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 1 / 3, 0.4, 0.5])
def test_how_says_what_share_was_held_out(fraction):
    splits = divide(clips_of(60, 1, split=lambda group: "train"), None, fraction, seed=0)
    share = len(splits.validation) / 60
    said = int(re.search(r"(\d+)% of the training recordings for validation", splits.description)[1])
    assert abs(said - 100 * share) <= 2


# ---- whatever the data


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["splits", "train and test", "folds", "neither"]))
def test_groups_are_never_on_two_sides(data, kind):
    n_groups = data.draw(st.integers(24, 40))
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=n_groups, max_size=n_groups))
    places = {
        "splits": [{"split": split} for split in SPLITS],
        "train and test": [{"split": "train"}, {"split": "train"}, {"split": "test"}],
        "folds": [{"fold": fold} for fold in (1, 2, 5)],
        "neither": [{}, {}, {}],
    }[kind]
    clips = []
    for group, size in enumerate(sizes):
        labels = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True))
        name = f"g{group}" if size > 1 or data.draw(st.booleans()) else ""
        clips += [Clip(f"{group}/{i}", None, (*labels,), group=name, **places[group % 3]) for i in range(size)]
    clips = data.draw(st.permutations(clips))
    fraction = data.draw(st.sampled_from([0.0, 0.2, 1 / 3, 0.5]))
    splits = divide(clips, None, fraction, seed=data.draw(st.integers(0, 5)))
    assert_every_clip_once(splits, clips)
    assert splits.train
    assert splits.test
    assert bool(splits.validation) == (kind == "splits" or fraction > 0)
    named = Counter(group for side in sides_of(splits).values() for group in {c.group for c in side if c.group})
    assert set(named.values()) <= {1}


# ---- errors of every kind of data


@pytest.mark.parametrize("fraction", [-0.1, 0.51, float("nan")])
def test_validation_fraction_out_of_range(fraction):
    with pytest.raises(InputError, match=rf"^validation_fraction: {fraction} is not allowed; expected 0 to 0\.5$"):
        divide(clips_of(10, 1), None, fraction, seed=0)


def test_a_clip_without_a_label():
    clips = [*clips_of(10, 1), Clip("stray.wav", None)]
    with pytest.raises(InputError, match=r"^stray\.wav: has no label; training needs one for every clip$"):
        divide(clips, None, 0.0, seed=0)


# ---- shares of the training clips


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(10, 40), min_size=2, max_size=5),
    shares=st.lists(st.floats(0.1, 1.0), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_shares_are_nested_and_keep_the_proportions(counts, shares, seed):
    clips = [Clip(f"{label}/{i}", None, (f"label{label}",)) for i in range(40) for label in range(len(counts))]
    clips = [clip for clip in clips if int(clip.clip_id.split("/")[1]) < counts[int(clip.labels[0][5:])]]
    smaller = []
    for share in sorted(shares):
        subset = nested_subset(clips, share, seed)
        assert [clip for clip in clips if clip in subset] == subset
        assert all(clip in subset for clip in smaller)
        found = Counter(clip.labels[0] for clip in subset)
        assert found == {f"label{label}": round(share * count) for label, count in enumerate(counts)}
        smaller = subset
    assert nested_subset(clips, 1.0, seed) == clips


def test_seeds_choose_other_clips():
    clips = [Clip(f"{label}{i}", None, (label,)) for label in "ab" for i in range(20)]
    assert nested_subset(clips, 0.5, 0) == nested_subset(clips, 0.5, 0)
    assert nested_subset(clips, 0.5, 0) != nested_subset(clips, 0.5, 1)


def test_a_share_that_leaves_a_label_empty():
    clips = [Clip(f"{label}{i}", None, (label,)) for label, n in (("a", 20), ("b", 4)) for i in range(n)]
    with pytest.raises(InputError, match=r"fractions: 0.1 leaves 'b' without a clip of its 4 .* at least 0.25$"):
        nested_subset(clips, 0.1, 0)
    assert len(nested_subset(clips, 0.25, 0)) == 6


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range(fraction):
    with pytest.raises(InputError, match=r"fractions: .* is not allowed; expected more than 0 and at most 1"):
        nested_subset([Clip("a", None, ("a",))], fraction, 0)


def test_a_fingerprint_tells_labels_parts_and_sounds_apart():
    clips = [replace(clip, checksum=clip.clip_id) for clip in clips_of(10, 1)]
    splits = Splits(clips[:6], clips[6:8], clips[8:], "as they come")
    others = [
        replace(splits, train=[replace(clips[0], labels=("other",)), *clips[1:6]]),
        replace(splits, train=[replace(clips[0], checksum="other"), *clips[1:6]]),
        replace(splits, train=[replace(clips[0], clip_id="other"), *clips[1:6]]),
        replace(splits, train=clips[:5], validation=clips[5:8]),
        replace(splits, train=[*reversed(clips[:6])]),
    ]
    assert replace(splits, description="in other words").fingerprint() == splits.fingerprint()
    assert len({splits.fingerprint(), *(other.fingerprint() for other in others)}) == 6


def test_folds_that_divide_no_group_are_the_same_with_every_scikit_learn():
    labels, groups = np.arange(60) % 3, np.arange(60) // 4
    held_out = [tuple(score) for _, score in stratified_group_folds(labels, groups, 5, seed=3)]
    assert sorted(itertools.chain(*held_out)) == [*range(60)]
    found = [np.unique(groups[list(score)]).tolist() for score in held_out]
    assert found == [[8, 11, 12], [0, 4, 13], [1, 3, 14], [5, 6, 10], [2, 7, 9]]  # those of StratifiedGroupKFold, 1.9.1
