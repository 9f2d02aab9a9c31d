"""How the report looks."""

# ruff: noqa: E501 - lines of a style sheet

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1c2330; --quiet: #66707f; --rule: #e4e6ea;
  --good: #16825d; --bad: #c2362b; --h0: #2f6bde; --h1: #d07a12; --h2: #17896a; --h3: #8b4fd0; --h4: #c43d6b; --h5: #5b6b80; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1a1f28; --ink: #e7eaf0; --quiet: #97a1b2;
  --rule: #2c3340; --good: #43c694; --bad: #f2776b; --h0: #7aa5ff; --h1: #f0a94f; --h2: #4fd0a8; --h3: #bf93f5;
  --h4: #f082a8; --h5: #9fb0c6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
header h1 { font-size: 29px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 8px; }
header p { max-width: 74ch; color: var(--quiet); margin: 0 0 18px; }
h2 { font-size: 18px; margin: 36px 0 12px; letter-spacing: -.005em; }
.verdict { display: inline-block; padding: 3px 12px; border-radius: 99px; font-weight: 600; font-size: 13px; color: var(--card);
  margin-bottom: 14px; }
.verdict.good { background: var(--good); } .verdict.bad { background: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 12px; margin: 8px 0 8px; }
.figures div, figure, .sheet { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.figures div { padding: 12px 14px; }
.figures b { display: block; font-size: 21px; letter-spacing: -.01em; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 14px 14px 8px; break-inside: avoid; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 16px; font-size: 14px; margin: 0 4px 6px; }
.legend { color: var(--quiet); font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
svg { display: block; width: 100%; height: auto; }
.drawing { overflow-x: auto; }
@media (max-width: 560px) { svg { min-width: calc(.8 * var(--width)); } }
svg text { font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.rule { stroke: var(--rule); stroke-width: 1; } .faint { stroke-dasharray: 2 4; }
.tick { fill: var(--quiet); font-variant-numeric: tabular-nums; }
.inside { fill: var(--card); text-anchor: middle; font-weight: 600; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; } .band { stroke: none; opacity: .17; }
.hue0 { --hue: var(--h0); } .hue1 { --hue: var(--h1); } .hue2 { --hue: var(--h2); } .hue3 { --hue: var(--h3); }
.hue4 { --hue: var(--h4); } .hue5 { --hue: var(--h5); }
.line { stroke: var(--hue); } .band { fill: var(--hue); } i[class^=hue] { background: var(--hue); }
rect.good, .dot.good { fill: var(--good); } rect.bad { fill: var(--bad); } rect.other { fill: var(--h1); } rect.none { fill: var(--h5); opacity: .35; }
i.good { background: var(--good); } i.bad { background: var(--bad); } i.other { background: var(--h1); } i.none { background: var(--h5); opacity: .35; }
.dot.fault { fill: var(--bad); } .dot.step { fill: var(--h0); } .dot { stroke: var(--card); stroke-width: 1.2; }
.sheet { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 8px 14px; border-top: 1px solid var(--rule); vertical-align: top; }
tr:first-child > th { border-top: 0; } th { color: var(--quiet); font-weight: 500; font-size: 13px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.good, td.bad { white-space: nowrap; } td.good { color: var(--good); font-weight: 600; } td.bad { color: var(--bad); font-weight: 600; } td small { color: var(--quiet); }
code { font: 12.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
details { margin-top: 16px; } summary { cursor: pointer; color: var(--quiet); }
footer { margin-top: 36px; color: var(--quiet); font-size: 13px; }
@media print { body { background: none; } main { padding: 0; max-width: none; } .figures div, figure, .sheet { break-inside: avoid; }
  details > * { display: block; } }
"""
