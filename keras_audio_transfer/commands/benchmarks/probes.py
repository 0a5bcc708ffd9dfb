"""Probes: all combinations of five layers against scikit-learn's GridSearchCV."""

import statistics
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


def probes(options):
    """Seconds of both ways, their ratio, the largest difference of a score, and how much of ours is libsvm's."""
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.svm import SVC

    from keras_audio_transfer.pretrained import choi2017_results
    from keras_audio_transfer.probing.cross_validation import CHOI2017
    from keras_audio_transfer.probing.grid_search import GRID
    from keras_audio_transfer.probing.layer_selection import all_combinations
    from keras_audio_transfer.probing.prober import Prober

    features = choi2017_results.read_task(options.choi2017_dir, "gtzan_genre")
    combinations = all_combinations(choi2017_results.LAYERS)
    prober = Prober(features, CHOI2017, n_jobs=options.jobs)

    def our_way():
        start = time.perf_counter()
        rows = [*Prober(features, CHOI2017, n_jobs=options.jobs).rows(combinations)]
        return time.perf_counter() - start, {row["layers"]: row["score"] for row in rows}

    with libsvm_timed() as seconds_of:
        start = time.process_time()
        before, ours = our_way()
        of_cores = time.process_time() - start
    fold_of = np.empty(len(features.labels), dtype=int)
    for number, fold in enumerate(prober.outer_folds):
        fold_of[fold.outer.score] = number
    grid = [{name: [value] for name, value in point.of_svm().items()} for point in GRID]
    differences = []
    start = time.perf_counter()
    for layers in combinations:
        x = np.concatenate([features.layers[name] for name in layers], axis=1)
        search = GridSearchCV(SVC(), grid, cv=PredefinedSplit(fold_of), n_jobs=options.jobs)
        search.fit(x, features.labels)
        differences.append(abs(search.best_score_ - ours["+".join(layers)]))
    then = time.perf_counter() - start
    now = statistics.mean([before, our_way()[0]])  # before and after: other work on the machine comes and goes
    return {
        "combinations": len(combinations),
        "jobs": options.jobs,
        "seconds_grid_search_cv": then,
        "seconds": now,
        "ratio": then / now,
        "largest_difference": max(differences),
        "fits": len(seconds_of["fit"]),
        "share_of_libsvm": sum(sum(seconds) for seconds in seconds_of.values()) / of_cores,
    }


@contextmanager
def libsvm_timed():
    """Seconds of a core in each call of libsvm's fit and predict, by name: what no other way around them can save."""
    from keras_audio_transfer.probing import precomputed_kernels

    libsvm, seconds_of = precomputed_kernels._libsvm, {"fit": [], "predict": []}

    def timed(name):
        def call(*args, **kwargs):
            start = time.thread_time()
            result = getattr(libsvm, name)(*args, **kwargs)
            seconds_of[name].append(time.thread_time() - start)
            return result

        return call

    precomputed_kernels._libsvm = SimpleNamespace(**{name: timed(name) for name in seconds_of})
    try:
        yield seconds_of
    finally:
        precomputed_kernels._libsvm = libsvm
