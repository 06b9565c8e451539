"""What all drawings of the documentation have in common: they follow the colours of the page that shows them.

A page shows an SVG file as an image. Browsers draw it in the colour scheme of the element around it, so that
``prefers-color-scheme`` is that of the page, also where a reader has switched the page by hand.
"""

from __future__ import annotations

from html import escape

# Each has a contrast of at least 3 with the background of a light and of a dark page.
COLOURS = ("#3b82c4", "#808488", "#b3701f", "#4f8f36", "#8e6bbf")
BACKGROUNDS = {"light": "#ffffff", "dark": "#131416"}  # those of the theme
_STYLE = """<style>
text { fill: #1f2328 } .faint { fill: #57606a } .line { stroke: #57606a } .box { fill: #f6f8fa; stroke: #57606a }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9da7b1 } .line { stroke: #9da7b1 } .box { fill: #22272e; stroke: #9da7b1 }
}
</style>"""


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """Return the file: its title is what a screen reader says."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="13">'
    return "\n".join([head, f"<title>{escape(title)}</title>", _STYLE, *parts, "</svg>", ""])


def label(x: float, y: float, text: str, anchor: str = "start", faint: bool = False) -> str:
    """Return a text at its base line."""
    kind = ' class="faint"' if faint else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{kind} text-anchor="{anchor}">{escape(text)}</text>'
