// SPDX-License-Identifier: Apache-2.0
// Strict YAML: a configuration file is taken whole or refused with file, line, column and what was expected.
//
// The reader binds a mapping to variables. Every key that no field() asked for is an error, and so is a key
// written twice, a value of the wrong kind, an anchor, a merge key or a second document. All errors of a file
// are collected, so that a person mends them in one go.
//
//   auto document = yaml::Document::parse(text, "balloond.yaml");   // or Document::load(path)
//   if (!document) ...
//   document->root([&](yaml::Map& root) {
//     root.field("period", config.period);      // keeps the default when the key is absent
//     root.require("socket"); root.field("socket", config.socket);
//     root.map("metrics", [&](yaml::Map& metrics) { metrics.field("listen", config.listen); });
//     root.list("guests", [&](const yaml::Value& guest) { guest.map([&](yaml::Map& map) { ... }); });
//   });
//   BALLOON_TRY(document->finish());            // the error lists every complaint, one a line
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace YAML {
class Node;
}

namespace balloon::yaml {

class Map;

/// Where complaints about one file gather.
class Complaints;

/// One value, with its place in the file.
class Value {
 public:
  /// Each reads the value into `out`, or complains and leaves `out` as it is; returns whether it did.
  bool read(std::string& out) const;
  bool read(bool& out) const;  ///< true or false, or as YAML 1.1 has them: yes, no, on, off
  /// Decimal. A complaint about what is no whole number names the range `least` to `most`; whether a number
  /// is within it is for the caller to say.
  bool read(std::uint32_t& out, std::uint32_t least = 0, std::uint32_t most = ~0U) const;
  bool read(double& out) const;                    ///< finite
  bool read(std::chrono::nanoseconds& out) const;  ///< "500ms", "1s", "10m", "1h"
  bool read_bytes(Bytes& out) const;               ///< as parse_bytes
  bool map(const std::function<void(Map&)>& bind) const;
  bool is_map() const;  ///< for keys that are a word or a mapping
  bool list(const std::function<void(const Value&)>& each) const;
  bool read_strings(std::map<std::string, std::string>& out) const;  ///< a mapping of names to strings
  /// Complains at this value's place, e.g. value.complain("min 2 GiB is above max 1 GiB").
  void complain(std::string_view message) const;
  std::size_t line() const;                          ///< from 1; 0 where it has none
  const std::string& path() const { return path_; }  ///< of keys, e.g. "guests[0].min"

 private:
  friend class Map;
  friend class Document;
  Value(std::shared_ptr<YAML::Node> node, std::string path, std::shared_ptr<Complaints> complaints);
  std::shared_ptr<YAML::Node> node_;
  std::string path_;
  std::shared_ptr<Complaints> complaints_;
};

/// One mapping being read. At its end, each key that nothing asked for is complained about, with the nearest
/// known key.
class Map {
 public:
  ~Map();
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  /// Reads `key` with `read` when it is present. Returns whether it was present and good.
  bool with(std::string_view key, const std::function<void(const Value&)>& read);
  template <typename T>
  bool field(std::string_view key, T& out) {
    bool good = false;
    with(key, [&](const Value& value) { good = value.read(out); });
    return good;
  }
  bool bytes(std::string_view key, Bytes& out);
  bool map(std::string_view key, const std::function<void(Map&)>& bind);
  bool list(std::string_view key, const std::function<void(const Value&)>& each);
  /// Complains when `key` is absent. Call it beside the field() that reads it.
  void require(std::string_view key);
  /// Complains at the mapping's own place, for constraints between fields.
  void complain(std::string_view message);
  const Value& self() const;

 private:
  friend class Value;
  friend class Document;
  explicit Map(Value value);
  struct State;
  std::unique_ptr<State> state_;
};

/// One file.
class Document {
 public:
  /// Parses; refuses syntax errors, more than one document, aliases and input over 1 MiB.
  static Result<Document> parse(std::string_view text, std::string name);
  static Result<Document> load(const std::string& path);
  /// Reads the root mapping; an empty file is an empty mapping.
  void root(const std::function<void(Map&)>& bind) const;
  /// Nothing, or all complaints, one a line as "file:line:col: path: message".
  Result<void> finish() const;

 private:
  explicit Document(Value root);
  Value root_;
};

}  // namespace balloon::yaml
