// SPDX-License-Identifier: Apache-2.0
// The page of metrics of the real daemon.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

class MetricsPageTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start("metrics: {listen: \"" + address_ + "\"}\n");
  }
  std::string page() const { return http_get(address_); }
  /// Once a line of the page begins with this.
  bool shows(const std::string& begin) const {
    return eventually([&] { return page().find("\n" + begin) != std::string::npos; });
  }

  const std::string address_ = free_address();
};

TEST_F(MetricsPageTest, ItShowsEachGuestAndPassesPromtool) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  }));
  std::string metrics;
  ASSERT_TRUE(eventually([&] {
    metrics = page();
    return metrics.find("balloon_guest_actual_bytes{guest=\"a\"} " + std::to_string(vmm.actual())) !=
           std::string::npos;
  })) << metrics;
  EXPECT_EQ(metrics.find("balloon_guest_freed_bytes_total"), std::string::npos) << "its VMM said nothing yet";
  vmm.send_counters();
  ASSERT_TRUE(eventually([&] {
    metrics = page();
    return metrics.find("balloon_guest_freed_bytes_total{guest=\"a\"} 4096") != std::string::npos;
  })) << metrics;
  for (const char* part :
       {"balloon_guest_inflated_bytes_total{guest=\"a\"} 8192", "balloon_guest_stalls_total{guest=\"a\"} 3",
        "balloon_guest_available_bytes{guest=\"a\"} ",
        "balloon_guest_state{guest=\"a\",state=\"controlled\"} 1", "balloon_host_memory_total_bytes ",
        "balloon_decisions_total{reason=\"need\"} ", "balloon_moves_total{direction=\"shrink\"} ",
        "balloon_control_loop_duration_seconds_bucket", "balloon_config_last_reload_successful 1",
        "process_resident_memory_bytes ", "balloond_build_info{version="}) {
    EXPECT_NE(metrics.find(part), std::string::npos) << part << " is missing in\n" << metrics;
  }
  // promtool reads standard input; it is in Debian's prometheus package (scripts/install-deps.sh).
  directory_.write("metrics", metrics);
  const Outcome lint = run({"/bin/sh", "-c", "promtool check metrics < " + directory_.file("metrics")});
  EXPECT_EQ(lint.exit_code, 0) << lint.out << lint.err;

  directory_.write("policy.yaml", "nonsense: 1\n");
  daemon_->signal(SIGHUP);
  EXPECT_TRUE(eventually(
      [&] { return page().find("balloon_config_last_reload_successful 0") != std::string::npos; }));
}

TEST_F(MetricsPageTest, ItAnswersWhateverOthersLeaveHalfSent) {
  std::vector<HalfSent> others(1000);
  for (HalfSent& other : others) other.open(address_);
  EXPECT_NE(page().find("balloond_build_info"), std::string::npos);
  daemon_->signal(SIGTERM);
  EXPECT_EQ(daemon_->wait(), 0) << "it waits for them";
}

constexpr auto kScheduler = "grpc_service=\"balloon.v1.SchedulerService\"";

std::string of_method(const char* metric, const char* type, const char* method) {
  return std::string(metric) + "{grpc_type=\"" + type + "\"," + kScheduler + ",grpc_method=\"" + method +
         "\"";
}

TEST_F(MetricsPageTest, CallsAreCountedByMethodAndByHowTheyEnded) {
  const std::string listed = of_method("grpc_server_handled_total", "unary", "ListGuests");
  EXPECT_TRUE(shows(listed + ",grpc_code=\"OK\"} 0")) << "there before the first call";
  for (int i = 0; i < 3; ++i) ctl({"list"});
  EXPECT_TRUE(shows(listed + ",grpc_code=\"OK\"} 3"));
  EXPECT_TRUE(shows(of_method("grpc_server_started_total", "unary", "ListGuests") + "} 3"));
  EXPECT_TRUE(shows(of_method("grpc_server_handling_seconds_count", "unary", "ListGuests") + "} 3"));
  ctl({"show", "nobody"});
  EXPECT_TRUE(
      shows(of_method("grpc_server_handled_total", "unary", "GetGuest") + ",grpc_code=\"NotFound\"} 1"));
}

TEST_F(MetricsPageTest, StreamsAreCountedWhenTheyBeginAndWhenTheyEnd) {
  constexpr auto link =
      "{grpc_type=\"bidi_stream\",grpc_service=\"balloon.v1.GuestLinkService\",grpc_method=\"Connect\"";
  // A peer that goes may have ended its stream, or have let it be cut.
  const auto ended = [&] {
    const std::string handled = std::string("grpc_server_handled_total") + link;
    const std::string seen = page();
    return seen.find(handled + ",grpc_code=\"OK\"} 1") != std::string::npos ||
           seen.find(handled + ",grpc_code=\"Canceled\"} 1") != std::string::npos;
  };
  {
    FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
    EXPECT_TRUE(shows(std::string("grpc_server_started_total") + link + "} 1"));
    EXPECT_TRUE(shows("balloon_backend_connections{backend=\"balloon-vmm\",state=\"connected\"} 1"));
    EXPECT_FALSE(ended());
  }
  EXPECT_TRUE(eventually(ended)) << page();
  EXPECT_TRUE(shows("balloon_backend_connections{backend=\"balloon-vmm\",state=\"connected\"} 0"));
  ctl({"watch", "--count", "1", "-o", "json"});
  EXPECT_TRUE(shows(of_method("grpc_server_started_total", "server_stream", "WatchGuests") + "} 1"));
  EXPECT_TRUE(shows(of_method("grpc_server_handled_total", "server_stream", "WatchGuests") +
                    ",grpc_code=\"Canceled\"} 1"));
}

TEST_F(MetricsPageTest, HypervisorsAreMeasuredByWhatTheyAreAsked) {
  constexpr auto answers =
      "balloon_backend_request_duration_seconds_count{backend=\"balloon-vmm\",request=\"target\"} ";
  EXPECT_TRUE(shows(std::string(answers) + "0"));
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return page().find(std::string(answers) + "0") == std::string::npos;
  }));
  vmm.refuse("it is not in the mood");
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(1200 * kMiB);
    return page().find("balloon_backend_errors_total{backend=\"balloon-vmm\",reason=\"request\"} 0\n") ==
           std::string::npos;
  }));
}

TEST_F(MetricsPageTest, ASocketThatNobodyServesIsABackendThatIsDown) {
  EXPECT_TRUE(shows("balloon_backend_up{backend=\"balloon-vmm\"} 1"));
  EXPECT_EQ(page().find("balloon_backend_up{backend=\"qemu\"}"), std::string::npos) << "it is not configured";
  directory_.write("balloond.yaml",
                   config("metrics: {listen: \"" + address_ +
                          "\"}\nbackends: {qmp: [{path: " + directory_.file("nobody.qmp") + "}]}\n"));
  daemon_->signal(SIGHUP);
  EXPECT_TRUE(shows("balloon_backend_up{backend=\"qemu\"} 0")) << page();
  EXPECT_TRUE(shows("balloon_backend_connections{backend=\"qemu\",state=\"failing\"} 1"));
  EXPECT_TRUE(eventually([&] {
    return page().find("balloon_backend_errors_total{backend=\"qemu\",reason=\"connection\"} 0\n") ==
           std::string::npos;
  })) << "it is counted";
}

}  // namespace
}  // namespace balloon::test
