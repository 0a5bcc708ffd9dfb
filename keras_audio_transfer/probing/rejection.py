"""What is kept where a classifier may also answer "none of these". Without TensorFlow."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1)
COVERAGES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


class Decided(NamedTuple):
    """What models say of clips that they have not heard.

    Attributes:
        probabilities: of the label predicted, (clips,).
        known: `Familiarity.known`, (clips,).
        right: whether the label is the true one, bool (clips,): never for clips of none of the classes.
        is_foreign: which clips are of none of the classes, bool (clips,).
        folds: the part that scored each, (clips,).
    """

    probabilities: np.ndarray
    known: np.ndarray
    right: np.ndarray
    is_foreign: np.ndarray
    folds: np.ndarray

    def at(self, known_at_least: float, probability_at_least: float) -> dict[str, float]:
        """kept: the share of the classes' clips that get a label; right: that get the right one; precision: the share
        of right ones among all labels given, with its 95 % interval (Wilson's) as precision_low and precision_high;
        false_alarms: the share of the clips of no class that get one. NaN where there are none.
        """
        accepted = (self.known >= known_at_least) & (self.probabilities >= probability_at_least)
        n_accepted, n_right = int(accepted.sum()), int((accepted & self.right).sum())
        low, high = wilson(n_right, n_accepted) if n_accepted else (np.nan, np.nan)
        return {
            "kept": _share(accepted, ~self.is_foreign),
            "right": _share(accepted & self.right, ~self.is_foreign),
            "precision": _share(self.right, accepted),
            "precision_low": low,
            "precision_high": high,
            "false_alarms": _share(accepted, self.is_foreign),
        }


def at_coverage(share: float) -> Callable[[Decided, float], float]:
    """Chooses the threshold at which this share of the classes' clips, or a little more, get a label."""

    def threshold(decided: Decided, known_at_least: float) -> float:
        own = np.sort(np.where(decided.known >= known_at_least, decided.probabilities, 0)[~decided.is_foreign])
        return float(own[int(np.floor((1 - share) * len(own)))]) if share < 1 else 0.0

    return threshold


def at_precision(share: float) -> Callable[[Decided, float], float]:
    """Chooses the lowest threshold above which this share of the labels given is right; NaN where none is."""

    def threshold(decided: Decided, known_at_least: float) -> float:
        known = decided.known >= known_at_least
        order = np.argsort(-decided.probabilities[known], kind="stable")
        probabilities, right = decided.probabilities[known][order], decided.right[known][order]
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        is_last = np.append(probabilities[1:] < probabilities[:-1], True)[
            : len(right)
        ]  # of clips that are equally sure
        reached = np.flatnonzero((precision >= share) & is_last)
        if not len(reached):
            return np.nan
        return 0.0 if reached[-1] == len(right) - 1 else float(probabilities[reached[-1]])

    return threshold


def estimated(decided: Decided, choose: Callable[[Decided, float], float], known_at_least: float) -> dict[str, float]:
    """`Decided.at` where each part's threshold was chosen on the other parts; on all clips where there is one part.

    Where the others have no threshold (NaN) no clip of a part is kept.
    """
    folds = np.unique(decided.folds)
    limits = np.empty(len(decided.folds))
    for fold in folds:
        others = decided.folds != fold if len(folds) > 1 else np.full(len(limits), True)
        limits[decided.folds == fold] = choose(Decided(*(values[others] for values in decided)), known_at_least)
    reached = decided.probabilities >= np.nan_to_num(limits, nan=np.inf)
    return decided._replace(known=np.where(reached, decided.known, -1.0)).at(max(known_at_least, 0.0), 0.0)


def table(decided: Decided, known_at_least: float) -> "pd.DataFrame":
    """What is kept at which precision: a row a limit of `LEVELS` on what is known, then, at the one given, one a share
    of the classes' clips to keep, `COVERAGES`.

    Columns: known_at_least, coverage (NaN for the limits), probability_at_least (chosen on all clips; 0 for them), and
    those of `Decided.at`, estimated as `estimated` does where a threshold was chosen.
    """
    import pandas as pd

    rows = [
        {"known_at_least": level, "coverage": np.nan, "probability_at_least": 0.0, **decided.at(level, 0.0)}
        for level in LEVELS
    ]
    for share in COVERAGES:
        choose = at_coverage(share)
        limits = {"known_at_least": known_at_least, "coverage": share}
        limits["probability_at_least"] = choose(decided, known_at_least)
        rows.append(limits | estimated(decided, choose, known_at_least))
    return pd.DataFrame(rows)


def _share(part, whole):
    return float((part & whole).sum() / whole.sum()) if whole.any() else np.nan
