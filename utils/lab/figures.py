"""One style for all figures, and the few drawings that recur.

White paper, Okabe and Ito's eight colours that the colour-blind tell apart, Noto Sans
SC so that Chinese labels are drawn. The site inverts the paper in its dark theme.
"""

import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "grey": "#767676",
}


def use_style() -> None:
    """Set matplotlib's defaults; done when this module is imported."""
    package = importlib.util.find_spec("zhplot").submodule_search_locations[0]
    font = Path(package) / "fonts" / "NotoSansSC-Regular.ttf"
    font_manager.fontManager.addfont(str(font))
    name = font_manager.FontProperties(fname=str(font)).get_name()
    plt.rcParams.update(
        {
            "font.family": ["DejaVu Sans", name],
            "figure.figsize": (6.4, 3.0),
            "figure.dpi": 120,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "svg.hashsalt": "settled",
        }
    )


use_style()


def panels(count: int, width: float = 6.4, height: float = 2.6, **options):
    """A row of `count` axes that share what `options` say; returns (figure, axes)."""
    figure, axes = plt.subplots(
        1, count, figsize=(width, height), squeeze=False, **options
    )
    return figure, axes[0]


def heat(ax, values, rows=None, columns=None, fmt: str = "", cmap: str = "viridis"):
    """A heat map of `values` (rows, columns); `fmt` prints each value in its cell.

    `rows` and `columns` label the axes. Returns the image, for a colour bar.
    """
    values = np.asarray(values, dtype=float)
    image = ax.imshow(values, cmap=cmap, aspect="auto")
    ax.grid(False)
    for axis, labels, count in [
        (ax.yaxis, rows, values.shape[0]),
        (ax.xaxis, columns, values.shape[1]),
    ]:
        if labels is not None:
            axis.set_ticks(range(count), labels)
    if fmt:
        for place in np.ndindex(values.shape):
            red, green, blue, _ = image.cmap(image.norm(values[place]))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            text = format(values[place], fmt)
            ax.text(*place[::-1], text, ha="center", va="center", color=ink, size=8)
    return image


def box(ax, centre, text: str, colour: str = "sky", width=1.6, height=0.6):
    """A rounded box with text around `centre` (x, y), in data units."""
    x, y = centre
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0.05",
        facecolor=COLOURS[colour] + "33",
        edgecolor=COLOURS[colour],
    )
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center")


def arrow(ax, start, end, text: str = "", bend: float = 0.0) -> None:
    """An arrow between two points, with a word beside its middle."""
    style = f"arc3,rad={bend}"
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=10,
            connectionstyle=style,
            color="#444444",
        )
    )
    if text:
        middle = (np.asarray(start) + np.asarray(end)) / 2
        ax.text(*middle, f" {text} ", va="center", size=8)


def graph(ax, labels, edges, colour=lambda label: "sky", width=1.9) -> None:
    """A flow from top to bottom: `labels` of nodes, `edges` as (from, to) numbers.

    A node stands below all that feed it; `colour(label)` names the fill of its box.
    """
    depth = [0] * len(labels)
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        depth[end] = max(depth[end], depth[start] + 1)
    lanes: dict[int, int] = {}
    places = []
    for level in depth:
        places.append((lanes.setdefault(level, 0) * (width + 0.4), -level))
        lanes[level] += 1
    side = width / 2
    for start, end in edges:
        (x0, y0), (x1, y1) = places[start], places[end]
        if y0 - y1 == 1:
            arrow(ax, (x0, y0 - 0.3), (x1, y1 + 0.3))
        elif x0 == x1:  # past the boxes between
            arrow(ax, (x0 - side, y0), (x1 - side, y1), bend=0.35)
        else:
            arrow(ax, (x0, y0 - 0.3), (x1 + np.sign(x0 - x1) * side, y1), bend=-0.1)
    for place, label in zip(places, labels, strict=True):
        box(ax, place, label, colour(label), width, 0.6)
        ax.texts[-1].set_fontsize(8)
    ax.set(xlim=(-1.5 * width, max(x for x, _ in places) + width), aspect="equal")
    ax.set_ylim(-max(depth) - 0.8, 0.8)
    ax.axis("off")


def canvas(ax, width: float, height: float) -> None:
    """Make `ax` a blank sheet of the given size for boxes and arrows."""
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")


def cube(ax, lit, colour: str = "orange", labels=("b", "t", "f"), title: str = ""):
    """A (batch, length, features) block of unit cells; those in `lit` are coloured.

    `lit` is a boolean array (B, L, D). Features run right, positions down, texts back.
    """
    batch, length, features = lit.shape
    slant = np.array([0.45, 0.38])  # one step back moves right and up

    def point(b, t, f):
        return np.array([f, -t]) + b * slant

    def face(corners, on):
        fill = COLOURS[colour] if on else "white"
        ax.add_patch(Polygon(corners, facecolor=fill, edgecolor="#555555", lw=0.7))

    for t, f in np.ndindex(length, features):  # front
        corners = [point(0, t + i, f + j) for i, j in [(0, 0), (0, 1), (1, 1), (1, 0)]]
        face(corners, lit[0, t, f])
    for b, f in np.ndindex(batch, features):  # top
        corners = [point(b + i, 0, f + j) for i, j in [(0, 0), (0, 1), (1, 1), (1, 0)]]
        face(corners, lit[b, 0, f])
    for b, t in np.ndindex(batch, length):  # right
        corners = [
            point(b + i, t + j, features) for i, j in [(0, 0), (0, 1), (1, 1), (1, 0)]
        ]
        face(corners, lit[b, t, features - 1])
    text, position, feature = labels
    small = {"size": 8, "color": "#444444"}
    ax.text(*(point(0, length, features / 2) - [0, 0.25]), feature, **small)
    ax.texts[-1].set(ha="center", va="top")
    ax.text(*(point(0, length / 2, 0) - [0.2, 0]), position, rotation=90, **small)
    ax.texts[-1].set(ha="right", va="center")
    ax.text(*(point(batch / 2, 0, 0) + [-0.2, 0]), text, ha="right", **small)
    ax.set(aspect="equal", title=title)
    ax.autoscale_view()
    ax.axis("off")


def digest(name: str, values) -> None:
    """One comparable line about the data of a picture: name, shape, extrema behind ≈.

    Pictures are not compared by the tests; this line is.
    """
    from utils.lab.evidence import _array
    from utils.lab.numbers import spell

    values = _array(values)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {np.sum(~np.isfinite(values))} values not finite")
    shape = "×".join(map(str, values.shape)) or "1"
    print(f"{name}: {shape} values from {spell(values.min())} to {spell(values.max())}")
