"""The picture of `dotstream bench approximate`: recall against time, one curve for each kind of lists."""

from __future__ import annotations

from pathlib import Path

from ops.bench._report import Report


def draw(report: Report, path: Path) -> None:
    """Draws it into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    exact = report.figures["exact, 960000 codes"].value
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, measured in report.figures.items():
        if name.endswith(", time"):
            recall = report.figures[name.removesuffix("time") + "recall@10"].value
            curves.setdefault(name.split(",")[0], []).append((measured.value, recall))
    for name, points in curves.items():
        times, recalls = zip(*sorted(points), strict=True)
        axis.plot(times, recalls, "o-", label=name)
    axis.axvline(exact, color="black", lw=0.8, label="exact")
    axis.axvline(exact / 10, color="black", lw=0.8, ls=":", label="a tenth of it")
    axis.axhline(0.98, color="#888888", lw=0.8, ls=":")
    axis.set(xscale="log", xlabel="ms per query over a million codes, one thread", ylabel="recall@10")
    axis.set_title("Approximate search on codes of real photographs")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
