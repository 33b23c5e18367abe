"""How the page looks: one style sheet for light, dark and paper, with the fonts that are there."""

CSS = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --soft: #5d6470; --line: #dcdfe4; --grid: #eaecef;
  --c1: #0b67b2; --c2: #b3541e; --c3: #2f7d4f; --c4: #7b4fa6; --limit: #a14a00; --mark: #8d2a7a;
  --good: #2f7d4f; --warn: #9a6700; --bad: #b42318; --plain: #6a7280;
  --good-back: #d9efe0; --warn-back: #fbeccb; --bad-back: #fadcd8; --plain-back: #e6e9ed; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1c1f25; --ink: #e7e9ec; --soft: #a3abb8; --line: #343a44; --grid: #2a2f38;
  --c1: #6fb6ff; --c2: #f0a06a; --c3: #7fd0a0; --c4: #c3a1ec; --limit: #f0a350; --mark: #e58bd3;
  --good: #7fd0a0; --warn: #f0c05a; --bad: #ff8f83; --plain: #a3abb8;
  --good-back: #21422f; --warn-back: #4a3a12; --bad-back: #55231f; --plain-back: #333a45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 20px; margin: 0; }
h3 { font-size: 15px; margin: 0 0 2px; } p { margin: 6px 0; } a { color: var(--c1); }
.soft { color: var(--soft); } .lead { font-size: 17px; margin: 10px 0 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin: 18px 0; }
section > header { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: baseline; margin-bottom: 6px; }
.tag { font-size: 13px; font-weight: 650; border-radius: 20px; padding: 2px 11px; white-space: nowrap; }
.tag.good { background: var(--good-back); color: var(--good); } .tag.warn { background: var(--warn-back); color:
  var(--warn); }
.tag.bad { background: var(--bad-back); color: var(--bad); } .tag.plain { background: var(--plain-back); color:
  var(--plain); }
.box { border-left: 4px solid var(--warn); background: var(--warn-back); padding: 8px 14px; border-radius: 4px;
  margin: 12px 0; }
.box ul { margin: 2px 0; padding-left: 20px; } .box.good { border-color: var(--good); background: var(--good-back); }
.box.plain { border-color: var(--plain); background: var(--plain-back); }
.box.bad { border-color: var(--bad); background: var(--bad-back); }
.numbers { display: flex; flex-wrap: wrap; gap: 10px 30px; margin: 12px 0 4px; padding: 0; }
.numbers div { min-width: 82px; } .numbers b { display: block; font-size: 21px; font-weight: 600; line-height: 1.2;
  font-variant-numeric: tabular-nums; white-space: nowrap; } .numbers span { color: var(--soft); font-size: 13px; }
.overview { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 14px; margin: 18px 0; }
.overview a { display: flex; gap: 12px; align-items: center; color: inherit; text-decoration: none; background:
  var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; min-height: 118px; }
.overview img, .overview .blank { width: 96px; height: 96px; flex: none; } .overview b { font-size: 19px; }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px; margin: 8px 0 2px; }
.pair { display: grid; grid-template-columns: repeat(2, 1fr); gap: 22px; margin: 20px 0 0; align-items: start; }
figure { margin: 0; min-width: 0; } figcaption { color: var(--soft); font-size: 13px; line-height: 1.4;
  margin-top: 4px; }
figure.view { text-align: center; } figure img, figure svg { width: 100%; height: auto; display: block; }
.black { position: relative; background: #000; border-radius: 6px; overflow: hidden; }
.black svg { position: absolute; inset: 0; } .black text { fill: #fff; font: 600 8px system-ui, sans-serif; }
.black path { stroke: #fff; stroke-width: 2; } h3.part { margin-top: 22px; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--ink); }
.chart .tick { font-size: 12px; fill: var(--soft); } .chart .name { font-size: 13px; }
.chart .note { font-size: 12px; fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.chart path { fill: none; }
.chart .grid { stroke: var(--grid); } .chart .axis { stroke: var(--soft); }
.chart .limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 6 4; }
.chart .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 2 3; }
.chart .curve { stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.chart .dots { stroke-width: 2.6; stroke-linecap: round; opacity: .45; }
.c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); }
.band { fill: var(--c1); opacity: .18; }
.state { stroke: var(--card); } .state.good { fill: var(--good-back); } .state.warn { fill: var(--warn-back); }
.state.bad { fill: var(--bad-back); } .state.plain { fill: var(--plain-back); }
.state-name { font-size: 11.5px; font-weight: 600; }
.meridian { fill: none; stroke: #fff; stroke-opacity: .28; stroke-width: .5; } .rim { fill: none; stroke:
  var(--soft); }
.pole { fill: #fff; stroke: #000; stroke-width: .4; } .sphere .pole-name { font-size: 8px; font-weight: 650;
  text-anchor: middle;
  fill: #fff; stroke: #000; stroke-width: 1.6; paint-order: stroke; }
.scale { display: flex; flex-wrap: wrap; white-space: nowrap;
  align-items: center; justify-content: center; gap: 6px; color: var(--soft); font-size:
  13px; margin: 4px 0; }
.ramp { display: inline-block; width: 130px; height: 11px; border-radius: 3px; }
.never { display: inline-block; width: 16px; height: 11px; border-radius: 3px;
  background: repeating-linear-gradient(135deg, #808080 0 3px, #80808040 3px 6px); }
.atoms circle { stroke: #000; stroke-opacity: .55; stroke-width: .07; }
.field { background: var(--plain-back); border-radius: 6px; } .field .body { fill: var(--soft); fill-opacity:
  .14; stroke: var(--soft); }
.field .edge { fill: none; stroke: var(--line); }
.bar { display: flex; height: 18px; border-radius: 5px; overflow: hidden; margin: 10px 0 6px; gap: 1px; }
.bar i { display: block; } .bar .used { background: var(--c3); } .bar .rejected { background: var(--warn); }
.bar .dropped { background: var(--bad); } .bar .flight { background: var(--c1); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } td, th { padding: 3px 16px 3px 0;
  text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--grid); font-weight: 400; }
tr:has(td) > th, td:last-child:not(.n) { overflow-wrap: anywhere; } th { color: var(--soft); }
td.n, th.n { text-align: right; } tr.sum td { font-weight: 650; }
.wide { overflow-x: auto; } code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--plain-back); padding: 8px 12px; border-radius: 6px; overflow-x: auto; margin: 6px 0;
  white-space: pre-wrap; }
details summary { cursor: pointer; color: var(--soft); margin-top: 10px; }
@media screen and (max-width: 760px) { .pair { grid-template-columns: 1fr; } main { padding: 16px 10px; } section {
  padding: 14px 12px; }
  .numbers b { font-size: 18px; } .chart .tick, .chart .note { font-size: 16px; } .chart .name { font-size: 17px; }
  .state-name { font-size: 13px; } .chart .row-name { font-size: 13px; } .black text { font-size: 10px; } }
@media print { :root { color-scheme: light;
  --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --grid: #e4e4e4; --c1: #0b67b2; --c2: #b3541e;
  --c3: #2f7d4f; --c4: #7b4fa6; --limit: #a14a00; --mark: #8d2a7a; --good: #1d5c37; --warn: #7a5200; --bad: #9a1c12;
  --plain: #444; --good-back: #d9efe0; --warn-back: #fbeccb; --bad-back: #fadcd8; --plain-back: #e6e9ed; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; } section { border: 0; padding: 0; }
  section.particle + section.particle { break-before: page; } figure, .numbers, .row { break-inside: avoid; } h3.part {
    break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
