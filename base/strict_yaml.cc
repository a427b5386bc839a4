// SPDX-License-Identifier: Apache-2.0
#include "base/strict_yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>
#include <sstream>

#include "base/suggest.h"

namespace balloon::yaml {
namespace {

/// A configuration file larger than this is a mistake.
constexpr std::size_t kMaxFileSize = 1 << 20;
/// More complaints than these help nobody.
constexpr std::size_t kMaxComplaints = 50;
/// Deeper nesting than any configuration needs; bounds recursion.
constexpr int kMaxDepth = 32;

/// YAML 1.2 has true and false. For YAML 1.1 (yaml.org/type/bool.html) on, off, yes and no are the same: what
/// a person means by them does not depend on who reads the file. Each as written, capitalized or in capitals.
std::optional<bool> truth_of(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, bool>, 6> words{
      {{"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}}};
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  for (const auto& [word, value] : words) {
    if (text.size() != word.size() || !std::ranges::equal(text, word, {}, lower)) continue;
    const auto capitals =
        static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return c >= 'A' && c <= 'Z'; }));
    const bool first = text[0] >= 'A' && text[0] <= 'Z';
    if (capitals == 0 || capitals == text.size() || (capitals == 1 && first)) return value;
  }
  return std::nullopt;
}

/// What a plain tree of nodes would hide: aliases (which can blow up) and nesting.
class Guard : public YAML::EventHandler {
 public:
  std::optional<YAML::Mark> alias;
  std::optional<YAML::Mark> too_deep;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    if (!alias) alias = mark;
  }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    enter(mark);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    enter(mark);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void enter(const YAML::Mark& mark) {
    if (++depth_ > kMaxDepth && !too_deep) too_deep = mark;
  }
  int depth_ = 0;
};

std::string place(std::string_view file, const YAML::Mark& mark) {
  return mark.is_null() ? std::string(file) : fmt::format("{}:{}:{}", file, mark.line + 1, mark.column + 1);
}

std::string_view kind(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Scalar:
      return "a single value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
  }
  return "something else";
}

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

}  // namespace

class Complaints {
 public:
  explicit Complaints(std::string file) : file_(std::move(file)) {}
  void add(const YAML::Mark& mark, const std::string& path, std::string_view message) {
    ++count_;
    if (lines_.size() >= kMaxComplaints) return;
    lines_.push_back(path.empty() ? fmt::format("{}: {}", place(file_, mark), message)
                                  : fmt::format("{}: {}: {}", place(file_, mark), path, message));
  }
  Result<void> result() const {
    if (count_ == 0) return {};
    std::string text = fmt::format("{}", fmt::join(lines_, "\n"));
    if (count_ > lines_.size()) text += fmt::format("\n{}: and {} more", file_, count_ - lines_.size());
    return fail(std::move(text));
  }

 private:
  std::string file_;
  std::vector<std::string> lines_;
  std::size_t count_ = 0;
};

Value::Value(std::shared_ptr<YAML::Node> node, std::string path, std::shared_ptr<Complaints> complaints)
    : node_(std::move(node)), path_(std::move(path)), complaints_(std::move(complaints)) {}

void Value::complain(std::string_view message) const { complaints_->add(node_->Mark(), path_, message); }

std::size_t Value::line() const {
  const YAML::Mark mark = node_->Mark();
  return mark.is_null() ? 0 : static_cast<std::size_t>(mark.line) + 1;
}

bool Value::read(std::string& out) const {
  if (!node_->IsScalar()) {
    complain(fmt::format("expected a text, found {}", kind(*node_)));
    return false;
  }
  out = node_->Scalar();
  return true;
}

bool Value::read(bool& out) const {
  const std::string text = node_->IsScalar() ? node_->Scalar() : std::string();
  const auto value = truth_of(text);
  if (!value) {
    complain(fmt::format("expected true or false (or on or off), found {}",
                         text.empty() ? kind(*node_) : "'" + text + "'"));
    return false;
  }
  out = *value;
  return true;
}

