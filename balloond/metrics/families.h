// SPDX-License-Identifier: Apache-2.0
// Metrics in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats), written one
// sample at a time: samples of one family stand together, however they come.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/histogram.h"

namespace balloon::daemon {

/// As they are written, so that those of a guest are put into words once for all its samples.
class Labels {
 public:
  using Pair = std::pair<std::string_view, std::string_view>;  ///< name, value
  Labels() = default;
  Labels(std::initializer_list<Pair> pairs) { append(pairs); }
  /// These and more.
  Labels with(std::initializer_list<Pair> pairs) const {
    Labels more = *this;
    more.append(pairs);
    return more;
  }
  /// guest="a",state="stuck"
  const std::string& text() const { return text_; }

 private:
  void append(std::initializer_list<Pair> pairs);
  std::string text_;
};

template <typename Value>
concept Number = std::integral<Value> || std::floating_point<Value>;

class Families {
 public:
  /// `name` and `help` live as long as this does: they are constants.
  template <Number Value>
  void gauge(std::string_view name, std::string_view help, Value value, const Labels& labels = {}) {
    sample(text_of(name, help, "gauge"), name, labels, value);
  }
  void gauge(std::string_view name, std::string_view help, Bytes size, const Labels& labels = {}) {
    gauge(name, help, size.count(), labels);
  }
  template <Number Value>
  void counter(std::string_view name, std::string_view help, Value value, const Labels& labels = {}) {
    sample(text_of(name, help, "counter"), name, labels, value);
  }
  void counter(std::string_view name, std::string_view help, Bytes size, const Labels& labels = {}) {
    counter(name, help, size.count(), labels);
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& values,
                 const Labels& labels = {});
  /// All of it, as it is served.
  std::string page() const;

 private:
  struct Family {
    std::string_view name, help, kind;
    std::string text{};  ///< its samples
  };
  /// Of the family `name`, made at its first use.
  std::string& text_of(std::string_view name, std::string_view help, std::string_view kind);

  template <Number Value>
  static void append_number(std::string& text, Value value) {
    if constexpr (std::integral<Value>) {
      const fmt::format_int digits(value);
      text.append(digits.data(), digits.size());
    } else {
      append_real(text, value);
    }
  }
  static void append_real(std::string& text, double value);
  static void begin_sample(std::string& text, std::string_view name, const Labels& labels);
  template <Number Value>
  static void sample(std::string& text, std::string_view name, const Labels& labels, Value value) {
    begin_sample(text, name, labels);
    append_number(text, value);
    text += '\n';
  }

  std::vector<Family> families_;  ///< in the order of their first use
  std::unordered_map<std::string_view, std::size_t> places_;
};

/// process_*: what every Prometheus client library exports of its own process (prometheus.io, "Writing client
/// libraries").
void add_process_metrics(Families& families);

}  // namespace balloon::daemon
