"""What is fitted on features: SVMs, logistic regression or nearest centroids, nested alike. Without TensorFlow."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.cross_validation import Fold, outer_folds
from keras_audio_transfer.probing.layer_selection import Combination
from keras_audio_transfer.probing.prober import Prober
from keras_audio_transfer.study.study_file import CENTROID, LOGISTIC, SVM

# Beside the SVM's own grid: an estimator on standardised features, and what of it is chosen.
_ESTIMATORS = {
    LOGISTIC: (LogisticRegression(max_iter=2000), {"logisticregression__C": [0.01, 0.1, 1.0]}),
    CENTROID: (NearestCentroid(), {}),
}


class Scored(NamedTuple):
    """A fold's clips, the layers and parameters that were chosen inside its clips to fit on, and its accuracy."""

    fold: Fold
    layers: Combination
    parameters: str
    score: float


def scored(features: FeatureTable, wanted: Combination | Callable, classifier: str, seed: int) -> Iterator[Scored]:
    """Fit a classifier in each outer fold, and score it; layers and parameters are chosen inside the fold (nested).

    Args:
        features: with one label a clip.
        wanted: layers to concatenate, or a method of `layer_selection`, which chooses some.
        classifier: 'svm', as `Prober` fits it; 'logistic': multinomial, with an L2 penalty, C of three; 'centroid': the
            nearest mean of a class (Euclidean). All on channels of mean 0 and standard deviation 1.
        seed: of folds, where the data set has none of its own.

    Raises:
        InputError: see `outer_folds`; or for 'centroid', that no feature differs between the clips that are fitted on.
    """
    if classifier == SVM:
        prober = Prober(features, seed=seed)
        (row,) = prober.rows(wanted if callable(wanted) else [wanted])
        for fold, (layers, params) in zip(prober.outer_folds, prober.chosen(row), strict=True):
            yield Scored(fold, layers, str(params), float(row[fold.name]))
        return
    for fold in outer_folds(features, seed)[0]:
        yield _scored(features, wanted, classifier, fold)


def _scored(features, wanted, classifier, fold):
    estimator, grid = _ESTIMATORS[classifier]
    pipeline = make_pipeline(StandardScaler(), clone(estimator))  # of its own: cells are worked on in threads
    parts = [(part.fit, part.score) for part in fold.inner]
    searches = {}

    def evaluate(combinations: Sequence[Combination]) -> dict[Combination, float]:
        for layers in combinations:
            x = features.to_numpy(layers)
            if classifier == CENTROID and any((x[fit] == x[fit][0]).all() for fit, _ in parts):
                what = "are the same of all clips to fit on; expected some that differ for nearest centroids"
                raise InputError(f"features of {'+'.join(layers)}: {what}; leave silence out, or these layers")
            search = GridSearchCV(pipeline, grid, cv=parts, refit=False, error_score="raise")
            searches[layers] = search.fit(x, features.labels)
        return {layers: float(searches[layers].best_score_) for layers in combinations}

    chosen = wanted([*features.layers], evaluate) if callable(wanted) else wanted
    if chosen not in searches:
        evaluate([chosen])
    best = searches[chosen].best_params_
    x, y, (_, fit, score) = features.to_numpy(chosen), features.labels, fold.outer
    accuracy = pipeline.set_params(**best).fit(x[fit], y[fit]).score(x[score], y[score])
    said = ", ".join(f"{name.partition('__')[2]}={value:g}" for name, value in best.items())
    return Scored(fold, chosen, said, float(accuracy))
