"""What should be known of a data set before a score on it is believed. Without TensorFlow.

Classes that were recorded, cut or stored each in a way of its own can be told apart without listening, and a network
learns what is easiest (Geirhos et al., Shortcut learning in deep neural networks, 2020). Whether that is so is tried
out with decision trees that know nothing but the files' properties.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.audio.loading import CLIPPED, SILENT
from keras_audio_transfer.copies import copies_of
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write, cell
from keras_audio_transfer.probing.cross_validation import final_parts

if TYPE_CHECKING:
    import pandas as pd

TABLE = "health.csv"
# Property -> what a network would learn where it tells the classes. Level is not among them: it is of the sound.
_LEARNT = {
    "sample rate": "the recorder",
    "channels": "the recorder",
    "format": "how files are stored",
    "length": "how clips are cut",
}
_STEPS_A_DECADE = 20  # of lengths, which are 12 % each
# From where on a class counts as told: the mean of the shares of its clips and of the others that are got right, and
# how probable it may be that chance does as well for any class.
_TELLS, _CHANCE = 0.85, 0.01
_FEW = 10  # clips of a class
_UNBALANCED, _UNEVEN = 5, 3  # times as many clips, times as long
_SHARE = 0.1  # of a class
_LOWER = 0.9  # of the model's sample rate


def table(clips: Sequence[Clip], label_names: Sequence[str]) -> "pd.DataFrame":
    """How the clips of each class are recorded.

    Args:
        clips: with labels, as they were decoded (`audio.loading.readable_clips`).
        label_names: the classes.

    Returns:
        A row a class: `label`; `clips`; `groups` (recordings or speakers; a clip without one counts for itself);
        `seconds_min`, `seconds_median`, `seconds_max` (of what was read); `sample_rates` in Hz, `channels` and
        `formats`, each with the number of clips; and how many clips are `silent`, `clipped`, or `copies` of others.
    """
    import pandas as pd

    copied = {clip.clip_id for several in copies_of([*clips]) for clip in several}
    rows = []
    for label in label_names:
        of_class = [clip for clip in clips if label in clip.labels]
        seconds = [clip.recorded.seconds for clip in of_class] or [np.nan]
        rows.append(
            {
                "label": label,
                "clips": len(of_class),
                "groups": len({_group(clip) for clip in of_class}),
                "seconds_min": min(seconds),
                "seconds_median": np.median(seconds),
                "seconds_max": max(seconds),
                "sample_rates": _counted(clip.recorded.sample_rate for clip in of_class),
                "channels": _counted(clip.recorded.channels for clip in of_class),
                "formats": _counted(map(_format, of_class)),
                "silent": sum(not {*SILENT}.isdisjoint(clip.notes) for clip in of_class),
                "clipped": sum(CLIPPED in clip.notes for clip in of_class),
                "copies": sum(clip.clip_id in copied for clip in of_class),
            }
        )
    return pd.DataFrame(rows)


def write(folder: Path, rows: "pd.DataFrame") -> None:
    """Write `health.csv` into a folder: what `table` returns, with texts that a spreadsheet would run marked."""
    with atomic_write(folder / TABLE) as partial:
        rows.assign(label=rows["label"].map(cell)).round(3).to_csv(partial, index=False)


def warnings(clips: Sequence[Clip], label_names: Sequence[str], sample_rate: int, seed: int = 0) -> list[str]:
    """What may make an estimate on these clips better, or worse, than the classifier will be; the most serious first.

    Args:
        clips: see `table`.
        label_names: the classes.
        sample_rate: the model's, in Hz.
        seed: of the folds, where the data set has none.

    Returns:
        One line each; none where nothing was found.

    Raises:
        InputError: a class, or the groups of one, are too few to divide.
    """
    rows = table(clips, label_names).set_index("label")
    return [*_told(clips, label_names, seed), *_copies(clips), *_of_classes(rows), *_low_rates(clips, sample_rate)]


def _group(clip):
    return ("group", clip.group) if clip.group else ("clip", clip.clip_id)


def _format(clip):
    return clip.path.suffix[1:].lower() if clip.path else "computed"


def _counted(values):
    """Each value with how often it is there, the most frequent first: '44100 (38), 48000 (2)'."""
    return ", ".join(f"{value} ({number})" for value, number in Counter(values).most_common())


def _and_more(names):
    """The first of several classes, and how many others there are."""
    return f"{names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


# ---- files that give the class away


class _Told(NamedTuple):
    """How well a class is told from the others.

    Attributes:
        found, mistaken: the share of its clips that are found, and of the others that are taken for it.
        by_chance: how probable that is where nothing tells it.
    """

    label: str
    found: float
    mistaken: float
    by_chance: float

    @property
    def balanced(self):
        return (self.found + 1 - self.mistaken) / 2


def _told(clips, label_names, seed):
    """A line for each property of the files that alone tells a class; or one for all of them, where none does alone."""
    properties, lines = _properties(clips), []
    if not properties:
        return lines
    features = FeatureTable.of_clips({}, [*clips], [*label_names])
    parts = final_parts(features, seed)  # of clips without official folds or splits, those of the estimate
    sizes = Counter(map(_group, clips))
    exclusive = [] if any(len(clip.labels) > 1 for clip in clips) else label_names
    of_class = {label: np.array([label in clip.labels for clip in clips]) for label in label_names}
    weights = np.array([1 / sizes[_group(clip)] for clip in clips])  # the clips of a recording together count as one
    tried = [[name] for name in properties] + [[*properties]] * (len(properties) > 1)
    for names in tried:
        if lines and len(names) > 1:
            break
        values = np.stack([properties[name] for name in names], axis=1)
        told = [_try(label, values, is_class, parts, weights) for label, is_class in of_class.items()]
        highest = _CHANCE / len(tried) / len(label_names)
        told = [one for one in told if one.balanced >= _TELLS and one.by_chance < highest]
        if told:
            lines.append(_said(names, sorted(told, key=lambda one: -one.balanced), exclusive))
    return lines


def _said(names, told, exclusive):
    """A line; `exclusive`: the labels, where each clip has one of them."""
    best = told[0]
    others = [name for name in exclusive if name != best.label]
    if len(others) == 1:
        whom = f"{best.label!r} from {others[0]!r}"
    else:
        whom = f"{_and_more([one.label for one in told])} from the others"
    found, mistaken = (f"{100 * share:.0f} %" for share in (best.found, best.mistaken))
    what = f"{' and '.join(names)} alone {'tells' if len(names) == 1 else 'tell'} {whom}"
    how = f"{found} of the clips of {best.label!r} are found, {mistaken} of others taken for it"
    learnt = " and ".join(dict.fromkeys(_LEARNT[name] for name in names))
    return f"{what} ({how}): a network may learn {learnt} instead of the sound; record, store and cut all classes alike"


def _properties(clips):
    """Name -> a number a clip, of the properties in which the files differ."""
    formats = sorted({*map(_format, clips)})
    properties = {
        "sample rate": [clip.recorded.sample_rate for clip in clips],
        "channels": [clip.recorded.channels for clip in clips],
        "format": [formats.index(_format(clip)) for clip in clips],
        "length": [round(_STEPS_A_DECADE * np.log10(clip.recorded.seconds)) for clip in clips],
    }
    return {name: np.array(values) for name, values in properties.items() if len({*values}) > 1}


def _try(label, values, is_class, parts, weights):
    """How well a tree of these values tells a class, on clips that it was not fitted on; by Fisher's exact test."""
    from scipy.stats import fisher_exact
    from sklearn.tree import DecisionTreeClassifier

    scored = np.concatenate([part.score for part in parts])
    predicted = np.empty(len(is_class), dtype=bool)
    for part in parts:
        tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=2, class_weight="balanced", random_state=0)
        predicted[part.score] = tree.fit(values[part.fit], is_class[part.fit]).predict(values[part.score])
    true, said, weights = is_class[scored], predicted[scored], weights[scored]
    if true.all() or not true.any():
        return _Told(label, 0.0, 0.0, 1.0)
    counts = [[weights[(true == row) & (said == column)].sum() for column in (True, False)] for row in (True, False)]
    by_chance = fisher_exact(np.round(counts).astype(int), "greater").pvalue
    return _Told(label, said[true].mean(), said[~true].mean(), by_chance)


