// SPDX-License-Identifier: Apache-2.0
// A real balloond on a socket of its own, with a fast configuration.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tests/integration/fake_vmm.h"
#include "tests/integration/process.h"

namespace balloon::test {

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_policy("");
    start();
  }

  std::string config(const std::string& more = "") const {
    return "socket: {path: " + socket() +
           "}\ncontrol: {period: 100ms, stats_interval: 200ms}\npolicy: policy.yaml\n" + more;
  }

  /// Everything at once: no hold, no step by step.
  void write_policy(const std::string& more) const {
    directory_.write(
        "policy.yaml",
        "engine: {hold: 0s, shrink_ratio_per_second: 1, need_half_life: 100ms, stale_after: 3s}\n" + more);
  }

  void start(const std::string& more = "") {
    directory_.write("balloond.yaml", config(more));
    daemon_ = std::make_unique<Background>(
        std::vector<std::string>{BALLOOND, "--config", directory_.file("balloond.yaml"), "--log-level",
                                 "debug"},
        directory_.file("log"));
    ASSERT_TRUE(eventually([&] { return ctl({"host"}).exit_code == 0; })) << "balloond does not answer:\n"
                                                                          << daemon_->log();
  }

  std::string socket() const { return directory_.file("socket"); }

  Outcome ctl(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {BALLOONCTL, "--socket", socket()});
    return run(arguments);
  }

  nlohmann::json ctl_json(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"-o", "json"});
    const Outcome outcome = ctl(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }

  std::string state_of(const std::string& guest) const {
    const Outcome outcome = ctl({"show", guest, "-o", "json"});
    return outcome.exit_code == 0 ? nlohmann::json::parse(outcome.out).at("state").get<std::string>() : "";
  }

  /// Whether its log has this, or soon: a thread of its own writes it.
  bool logs(const std::string& text) const {
    return eventually([&] { return daemon_->log().find(text) != std::string::npos; });
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Background> daemon_;
};

}  // namespace balloon::test
