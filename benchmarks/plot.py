"""Draws what `pipeline --json FILE` stored: scripts/bench plot FILE PICTURE.svg"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.environments import python_with

_MATPLOTLIB = "matplotlib==3.11.2"
_OURS, _OTHERS, _INK, _FAINT = "#2f6fde", "#c3cad4", "#1f2430", "#6b7280"


def draw(figures: dict[str, Any], picture: Path) -> None:
    """A bar for each program, the cheapest first; a log scale."""
    import matplotlib as mpl  # type: ignore[import-not-found]
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    # Text as text, and the same bytes for the same figures.
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "nightshift",
            "font.family": "sans-serif",
            "text.color": _INK,
        }
    )
    programs = sorted(figures["programs"], key=lambda line: line["cpu_ms"], reverse=True)
    names = [line["name"] for line in programs]
    costs = [line["cpu_ms"] for line in programs]
    figure = Figure(figsize=(8, 0.42 * len(programs) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    colors = [_OURS if name == "nightshift" else _OTHERS for name in names]
    bars = axes.barh([_label(line) for line in programs], costs, color=colors, height=0.7)
    axes.bar_label(bars, labels=[f"{cost:.2f} ms" for cost in costs], padding=4, color=_INK)
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 3, max(costs) * 2)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == "nightshift" else "normal")
    figure.suptitle("CPU for each request, all processes (log scale, less is better)", fontsize=12)
    figure.supxlabel(
        f"{figures['requests']:,} requests, {figures['in_flight']} in flight, an endpoint that"
        f" answers at once; medians of {figures['rounds']}",
        fontsize=9,
        color=_FAINT,
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None, "Creator": None}, facecolor="white")


def _label(line: dict[str, Any]) -> str:
    package, _, version = line["what"].partition("==")
    package = package.partition("[")[0]
    named = package in {line["name"], f"bespokelabs-{line['name']}"}
    return f"{line['name']} {version}" if named else f"{line['name']} ({package} {version})"


def main() -> int:
    """Draws, in an environment of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        python = str(python_with("plot", _MATPLOTLIB))
        os.execv(python, [python, "-m", "benchmarks.plot", *sys.argv[1:]])  # noqa: S606
    draw(json.loads(given.figures.read_text(encoding="utf-8")), given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