# ---- what is wrong with clips and classes


def _copies(clips):
    across = [several for several in copies_of([*clips]) if len({frozenset(clip.labels) for clip in several}) > 1]
    if across:
        first, *others = across[0]
        other = next(clip for clip in others if {*clip.labels} != {*first.labels})
        more = f" ({len(across)} such recordings)" if len(across) > 1 else ""
        yield f"{other.clip_id} is a copy of {first.clip_id} in another class{more}; remove the wrong ones"


def _of_classes(rows):
    """Lines on the names and numbers in the table of classes."""
    spelt: dict[str, str] = {}
    for name in rows.index:
        if (other := spelt.setdefault(name.casefold(), name)) != name:
            yield f"{other!r} and {name!r} differ in capitals only; where they are one class, give it one name"
    for kind, remedy in (("silent", "remove them"), ("clipped", "record them at a lower level")):
        shares = (rows[kind] / rows["clips"]).sort_values(ascending=False, kind="stable")
        names = [*shares.index[shares >= _SHARE]]
        if names:
            number, of = rows.loc[names[0], [kind, "clips"]]
            yield f"{_and_more(names)}: {number} of {of} clips are {kind}; {remedy}"
    sizes = rows["clips"].sort_values(kind="stable")
    few = [*sizes.index[sizes < _FEW]]
    if few:
        yield f"{_and_more(few)}: few clips ({sizes.iloc[0]}); the estimate for such a class is a guess, so add some"
    if sizes.iloc[-1] >= _UNBALANCED * sizes.iloc[0]:
        most = f"{sizes.index[-1]!r} has {sizes.iloc[-1]} clips, {sizes.index[0]!r} {sizes.iloc[0]}"
        yield f"{most}: rare classes are found less often; see each class's recall, and add clips of the rare ones"
    seconds = rows["seconds_median"].sort_values(kind="stable")
    if seconds.iloc[-1] >= _UNEVEN * seconds.iloc[0]:
        longest, shortest = (f"{seconds.index[end]!r} {seconds.iloc[end]:.3g} s" for end in (-1, 0))
        yield f"median lengths are {longest}, {shortest}: much of what is heard may be padding; cut all classes alike"


def _low_rates(clips, sample_rate):
    low = [clip.recorded.sample_rate for clip in clips if clip.recorded.sample_rate < _LOWER * sample_rate]
    if low:
        what = f"{len(low)} of {len(clips)} clips have a lower sample rate than the model's {sample_rate} Hz"
        yield f"{what}: of those at {min(low)} Hz it hears nothing above {min(low) // 2} Hz"
