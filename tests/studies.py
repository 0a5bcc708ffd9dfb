"""The table of a study whose truth is known: scores are sums of effects, and of noise that pairs share."""

import itertools
from itertools import product

import numpy as np
import pandas as pd

SOURCES = {"loud": "music", "talk": "speech", "loud (random)": "random", "mfcc": "floor"}
TARGETS = {"songs": "music", "words": "speech", "digits": "speech"}
GAINS = {  # over MFCC; none of random weights
    **{("loud", "songs"): 0.2, ("loud", "words"): 0.05, ("loud", "digits"): 0.05},
    **{("talk", "songs"): -0.1, ("talk", "words"): 0.1, ("talk", "digits"): 0.1},
}
JOINED = {"last": -0.06, "single": -0.03, "all": 0.0, "chosen": 0.01, "last+mfcc": -0.02, "all+mfcc": 0.0}
LAYERS = {"layer1": (0.25, -0.2), "layer2": (0.5, -0.1), "layer3": (0.75, -0.03), "layer4": (1.0, -0.06)}
TAKEN = {"last": "layer4", "single": "layer3", "chosen": "layer2+layer3"}
CLIPS = {"5": -0.12, "20": -0.05, "all": 0.0}  # all are 40 of each of ten classes
CENTROID = -0.02
WORTH, BOTH = {"layer1": 0.1, "layer2": 0.2, "layer3": 0.05}, 0.06
FINETUNED = {("loud", "words"): 0.1, ("talk", "songs"): 0.02}  # over training from scratch


def table(seeds=(0, 1), folds=3, noise=0.003):
    """`results` of a study; the last cell failed. `noise`: the deviation of what a pair does not share."""
    rng = np.random.default_rng(0)
    shared = {key: rng.normal(0, 0.03) for key in product(TARGETS, CLIPS, seeds, range(folds))}
    rows = []
    for source, target, clips, seed in product(SOURCES, TARGETS, CLIPS, seeds):
        floor, mean = source == "mfcc", 0.5 + GAINS.get((source, target), 0.0) + CLIPS[clips]
        cells = [("all", name, "svm", effect) for name, effect in ({"all": 0.0} if floor else JOINED).items()]
        cells += [("all", "all", "centroid", CENTROID)]
        if not floor and clips == "all":
            cells += [("layer", name, "svm", effect) for name, (_, effect) in LAYERS.items()]
        for kind, name, classifier, effect in cells:
            features = f"layer:{name}" if kind == "layer" else name
            about = {
                "cell": "|".join([source, target, features, "-" if floor else "mean", classifier, clips, str(seed)]),
                **{"source": source, "source_kind": SOURCES[source], "target": target},
                **{"target_kind": TARGETS[target], "features": "layer" if kind == "layer" else name},
                **{"layers": "mfcc" if floor else TAKEN.get(name, name), "depth": LAYERS.get(name, [np.nan])[0]},
                **{"classifier": classifier, "pooling": "" if floor else "mean", "clips_a_class": clips, "seed": seed},
            }
            for fold in range(folds):
                score = mean + effect + shared[target, clips, seed, fold] + rng.normal(0, noise)
                rows.append(
                    about
                    | {"fold": f"fold_{fold}", "n_train": 10 * int(clips.replace("all", "40")), "n_test": 200}
                    | {"metric": "accuracy", "score": score, "chance": 0.1, "n_features": 32, "parameters": "C=2"}
                    | {"seconds": 1.0, "status": "done", "why": ""}
                )
    cell = "talk|songs|all|mean|svm|50|0"
    failed = {**rows[-1], "cell": cell, "clips_a_class": "50", "fold": "", "score": np.nan, "status": "failed"}
    return pd.DataFrame([*rows, failed | {"why": "class <rock>: 40 clips; 50 were asked for"}])


def trainings():
    """Rows of trainings: a head is worth 0.05, fine-tuning what `FINETUNED` says, a multiscale input 0.04."""
    rng, rows = np.random.default_rng(2), []
    strategies = product(("head", "finetune", "scratch"), ("", "+multiscale"))
    for (source, target), (name, more), clips, seed in product(FINETUNED, strategies, CLIPS, (0, 1)):
        effect = {"head": 0.05, "finetune": FINETUNED[source, target], "scratch": 0.0}[name]
        score = 0.5 + effect + 0.04 * bool(more) + CLIPS[clips] + rng.normal(0, 0.002)
        about = {"source": source, "source_kind": SOURCES[source], "target": target, "target_kind": TARGETS[target]}
        cell = f"{source}|{target}|{name}{more}|-|softmax|{clips}|{seed}"
        about |= {"cell": cell, "features": name + more, "classifier": "softmax", "pooling": "", "seed": seed}
        rows.append(about | {"clips_a_class": clips, "n_train": 10 * int(clips.replace("all", "40")), "score": score})
    alike = table((0,), 1).iloc[0].to_dict()
    return pd.DataFrame([alike | row for row in rows])


def combinations(noise=0.003):
    """Rows of all combinations of three layers: `WORTH` is added up, but for what two of them both know."""
    rng, rows = np.random.default_rng(3), []
    alike = table((0,), 1).iloc[0].to_dict()
    for names in [names for size in (1, 2, 3) for names in itertools.combinations(WORTH, size)]:
        layers, n_layers = "+".join(names), len(names)
        features = ("layer", "layers", "all")[n_layers - 1]
        score = alike["chance"] + sum(WORTH[name] for name in names) - BOTH * ({"layer1", "layer2"} <= {*names})
        about = {"source": "loud", "features": features, "layers": layers, "clips_a_class": "all", "classifier": "svm"}
        named = features if features == "all" else f"{features}:{layers}"
        for target, fold in product(("songs", "words"), ("fold_0", "fold_1")):
            cell = f"loud|{target}|{named}|mean|svm|all|0"
            about |= {"cell": cell, "target": target, "fold": fold, "score": score + rng.normal(0, noise)}
            rows.append(alike | about)
    return pd.DataFrame(rows)


def measures():
    """Of each network and target a measure that follows the gain, and one that does not."""
    rng, rows = np.random.default_rng(1), []
    for (source, target), gain in GAINS.items():
        for layer in LAYERS:
            rows.append((source, target, layer, "fisher_separation", 3 * gain + 1))
            rows.append((source, target, layer, "effective_dimension", rng.uniform(5, 10)))
    return pd.DataFrame(rows, columns=["source", "target", "layer", "measure", "value"])
