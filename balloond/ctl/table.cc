// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/table.h"

#include <libsmartcols/libsmartcols.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace balloon::ctl {
namespace {

constexpr std::size_t kGap = 2;
constexpr unsigned kHeadingAndPrompt = 2;
/// Names shorter than this say nothing: columns go first.
constexpr std::size_t kNameMin = 16;

using Rows = std::vector<std::vector<Cell>>;

/// Columns are as wide as their headings at least, also where these are left out.
std::vector<std::size_t> widths_of(const std::vector<Column>& columns, const Rows& rows) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    std::size_t width = std::string_view(columns[i].name).size();
    for (const auto& row : rows) width = std::max(width, row[i].text.size());
    widths.push_back(width);
  }
  return widths;
}

/// With names as short as they may become.
std::size_t least_width(const std::vector<Column>& columns, const std::vector<std::size_t>& widths) {
  std::size_t all = 0;
  for (std::size_t i = 0; i < columns.size(); ++i)
    all += (i == 0 ? 0 : kGap) + (columns[i].shorten ? std::min(widths[i], kNameMin) : widths[i]);
  return all;
}

void leave_out(std::size_t column, std::vector<Column>& columns, Rows& rows) {
  const auto at = static_cast<std::ptrdiff_t>(column);
  columns.erase(columns.begin() + at);
  for (auto& row : rows) row.erase(row.begin() + at);
}

void fit(std::vector<Column>& columns, Rows& rows, std::size_t limit) {
  auto widths = widths_of(columns, rows);
  while (least_width(columns, widths) > limit) {
    const auto last = std::ranges::max_element(columns, {}, &Column::rank);
    if (last == columns.end() || last->rank == 0) break;
    leave_out(static_cast<std::size_t>(last - columns.begin()), columns, rows);
    widths = widths_of(columns, rows);
  }
  const std::size_t least = least_width(columns, widths);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (!columns[i].shorten) continue;
    const std::size_t width = std::min(widths[i], kNameMin) + (limit > least ? limit - least : 0);
    for (auto& row : rows) row[i].text = shorten(row[i].text, width);
  }
}

using Table = std::unique_ptr<libscols_table, void (*)(libscols_table*)>;

Table table_of(const std::vector<Column>& columns, const Look& look) {
  Table table(::scols_new_table(), &::scols_unref_table);
  if (!table) return table;
  ::scols_table_set_column_separator(table.get(), "  ");
  ::scols_table_enable_noheadings(table.get(), look.headings ? 0 : 1);
  ::scols_table_enable_colors(table.get(), look.terminal.colour ? 1 : 0);
  const bool terminal = look.terminal.columns != 0 && !look.wide;
  ::scols_table_set_termforce(table.get(), terminal ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
  if (terminal) {
    ::scols_table_set_termwidth(table.get(), look.terminal.columns);
    // Again after so many rows that one heading is always on the screen, with the shell's prompt below.
    if (look.terminal.rows > kHeadingAndPrompt) {
      ::scols_table_set_termheight(table.get(), look.terminal.rows - kHeadingAndPrompt);
      ::scols_table_enable_header_repeat(table.get(), 1);
    }
  }
  for (const Column& column : columns) {
    const int flags = (column.right ? SCOLS_FL_RIGHT : 0) | (column.shorten ? SCOLS_FL_TRUNC : 0);
    if (::scols_table_new_column(table.get(), column.name, 0, flags) == nullptr) return {nullptr, nullptr};
  }
  return table;
}

}  // namespace

std::string shorten(const std::string& text, std::size_t width) {
  constexpr std::string_view gap = "..";
  if (text.size() <= width) return text;
  if (width <= gap.size() + 1) return text.substr(0, width);
  const std::size_t back = (width - gap.size()) / 2;
  const std::size_t front = width - gap.size() - back;
  return text.substr(0, front).append(gap).append(text, text.size() - back);
}

std::string lay_out(std::vector<Column> columns, Rows rows, const Look& look) {
  if (look.terminal.columns != 0 && !look.wide) fit(columns, rows, look.terminal.columns);
  const Table table = table_of(columns, look);
  if (!table) return {};
  for (const auto& row : rows) {
    libscols_line* const line = ::scols_table_new_line(table.get(), nullptr);
    for (std::size_t i = 0; line != nullptr && i < row.size(); ++i) {
      ::scols_line_set_data(line, i, row[i].text.c_str());
      if (row[i].colour != nullptr) ::scols_cell_set_color(::scols_line_get_cell(line, i), row[i].colour);
    }
  }
  if (rows.empty()) {  // libsmartcols prints no heading then
    if (!look.headings) return {};
    ::scols_table_enable_noheadings(table.get(), 1);
    libscols_line* const line = ::scols_table_new_line(table.get(), nullptr);
    for (std::size_t i = 0; line != nullptr && i < columns.size(); ++i)
      ::scols_line_set_data(line, i, columns[i].name);
  }
  char* text = nullptr;
  ::scols_print_table_to_string(table.get(), &text);
  const std::unique_ptr<char, decltype(&std::free)> owner(text, &std::free);
  std::string out = text == nullptr ? "" : text;
  if (!out.empty() && out.back() != '\n') out += '\n';
  return out;
}

std::string wrap(std::string_view text, unsigned columns, unsigned indent) {
  if (columns <= indent + 1) return std::string(text);
  const std::size_t width = columns - indent;
  std::string out;
  while (text.size() > width) {
    std::size_t end = text.rfind(' ', width);
    if (end == std::string_view::npos || end == 0) end = std::min(text.find(' '), text.size());
    if (end == text.size()) break;
    out.append(text, 0, end).append("\n").append(indent, ' ');
    text.remove_prefix(end + 1);
  }
  return out.append(text);
}

std::string lay_out_values(const std::vector<std::pair<std::string, std::string>>& values,
                           const Terminal& terminal) {
  std::size_t width = 0;
  for (const auto& [key, value] : values) width = std::max(width, key.size());
  const auto indent = static_cast<unsigned>(width + 1 + kGap);
  std::string out;
  for (const auto& [key, value] : values) {
    std::string line = key + ':';
    line.resize(indent, ' ');
    out += line + wrap(value, terminal.columns, indent) + '\n';
  }
  return out;
}

}  // namespace balloon::ctl