bool Value::read(std::uint32_t& out, std::uint32_t least, std::uint32_t most) const {
  const std::string text = node_->IsScalar() ? node_->Scalar() : std::string();
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool octal_looking = text.size() > 1 && text.front() == '0';
  if (error != std::errc{} || end != text.data() + text.size() || octal_looking) {
    complain(fmt::format("expected a whole number from {} to {}, found {}", least, most,
                         text.empty() ? kind(*node_) : "'" + text + "'"));
    return false;
  }
  out = number;
  return true;
}

bool Value::read(double& out) const {
  const std::string text = node_->IsScalar() ? node_->Scalar() : std::string();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(number)) {
    complain(fmt::format("expected a number, found {}", text.empty() ? kind(*node_) : "'" + text + "'"));
    return false;
  }
  out = number;
  return true;
}

bool Value::read(std::chrono::nanoseconds& out) const {
  const std::string text = node_->IsScalar() ? node_->Scalar() : std::string();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  double scale = 0;
  if (unit == "ms") scale = 1e6;
  if (unit == "s") scale = 1e9;
  if (unit == "m") scale = 60e9;
  if (unit == "h") scale = 3600e9;
  if (error != std::errc{} || scale == 0 || !std::isfinite(number) || number < 0 || number * scale > 1e18) {
    complain(fmt::format("expected a duration such as 500ms, 1s, 10m or 1h, found {}",
                         text.empty() ? kind(*node_) : "'" + text + "'"));
    return false;
  }
  out = std::chrono::nanoseconds(std::llround(number * scale));
  return true;
}

bool Value::read_bytes(Bytes& out) const {
  if (!node_->IsScalar()) {
    complain(fmt::format("expected a size such as 512MiB, found {}", kind(*node_)));
    return false;
  }
  const auto bytes = parse_bytes(node_->Scalar());
  if (!bytes) {
    complain(bytes.error().message);
    return false;
  }
  out = *bytes;
  return true;
}

bool Value::is_map() const { return node_->IsMap(); }

bool Value::map(const std::function<void(Map&)>& bind) const {
  if (!node_->IsMap()) {
    complain(fmt::format("expected a mapping, found {}", kind(*node_)));
    return false;
  }
  Map map(*this);
  bind(map);
  return true;
}

bool Value::list(const std::function<void(const Value&)>& each) const {
  if (!node_->IsSequence()) {
    complain(fmt::format("expected a list, found {}", kind(*node_)));
    return false;
  }
  std::size_t index = 0;
  for (const YAML::Node& item : *node_) {
    each(Value(std::make_shared<YAML::Node>(item), fmt::format("{}[{}]", path_, index++), complaints_));
  }
  return true;
}

bool Value::read_strings(std::map<std::string, std::string>& out) const {
  std::map<std::string, std::string> strings;
  bool good = true;
  const bool is_map = map([&](Map& entries) {
    for (const YAML::const_iterator::value_type& entry : *node_) {
      if (!entry.first.IsScalar()) continue;  // Map complains about it
      good &= entries.field(entry.first.Scalar(), strings[entry.first.Scalar()]);
    }
  });
  if (is_map && good) out = std::move(strings);
  return is_map && good;
}

struct Map::State {
  Value self;
  std::map<std::string, std::pair<YAML::Node, YAML::Node>> entries;  // key and value, by key
  std::set<std::string> known;
};

Map::Map(Value value) : state_(new State{std::move(value), {}, {}}) {
  const auto& self = state_->self;
  for (const YAML::const_iterator::value_type& entry : *self.node_) {
    if (!entry.first.IsScalar()) {
      self.complaints_->add(entry.first.Mark(), self.path_, "expected a name as key");
      continue;
    }
    const std::string& key = entry.first.Scalar();
    const auto [first, fresh] = state_->entries.try_emplace(key, entry.first, entry.second);
    if (!fresh) {
      self.complaints_->add(
          entry.first.Mark(), join(self.path_, key),
          fmt::format("duplicate key; it stands in line {} already", first->second.first.Mark().line + 1));
    }
  }
}

