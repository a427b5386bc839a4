// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/families.h"

#include <cmath>
#include <iterator>

namespace balloon::daemon {
namespace {

void append_escaped(std::string& text, std::string_view value) {
  for (const char each : value) {
    if (each == '\n') {
      text += "\\n";
      continue;
    }
    if (each == '\\' || each == '"') text += '\\';
    text += each;
  }
}

}  // namespace

void Labels::append(std::initializer_list<Pair> pairs) {
  for (const auto& [name, value] : pairs) {
    if (!text_.empty()) text_ += ',';
    text_.append(name).append("=\"");
    append_escaped(text_, value);
    text_ += '"';
  }
}

std::string& Families::text_of(std::string_view name, std::string_view help, std::string_view kind) {
  const auto [place, is_new] = places_.try_emplace(name, families_.size());
  if (is_new) families_.push_back({.name = name, .help = help, .kind = kind});
  return families_[place->second].text;
}

void Families::begin_sample(std::string& text, std::string_view name, const Labels& labels) {
  text += name;
  if (!labels.text().empty()) text.append("{").append(labels.text()).append("}");
  text += ' ';
}

void Families::append_real(std::string& text, double value) {
  if (std::isnan(value)) {
    text += "NaN";
  } else if (std::isinf(value)) {
    text += value > 0 ? "+Inf" : "-Inf";
  } else {
    fmt::format_to(std::back_inserter(text), "{}", value);
  }
}

void Families::histogram(std::string_view name, std::string_view help, const Histogram& values,
                         const Labels& labels) {
  std::string& text = text_of(name, help, "histogram");
  const std::string whole(name);
  const std::vector<std::uint64_t> counts = values.counts();
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    count += counts[i];
    std::string bound;
    append_real(bound, i < values.bounds().size() ? values.bounds()[i] : INFINITY);
    sample(text, whole + "_bucket", labels.with({{"le", bound}}), count);
  }
  sample(text, whole + "_sum", labels, values.sum());
  sample(text, whole + "_count", labels, count);
}

std::string Families::page() const {
  std::size_t size = 0;
  for (const Family& each : families_)
    size += each.text.size() + 2 * each.name.size() + each.help.size() + 32;
  std::string page;
  page.reserve(size);
  for (const Family& each : families_) {
    page.append("# HELP ").append(each.name).append(" ").append(each.help).append("\n# TYPE ");
    page.append(each.name).append(" ").append(each.kind).append("\n").append(each.text);
  }
  return page;
}

}  // namespace balloon::daemon
