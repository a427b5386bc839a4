// The monitor beside QEMU's own: what public clients send gets an answer of the same shape from both. QEMU
// needs no KVM for this; the VMM does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tests/bare_metal/line.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::TemporaryDirectory;
using nlohmann::json;

struct Request {
  const char* name;
  std::string text;
  int answers = 1;
  friend void PrintTo(const Request& request, std::ostream* out) { *out << request.text; }
};

/// Which keys there are and of what type; of a list, its first element. Of an error, its class.
json shape_of(const json& value) {
  if (value.is_object()) {
    json shape = json::object();
    for (const auto& [key, part] : value.items()) {
      if (key == "error") {
        shape[key] = part["class"];
      } else {
        shape[key] = shape_of(part);
      }
    }
    return shape;
  }
  if (value.is_array()) return value.empty() ? json::array() : json::array({shape_of(value[0])});
  if (value.is_number()) return 0;
  if (value.is_boolean()) return true;
  return value.is_string() ? json("text") : value;
}

/// Of `ours`, what `theirs` has, too: newer statistics may be there besides.
json common(const json& ours, const json& theirs) {
  if (!ours.is_object() || !theirs.is_object()) return ours;
  json both = json::object();
  for (const auto& [key, part] : ours.items()) {
    if (theirs.contains(key)) both[key] = common(part, theirs[key]);
  }
  return both;
}

/// A monitor whose handshake is done.
class Monitor {
 public:
  explicit Monitor(const std::string& path) : line_(path) {
    EXPECT_NE(line_.line_with("QMP"), "");
    EXPECT_EQ(answer("{'execute': 'qmp_capabilities'}"), json::parse(R"({"return":{}})"));
  }
  json answer(const std::string& request) {
    line_.send(request);
    return next();
  }
  json next() {
    while (true) {
      const std::string line = line_.line_with("{", std::chrono::seconds(20));
      if (line.empty()) return "no answer";
      const json value = json::parse(line, nullptr, false);
      if (!value.is_object() || !value.contains("event")) return value;
    }
  }

 private:
  Line line_;
};

class MonitorBesideQemu : public testing::TestWithParam<Request> {
 protected:
  static void SetUpTestSuite() {
    directory = std::make_unique<TemporaryDirectory>();
    write_kernel(directory->file("kernel"), Code().halt());
    ours = std::make_unique<Background>(
        std::vector<std::string>{BALLOON_VMM, "--name=web", "--memory=64MiB",
                                 "--kernel=" + directory->file("kernel"), "--serial=none",
                                 "--monitor=" + directory->file("ours"), "--rng=off"},
        directory->file("our-log"));
    theirs = std::make_unique<Background>(
        std::vector<std::string>{"/usr/bin/env", "qemu-system-x86_64", "-accel", "tcg", "-m", "64",
                                 "-nodefaults", "-display", "none", "-name", "web", "-device",
                                 "virtio-balloon-pci,id=balloon0", "-qmp",
                                 "unix:" + directory->file("theirs") + ",server=on,wait=off"},
        directory->file("their-log"));
  }
  static void TearDownTestSuite() {
    ours.reset();
    theirs.reset();
    directory.reset();
  }
  static inline std::unique_ptr<TemporaryDirectory> directory;
  static inline std::unique_ptr<Background> ours, theirs;
};

TEST_P(MonitorBesideQemu, AnswersInTheSameShape) {
  Monitor our_monitor(directory->file("ours"));
  Monitor their_monitor(directory->file("theirs"));
  json answer = our_monitor.answer(GetParam().text), expected = their_monitor.answer(GetParam().text);
  for (int i = 0; i < GetParam().answers; ++i) {
    if (i > 0) answer = our_monitor.next(), expected = their_monitor.next();
    const json shape = shape_of(expected);
    EXPECT_EQ(common(shape_of(answer), shape), shape) << "ours " << answer << "\nQEMU's " << expected;
  }
}

std::string qom(const std::string& command, const std::string& path, const std::string& more = "") {
  return R"({"execute":")" + command + R"(","arguments":{"path":")" + path + "\"" + more + "}}";
}
const std::string kInterval = R"(,"property":"guest-stats-polling-interval")";

INSTANTIATE_TEST_SUITE_P(
    Requests, MonitorBesideQemu,
    testing::Values(
        Request{"Balloon", "{ 'execute': 'query-balloon' }"},
        Request{"SetBalloon", R"({"execute":"balloon","arguments":{"value":1}})"},
        Request{"SetBalloonToNothing", R"({"execute":"balloon","arguments":{"value":0}})"},
        Request{"SetBalloonToText", R"({"execute":"balloon","arguments":{"value":"much"}})"},
        Request{"SetIntervalByPartOfAPath",
                qom("qom-set", "machine/peripheral/balloon0", kInterval + R"(,"value":2)")},
        Request{"GetIntervalByName", qom("qom-get", "balloon0", kInterval)},
        Request{"GetStats", qom("qom-get", "/machine/peripheral/balloon0", R"(,"property":"guest-stats")")},
        Request{"ListWithStraySlash", qom("qom-list", "/machine/peripheral/")},
        Request{"ListNowhere", qom("qom-list", "/nowhere")},
        Request{"NoSuchProperty", qom("qom-get", "balloon0", R"(,"property":"colour")")},
        Request{"TwoAtOnce", R"({"execute":"query-balloon"}{"execute":"query-status"})", 2},
        Request{"BlockStats", R"({"execute":"query-blockstats"})"},
        Request{"Block", R"({"execute":"query-block"})"}, Request{"Uuid", R"({"execute":"query-uuid"})"},
        Request{"MemoryDevices", R"({"execute":"query-memory-devices"})"},
        Request{"MemorySize", R"({"execute":"query-memory-size-summary"})"},
        Request{"Name", R"({"execute":"query-name","id":{"a":[1]}})"},
        Request{"Kvm", R"({"execute":"query-kvm"})"}, Request{"NoSuchCommand", R"({"execute":"frobnicate"})"},
        Request{"NoCommand", R"({"id":1})"},
        Request{"SingleQuotes", R"({'execute':'query-status','id':'it\'s'})"},
        Request{"BackAfterAControlCharacter",
                "{\"execute\":\"query-status\"\x01{\"execute\":\"query-status\"}", 2},
        Request{"BackAfterAByteOfNoText", "{\"execute\":\"query\xff{\"execute\":\"query-status\"}", 2},
        Request{"HumanBalloon",
                R"({"execute":"human-monitor-command","arguments":{"command-line":"info balloon"}})"}),
    [](const auto& request) { return std::string(request.param.name); });

}  // namespace
}  // namespace balloon::vmm::test
