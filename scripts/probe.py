"""Fit SVM probes on a features file: what does each layer know of the task?

    python scripts/probe.py esc10.npz --output-dir probes/esc10

Scaling and parameters are chosen inside each training part of the data set's own folds or splits; scores.csv holds the
mean over the folds, the deviation, and each fold.
"""

from pathlib import Path

import pandas as pd

from keras_audio_transfer import cli, probes
from keras_audio_transfer.files import Features, write_json, written_whole


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("features", type=Path, metavar="FEATURES.npz", help="from scripts/extract.py")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for scores.csv and scores.png")
    parser.add_argument(
        "--combinations",
        default="layers",
        help="layers (each one, and all together), all (all 2^n - 1), or a list such as layer1,layer2+layer3",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    return parser


def main():
    options = arguments().parse_args()
    features = Features.load(options.features)
    chosen = probes.parse_combinations(options.combinations, [*features.layers])
    _, how = probes.rounds(features, options.seed)
    cli.say(options, f"{options.features}: {how}")
    progress = cli.progress_bar(options, "probing", len(chosen), unit="combination")
    scores = pd.DataFrame(progress(probes.probe(features, chosen, options.seed, options.jobs)))

    from keras_audio_transfer import plots

    options.output_dir.mkdir(parents=True, exist_ok=True)
    with written_whole(options.output_dir / "scores.csv") as partial:
        scores.to_csv(partial, index=False)
    settings = {"features": options.features.name, "evaluation": how, "seed": options.seed}
    write_json(options.output_dir / "config.json", settings)
    for suffix in ("png", "svg"):
        plots.score_bars(scores, options.output_dir / f"scores.{suffix}", f"{options.features.stem}: {how}")
    print(scores[["layers", "n_features", "score", "deviation"]].to_string(index=False, float_format="{:.3f}".format))
    print(f"written: {options.output_dir}")


if __name__ == "__main__":
    cli.run(main)
