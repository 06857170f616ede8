"""Tables of accuracy: the bundled network, quantizers, and other packages."""

from __future__ import annotations

from typing import Any

from feredge.benchmarks.bench.text import markdown_table

Results = dict[str, dict[str, Any]]


def percent(interval: dict[str, float]) -> str:
    """Return a share with its 95 % interval."""
    return f"{interval['value']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"


def accuracy(results: Results) -> str:
    """Return the tables of accuracy and of recall by class."""
    evaluation = results["accuracy"]
    rows = [["network", "accuracy", "balanced", "calibration error", "top-1 agreement",
             "flips to wrong, to right", "McNemar"],
            *(accuracy_cells(row) for row in evaluation["engines"])]
    return "\n".join([markdown_table(rows), "", f"Recall by class, {evaluation['faces']:,} faces:",
                      "", markdown_table(recall_rows(evaluation["engines"]))])


def accuracy_cells(row: dict[str, Any]) -> list[str]:
    """Return the row of one network."""
    scores, against = row["scores"], row["against_first"]
    cells = [f"`{row['engine']}`", *(percent(scores[name]) for name in (
        "accuracy", "balanced_accuracy", "expected_calibration_error"))]
    if against is None:
        return [*cells, "", "", ""]
    return [*cells, f"{against['agreement']:.2%}",
            f"{against['right_to_wrong']}, {against['wrong_to_right']}",
            f"p = {against['mcnemar_p']:.2g}"]


def recall_rows(engines: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of recall, one per class with faces."""
    rows = [["class", "faces", *(f"`{row['engine']}`" for row in engines)]]
    for label, facts in engines[0]["scores"]["classes"].items():
        if facts["support"]:
            recalls = [row["scores"]["classes"][label]["recall"] for row in engines]
            rows.append([label, str(facts["support"]), *(f"{recall:.1%}" for recall in recalls)])
    return rows


def quantizers(results: Results) -> str:
    """Return the table of quantizers, sorted by their distance from FP32."""
    rows = [["quantizer", "settings", "accuracy", "top-1 agreement", "mean KL", "seconds", "size"]]
    for row in sorted(results["quantizers"]["rows"], key=lambda row: row["mean_kl"]):
        rows.append([row["quantiser"], row.get("settings", ""), f"{row['accuracy']:.2%}",
                     f"{row['same_label_as_fp32']:.2%}", f"{row['mean_kl']:.5f}",
                     f"{row['seconds']:.0f}" if "seconds" in row else "",
                     f"{row['bytes'] / 1e6:.1f} MB"])
    return markdown_table(rows)


def peers(results: Results) -> str:
    """Return the table of other packages on the same pictures."""
    measured = results["peers"]
    rows = [["package", "faces/s", "first result", "resident", "installed", "photos", "face crops"]]
    for row in measured["peers"]:
        version = row["versions"].get(row["peer"].split(",")[0], "")
        rows.append([f"{row['peer']} {version}".strip(), f"{row['faces_per_s']:.1f}",
                     f"{row['start_s']:.1f} s", f"{row['resident_mb']:.0f} MB",
                     f"{row['installed_mb']:,.0f} MB", percent(row["scene_accuracy"]),
                     percent(row["crop_accuracy"])])
    return "\n".join([markdown_table(rows), "", f"{measured['scenes']} photos, "
                      f"{measured['crops']:,} crops, without contempt, which the other packages do "
                      "not predict."])
