// SPDX-License-Identifier: Apache-2.0
// A client of the monitor that sends anything: its bytes are cut into requests, and each is answered by one
// line of JSON.
#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/monitor/fake_guest.h"
#include "vmm/monitor/json_frames.h"
#include "vmm/monitor/qmp.h"

namespace balloon::vmm::fuzz {
namespace {

void run(std::span<const std::uint8_t> bytes) {
  test::FakeGuest guest;
  guest.slow.count_down();
  QmpState state{guest};
  QmpSession session(state);
  (void)session.handle(R"({"execute":"qmp_capabilities"})");
  JsonFrames frames;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  // In two parts: where a request is cut must not matter.
  for (const std::string_view part : {text.substr(0, text.size() / 3), text.substr(text.size() / 3)}) {
    const auto fed = frames.feed(part, [&](std::string_view request) {
      require(request.size() <= JsonFrames::kMaxBytes, "a request is longer than any may be");
      (void)session.is_slow(request);
      const std::string answer = session.handle(request);
      if (answer.empty()) return;
      require(answer.ends_with("\r\n"), "an answer is no line");
      const auto value = nlohmann::json::parse(answer, nullptr, false);
      require(value.is_object() && (value.contains("return") != value.contains("error")),
              "an answer is neither a value nor an error");
    });
    if (!fed) return;
  }
}

Bytes8 bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace

std::vector<Bytes8> seeds() {
  return {
      bytes_of(R"({"execute":"query-balloon"}{"execute":"balloon","arguments":{"value":314572800},"id":1})"),
      bytes_of(
          R"({'execute':'qom-set','arguments':{'path':'balloon0','property':'guest-stats-polling-interval','value':2}})"),
      bytes_of(
          R"({"execute":"qom-get","arguments":{"path":"/machine//peripheral/","property":"guest-stats"}})"),
      bytes_of(R"({"execute":"human-monitor-command","arguments":{"command-line":"balloon 256"}})"),
      bytes_of(R"({"execute":"set_link","arguments":{"name":"net0","up":false}})"),
      bytes_of("{\"execute\":\"query-status\"\x01{\"execute\":\"query-block\"}\n[1,2,{\"a\":\"\\u00e9\"}]"),
      bytes_of(R"({"execute":"query-blockstats"}{"execute":"query-commands"}{"execute":"quit"})"),
  };
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace balloon::vmm::fuzz;
  const Limits limits;
  run(std::span(data, size));
  return 0;
}
