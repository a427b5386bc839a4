// SPDX-License-Identifier: Apache-2.0
// A QEMU that answers anything, or somebody in its place: what balloond makes of it. The input is what the
// socket gives.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "balloond/guests/qmp/dialogue.h"
#include "tests/fuzz/fuzz.h"

namespace balloon::vmm::fuzz {
namespace {

namespace qmp = daemon::qmp;

/// Asks as a monitor of a socket of its own does, without its pauses.
class Client {
 public:
  Client() { ask(dialogue_.identity_questions()); }

  /// What is read at once; whether the connection is kept.
  bool read(std::string_view bytes) {
    const auto news = session_.receive(bytes, now_);
    check_output();
    if (!news) {
      require(!news.error().message.empty(), "a connection ends, and nobody says why");
      return false;
    }
    for (const qmp::News& each : *news) {
      const auto taken = std::visit([&](const auto& one) { return dialogue_.take(one); }, each);
      if (!taken) require(!taken.error().message.empty(), "an answer is refused, and nobody says why");
    }
    if (session_.idle() && dialogue_.identified()) {
      ask(dialogue_.corrections());
      ask(dialogue_.figure_questions(true));
    }
    return true;
  }
  /// What the daemon says of the guest then.
  void tell() {
    if (!dialogue_.identified()) return;
    const auto registration = dialogue_.registration("fallback");
    require(!registration.name.empty(), "a guest has no name");
    require(std::ranges::none_of(registration.name, [](char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }),
            "a name is no text");
    require(dialogue_.actual() <= dialogue_.memory(), "a balloon leaves more than the guest has");
    (void)dialogue_.balloon(64 * kMiB);
    (void)dialogue_.obstacle();
    if (dialogue_.statistics()) (void)qmp::sample_of(*dialogue_.statistics(), dialogue_.actual(), {});
  }

 private:
  static constexpr std::size_t kMostAsked = 64;

  void ask(const std::vector<qmp::Command>& commands) {
    if (asked_ > kMostAsked) return;
    asked_ += commands.size();
    for (const qmp::Command& command : commands) session_.ask(command, now_);
    check_output();
  }
  /// Each command is a line, and one object.
  void check_output() {
    const std::string output = session_.take_output();
    require(output.empty() || output.ends_with('\n'), "a command has no end");
    for (std::size_t at = 0; at < output.size();) {
      const std::size_t end = output.find('\n', at);
      const auto value = nlohmann::json::parse(output.substr(at, end - at), nullptr, false);
      require(value.is_object() && value.contains("execute"), "a command is none");
      at = end + 1;
    }
  }

  const daemon::Time now_ = std::chrono::seconds(1);
  qmp::Session session_{now_};
  qmp::Dialogue dialogue_{std::chrono::seconds(1), false};
  std::size_t asked_ = 0;
};

void run(std::span<const std::uint8_t> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const std::size_t at_once : {std::size_t{64} * 1024, std::size_t{61}}) {
    Client client;
    for (std::size_t at = 0; at < text.size(); at += at_once) {
      if (!client.read(text.substr(at, at_once))) break;
    }
    client.tell();
  }
}

Bytes8 bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

constexpr std::string_view kGreeting =
    R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}})"
    "\r\n"
    R"({"return": {}, "id": 1})"
    "\r\n";

/// Answers to what is asked, from the second command on.
Bytes8 dialogue_of(const std::vector<std::string_view>& values) {
  std::string text(kGreeting);
  for (std::size_t i = 0; i < values.size(); ++i)
    text += fmt::format("{{\"return\": {}, \"id\": {}}}\r\n", values[i], i + 2);
  return bytes_of(text);
}

}  // namespace

std::vector<Bytes8> seeds() {
  const std::vector<std::string_view> whole{
      R"({"name": "we\u0007b"})",
      R"({"UUID": "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31"})",
      R"([{"cpu-index": 0}])",
      R"({"base-memory": 536870912, "plugged-memory": 0})",
      R"([{"name": "balloon0", "type": "child<virtio-balloon-pci>"}])",
      R"([{"name": "device[0]", "type": "child<virtio-blk-pci>"}])",
      R"([])",
      R"([])",
      R"({"actual": 536870912})",
      R"({"stats": {"stat-total-memory": 510398464, "stat-swap-in": -1}, "last-update": 7})",
      R"({"status": {"statuses": ["VIRTIO_CONFIG_S_DRIVER_OK: driver"]}})",
      R"({"status": "running", "running": true})",
      R"({"status": "active"})",
      R"([{"id": "j", "type": "backup", "status": "running"}])",
      R"([{"stats": {"rd_bytes": 123}}])",
      R"(2)",
      R"([])",
      R"({"base-memory": 536870912})"};
  return {
      dialogue_of(whole),
      bytes_of(std::string(kGreeting) +
               R"({"event": "BALLOON_CHANGE", "data": {"actual": 1}, "timestamp": {}})"
               "\n"),
      bytes_of(std::string(kGreeting) + R"({"error": {"class": "CommandNotFound", "desc": "x"}, "id": 2})"
                                        "\n"),
      bytes_of(std::string(kGreeting) + std::string(2000, '[') + "\n"),
      bytes_of(std::string(kGreeting) + R"({"return": {"base-memory": 1e308}, "id": 2})"
                                        "\n"),
  };
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const balloon::vmm::fuzz::Limits limits;
  balloon::vmm::fuzz::run(std::span(data, size));
  return 0;
}
