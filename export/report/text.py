"""The report of an export as the tables that stand on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def report_text(report: dict[str, Any]) -> str:
    """Return the report as the table that stands on the terminal."""
    lines = [f"{'file':<24}{'size':>10}{'INT8 share':>12}{'agreement':>12}{'mean change':>13}"
             f"{'largest':>9}"]
    int8 = report.get("int8", {})
    for file, facts in report["files"].items():
        row = f"{file:<24}{facts['bytes'] / 1e6:>7.2f} MB"
        if file in int8:
            row += f"{int8[file]['int8_share']:>12.1%}{agreement_text(int8[file]['agreement'])}"
        lines.append(row)
    if "parity" in report:
        lines.append(f"ONNX against torch: probabilities within "
                     f"{report['parity']['largest_difference']:.1e} on {report['parity']['on']}")
    if int8:
        lines.append(f"INT8 ranges: {int8['ranges']}, by {int8['method']}, on {int8['faces']} "
                     f"faces; INT8 against FP32: {int8['compared']}")
        lines += [*sweep_lines(int8["sweep"]), *int8["tables"]]
    if "fp16" in report:
        half = report["fp16"]
        lines.append(f"FP16 against FP32: probabilities within {half['largest_difference']:.1e} on "
                     f"{half['on']}, by onnxruntime, which computes most of it in FP32; largest "
                     f"activation {half['largest_activation']:.0f} of 65504")
    lines += [text(report[key]) for key, text in PARTS.items() if key in report]
    lines.append(f"{sum(report['seconds'].values()):.1f} s")
    return "\n".join(lines)


def confidence_text(facts: dict[str, Any]) -> str:
    """Return the line about calibrated confidence."""
    int8 = facts.get("int8_error_after")
    return (f"confidence: temperature {facts['temperature']:.3f}, fitted on {facts['fitted_on']} "
            f"faces of {facts['faces']}; calibration error {facts['error_before']:.1%} before, "
            f"{facts['error_after']:.1%} after" + (f" (INT8 {int8:.1%})" if int8 else "")
            + f" on the other {facts['measured_on']}; it belongs to faces like these")


def precisions_text(sweep: dict[str, Any]) -> str:
    """Return the comparison as a table for the terminal."""
    lines = [f"{'precision':<16}{'size':>10}{'agreement':>12}{'KL':>10}{'accuracy':>10}{'ECE':>8}"
             + (f"  on {sweep['faces']}" if sweep["faces"] else "  (no faces were given)")]
    for row in sweep["rows"]:
        line = f"{row['precision']:<16}{row['bytes'] / 1e6:>7.2f} MB"
        if "agreement" in row:
            line += f"{row['agreement']['top1']:>12.2%}{row['agreement']['kl']:>10.1e}"
        if "accuracy" in row:
            line += f"{row['accuracy']:>10.2%}{row['calibration_error']:>8.4f}"
        lines.append(line)
    return "\n".join(lines)


def sweep_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return how the calibration methods did on the faces held out, a line each."""
    lines = []
    for row in rows:
        graphs = "; ".join(f"{name} {row['top1'][name]:.2%} agreement, KL {loss:.5f}"
                           + (f", accuracy {row['accuracy'][name]:.2%}" if row["accuracy"] else "")
                           for name, loss in row["mean_kl"].items())
        lines.append(f"  {row['method']:<18}{graphs}")
    return [f"methods on {rows[0]['faces']} faces held out:", *lines] if rows else []


def plan_text(plan: dict[str, Any]) -> str:
    """Return what the table says of a plan."""
    text = (f"{plan['file']}: {plan['precision'].upper()}, {plan['kind']} {plan['version']}, "
            f"compute capability {', '.join(plan['compute_capabilities'])}, batch "
            f"{plan['profile'][0]} to {plan['profile'][2]}, {plan['bytes'] / 1e6:.2f} MB, built in "
            f"{plan['build_seconds']:.1f} s")
    if plan.get("int8_share") is not None:
        text += f"; INT8 {plan['int8_share']:.1%}, by the {plan['int8_share_from']}"
    if "size_against_fp16_weights" in plan:
        text += f", {plan['size_against_fp16_weights']:.2f} of the size of FP16 weights"
    return text


def agreement_text(agreement: dict[str, float] | None) -> str:
    """Return the columns that compare an INT8 graph with FP32."""
    if agreement is None:
        return f"{'unmeasured here':>36}"
    return (f"{agreement['top1']:>12.2%}{agreement['mean_change']:>13.4f}"
            f"{agreement['largest_change']:>9.3f}")


PARTS = {"precisions": precisions_text, "plan": plan_text, "confidence": confidence_text}
