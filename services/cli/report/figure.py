"""The picture: weight, then each guardrail's e-values against their thresholds, over one time axis; as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from services.cli import words
from services.cli.report.series import Effect, Guardrail, Line, Mark, Story

# In units of the picture, which is scaled to the page.
_WIDTH, _LEFT, _RIGHT, _TOP = 960, 64, 132, 54
_WEIGHT_HEIGHT, _HEIGHT, _GAP, _FOOT = 70, 170, 40, 34
_PLOT = _WIDTH - _LEFT - _RIGHT
# E-values outside this many powers of ten from 1 and from their threshold say no more than those at its edge.
_BELOW, _ABOVE = -2.0, 1.0
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)

# In the picture itself, so that it stands alone; for light and dark pages.
STYLE = """
svg { --ink: #1f2328; --faint: #6b7280; --grid: #e5e7eb; --harm: #c2410c; --safe: #15803d; --weight: #2563eb;
      --paper: #ffffff; font: 13px system-ui, sans-serif; fill: var(--ink); }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --faint: #9aa3af; --grid: #30363d; --harm: #fb923c;
      --safe: #4ade80; --weight: #60a5fa; --paper: #14171b; } }
.faint { fill: var(--faint); } .grid { stroke: var(--grid); } .name { font-weight: 600; }
.harm { stroke: var(--harm); } .safe { stroke: var(--safe); } .weight { stroke: var(--weight); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .threshold { stroke-dasharray: 5 4; stroke-width: 1.3; }
.area { fill: var(--weight); opacity: .16; } text.harm { fill: var(--harm); stroke: none; }
text.safe { fill: var(--safe); stroke: none; } .mark { stroke: var(--faint); stroke-dasharray: 2 3; }
.dot { fill: var(--paper); stroke: var(--ink); }
""".strip()


@dataclass(frozen=True)
class _Panel:
    """Where a panel is, and how values become heights: ``low`` at its bottom, ``high`` at its top."""

    top: float
    height: float
    low: float
    high: float
    end: float

    def x(self, seconds: float) -> float:
        return _LEFT + _PLOT * seconds / self.end

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.top + self.height * (self.high - inside) / (self.high - self.low)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in points)


def figure(story: Story) -> str:
    """The whole picture; `story` has a decision."""
    end = max(story.end, 1.0)
    panels = [_Panel(_TOP, _WEIGHT_HEIGHT, 0.0, 100.0, end)]
    for guardrail in story.guardrails:
        top = panels[-1].top + panels[-1].height + _GAP
        panels.append(_Panel(top, _HEIGHT, _BELOW, _highest(guardrail), end))
    below: list[_Panel] = []
    for effect in story.effects:
        below.append(_effect_panel((below or panels)[-1], effect))
    bottom = (below or panels)[-1].top + (below or panels)[-1].height
    parts = [*_time_axis(panels[0], bottom), *_weight(panels[0], story)]
    for panel, guardrail in zip(panels[1:], story.guardrails, strict=True):
        parts += _evidence(panel, guardrail)
    for panel, effect in zip(below, story.effects, strict=True):
        parts += _effect(panel, effect)
    parts += _marks(panels[0], bottom, story.marks)
    label = escape(f"Weight and evidence of rollout {story.rollout['id']} over time", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + _FOOT:.0f}" role="img" '
        f'aria-label="{label}"><style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>"
    )


def _highest(guardrail: Guardrail) -> float:
    return max(math.log10(line.threshold) for line in (guardrail.harm, guardrail.safe)) + _ABOVE


def _time_axis(first: _Panel, bottom: float) -> list[str]:
    every = next((tick for tick in _TICKS if first.end / tick <= 8), math.ceil(first.end / 8 / 86_400) * 86_400)
    parts = []
    for index in range(int(first.end // every) + 1):
        x = first.x(index * every)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{first.top}" y2="{bottom:.1f}"/>')
        parts.append(_text(x, bottom + 18, words.duration(index * every), "faint", anchor="middle"))
    return parts


def _weight(panel: _Panel, story: Story) -> list[str]:
    """A weight holds until the next decision, so the line has steps."""
    stairs: list[tuple[float, float]] = []
    for at, weight in story.weights:
        stairs += [(at, stairs[-1][1] if stairs else 0.0), (at, weight)]
    stairs.append((panel.end, stairs[-1][1]))
    area = [(stairs[0][0], 0.0), *stairs, (stairs[-1][0], 0.0)]
    return [
        *_frame(panel, "candidate's weight", [(0.0, "0 %"), (50.0, "50 %"), (100.0, "100 %")]),
        f'<polygon class="area" points="{panel.path(area)}"/>',
        f'<polyline class="line weight" points="{panel.path(stairs)}"/>',
    ]


def _evidence(panel: _Panel, guardrail: Guardrail) -> list[str]:
    powers = range(math.ceil(panel.low), math.floor(panel.high) + 1)
    parts = _frame(panel, f"{guardrail.name}: e-values", [(float(power), _power(power)) for power in powers])
    for kind, line in (("harm", guardrail.harm), ("safe", guardrail.safe)):
        y = panel.y(math.log10(line.threshold))
        parts.append(f'<line class="{kind} threshold" x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<polyline class="line {kind}" points="{panel.path(_logs(line))}"/>')
    return [*parts, *_labels(panel, guardrail)]


def _effect_panel(above: _Panel, effect: Effect) -> _Panel:
    """Its scale leaves out the first looks, when nothing is known: the last interval fills a good part of it."""
    _, low, _, high = effect.points[-1]
    reach = min(1.0, 2.0 * max(abs(low), abs(high), 1.5 * abs(effect.decides), 0.001))
    return _Panel(above.top + above.height + _GAP, _HEIGHT, -reach, reach, above.end)


def _effect(panel: _Panel, effect: Effect) -> list[str]:
    """The interval as a band around the estimate, and the line beyond which the test is decided."""
    ticks = [(value, f"{100 * value:+.2g}") for value in (panel.low, panel.low / 2, 0.0, panel.high / 2, panel.high)]
    band = [(at, high) for at, _, _, high in effect.points] + [(at, low) for at, low, _, _ in effect.points[::-1]]
    estimates = [(at, estimate) for at, _, estimate, _ in effect.points]
    _, low, estimate, high = effect.points[-1]
    y = panel.y(effect.decides)
    right = _LEFT + _PLOT + 8
    return [
        *_frame(panel, f"{effect.name}: candidate better by, points", ticks),
        f'<polygon class="area" points="{panel.path(band)}"/>',
        f'<polyline class="line weight" points="{panel.path(estimates)}"/>',
        f'<line class="safe threshold" x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>',
        _text(right, panel.y(estimate) - 4, f"{100 * estimate:+.2g}", "name"),
        _text(right, panel.y(estimate) + 12, f"{100 * low:+.2g} to {100 * high:+.2g}", "faint"),
        _text(right, y + 4 if abs(y - panel.y(estimate)) > 24 else y + 30, "decides here", "safe"),
    ]


def _labels(panel: _Panel, guardrail: Guardrail) -> list[str]:
    """What each line is, at its end, and its threshold; moved apart where they would cover each other."""
    wanted = []
    for kind, line, acts in (("harm", guardrail.harm, "rolls back"), ("safe", guardrail.safe, "passes")):
        value = line.points[-1][1]
        wanted.append((panel.y(_log(value)), kind, f"{kind} {_short(value)}"))
        wanted.append((panel.y(math.log10(line.threshold)), kind, f"{acts} at {line.threshold:.3g}"))
    parts, least = [], panel.top
    for y, kind, text in sorted(wanted):
        placed = max(y, least)
        parts.append(_text(_LEFT + _PLOT + 8, placed + 4, text, kind))
        least = placed + 16
    return parts


def _logs(line: Line) -> list[tuple[float, float]]:
    return [(at, _log(value)) for at, value in line.points]


def _short(value: float) -> str:
    """Beyond a million the number itself says nothing more."""
    return f"{value:.3g}" if value < 1e6 else "> 10\N{SUPERSCRIPT SIX}"


def _log(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf


def _frame(panel: _Panel, title: str, ticks: Sequence[tuple[float, str]]) -> list[str]:
    parts = [_text(_LEFT, panel.top - 8, title, "name")]
    for value, text in ticks:
        y = panel.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, text, "faint", anchor="end"))
    return parts


def _marks(first: _Panel, bottom: float, marks: Sequence[Mark]) -> list[str]:
    """A dashed line and a number per decision, side by side where they are close; its name where there is room."""
    parts: list[str] = []
    places: list[float] = []
    for mark in marks:
        x = first.x(mark.seconds)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{first.top}" y2="{bottom:.1f}"/>')
        places.append(max(x, places[-1] + 20 if places else 0.0))
    for index, (mark, at) in enumerate(zip(marks, places, strict=True)):
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="14" r="9"/>')
        parts.append(_text(at, 18, str(mark.number), "", anchor="middle"))
        room = (places[index + 1] if index + 1 < len(places) else _WIDTH) - at
        if room > 28 + 8 * len(mark.item["action"]):
            parts.append(_text(at + 14, 18, mark.item["action"], "faint"))
    return parts


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _power(power: int) -> str:
    return f"{10.0**power:g}"
