"""Clips with several labels -> a model folder that says which of them a sound has: for 'classify'."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.commands import cli, estimates, own_sounds
from keras_audio_transfer.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

    from keras_audio_transfer.probing.learning_curve import LearningCurve
    from keras_audio_transfer.probing.multi_label import HeldOutLabels, LabelProbe, MultiLabelProber

PHASES = ("estimating", "floor mfcc", "floor log_mel", "learning curve", "exporting")


class Found(NamedTuple):
    """What is known of a classifier.

    Attributes:
        prober: of the clips.
        held_out: what was said of each clip.
        probe: fitted on all clips.
        labels: label by label, with the floors' average precision.
        reliability: how often clips had a label that was given a probability.
        curve: whether more clips would help.
    """

    prober: "MultiLabelProber"
    held_out: "HeldOutLabels"
    probe: "LabelProbe"
    labels: "pd.DataFrame"
    reliability: "pd.DataFrame"
    curve: "LearningCurve"


def classify(options, sources, configs, features, own, phases):
    """Estimate, fit and write; the exit code.

    Args:
        options: of the command.
        sources: name -> (folder, card) of the models to build on.
        configs: name -> the front end for the clips.
        features: of all their layers, SOURCE/LAYER where there are several.
        own: the clips, as `own_sounds.load` returns them.
        phases: of the run.
    """
    from keras_audio_transfer.probing import calibration, label_results
    from keras_audio_transfer.probing.learning_curve import learning_curve_of_labels
    from keras_audio_transfer.probing.multi_label import MultiLabelProber

    prober = MultiLabelProber(features, options.seed, options.jobs, options.layer_weights)
    cli.say(options, f"{options.folder}: clips with several labels; {prober.description}")
    progress = phases.bar("estimating", prober.n_steps, "fit")()
    prober.step = progress.update
    held_out, probe = prober.held_out(), prober.fit()
    progress.close()
    scores = label_results.summary(prober.features, held_out)
    labels = label_results.by_label(prober.features, held_out, probe.calibration.thresholds)
    reliability = label_results.reliability(prober.features, held_out)
    scores["calibration_error"] = calibration.expected_calibration_error(reliability)
    part = "test" if (features.splits != "").any() else "cross-validation"
    show_estimate(prober, part, held_out, scores, labels)
    plain, of_labels = floors(options, own, phases)
    estimates.show_floors(scores["mean_average_precision"], plain)
    curve = learning_curve_of_labels(prober, held_out, phases.bar("learning curve", len(prober.folds), "fold"))
    cli.show(curve.sentence)
    cli.show(f"chosen and fitted on all {len(features)} clips: {'+'.join(probe.layers)}, {probe.params}")
    phases.begin("exporting")
    name = probe.layers[0].rpartition("/")[0] or next(iter(sources))
    path, source = sources[name]
    found = Found(prober, held_out, probe, labels.assign(**of_labels), reliability, curve)
    card = card_of(options, own, name, sources, source, configs[name], prober, probe, {part: scores | plain})
    write(options, path, card, found, own)
    return cli.report_failures(own.failures, options.output_dir)


def floors(options, own, phases):
    """What plain features alone would have given, by the same nested estimate.

    Returns:
        name -> mean average precision; name -> each label's average precision.
    """
    from keras_audio_transfer.mfcc import FLOORS
    from keras_audio_transfer.probing import label_results
    from keras_audio_transfer.probing.multi_label import MultiLabelProber

    scores, of_labels = {}, {}
    for name, extract_floor in FLOORS.items():
        progress = phases.bar(f"floor {name}", len(own.clips))
        table, _ = extract_floor(own.clips, own.names, options.workers, progress)
        prober = MultiLabelProber(table, options.seed, options.jobs)
        held_out = prober.held_out()
        scores[name] = label_results.summary(prober.features, held_out)["mean_average_precision"]
        of_labels[name] = label_results.by_label(prober.features, held_out, np.nan)["average_precision"]
    return scores, of_labels


def show_estimate(prober, part, held_out, scores, labels):
    interval = f"chance {scores['chance']:.3f}"
    if "interval_low" in scores:
        interval = f"95 % interval {scores['interval_low']:.3f} to {scores['interval_high']:.3f}, {interval}"
    cli.show(f"{part}: mean average precision {scores['mean_average_precision']:.3f} ({interval})")
    cli.show(f"  {prober.description}")
    cli.show(f"  layers chosen, fold by fold: {chosen(held_out)}")
    cli.show("label by label, with 95 % intervals over the folds (average precision, AUC) and the clips:")
    words = estimates.in_words(labels)
    words.insert(2, "average_precision", estimates.with_intervals(labels, "average_precision"))
    words.insert(3, "auc", estimates.with_intervals(labels, "auc"))
    words.insert(4, "threshold", labels["threshold"].map("{:.3f}".format))
    cli.show(words.to_string(index=False))
    cli.show(f"probabilities: {scores['calibration_error']:.3f} from the fraction of clips that have the label")


def card_of(options, own, name, candidates, source, config, prober, probe, scores):
    from keras_audio_transfer import one_vs_rest_layers

    features, names, calibration = prober.features, prober.features.label_names, probe.calibration
    return replace(
        source.of_network(),
        audio=config,
        labels=names,
        multi_label=True,
        scores_are=one_vs_rest_layers.SCORES_ARE,
        probe={
            "layers": [layer.rpartition("/")[2] for layer in probe.layers],
            "channels": int(probe.scaler.n_features_in_),
            "kernel": probe.params.kernel,
            "C": probe.params.C,
            "gamma": None if probe.params.gamma is None else probe.svms[0].gamma,
            "layer_weights": probe.params.layer_weights,
            "support_vectors": len({int(place) for svm in probe.svms for place in svm.support_}),
            "calibration": {which: getattr(calibration, which).tolist() for which in ("slopes", "intercepts")},
            "thresholds": dict(zip(names, calibration.thresholds.tolist(), strict=True)),
        },
        training_data=own_sounds.training_data(options, own.clips, prober.description, features.labels, names),
        transferred_from=source.lineage(),
        scores=scores,
        settings=own_sounds.settings(options, name, candidates),
        seed=options.seed,
    )


def write(options, path, card, found, own):
    """Write the model folder, with what was predicted for each clip before the SVMs were fitted on all of them."""
    from keras_audio_transfer import health, one_vs_rest_layers, plots
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.finetuning import load_network
    from keras_audio_transfer.probing import label_results

    model = one_vs_rest_layers.add_label_probe(load_network(path), card.probe["layers"], found.probe)
    (part,), name = card.scores, options.output_dir.name
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        label_results.write(partial, found.prober.features, found.held_out, found.labels)
        health_table = health.table(own.clips, card.labels)
        health.write(partial, health_table)
        estimates.keep_examples(options, partial, found.prober.features, found.probe.layers)
        found.reliability.to_csv(partial / "calibration.csv", index=False)
        with cli.picture():
            plots.reliability(found.reliability, partial / "calibration.*", f"{name}, {part}")
            plots.more_clips(found.curve, partial / "more_clips.*", name, "mean average precision")
        with cli.picture():
            estimates.write_report(
                options,
                partial,
                own,
                label_results.table(found.prober.features, found.held_out),
                found.curve,
                by_label=found.labels,
                chosen=chosen(found.held_out),
                calibration=found.reliability,
                health=health_table,
            )
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)


def chosen(held_out):
    return "; ".join("+".join(layers) for layers, _ in held_out.chosen.values())