Map::~Map() {
  const auto& self = state_->self;
  for (const auto& [key, nodes] : state_->entries) {
    if (state_->known.contains(key)) continue;
    std::string message = "unknown key";
    const std::vector<std::string> known(state_->known.begin(), state_->known.end());
    if (const auto meant = suggest(key, known)) {
      message += fmt::format("; did you mean '{}'?", *meant);
    } else if (!state_->known.empty()) {
      message += fmt::format("; expected one of {}", fmt::join(state_->known, ", "));
    }
    self.complaints_->add(nodes.first.Mark(), join(self.path_, key), message);
  }
}

bool Map::with(std::string_view key, const std::function<void(const Value&)>& read) {
  const auto known = state_->known.emplace(key).first;
  const auto entry = state_->entries.find(*known);
  if (entry == state_->entries.end()) return false;
  read(Value(std::make_shared<YAML::Node>(entry->second.second), join(state_->self.path_, key),
             state_->self.complaints_));
  return true;
}

bool Map::bytes(std::string_view key, Bytes& out) {
  bool good = false;
  with(key, [&](const Value& value) { good = value.read_bytes(out); });
  return good;
}

bool Map::map(std::string_view key, const std::function<void(Map&)>& bind) {
  bool good = false;
  with(key, [&](const Value& value) { good = value.map(bind); });
  return good;
}

bool Map::list(std::string_view key, const std::function<void(const Value&)>& each) {
  bool good = false;
  with(key, [&](const Value& value) { good = value.list(each); });
  return good;
}

void Map::require(std::string_view key) {
  if (!with(key, [](const Value&) {})) complain(fmt::format("key '{}' is missing", key));
}

void Map::complain(std::string_view message) { state_->self.complain(message); }

const Value& Map::self() const { return state_->self; }

Document::Document(Value root) : root_(std::move(root)) {}

Result<Document> Document::parse(std::string_view text, std::string name) {
  if (text.size() > kMaxFileSize)
    return fail(fmt::format("{}: larger than 1 MiB; this is no configuration", name));
  if (text.find('\0') != std::string_view::npos)
    return fail(fmt::format("{}: has a NUL byte; this is no text", name));
  try {
    Guard guard;
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(guard);
    if (guard.alias)
      return fail(
          fmt::format("{}: aliases are not supported; write the value out", place(name, *guard.alias)));
    if (guard.too_deep) return fail(fmt::format("{}: nested too deeply", place(name, *guard.too_deep)));
    if (parser.HandleNextDocument(guard))
      return fail(fmt::format("{}: has more than one document ('---'); expected one", name));
    auto complaints = std::make_shared<Complaints>(std::move(name));
    return Document(
        Value(std::make_shared<YAML::Node>(YAML::Load(std::string(text))), "", std::move(complaints)));
  } catch (const YAML::Exception& error) {
    return fail(fmt::format("{}: not valid YAML: {}", place(name, error.mark), error.msg));
  }
}

Result<Document> Document::load(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file) return fail_errno(fmt::format("reading {}", path), errno);
  std::string text(kMaxFileSize + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return fail_errno(fmt::format("reading {}", path), errno);
  return parse(text, path);
}

void Document::root(const std::function<void(Map&)>& bind) const {
  if (root_.node_->IsNull() || !root_.node_->IsDefined()) {
    const Value empty(std::make_shared<YAML::Node>(YAML::NodeType::Map), "", root_.complaints_);
    empty.map(bind);
    return;
  }
  root_.map(bind);
}

Result<void> Document::finish() const { return root_.complaints_->result(); }

}  // namespace balloon::yaml
