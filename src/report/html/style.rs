//! The style sheet of the page.

pub(super) const CSS: &str = "
:root{--ink:#1a1d21;--soft:#5b6470;--line:#d9dee4;--back:#fff;--pane:#f6f8fa;--bad:#b3261e;--warn:#8a5a00;--info:#1f5f99;--good:#1b6e3c;
--t1:#d7efe0;--t2:#dcecf8;--t3:#fbf0cf;--t4:#fbdcd6;--t0:#eceff2}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343b44;--back:#14171b;--pane:#1c2127;--bad:#ff8a80;--warn:#f0bd5c;
--info:#8cc4ff;--good:#7fd6a0;--t1:#1d4a31;--t2:#1b3f5c;--t3:#554717;--t4:#5f2a23;--t0:#2a3038}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:76rem;padding:1.5rem 2rem 3rem;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
code,pre,.matrix,.place{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:.86em}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--pane);padding:.3rem .6rem}
.sr{position:absolute;left:-99rem}
header{border-left:6px solid var(--soft);padding:.1rem 0 .1rem 1.2rem}
header.failed{border-color:var(--bad)}header.degraded{border-color:var(--warn)}header.healthy{border-color:var(--good)}header.starting{border-color:var(--info)}
.what{margin:0;color:var(--soft)}
h1{font-size:1.5rem;line-height:1.3;margin:.2rem 0 .7rem;font-weight:600}
.badge{display:inline-block;padding:.02em .5em;border-radius:.25em;color:var(--back);background:var(--soft);font-size:.8em;letter-spacing:.04em;vertical-align:.08em}
.failed .badge{background:var(--bad)}.degraded .badge{background:var(--warn)}.healthy .badge{background:var(--good)}.starting .badge{background:var(--info)}
.facts{display:flex;flex-wrap:wrap;gap:.3rem 1.8rem;margin:0}
.facts dt{color:var(--soft);font-size:.8rem}.facts dd{margin:0;overflow-wrap:anywhere}
section{margin-top:2.2rem}
h2{font-size:1.15rem;margin:0 0 .7rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:.82rem;margin:.9rem 0 .3rem;color:var(--soft);text-transform:uppercase;letter-spacing:.05em}
.about,.meta{color:var(--soft);font-weight:400;font-size:.86rem}
.meta{margin:.2rem 0;overflow-wrap:anywhere}
details{border:1px solid var(--line);border-radius:.4rem;margin:.5rem 0;background:var(--back)}
details.echo{margin-left:2rem}
summary{cursor:pointer;padding:.45rem .8rem;font-weight:600}
summary:focus-visible,pre:focus-visible,.wide:focus-visible{outline:3px solid var(--info);outline-offset:1px}
details[open]>summary{border-bottom:1px solid var(--line)}
.finding .n{color:var(--soft);font-variant-numeric:tabular-nums}
.sev{display:inline-block;min-width:4.6em;font-size:.8rem;font-weight:700;text-transform:uppercase;letter-spacing:.03em;color:var(--soft)}
.error .sev,.fail .sev,.bad{color:var(--bad)}.warning .sev,.warn .sev,.forbidden .sev{color:var(--warn)}.finding.info .sev{color:var(--info)}.pass .sev{color:var(--good)}
.check .sev{min-width:10em}
.body{padding:.5rem .8rem .7rem}.body p{margin:.3rem 0}
pre{margin:.3rem 0;padding:.5rem .7rem;background:var(--pane);border-radius:.3rem;white-space:pre-wrap;overflow-wrap:anywhere}
pre.fix{border-left:3px solid var(--good)}
.proof{margin:0;padding:0;list-style:none}
.proof li{padding:.2rem 0;border-top:1px dotted var(--line)}.proof li:first-child{border-top:0}
.proof code{display:block;overflow-wrap:anywhere;white-space:pre-wrap}.place{color:var(--soft)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}
th{text-align:left;color:var(--soft);font-weight:500;white-space:nowrap}
th,td{padding:.22rem .9rem .22rem 0;vertical-align:top}
tbody tr{border-top:1px solid var(--line)}
td.num{text-align:right;font-variant-numeric:tabular-nums}
.ladder .bar{white-space:nowrap;padding-top:.5rem}
.ladder i{display:inline-block;width:1.3rem;height:.6rem;margin-right:2px;border-radius:2px;background:var(--t0)}
.ladder i.done{background:var(--good)}.ladder i.here{background:var(--warn)}
.matrix{font-size:.8rem;line-height:1.2}
.matrix tbody tr{border:0}
.matrix th,.matrix td{padding:.1rem .28rem;min-width:1.75em;text-align:center;white-space:nowrap;border:1px solid var(--back)}
.matrix th[scope=row]{text-align:right}
.matrix tr.host th,.matrix tr.host td{border-top:2px solid var(--soft)}.matrix td.host{border-left:2px solid var(--soft)}
.matrix td.name{text-align:left;color:var(--soft);padding-left:.8rem;border-top-color:transparent!important}
.matrix .self{color:var(--line)}
.g{text-align:center}.g1{background:var(--t1)}.g2{background:var(--t2)}.g3{background:var(--t3)}.g4{background:var(--t4)}.g0{background:var(--t0)}
.g.down{font-weight:700;color:var(--bad)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;padding:0;margin:.7rem 0 0;font-size:.86rem;color:var(--soft)}
.legend .g{display:inline-block;min-width:1.7em;border-radius:.2em;color:var(--ink)}
svg{max-width:100%;height:auto;display:block;margin:.6rem 0}
svg text{fill:var(--soft);font:12px system-ui,'DejaVu Sans',sans-serif}
svg .axis{stroke:var(--line)}svg .line{fill:none;stroke-width:2}svg .expected{stroke:var(--soft);stroke-dasharray:5 4}
svg .s0{stroke:var(--info)}svg .s1{stroke:var(--warn)}svg .s2{stroke:var(--good)}svg .s3{stroke:var(--bad)}
svg text.s0{fill:var(--info);stroke:none}svg text.s1{fill:var(--warn);stroke:none}svg text.s2{fill:var(--good);stroke:none}svg text.s3{fill:var(--bad);stroke:none}
svg circle.s0{fill:var(--info)}svg circle.s1{fill:var(--warn)}svg circle.s2{fill:var(--good)}svg circle.s3{fill:var(--bad)}
svg .room{fill:var(--t0)}svg .used{fill:var(--info)}svg .want{stroke:var(--ink);stroke-width:2}
footer{margin-top:3rem;color:var(--soft);font-size:.82rem}
@media print{
:root{--ink:#000;--soft:#444;--line:#bbb;--back:#fff;--pane:#f4f4f4;--bad:#a00;--warn:#7a4b00;--info:#124a80;--good:#0d5a2c;
--t1:#d7efe0;--t2:#dcecf8;--t3:#fbf0cf;--t4:#fbdcd6;--t0:#eceff2}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
@page{size:A4;margin:14mm}
body{max-width:none;padding:0;font-size:10.5pt}
h1{font-size:15pt}
details::details-content{content-visibility:visible;block-size:auto;opacity:1}
details>*{display:block}
summary{list-style:none}summary::-webkit-details-marker{display:none}
h2,summary{break-after:avoid}
tr,.proof li,pre,svg,#matrix{break-inside:avoid}
.check:not(.fail):not(.warn)>.body{display:none}
.wide{overflow:visible}.matrix{font-size:6.5pt}
.matrix th,.matrix td{padding:.05rem .12rem;min-width:1.3em}
.skip{display:none}
}
";
