"""A comparison as one SVG that needs nothing else: a panel per scenario, a bar per server, the longest the best.

It brings its own background, dark where the reader's colours are dark, so that it is legible on any page.
"""

from html import escape

from report import Found
from scenarios import DELIVERY

COLUMNS = 2
PANEL_WIDTH, BAR_HEIGHT, BAR_GAP, HEAD_HEIGHT, MARGIN = 470, 15, 4, 30, 18
LABEL_WIDTH, VALUE_WIDTH = 132, 62
STYLE = """
svg { --page: #ffffff; --text: #1f2328; --dim: #59636e; --ours: #0969da; --peer: #afb8c1; --rule: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --text: #f0f6fc; --dim: #9198a1; --ours: #4493f8; --peer: #4d5560; --rule: #3d444d }
}
text { font: 11px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: var(--text) }
.title { font-size: 14px; font-weight: 600 } .head { font-weight: 600 } .dim { fill: var(--dim) }
.ours { fill: var(--ours) } .peer { fill: var(--peer) } .page { fill: var(--page); stroke: var(--rule) }
"""


def bars(runs, chosen, servers, machine):
    """The picture: thousand deliveries per server CPU-second, medians."""
    found = Found(runs, servers)
    panels = []
    for scenario in (scenario for scenario in chosen if scenario.unit == DELIVERY):
        costs = [(found.median(scenario, server, lambda run: run["cost"]), server) for server in servers]
        rates = sorted(((1000 / cost, server) for cost, server in costs if cost), key=lambda pair: -pair[0])
        if rates:
            panels.append((scenario, rates))
    body, y = [], 58
    for start in range(0, len(panels), COLUMNS):
        line = panels[start : start + COLUMNS]
        for column, (scenario, rates) in enumerate(line):
            body += panel(scenario, rates, MARGIN + column * (PANEL_WIDTH + MARGIN), y)
        y += HEAD_HEIGHT + max(len(rates) for _, rates in line) * (BAR_HEIGHT + BAR_GAP) + MARGIN
    width = MARGIN + COLUMNS * (PANEL_WIDTH + MARGIN)
    where = (
        f"{machine['cores']} × {machine['cpu']}, Linux {machine['kernel']}, {machine['date']}, commit {machine['commit']}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img">',
            "<title>Thousand deliveries per server CPU-second, ringrelay beside its peers</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{y - 1}" rx="6"/>',
            f'<text class="title" x="{MARGIN}" y="26">Thousand deliveries per server CPU-second (more is better)</text>',
            f'<text class="dim" x="{MARGIN}" y="43">{escape(where)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def panel(scenario, rates, x, y):
    """One scenario's bars, the best on top."""
    longest = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    lines = [
        f'<text x="{x}" y="{y + 14}"><tspan class="head">{escape(scenario.name)}</tspan>'
        f'<tspan class="dim" dx="8">{escape(scenario.about)}</tspan></text>'
    ]
    for index, (rate, server) in enumerate(rates):
        top = y + HEAD_HEIGHT - 6 + index * (BAR_HEIGHT + BAR_GAP)
        middle = top + BAR_HEIGHT - 4
        length = max(longest * rate / rates[0][0], 1)
        kind = "peer" if server.is_peer else "ours"
        weight = "" if server.is_peer else ' class="head"'
        lines += [
            f'<text{weight} x="{x + LABEL_WIDTH - 8}" y="{middle}" text-anchor="end">{escape(server.name)}</text>',
            f'<rect class="{kind}" x="{x + LABEL_WIDTH}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2"/>',
            f'<text x="{x + LABEL_WIDTH + length + 6:.1f}" y="{middle}">{rate:,.0f}</text>',
        ]
    return lines
