"""A picture of the click-through of the arms, as SVG: no plotting library is needed for three lines."""

from itertools import pairwise

import numpy as np

from streams.demo.arms import ARMS, Visits

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 40
COLOURS = {"policy": "#1b7f4b", "random": "#999999", "popularity": "#c26a1b"}
POINTS = 200


def click_through_svg(visits: Visits, *, window: int = 200) -> str:
    """Draw each arm's clicks per item shown over the visits, as a moving mean of `window` visits."""
    clicks = np.asarray(visits.clicks, np.float64).reshape(-1, len(ARMS))
    shown = np.asarray(visits.shown, np.float64)
    window = max(1, min(window, len(shown)))
    ends = np.unique(np.linspace(window, max(window, len(shown)), POINTS).astype(int))
    rates = _moving(clicks, ends, window) / np.maximum(_moving(shown[:, None], ends, window), 1.0)
    top = max(float(rates.max(initial=0.0)), 1e-3) * 1.1
    x = LEFT + (WIDTH - LEFT - RIGHT) * (ends - window) / max(int(ends[-1]) - window, 1)
    y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rates / top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24">Clicks per item shown, mean of {window} visits</text>',
        *_axes(top, int(ends[-1])),
    ]
    labels = _apart(y[-1] + 4)
    for column, arm in enumerate(ARMS):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, column], strict=True))
        colour = COLOURS[arm]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        text = f"{arm} {rates[-1, column]:.3f}"
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{labels[column]:.1f}" fill="{colour}">{text}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _moving(values: np.ndarray, ends: np.ndarray, window: int) -> np.ndarray:
    """Sum the `window` rows before each end."""
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    last = np.minimum(ends, len(values))
    return np.asarray(total[last] - total[np.maximum(last - window, 0)])


def _apart(heights: np.ndarray, gap: float = 16.0) -> list[float]:
    """Move labels down until no two are closer than `gap`."""
    placed = [float(height) for height in heights]
    order = sorted(range(len(placed)), key=placed.__getitem__)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    return placed


def _axes(top: float, visits: int) -> list[str]:
    base, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = base - (base - TOP) * share
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{end}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * share:.3f}</text>')
    parts.append(f'<text x="{end}" y="{base + 24}" text-anchor="end">{visits:,} visits</text>')
    return parts
