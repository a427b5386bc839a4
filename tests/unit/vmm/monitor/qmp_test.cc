// SPDX-License-Identifier: Apache-2.0
// The shapes are those that QEMU 7.2 sends, as captured from it.
#include "vmm/monitor/qmp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/unit/vmm/monitor/fake_guest.h"

namespace balloon::vmm::test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kUnknown = 18446744073709551615ULL;

class QmpTest : public testing::Test {
 protected:
  QmpTest() { ask(R"({"execute":"qmp_capabilities"})"); }
  json ask(std::string_view request) { return json::parse(session.handle(request)); }
  json execute(const std::string& command, const json& arguments = json::object()) {
    return ask(json{{"execute", command}, {"arguments", arguments}}.dump());
  }
  json result(const std::string& command, const json& arguments = json::object()) {
    const json answer = execute(command, arguments);
    EXPECT_TRUE(answer.contains("return")) << answer;
    return answer.value("return", json());
  }
  void expect_error(const json& answer, std::string_view error_class, const std::string& description) {
    ASSERT_TRUE(answer.contains("error")) << answer;
    EXPECT_EQ(answer["error"]["class"], error_class);
    EXPECT_THAT(answer["error"]["desc"].get<std::string>(), HasSubstr(description));
  }
  std::string human(const std::string& line) {
    return result("human-monitor-command", {{"command-line", line}}).get<std::string>();
  }

  FakeGuest guest;
  QmpState state{guest};
  QmpSession session{state};
};

TEST_F(QmpTest, TheGreetingNamesAVersionAndNoCapabilities) {
  const json greeting = json::parse(QmpSession::greeting());
  EXPECT_TRUE(greeting["QMP"]["version"]["qemu"]["major"].is_number());
  EXPECT_TRUE(greeting["QMP"]["capabilities"].is_array());
}

TEST_F(QmpTest, NothingIsDoneBeforeTheHandshake) {
  QmpSession fresh(state);
  expect_error(json::parse(fresh.handle(R"({"execute":"stop"})")), "CommandNotFound",
               "Expecting capabilities");
  EXPECT_FALSE(fresh.ready());
  EXPECT_EQ(guest.state, RunState::running);
  EXPECT_EQ(json::parse(fresh.handle(R"({"execute":"qmp_capabilities"})")), json::parse(R"({"return":{}})"));
  EXPECT_TRUE(fresh.ready());
  expect_error(json::parse(fresh.handle(R"({"execute":"qmp_capabilities"})")), "CommandNotFound",
               "already complete");
}

TEST_F(QmpTest, TheIdComesBackWhateverItIs) {
  EXPECT_EQ(ask(R"({"execute":"query-name","id":7})"), json::parse(R"({"return":{"name":"web-1"},"id":7})"));
  EXPECT_EQ(ask(R"({"execute":"nonsense","id":{"a":[1]}})")["id"], json::parse(R"({"a":[1]})"));
}

TEST_F(QmpTest, QueryBalloonIsWhatIsLeftToTheGuest) {
  guest.actual = 300 * kMiB;
  EXPECT_EQ(result("query-balloon"), json::parse(R"({"actual":314572800})"));
}

TEST_F(QmpTest, BalloonSetsTheTargetAndClampsItToTheMemory) {
  EXPECT_EQ(result("balloon", {{"value", 314572800}}), json::object());
  EXPECT_EQ(guest.target, 300 * kMiB);
  result("balloon", {{"value", 1ULL << 40}});
  EXPECT_EQ(guest.target, 512 * kMiB);
}

TEST_F(QmpTest, ABalloonValueThatIsNoSizeIsRefused) {
  expect_error(execute("balloon", {{"value", 0}}), "GenericError", "Parameter 'target' expects a size");
  expect_error(execute("balloon", {{"value", -5}}), "GenericError", "Parameter 'target' expects a size");
  expect_error(execute("balloon", {{"value", "512M"}}), "GenericError", "expected: integer");
  expect_error(execute("balloon", {{"value", 1.5}}), "GenericError", "expected: integer");
  expect_error(execute("balloon", {{"value", 18446744073709551615ULL}}), "GenericError", "expected: integer");
  expect_error(execute("balloon"), "GenericError", "'value' is missing");
  EXPECT_THAT(guest.calls, IsEmpty());
}

