"""The benchmark of serving runs, and its two ways give the same outputs."""

import json


def test_serving(run_script, model_dir, tmp_path):
    output = tmp_path / "figures.json"
    run = run_script("benchmark", "--serving", model_dir, "--requests", 2, "--output", output)
    assert run.returncode == 0, run.stderr
    figures = json.loads(output.read_text())[f"serving_{model_dir}"]
    for batch in (1, 8, 32):
        of_batch = figures[f"batch_{batch}"]
        assert of_batch["largest_difference"] <= 1e-4
        assert 0 < of_batch["saved_model_milliseconds_median"] <= of_batch["saved_model_milliseconds_99th_percentile"]
        # A quarter of a second a clip.
        seconds = batch * 0.25 / of_batch["keras_audio_seconds_a_second"]
        assert abs(1000 * seconds / of_batch["keras_milliseconds_median"] - 1) < 1e-6
