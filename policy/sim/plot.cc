// The plot: one self-contained HTML page.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "policy/sim/comparison.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

// Draws one panel a guest (size as a line, demand as an area) and one for the host, for the law chosen.
constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en"><meta charset="utf-8"><title>balloon-sim</title>
<style>
body{font:14px/1.4 system-ui,sans-serif;margin:1.5em;color:#222;background:#fff;max-width:1200px}
select{font:inherit;margin-right:1em}
figure{margin:.6em 0}figcaption{font-weight:600}
svg{width:100%;height:120px;display:block;background:#fafafa;border:1px solid #ddd}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.1em .7em;text-align:right;border-bottom:1px solid #eee}
td:first-child,th:first-child{text-align:left}
.size{fill:none;stroke:#0b62a4;stroke-width:1.5}.demand{fill:#f4b942;opacity:.55;stroke:none}
.free{fill:none;stroke:#2a8c4a;stroke-width:1.5}.swapped{fill:none;stroke:#b3261e;stroke-width:1.5}
.judged{fill:#0b62a4;opacity:.05}text{font-size:11px;fill:#555}
.key span{display:inline-block;width:1.2em;height:.7em;margin:0 .3em 0 1em}
</style>
<h1>balloon-sim</h1>
<p><label>scenario <select id="scenario"></select></label><label>law <select id="law"></select></label></p>
<p id="summary"></p>
<p class="key"><span style="background:#0b62a4"></span>guest's size<span style="background:#f4b942"></span>its demand
<span style="background:#2a8c4a"></span>host free<span style="background:#b3261e"></span>host swap; MiB over seconds</p>
<div id="panels"></div><div id="scores"></div>
<script>
const data=DATA;
const W=1000,H=120,S=document.getElementById('scenario'),L=document.getElementById('law');
const option=(select,text,value)=>{const o=document.createElement('option');o.textContent=text;o.value=value;select.append(o)};
data.forEach((s,i)=>option(S,s.scenario,i));
function path(t,v,most,close){const end=t[t.length-1]||1;
 const points=v.map((y,i)=>(t[i]/end*W).toFixed(1)+','+(H-y/most*(H-8)).toFixed(1));
 return close?'M0,'+H+'L'+points.join('L')+'L'+W+','+H+'Z':'M'+points.join('L')}
function panel(title,t,lines,judged){const most=Math.max(1,...lines.flatMap(l=>l.v));const end=t[t.length-1]||1;
 const shade=judged.map(j=>`<rect class="judged" x="${j[0]/end*W}" y="0" width="${(j[1]-j[0])/end*W}" height="${H}"/>`).join('');
 const f=document.createElement('figure'),c=document.createElement('figcaption');c.textContent=title;f.append(c);
 f.insertAdjacentHTML('beforeend',`<svg viewBox="0 0 ${W} ${H}" preserveAspectRatio="none">${shade}`
 +lines.map(l=>`<path class="${l.c}" d="${path(t,l.v,most,l.c==='demand')}"/>`).join('')
 +`<text x="4" y="12">${most.toFixed(0)} MiB</text><text x="${W-50}" y="${H-4}">${end.toFixed(0)} s</text></svg>`);return f}
function draw(){const s=data[S.value],l=s.laws[L.value],p=document.getElementById('panels');p.replaceChildren();
 document.getElementById('summary').textContent=s.summary;
 l.guests.forEach(g=>p.append(panel(g.name,l.time,[{c:'demand',v:g.demand},{c:'size',v:g.size}],s.judged)));
 p.append(panel('host',l.time,[{c:'free',v:l.host_free},{c:'swapped',v:l.host_swapped}],s.judged));
 const table=document.createElement('table');const row=(cells,tag)=>{const r=table.insertRow();
 cells.forEach(c=>{const d=document.createElement(tag);d.textContent=c;r.append(d)})};
 row(['score',...s.laws.map(x=>x.law)],'th');
 Object.keys(l.scores).forEach(k=>row([k,...s.laws.map(x=>+x.scores[k].toPrecision(4))],'td'));
 document.getElementById('scores').replaceChildren(table)}
function laws(){L.replaceChildren();data[S.value].laws.forEach((l,i)=>option(L,l.law,i));draw()}
S.onchange=laws;L.onchange=draw;laws();
</script></html>
)html";

constexpr std::string_view kData = "DATA";

Json guests_of(const Series& series) {
  Json guests = Json::array();
  for (std::size_t i = 0; i < series.guests.size(); ++i)
    guests.push_back({{"name", series.guests[i]}, {"size", series.size[i]}, {"demand", series.demand[i]}});
  return guests;
}

/// JSON within a script: "</script>" in a name must not end it.
std::string for_script(const Json& json) {
  std::string text = json.dump();
  for (std::size_t at = text.find("</"); at != std::string::npos; at = text.find("</", at + 3))
    text.replace(at, 2, "<\\/");
  return text;
}

}  // namespace

std::string to_html(const std::vector<Comparison>& comparisons) {
  Json list = Json::array();
  for (const Comparison& comparison : comparisons) {
    Json judged = Json::array();
    for (const Window& window : comparison.scenario->judged)
      judged.push_back({std::chrono::duration<double>(window.from).count(),
                        std::chrono::duration<double>(window.to).count()});
    Json laws = Json::array();
    for (std::size_t i = 0; i < comparison.laws.size(); ++i) {
      const RunResult& result = comparison.results[i];
      Json scores = Json::object();
      for (const ScoreInfo& score : kScores) scores[std::string(score.name)] = result.scores.*score.value;
      laws.push_back({{"law", comparison.laws[i]->name},
                      {"scores", std::move(scores)},
                      {"time", result.series.time},
                      {"guests", guests_of(result.series)},
                      {"host_free", result.series.host_free},
                      {"host_swapped", result.series.host_swapped}});
    }
    list.push_back({{"scenario", comparison.scenario->name},
                    {"summary", comparison.scenario->summary},
                    {"judged", std::move(judged)},
                    {"laws", std::move(laws)}});
  }
  std::string page(kPage);
  page.replace(page.find(kData, page.find("const data=")), kData.size(), for_script(list));
  return page;
}

}  // namespace balloon::policy::sim