TEST_F(QmpTest, StopAndContAreIdempotentAndShowInTheStatus) {
  EXPECT_EQ(result("query-status"), json::parse(R"({"status":"running","singlestep":false,"running":true})"));
  result("stop");
  result("stop");
  EXPECT_EQ(result("query-status"), json::parse(R"({"status":"paused","singlestep":false,"running":false})"));
  result("cont");
  EXPECT_EQ(result("query-status")["running"], true);
}

TEST_F(QmpTest, PowerResetAndQuitReachTheGuest) {
  result("system_powerdown");
  result("system_reset");
  result("quit");
  EXPECT_THAT(guest.calls, ElementsAre("power button", "reset", "quit"));
}

TEST_F(QmpTest, TheBalloonIsFoundByItsTypeInBothPlacesWhereToolsLook) {
  for (const char* folder : {"/machine/peripheral", "/machine/peripheral-anon"}) {
    std::string found;
    for (const json& child : result("qom-list", {{"path", folder}})) {
      if (child["type"].get<std::string>().starts_with("child<virtio-balloon")) found = child["name"];
    }
    ASSERT_FALSE(found.empty()) << folder;
    EXPECT_EQ(result("qom-get", {{"path", std::string(folder) + "/" + found}, {"property", "type"}}),
              "virtio-balloon-pci");
  }
}

TEST_F(QmpTest, ABalloonWithAnIdIsFoundUnderItAndNowhereElse) {
  guest.id = "bal";
  EXPECT_EQ(result("qom-get", {{"path", "/machine/peripheral/bal"}, {"property", "type"}}),
            "virtio-balloon-pci");
  EXPECT_EQ(result("qom-get", {{"path", "bal"}, {"property", "guest-stats-polling-interval"}}), 0);
  expect_error(execute("qom-get", {{"path", "balloon0"}, {"property", "type"}}), "DeviceNotFound",
               "balloon0");
  EXPECT_EQ(result("qom-list", {{"path", "/machine/peripheral-anon"}}).size(), 1U);
}

TEST_F(QmpTest, AllDevicesWithIdsAreListedWithTheirTypes) {
  const json list = result("qom-list", {{"path", "/machine/peripheral"}});
  std::map<std::string, std::string> types;
  for (const json& child : list) types[child["name"]] = child["type"];
  EXPECT_EQ(types["disk0"], "child<virtio-blk-pci>");
  EXPECT_EQ(types["uplink"], "child<virtio-net-pci>");
  EXPECT_EQ(types["balloon0"], "child<virtio-balloon-pci>");
  EXPECT_EQ(result("qom-get", {{"path", "data"}, {"property", "type"}}), "virtio-blk-pci");
  expect_error(execute("qom-get", {{"path", "data"}, {"property", "colour"}}), "GenericError",
               "Property 'virtio-blk-pci.colour' not found");
}

TEST_F(QmpTest, AGuestWithoutABalloonSaysSoAsQemuDoes) {
  guest.with_balloon = false;
  expect_error(execute("query-balloon"), "DeviceNotActive", "No balloon device has been activated");
  expect_error(execute("balloon", {{"value", 1 << 28}}), "DeviceNotActive", "No balloon device");
  EXPECT_EQ(human("info balloon"), "Error: No balloon device has been activated\r\n");
  EXPECT_EQ(human("balloon 256"), "Error: No balloon device has been activated\r\n");
  for (const json& child : result("qom-list", {{"path", "/machine/peripheral"}}))
    EXPECT_EQ(child["type"].get<std::string>().find("balloon"), std::string::npos) << child;
  expect_error(execute("qom-get", {{"path", "balloon0"}, {"property", "guest-stats"}}), "DeviceNotFound",
               "balloon0");
  EXPECT_THAT(guest.calls, IsEmpty());
}

TEST_F(QmpTest, AnErrorOfADiskShowsInItsStatusAndInTheGuests) {
  EXPECT_EQ(result("query-block")[0]["io-status"], "ok");
  guest.disk_status = IoStatus::no_space;
  guest.state = RunState::io_error;
  EXPECT_EQ(result("query-block")[0]["io-status"], "nospace");
  EXPECT_EQ(result("query-block")[1]["io-status"], "ok");
  EXPECT_EQ(result("query-status"),
            json::parse(R"({"status":"io-error","singlestep":false,"running":false})"));
  EXPECT_EQ(human("info status"), "VM status: paused (io-error)\r\n");
  EXPECT_THAT(human("info block"), HasSubstr("    I/O status:       nospace\r\n"));
  guest.disk_status = IoStatus::failed;
  EXPECT_EQ(result("query-block")[0]["io-status"], "failed");
}

