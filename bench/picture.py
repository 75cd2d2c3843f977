# SPDX-License-Identifier: Apache-2.0
"""A picture of ratios: bars beside a line at 1, readable on light and dark pages."""
import math

LEFT, RIGHT, TOP, BAR, GAP, SCALE_WIDTH = 150, 60, 58, 12, 14, 560
COLOURS = ("#4c8fd6", "#e0963c", "#4fae6a")
STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: bold }
.small { font-size: 11px }
.grid { stroke: #8886; stroke-width: 1 }
.one { stroke: #888; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #d7dde4 } }
"""


def escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def bars(title, note, names, rows):
    """SVG text. rows: [(label, [ratio or None, one for each of names])]."""
    most = max((v for _, values in rows for v in values if v), default=1)
    top = math.ceil(max(most, 2))
    step = max(1, math.ceil(top / 10))
    height_of = len(names) * BAR + GAP
    bottom = TOP + len(rows) * height_of
    width, height = LEFT + SCALE_WIDTH + RIGHT, bottom + 50

    def x(value):
        return LEFT + SCALE_WIDTH * value / top

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             f'width="{width}" height="{height}" role="img">',
             f"<title>{escaped(title)}</title>", f"<style>{STYLE}</style>",
             f'<text class="title" x="10" y="22">{escaped(title)}</text>']
    at = LEFT
    for name, colour in zip(names, COLOURS):
        parts.append(f'<rect x="{at}" y="34" width="{BAR}" height="{BAR}" fill="{colour}"/>'
                     f'<text x="{at + BAR + 6}" y="44">{escaped(name)}</text>')
        at += 50 + 8 * len(name)
    for value in range(0, top + 1, step):
        kind = "one" if value == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(value):.1f}" y1="{TOP}" x2="{x(value):.1f}" '
                     f'y2="{bottom}"/><text class="small" text-anchor="middle" '
                     f'x="{x(value):.1f}" y="{bottom + 16}">{value}</text>')
    if step > 1:
        parts.append(f'<line class="one" x1="{x(1):.1f}" y1="{TOP}" x2="{x(1):.1f}" '
                     f'y2="{bottom}"/>')
    for n, (label, values) in enumerate(rows):
        y = TOP + n * height_of + GAP / 2
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" '
                     f'y="{y + len(names) * BAR / 2 + 4:.1f}">{escaped(label)}</text>')
        for i, value in enumerate(values):
            if value:
                parts.append(
                    f'<rect x="{LEFT}" y="{y + i * BAR:.1f}" width="{x(value) - LEFT:.1f}" '
                    f'height="{BAR - 2}" fill="{COLOURS[i % len(COLOURS)]}"/>'
                    f'<text class="small" x="{x(value) + 4:.1f}" y="{y + i * BAR + 9:.1f}">'
                    f"{value:.2f}</text>")
    parts.append(f'<text class="small" x="10" y="{height - 10}">{escaped(note)}</text></svg>')
    return "\n".join(parts) + "\n"
