// SPDX-License-Identifier: Apache-2.0
// The report: one self-contained HTML page, report.html with its data in it.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "policy/sim/comparison.h"
#include "policy/sim/report_page.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

/// Where the page has its data.
constexpr std::string_view kData = "const data=DATA;";

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

/// Whole MiB: a curve shows no more, and the page stays small.
Json in_mib(const std::vector<float>& values) {
  Json out = Json::array();
  for (const float value : values) out.push_back(std::lround(value));
  return out;
}

const char* describe(const Event& event) {
  switch (event.kind) {
    case Event::Kind::daemon_down:
      return "the daemon is down";
    case Event::Kind::backend_hangs:
      return "its VMM hangs";
    case Event::Kind::stats_silent:
      return "it sends no statistics";
    case Event::Kind::stats_lie:
      return "its statistics are lies";
    case Event::Kind::link_lost:
      return "its VMM has no connection to the daemon";
    case Event::Kind::limits_change:
      return "its limits change";
  }
  return "";
}

Json events_of(const Scenario& scenario) {
  Json events = Json::array();
  for (const Event& event : scenario.events)
    events.push_back({{"at", seconds(event.at)}, {"guest", event.guest}, {"text", describe(event)}});
  return events;
}

Json run_of(const Scenario& scenario, const std::string& law, const Series& series) {
  Json guests = Json::array();
  for (std::size_t i = 0; i < series.guests.size(); ++i) {
    guests.push_back({{"name", series.guests[i]},
                      {"given", in_mib(series.size[i])},
                      {"demand", in_mib(series.demand[i])}});
  }
  Json judged = Json::array();
  for (const Window& window : scenario.judged)
    judged.push_back(
        {{"from", seconds(window.from)}, {"to", seconds(window.to)}, {"title", "what scores count"}});
  return {{"group", scenario.name},
          {"name", law},
          {"note", scenario.summary},
          {"time", series.time},
          {"host_total", scenario.host.memory / kMiB},
          {"guests", std::move(guests)},
          {"host", {{"free", in_mib(series.host_free)}, {"swapped", in_mib(series.host_swapped)}}},
          {"phases", std::move(judged)},
          {"events", events_of(scenario)}};
}

Json scores_of(const Comparison& comparison) {
  Json columns = Json::array({"score"});
  for (const Contender* law : comparison.laws) columns.push_back(law->name);
  Json rows = Json::array();
  for (const ScoreInfo& score : kScores) {
    Json row = Json::array({fmt::format("{}{}{}", score.name, score.unit.empty() ? "" : ", ", score.unit)});
    for (const RunResult& result : comparison.results)
      row.push_back(fmt::format("{:.4g}", result.scores.*score.value));
    rows.push_back(std::move(row));
  }
  return {{"group", comparison.scenario->name},
          {"title", "Scores"},
          {"columns", std::move(columns)},
          {"rows", std::move(rows)}};
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
  Json runs = Json::array();
  Json tables = Json::array();
  for (const Comparison& comparison : comparisons) {
    for (std::size_t i = 0; i < comparison.laws.size(); ++i)
      runs.push_back(run_of(*comparison.scenario, comparison.laws[i]->name, comparison.results[i].series));
    tables.push_back(scores_of(comparison));
  }
  const Json data = {{"title", "balloon-sim"},
                     {"summary", "Simulated hosts and guests under control laws."},
                     {"runs", std::move(runs)},
                     {"tables", std::move(tables)}};
  std::string page(kReportPage);
  page.replace(page.find(kData), kData.size(), "const data=" + for_script(data) + ";");
  return page;
}

}  // namespace balloon::policy::sim