TEST_F(QmpTest, AnErrorOfADiskIsAnEventAsInQemu) {
  const json event = json::parse(qmp_event({.kind = MonitorEvent::Kind::io_error,
                                            .device = "disk0",
                                            .failure = {.write = true,
                                                        .action = IoFailure::Action::stop,
                                                        .no_space = true,
                                                        .reason = "No space left on device"}}));
  EXPECT_EQ(event["event"], "BLOCK_IO_ERROR");
  EXPECT_EQ(event["data"],
            json::parse(R"({"device":"disk0","node-name":"disk0","operation":"write","action":"stop",
                            "nospace":true,"reason":"No space left on device"})"));
}

TEST_F(QmpTest, StatisticsAreUnknownBeforeTheFirstSample) {
  const json stats =
      result("qom-get", {{"path", "/machine/peripheral/balloon0"}, {"property", "guest-stats"}});
  EXPECT_EQ(stats["last-update"], 0);
  EXPECT_EQ(stats["stats"].size(), kStatTags);
  EXPECT_EQ(stats["stats"]["stat-free-memory"], kUnknown);
}

TEST_F(QmpTest, StatisticsCarryTheSampleAndItsTimeAndUnknownForWhatTheGuestDidNotSend) {
  guest.sample.emplace();
  guest.sample->sampled_at = std::chrono::system_clock::time_point(std::chrono::seconds(1795329214));
  guest.sample->values[static_cast<std::size_t>(StatTag::free_memory)] = 463257600;
  guest.sample->values[static_cast<std::size_t>(StatTag::hugetlb_failures)] = 3;
  const json stats =
      result("qom-get", {{"path", "/machine/peripheral-anon/device[0]"}, {"property", "guest-stats"}});
  EXPECT_EQ(stats["last-update"], 1795329214);
  EXPECT_EQ(stats["stats"]["stat-free-memory"], 463257600);
  EXPECT_EQ(stats["stats"]["stat-htlb-pgfail"], 3);
  EXPECT_EQ(stats["stats"]["stat-oom-kills"], kUnknown);
}

TEST_F(QmpTest, ThePollingIntervalIsSetAndReadBack) {
  const json where{{"path", "/machine/peripheral/balloon0"}, {"property", "guest-stats-polling-interval"}};
  EXPECT_EQ(result("qom-get", where), 0);
  json set = where;
  set["value"] = 2;
  EXPECT_EQ(result("qom-set", set), json::object());
  EXPECT_EQ(guest.interval, std::chrono::seconds(2));
  EXPECT_EQ(result("qom-get", where), 2);
  set["value"] = -1;
  expect_error(execute("qom-set", set), "GenericError", "greater than zero");
  set["value"] = 1LL << 32;
  expect_error(execute("qom-set", set), "GenericError", "too big");
  set["value"] = "often";
  expect_error(execute("qom-set", set), "GenericError", "expected: integer");
  EXPECT_EQ(guest.interval, std::chrono::seconds(2));
}

TEST_F(QmpTest, PathsMayHaveStraySlashesAndLackTheirBeginning) {
  for (const char* path : {"machine/peripheral/balloon0", "balloon0", "peripheral/balloon0",
                           "/machine//peripheral/balloon0/", "//machine/peripheral/balloon0"}) {
    EXPECT_EQ(result("qom-get", {{"path", path}, {"property", "type"}}), "virtio-balloon-pci") << path;
  }
  EXPECT_EQ(result("qom-list", {{"path", "/machine/peripheral/"}}),
            result("qom-list", {{"path", "/machine/peripheral"}}));
  expect_error(execute("qom-list", {{"path", "loon0"}}), "DeviceNotFound", "Device 'loon0' not found");
  expect_error(execute("qom-list", {{"path", "/balloon0"}}), "DeviceNotFound", "/balloon0");
}

