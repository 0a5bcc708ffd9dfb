"""How good a classifier is on sounds that it has not heard, beside the floors, and what that says to its maker."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.answers import KNOWN_AT_LEAST
from keras_audio_transfer.commands import cli
from keras_audio_transfer.model_folder import Card

if TYPE_CHECKING:
    from keras_audio_transfer.probing.learning_curve import LearningCurve
    from keras_audio_transfer.probing.predictions import HeldOut
    from keras_audio_transfer.probing.prober import Prober
    from keras_audio_transfer.probing.rejection import Decided


class Estimate(NamedTuple):
    """What is known of a classifier before it is fitted on all clips.

    Attributes:
        prober: of the clips.
        row: of its table.
        held_out: what was predicted for each clip.
        decided: of these, and of sounds of none of the classes.
        curve: whether more clips would help.
    """

    prober: "Prober"
    row: dict
    held_out: "HeldOut"
    decided: "Decided"
    curve: "LearningCurve"


def floors(options, clips, names, phases):
    """What plain features alone would have given, by the same nested estimate: name -> accuracy."""
    from keras_audio_transfer.mfcc import FLOORS
    from keras_audio_transfer.probing.prober import Prober, one_thread

    scores = {}
    for name, extract_floor in FLOORS.items():
        progress = phases.bar(f"floor {name}", len(clips))
        table, _ = one_thread(extract_floor)(clips, names, options.workers, progress)
        (row,) = Prober(table, seed=options.seed, n_jobs=options.jobs).rows([(name,)])
        scores[name] = float(row["score"])
    return scores


def show_floors(accuracy, scores):
    said = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    cli.show(f"plain features alone, on the same folds: {said}")
    if accuracy < max(scores.values()):
        best = max(scores, key=scores.get)
        cli.show(f"below a floor: {best} alone does better; try another --model, such as one that 'import' knows")


def estimate(prober, method, phases, duration):
    """The row of the prober's table, what was predicted for each clip, and the scores for the card.

    After the first fold `duration`, a `progress.Estimate`, says how long this takes, and the choice on all clips.
    """
    from keras_audio_transfer.probing import calibration
    from keras_audio_transfer.probing.predictions import confusion
    from keras_audio_transfer.probing.prober import interval

    n_steps = prober.n_steps(method)
    progress = phases.bar("estimating", n_steps, "fit")()
    count = duration.counter(n_steps + prober.n_steps_to_choose(method), n_steps // len(prober.outer_folds))
    prober.step = lambda number=1: (progress.update(number), count(number))
    (row,) = prober.rows(method)
    progress.close()
    held_out = prober.held_out(row, probabilities=True)
    low, high = interval(row, confusion(prober.features, held_out))
    scores = {"accuracy": row["score"], "interval_low": low, "interval_high": high, "chance": row["chance"]}
    scores["calibration_error"] = calibration.expected_calibration_error(reliability(prober, held_out))
    return row, held_out, {name: float(value) for name, value in scores.items()}


def reliability(prober, held_out):
    """How often labels were right that were given with a probability."""
    from keras_audio_transfer.probing import calibration

    return calibration.reliability(held_out.confidence, held_out.predicted == prober.features.labels[held_out.rows])


def show_estimate(prober, part, row, held_out, scores):
    import pandas as pd

    from keras_audio_transfer.probing import predictions

    counts = predictions.confusion(prober.features, held_out)
    names, low, high = prober.features.label_names, scores["interval_low"], scores["interval_high"]
    interval = f"95 % interval {low:.3f} to {high:.3f}, chance {scores['chance']:.3f}"
    cli.show(f"{part}: accuracy {scores['accuracy']:.3f} ({interval})")
    cli.show(f"  {prober.description}")
    cli.show(f"  layers chosen, fold by fold: {row['chosen_by_round']}")
    cli.show("true class (row) and predicted class (column):")
    cli.show(pd.DataFrame(counts, index=names, columns=names).to_string())
    cli.show("class by class, with 95 % intervals over the clips:")
    cli.show(in_words(predictions.by_class(counts, names)).to_string(index=False))
    if top := predictions.top_confusions(counts, names):
        cli.show("most often taken for another: " + ", ".join(f"{true} for {said} ({n})" for true, said, n in top))
    cli.show(f"probabilities: {scores['calibration_error']:.3f} from the share of right labels (calibration error)")


def show_without_groups(prober, groups):
    """What folds would have given that ignore the groups: of all layers joined, which takes one search more, not many.

    Args:
        prober: of the classifier.
        groups: of the clips, without those that are ignored.
    """
    from keras_audio_transfer.probing.prober import Prober

    features = replace(prober.features, groups=groups if (groups != "").any() else None)
    ignoring = Prober(features, seed=prober.seed, n_jobs=prober.n_jobs, layer_weights=prober.layer_weights)
    layers = [tuple(features.layers)]
    with_groups, without = (float(next(of.rows(layers))["score"]) for of in (prober, ignoring))
    cli.show(
        f"all layers joined: {with_groups:.3f}; with folds that ignore the groups {without:.3f}, which is no estimate "
        "for new recordings"
    )


def decided(prober, row, held_out, others):
    """What was decided of the clips, and of `others`, a table of features of none of the classes, or None."""
    from keras_audio_transfer.probing.rejection import Decided

    right = held_out.predicted == prober.features.labels[held_out.rows]
    own = Decided(held_out.confidence, held_out.known, right, np.full(len(right), False), held_out.folds)
    if others is None:
        return own
    said = prober.unheard(row, others)
    nothing = np.full(len(said.rows), False)
    foreign = Decided(said.confidence, said.known, nothing, ~nothing, said.folds)
    return Decided(*map(np.concatenate, zip(own, foreign, strict=True)))


def accepts(options, decided):
    """The limits below which a sound has none of the labels, by name; says what they keep."""
    from keras_audio_transfer.probing import rejection

    limits = {"known_at_least": KNOWN_AT_LEAST, "probability_at_least": 0.0}
    show_kept(f"not named: what is less known than {KNOWN_AT_LEAST:g}", decided.at(*limits.values()))
    for name, wanted, choose in (
        ("precision", options.precision, rejection.at_precision),
        ("coverage", options.coverage, rejection.at_coverage),
    ):
        if wanted is not None:
            limit = choose(wanted)(decided, KNOWN_AT_LEAST)
            if np.isnan(limit):
                cli.show(f"{name}: no threshold makes {wanted:g} of the labels right; none is set")
                continue
            least = np.floor(limit * 1e6) / 1e6  # what float32 can tell, and `predict` shows
            limits |= {"probability_at_least": float(least), f"{name}_wanted": wanted}
            kept = rejection.estimated(decided, choose(wanted), KNOWN_AT_LEAST)
            show_kept(f"and what is less probable than {limit:.3f}, for a {name} of {wanted:g}", kept)
    return limits


def show_kept(what, kept):
    of_foreign = kept["false_alarms"]
    interval = f"{kept['precision_low']:.3f} to {kept['precision_high']:.3f}"
    cli.show(
        f"{what}: {kept['kept']:.0%} of the sounds get a label, {kept['right']:.0%} the right one"
        + ("" if np.isnan(of_foreign) else f", and {of_foreign:.0%} of the unknown sounds get one")
        + f"; of all these labels {kept['precision']:.3f} are right ({interval})"
    )


def in_words(by_class):
    """The table of classes with each measure and its interval in one column."""
    words = by_class[["label", "clips"]].copy()
    for name in ("precision", "recall", "f1"):
        words[name] = with_intervals(by_class, name)
    return words


def with_intervals(table, name):
    """A measure and its interval in words, row by row."""
    ends = zip(*(table[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
    return [
        "-" if np.isnan(value) else f"{value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f} to {high:.3f})")
        for value, low, high in ends
    ]


def curve_of(prober, row, phases):
    """Whether more clips would help."""
    from keras_audio_transfer.probing.learning_curve import learning_curve

    curve = learning_curve(prober, row, phases.bar("learning curve", len(prober.outer_folds), "fold"))
    cli.show(curve.sentence)
    return curve


def write_report(options, folder, own, predictions, curve, **more):
    """Write the page that says it all into the model's folder.

    Args:
        options: of `classify`.
        folder: of the model, which is written.
        own: the clips, as `own_sounds.load` returns them.
        predictions: what was said of held-out clips.
        curve: whether more clips would help.
        **more: of `page.Report`.
    """
    from keras_audio_transfer.report import page

    card = Card.read(folder)
    (scores,) = card.scores.values()
    content = page.Report(
        options.output_dir.name,
        card,
        predictions,
        own.clips,
        learning_curve=curve.sizes,
        more_clips=curve.sentence,
        calibration_error=scores["calibration_error"],
        warnings=own.warnings,
        failures=own.failures,
        **more,
    )
    page.write(folder / "report.html", content, workers=options.workers)


def keep_examples(options, folder, features, layers):
    """Write those clips into the model folder that it is to keep, if any; `layers` are those of the SVM."""
    from keras_audio_transfer import examples

    if options.keep_examples:
        names = {layer: layer.rpartition("/")[2] for layer in layers}
        examples.keep(features, names, options.keep_examples, options.seed).save(folder / examples.EXAMPLES)
