// SPDX-License-Identifier: Apache-2.0
// The monitor beside QEMU's own: what public clients send gets an answer of the same shape from both. QEMU
// needs no KVM for this; the VMM does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/bare_metal/line.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::TemporaryDirectory;
using nlohmann::json;

enum class Kind { usual, with_ids, without_balloon };

struct Request {
  const char* name;
  std::string text;
  int answers = 1;
  Kind kind = Kind::usual;  ///< of the guest that is asked for
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
  /// The same guest on both, started with the first request that is for it.
  struct Both {
    Both() {
      write_kernel(directory.file("kernel"), Code().halt());
      const std::string make = "qemu-img create -q -f raw " + directory.file("disk") + " 1M";
      if (std::system(make.c_str()) != 0) throw std::runtime_error(make);
    }
    void start(const std::vector<std::string>& our_flags, const std::vector<std::string>& their_flags) {
      std::vector<std::string> command{BALLOON_VMM,      "--name=web",
                                       "--memory=64MiB", "--kernel=" + directory.file("kernel"),
                                       "--serial=none",  "--monitor=" + directory.file("ours"),
                                       "--rng=off"};
      command.insert(command.end(), our_flags.begin(), our_flags.end());
      ours = std::make_unique<Background>(command, directory.file("our-log"));
      command = {"/usr/bin/env",
                 "qemu-system-x86_64",
                 "-accel",
                 "tcg",
                 "-m",
                 "64",
                 "-nodefaults",
                 "-display",
                 "none",
                 "-name",
                 "web",
                 "-qmp",
                 "unix:" + directory.file("theirs") + ",server=on,wait=off"};
      command.insert(command.end(), their_flags.begin(), their_flags.end());
      theirs = std::make_unique<Background>(command, directory.file("their-log"));
    }
    TemporaryDirectory directory;
    std::unique_ptr<Background> ours, theirs;
  };
  static Both& both(Kind kind) {
    std::unique_ptr<Both>& guest = guests[kind];
    if (guest) return *guest;
    guest = std::make_unique<Both>();
    const std::string disk = guest->directory.file("disk");
    switch (kind) {
      case Kind::usual:
        guest->start({}, {"-device", "virtio-balloon-pci,id=balloon0"});
        break;
      case Kind::with_ids:
        guest->start(
            {"--balloon=id=bal,addr=0x7", "--disk=path=" + disk + ",format=raw,id=root,werror=stop,addr=5"},
            {"-device", "virtio-balloon-pci,id=bal,addr=0x7", "-drive",
             "file=" + disk + ",format=raw,if=none,id=root,werror=stop,file.locking=off", "-device",
             "virtio-blk-pci,drive=root,id=root,addr=5,share-rw=on"});
        break;
      case Kind::without_balloon:
        guest->start({"--balloon=off"}, {});
        break;
    }
    return *guest;
  }
  static void TearDownTestSuite() { guests.clear(); }
  static inline std::map<Kind, std::unique_ptr<Both>> guests;
};

TEST_P(MonitorBesideQemu, AnswersInTheSameShape) {
  const Both& guest = both(GetParam().kind);
  Monitor our_monitor(guest.directory.file("ours"));
  Monitor their_monitor(guest.directory.file("theirs"));
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
                R"({"execute":"human-monitor-command","arguments":{"command-line":"info balloon"}})"},
        Request{"ById", qom("qom-get", "bal", R"(,"property":"type")"), 1, Kind::with_ids},
        Request{"ByIdsPath", qom("qom-get", "/machine/peripheral/bal", kInterval), 1, Kind::with_ids},
        Request{"NotByAnotherId", qom("qom-get", "balloon0", kInterval), 1, Kind::with_ids},
        Request{"NobodyWithoutId", qom("qom-list", "/machine/peripheral-anon"), 1, Kind::with_ids},
        Request{"TypeOfADisk", qom("qom-get", "/machine/peripheral/root", R"(,"property":"type")"), 1,
                Kind::with_ids},
        Request{"NoSuchPropertyOfADisk", qom("qom-get", "root", R"(,"property":"colour")"), 1,
                Kind::with_ids},
        Request{"ADiskThatStopsTheGuest", R"({"execute":"query-block"})", 1, Kind::with_ids},
        Request{"NoCableOfADisk", R"({"execute":"set_link","arguments":{"name":"root","up":true}})", 1,
                Kind::with_ids},
        Request{"NoBalloon", R"({"execute":"query-balloon"})", 1, Kind::without_balloon},
        Request{"NoBalloonToSet", R"({"execute":"balloon","arguments":{"value":1048576}})", 1,
                Kind::without_balloon},
        Request{"NoBalloonToFind", qom("qom-get", "balloon0", kInterval), 1, Kind::without_balloon},
        Request{"NoBalloonListed", qom("qom-list", "/machine/peripheral"), 1, Kind::without_balloon},
        Request{"HumanNoBalloon",
                R"({"execute":"human-monitor-command","arguments":{"command-line":"info balloon"}})", 1,
                Kind::without_balloon}),
    [](const auto& request) { return std::string(request.param.name); });

/// What stands in the values themselves, rather than in their shape.
TEST_F(MonitorBesideQemu, NamesAndPlacesOfDevicesAreTheSame) {
  const Both& guest = both(Kind::with_ids);
  Monitor our_monitor(guest.directory.file("ours"));
  Monitor their_monitor(guest.directory.file("theirs"));
  const json ours = our_monitor.answer(R"({"execute":"query-block"})")["return"][0];
  const json theirs = their_monitor.answer(R"({"execute":"query-block"})")["return"][0];
  for (const char* key : {"device", "qdev", "io-status", "type", "removable"})
    EXPECT_EQ(ours[key], theirs[key]) << key;
  const auto types = [](Monitor& monitor) {
    std::map<std::string, json> found;
    for (const json& child : monitor.answer(qom("qom-list", "/machine/peripheral"))["return"])
      found[child["name"]] = child["type"];
    return found;
  };
  EXPECT_EQ(types(our_monitor), types(their_monitor));
}

}  // namespace
}  // namespace balloon::vmm::test