TEST_F(QmpTest, UnknownPathsAndPropertiesAreNamed) {
  expect_error(execute("qom-list", {{"path", "/nowhere"}}), "DeviceNotFound", "Device '/nowhere' not found");
  expect_error(execute("qom-get", {{"path", "/machine/peripheral/balloon1"}, {"property", "guest-stats"}}),
               "DeviceNotFound", "balloon1");
  expect_error(execute("qom-get", {{"path", "/machine/peripheral/balloon0"}, {"property", "colour"}}),
               "GenericError", "Property 'virtio-balloon-pci.colour' not found");
  expect_error(
      execute("qom-set",
              {{"path", "/machine/peripheral/balloon0"}, {"property", "deflate-on-oom"}, {"value", true}}),
      "GenericError", "cannot be set");
}

TEST_F(QmpTest, QueryBlockListsTheDisks) {
  const json blocks = result("query-block");
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[0]["device"], "disk0");
  EXPECT_EQ(blocks[0]["inserted"]["file"], "/images/root.img");
  EXPECT_EQ(blocks[1]["inserted"]["drv"], "qcow2");
  EXPECT_EQ(blocks[1]["inserted"]["ro"], true);
  EXPECT_EQ(blocks[0]["inserted"]["bps"], 1'000'000);
  EXPECT_FALSE(blocks[0]["inserted"].contains("backing_file"));
}

TEST_F(QmpTest, AnImageIsDescribedWithWhatLiesBelowItAsByQemu) {
  const json blocks = result("query-block");
  EXPECT_EQ(blocks[1]["inserted"]["backing_file"], "root.img");
  EXPECT_EQ(blocks[1]["inserted"]["backing_file_depth"], 1);
  EXPECT_EQ(blocks[1]["inserted"]["cache"],
            json::parse(R"({"direct":true,"writeback":true,"no-flush":false})"));
  EXPECT_EQ(blocks[1]["inserted"]["image"], json::parse(R"({
    "filename": "/images/data.qcow2", "format": "qcow2", "virtual-size": 8589934592, "actual-size": 204800,
    "dirty-flag": false, "cluster-size": 65536,
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "compression-type": "zlib",
      "refcount-bits": 16, "lazy-refcounts": false, "corrupt": false, "extended-l2": false}},
    "backing-filename": "root.img", "full-backing-filename": "/images/root.img",
    "backing-filename-format": "raw",
    "backing-image": {"filename": "/images/root.img", "format": "raw", "virtual-size": 4294967296,
      "actual-size": 3145728, "dirty-flag": false}})"));
}

TEST_F(QmpTest, ACableIsPulledAndPluggedInByTheDevicesName) {
  EXPECT_EQ(result("set_link", {{"name", "uplink"}, {"up", false}}), json::object());
  EXPECT_EQ(human("set_link net0 on"), "");
  EXPECT_THAT(guest.calls, ElementsAre("net 1 down", "net 0 up"));
  expect_error(execute("set_link", {{"name", "net2"}, {"up", true}}), "DeviceNotFound", "'net2' not found");
  expect_error(execute("set_link", {{"name", "disk0"}, {"up", true}}), "DeviceNotFound", "'disk0' not found");
  expect_error(execute("set_link", {{"name", "net0"}}), "GenericError", "'up' is missing");
  expect_error(execute("set_link", {{"name", "net0"}, {"up", "yes"}}), "GenericError", "boolean");
  EXPECT_THAT(human("set_link net9 on"), testing::HasSubstr("not found"));
  EXPECT_THAT(human("set_link net0 maybe"), testing::HasSubstr("'on' or 'off'"));
  EXPECT_EQ(guest.calls.size(), 2U);
}

TEST_F(QmpTest, TheOtherQueriesHaveQemusShapes) {
  EXPECT_EQ(result("query-kvm"), json::parse(R"({"enabled":true,"present":true})"));
  EXPECT_EQ(result("query-memory-size-summary"),
            json::parse(R"({"base-memory":536870912,"plugged-memory":0})"));
  EXPECT_EQ(result("query-cpus-fast")[1]["thread-id"], 102);
  EXPECT_EQ(result("query-version")["qemu"]["major"], 7);
  std::vector<std::string> names;
  for (const json& command : result("query-commands")) names.push_back(command["name"]);
  EXPECT_THAT(names, testing::IsSupersetOf({"balloon", "query-balloon", "qmp_capabilities", "qom-get"}));
}

TEST_F(QmpTest, ASnapshotTellsWhyItFailed) {
  result("snapshot-to-file", {{"path", "/tmp/x"}});
  EXPECT_THAT(guest.calls, ElementsAre("snapshot /tmp/x"));
  expect_error(execute("snapshot-to-file", {{"path", "/full"}}), "GenericError", "no space left");
}

