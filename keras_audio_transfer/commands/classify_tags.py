"""Clips with several labels -> a model folder that says which of them a sound has: for 'classify'."""

from dataclasses import replace

from keras_audio_transfer.commands import cli, estimates, own_sounds
from keras_audio_transfer.files import atomic_write

PHASES = ("estimating", "floor mfcc", "floor log_mel", "exporting")


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
    from keras_audio_transfer.probing import label_results
    from keras_audio_transfer.probing.multi_label import MultiLabelProber

    prober = MultiLabelProber(features, options.seed, options.jobs, options.layer_weights)
    cli.say(options, f"{options.folder}: clips with several labels; {prober.description}")
    progress = phases.bar("estimating", prober.n_steps, "fit")()
    prober.step = progress.update
    held_out, probe = prober.held_out(), prober.fit()
    progress.close()
    scores = label_results.summary(prober.features, held_out)
    labels = label_results.by_label(prober.features, held_out, probe.calibration.thresholds)
    part = "test" if (features.splits != "").any() else "cross-validation"
    show_estimate(prober, part, held_out, scores, labels)
    plain = floors(options, own, phases)
    estimates.show_floors(scores["mean_average_precision"], plain)
    cli.show(f"chosen and fitted on all {len(features)} clips: {'+'.join(probe.layers)}, {probe.params}")
    phases.begin("exporting")
    name = probe.layers[0].rpartition("/")[0] or next(iter(sources))
    path, source = sources[name]
    card = card_of(options, name, sources, source, configs[name], prober, probe, {part: scores | plain})
    write(options, path, card, prober.features, held_out, probe, labels, own)
    return cli.report_failures(own.failures, options.output_dir)


def floors(options, own, phases):
    """What plain features alone would have given, by the same nested estimate: name -> mean average precision."""
    from keras_audio_transfer.mfcc import FLOORS
    from keras_audio_transfer.probing import label_results
    from keras_audio_transfer.probing.multi_label import MultiLabelProber

    scores = {}
    for name, extract_floor in FLOORS.items():
        progress = phases.bar(f"floor {name}", len(own.clips))
        table, _ = extract_floor(own.clips, own.names, options.workers, progress)
        prober = MultiLabelProber(table, options.seed, options.jobs)
        scores[name] = label_results.summary(prober.features, prober.held_out())["mean_average_precision"]
    return scores


def show_estimate(prober, part, held_out, scores, labels):
    interval = f"chance {scores['chance']:.3f}"
    if "interval_low" in scores:
        interval = f"95 % interval {scores['interval_low']:.3f} to {scores['interval_high']:.3f}, {interval}"
    cli.show(f"{part}: mean average precision {scores['mean_average_precision']:.3f} ({interval})")
    cli.show(f"  {prober.description}")
    cli.show(f"  layers chosen, fold by fold: {'; '.join('+'.join(layers) for layers, _ in held_out.chosen.values())}")
    cli.show("label by label, with 95 % intervals over the folds (average precision) and the clips:")
    words = estimates.in_words(labels)
    words.insert(2, "average_precision", estimates.with_intervals(labels, "average_precision"))
    words.insert(3, "threshold", labels["threshold"].map("{:.3f}".format))
    cli.show(words.to_string(index=False))


def card_of(options, name, candidates, source, config, prober, probe, scores):
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
        training_data=own_sounds.training_data(options, prober.description, features.labels, names),
        transferred_from=source.lineage(),
        scores=scores,
        settings=own_sounds.settings(options, name, candidates),
        seed=options.seed,
    )


def write(options, path, card, features, held_out, probe, labels, own):
    """Write the model folder, with what was predicted for each clip before the SVMs were fitted on all of them."""
    from keras_audio_transfer import health, one_vs_rest_layers
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.finetuning import load_network
    from keras_audio_transfer.probing import label_results

    model = one_vs_rest_layers.add_label_probe(load_network(path), card.probe["layers"], probe)
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        label_results.write(partial, features, held_out, labels)
        health.write(partial, health.table(own.clips, card.labels))
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)
