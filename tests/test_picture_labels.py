"""Labels of combinations are short, say what differs, and no two in a picture are alike."""

import pytest

from keras_audio_transfer import picture_labels
from keras_audio_transfer.probing.layer_selection import all_combinations

STAGES = ["stem", "stage1", "stage2", "stage3", "stage4"]
NUMBERED = [f"convolution_block_{number:02d}_activation" for number in range(1, 15)]
WORDS = [f"{letter * 8}_convolution" for letter in "abcdefghij"]
WORDS += ["first_normalisation", "second_normalisation", "projection", "embedding"]
RESNET50 = ["pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]


def joined(combinations):
    return [*map("+".join, combinations), "mfcc", *("+".join([*layers, "mfcc"]) for layers in combinations)]


def some(names):
    """Each alone, every second, third, ... from each start, all but one, all."""
    steps = {tuple(names[start::step]) for step in range(2, 6) for start in range(step)}
    but_one = (tuple(name for name in names if name != left_out) for left_out in names)
    return [*((name,) for name in names), *sorted(steps), *but_one, tuple(names)]


PICTURES = {
    "stages": joined(all_combinations(STAGES)),
    "ResNet-50": joined(all_combinations(RESNET50)),
    "14 numbered": joined(some(NUMBERED)),
    "14 words": joined(some(WORDS)),
    "all of 8 words": ["+".join(layers) for layers in all_combinations(WORDS[:8])],
    "two orders": ["mfcc+layer1+layer2", "layer1+layer2+mfcc", "layer2+layer1+mfcc"],
    "two of one short form": ["a1+a2", "as 1 2", "a2+a1"],
    "a method": ["best"],
    "letters without end": ["x" * 200, "y" * 200, f"{'x' * 200}+{'y' * 200}"],
}


@pytest.mark.parametrize("all_layers", PICTURES.values(), ids=PICTURES)
def test_no_two_labels_are_alike_and_none_is_long(all_layers):
    labels = picture_labels.unique(all_layers)
    assert [*labels] == all_layers
    assert len({*labels.values()}) == len(all_layers)
    assert max(map(len, labels.values())) <= picture_labels.LONGEST


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("layer1", "layer1"),
        ("layer1+layer3", "layers 1 3"),
        ("layer1+layer2+layer3+mfcc", "layers 1-3 + mfcc"),
        ("mfcc+layer2", "mfcc + layer2"),
        ("mfcc+layer1+layer2", "mfcc + layers 1 2"),
        ("layer9+layer10+layer11+layer13", "layers 9-11 13"),
        ("layer3+layer2+layer1", "layers 3 2 1"),
        ("a+b+c+d", "a + b + c + d"),
        ("conv2_block3_out+conv3_block4_out", "conv2_block3_out + conv3_block4_out"),
        ("conv2_block3_out+conv2_block4_out+conv3_block4_out", "conv2_block{3 4}_out + conv3_block4_out"),
        ("block_1+block_2", "block_{1 2}"),
        ("1+2", "{1 2}"),
        ("l\u00b2+l\u00b3", "l\u00b2 + l\u00b3"),
    ],
)
def test_neighbours_that_differ_in_a_number_share_their_name(layers, expected):
    assert picture_labels.label(layers) == expected


def test_what_is_too_long_names_what_is_missing_or_numbers_with_a_key():
    all_layers = joined(some(WORDS))
    labels = picture_labels.unique(all_layers)
    assert labels["+".join(WORDS)] == "all 15 without mfcc"
    assert labels["+".join([*WORDS[:13], "mfcc"])] == "all 15 without embedding"
    assert labels["+".join([*WORDS, "mfcc"])] == "all 15"
    assert labels["+".join(WORDS[::3])] == "no. 1 4 7 10 13"
    key = picture_labels.key(all_layers, labels.values()).replace("\N{NO-BREAK SPACE}", " ")
    assert key.startswith("no. 1 aaaaaaaa_convolution, 2 bbbbbbbb_convolution, ")
    assert key.endswith(", 14 embedding, 15 mfcc")
    assert picture_labels.key(all_layers, ["all 15", "projection"]) == ""


@pytest.mark.parametrize(
    ("row", "n", "expected"),
    [
        ({"layers": "layer1+layer2"}, 31, "layers 1 2: best of 31 combinations on the scored clips"),
        ({"layers": "layer1+layer2"}, 1, "layers 1 2"),
        (
            {"layers": "best", "chosen_on": "training parts", "chosen_by_round": "a; layer1+layer2; layer1+layer2"},
            0,
            "chosen inside each training part: layers 1 2 (2 of 3), a (1 of 3)",
        ),
        (
            {"layers": "best", "chosen_on": "reported folds", "chosen_by_round": "layer1+layer2"},
            0,
            "chosen on the scored clips: layers 1 2",
        ),
    ],
)
def test_how_the_combination_that_is_shown_was_chosen(row, n, expected):
    assert picture_labels.of_row(row, n) == expected