TEST_F(QmpTest, TheHumanMonitorPrintsWhatQemuPrints) {
  guest.actual = 300 * kMiB;
  EXPECT_EQ(human("info balloon"), "balloon: actual=300\r\n");
  EXPECT_EQ(human("  balloon   256 "), "");
  EXPECT_EQ(guest.target, 256 * kMiB);
  EXPECT_EQ(human("info status"), "VM status: running\r\n");
  EXPECT_THAT(human("info block"), HasSubstr("data (data): /images/data.qcow2 (qcow2, read-only)"));
  EXPECT_EQ(human("stop"), "");
  EXPECT_EQ(human("info status"), "VM status: paused\r\n");
  EXPECT_THAT(human("balloon 0"), HasSubstr("expects a size"));
  EXPECT_THAT(human("balloon 99999999999999999999"), HasSubstr("Error"));
  EXPECT_THAT(human("frobnicate"), HasSubstr("unknown command: 'frobnicate'"));
  EXPECT_EQ(human(""), "");
}

TEST_F(QmpTest, StringsMayBeInSingleQuotes) {
  EXPECT_EQ(ask(R"({ 'execute': 'query-name', 'id': 'it\'s "5"' })"),
            json::parse(R"({"return":{"name":"web-1"},"id":"it's \"5\""})"));
  EXPECT_EQ(ask(R"({"execute":"query-name","id":"it\'s"})")["id"], "it's");
}

TEST_F(QmpTest, WhatToolsAskAtTheirStartIsAnswered) {
  EXPECT_EQ(result("query-uuid")["UUID"], "00000000-0000-0000-0000-000000000000");
  EXPECT_EQ(result("query-memory-devices"), json::array());
  const json stats = result("query-blockstats");
  ASSERT_EQ(stats.size(), 2U);
  EXPECT_EQ(stats[1]["device"], "data");
  EXPECT_EQ(stats[0]["stats"]["rd_bytes"], 4096);
  EXPECT_EQ(stats[0]["stats"]["flush_operations"], 3);
  EXPECT_TRUE(stats[0]["stats"].contains("wr_total_time_ns"));
}

TEST_F(QmpTest, BadRequestsAreAnsweredAndDoNothing) {
  expect_error(ask("hello"), "GenericError", "JSON parse error");
  expect_error(ask("{"), "GenericError", "JSON parse error");
  expect_error(ask("[1]"), "GenericError", "must be a JSON object");
  expect_error(ask("{}"), "GenericError", "lacks member 'execute'");
  expect_error(ask(R"({"execute":1})"), "GenericError", "must be a string");
  expect_error(ask(R"({"execute":"stop","arguments":[]})"), "GenericError", "must be an object");
  expect_error(ask(R"({"execute":"stop","extra":1})"), "GenericError", "'extra' is unexpected");
  expect_error(ask(R"({"execute":"frobnicate"})"), "CommandNotFound",
               "The command frobnicate has not been found");
  expect_error(ask(R"({"execute":"qom-list","arguments":{"path":5}})"), "GenericError", "expected: string");
  EXPECT_THAT(guest.calls, IsEmpty());
}

TEST_F(QmpTest, BytesThatAreNotUtf8DoNoHarm) {
  expect_error(ask("{\"execute\":\"\xff\xfe\"}"), "GenericError", "JSON parse error");
}

TEST_F(QmpTest, EventsHaveATimeAndTheirData) {
  MonitorEvent event{.kind = MonitorEvent::Kind::balloon_change, .actual = Bytes{535822336}};
  event.at = std::chrono::system_clock::time_point(std::chrono::microseconds(1700000000123456));
  const json change = json::parse(qmp_event(event));
  EXPECT_EQ(change["event"], "BALLOON_CHANGE");
  EXPECT_EQ(change["data"], json::parse(R"({"actual":535822336})"));
  EXPECT_EQ(change["timestamp"], json::parse(R"({"seconds":1700000000,"microseconds":123456})"));
  const json shutdown = json::parse(
      qmp_event({.kind = MonitorEvent::Kind::shutdown, .by_guest = true, .reason = "guest-shutdown"}));
  EXPECT_EQ(shutdown["data"], json::parse(R"({"guest":true,"reason":"guest-shutdown"})"));
}

}  // namespace
}  // namespace balloon::vmm::test
