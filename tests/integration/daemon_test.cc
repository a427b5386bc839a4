// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/create_channel.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

class OwnDaemonTest : public DaemonTest {
 protected:
  void SetUp() override { write_policy(""); }
};

TEST_F(DaemonTest, ASocketThatIsServedIsRefusedAndTheFirstDaemonGoesOn) {
  const Outcome second = run({BALLOOND, "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_NE(second.err.find("socket " + socket() + " is already served by process " +
                            std::to_string(daemon_->pid())),
            std::string::npos)
      << second.err;
  EXPECT_EQ(ctl({"host"}).exit_code, 0);
}

TEST_F(DaemonTest, TheSocketHasItsModeFromTheConfiguration) {
  struct stat found{};
  ASSERT_EQ(::stat(socket().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0660U);
}

TEST_F(OwnDaemonTest, ASocketPathThatIsTooLongIsRefused) {
  directory_.write("balloond.yaml", "socket:\n  path: /tmp/" + std::string(120, 'x') + "\n");
  const Outcome outcome = run({BALLOOND, "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(
      outcome.err.find(
          "balloond.yaml:2:9: socket.path: 125 characters are too long for a Unix socket: the most is 107"),
      std::string::npos)
      << outcome.err;
}

TEST_F(OwnDaemonTest, AFileThatIsNoSocketIsNotReplaced) {
  directory_.write("socket", "precious");
  directory_.write("balloond.yaml", config());
  const Outcome outcome = run({BALLOOND, "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("exists and is not a socket: it is not replaced"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(read_text(socket()), "precious");
}

TEST_F(OwnDaemonTest, AGroupThatDoesNotExistIsNamed) {
  directory_.write("balloond.yaml", "socket: {path: " + socket() + ", group: no-such-group}\n");
  const Outcome outcome = run({BALLOOND, "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("group 'no-such-group' (socket.group) does not exist"), std::string::npos)
      << outcome.err;
}

TEST_F(OwnDaemonTest, CheckConfigSaysOkOrEveryComplaint) {
  directory_.write("balloond.yaml", config());
  const Outcome good = run({BALLOOND, "--check-config", "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_EQ(good.out, "ok\n");
  directory_.write("balloond.yaml",
                   "socket: {path: relative}\ncontrol: {period: 1ms}\npolicy: policy.yaml\n");
  directory_.write("policy.yaml", "defaults: {weight: 0}\n");
  const Outcome bad = run({BALLOOND, "--check-config", "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(bad.exit_code, 1);
  const std::string in = directory_.file("");
  EXPECT_EQ(bad.err, in + "balloond.yaml:1:16: socket.path: 'relative' is not an absolute path\n" + in +
                         "balloond.yaml:2:19: control.period: it must be from 100ms to 60s\n" + in +
                         "policy.yaml:1:20: defaults.weight: 0 is not a weight from 1 to 10000\n");
}

TEST_F(OwnDaemonTest, StatisticsThatComeTooSeldomToBeFreshAreRefusedWithBothSettings) {
  const auto configure = [&](const std::string& interval) {
    return directory_.write("balloond.yaml", "socket: {path: " + socket() + "}\ncontrol: {stats_interval: " +
                                                 interval + "}\npolicy: policy.yaml\n");
  };
  directory_.write("policy.yaml", "");
  const std::string file = configure("15s");
  const std::string complaint =
      file +
      ": control.stats_interval: 15000ms is more than half of the policy's "
      "engine.stale_after, 10000ms: guests would be stale whenever a sample is late\n";
  const Outcome checked = run({BALLOOND, "--check-config", "--config", file});
  EXPECT_EQ(checked.exit_code, 1);
  EXPECT_EQ(checked.err, complaint);
  Background started({BALLOOND, "--config", file}, directory_.file("log"));
  EXPECT_EQ(started.wait(), 1);
  EXPECT_NE(started.log().find(complaint), std::string::npos) << started.log();
  configure("5s");
  EXPECT_EQ(run({BALLOOND, "--check-config", "--config", file}).exit_code, 0) << "half of it will do";
}

TEST_F(OwnDaemonTest, WrongUseExitsWith2AndHelpAndVersionWith0) {
  EXPECT_EQ(run({BALLOOND, "--confg", "x"}).exit_code, 2);
  EXPECT_EQ(run({BALLOOND, "--log-level", "loud"}).exit_code, 2);
  EXPECT_EQ(run({BALLOOND, "--help"}).exit_code, 0);
  EXPECT_TRUE(run({BALLOOND, "--version"}).out.starts_with("balloond "));
}

TEST_F(OwnDaemonTest, AMetricsAddressInUseIsNamed) {
  const std::string address = free_address();
  start("metrics: {listen: \"" + address + "\"}\n");
  const TemporaryDirectory other;
  other.write("balloond.yaml",
              "socket: {path: " + other.file("socket") + "}\nmetrics: {listen: \"" + address + "\"}\n");
  const Outcome outcome = run({BALLOOND, "--config", other.file("balloond.yaml")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("cannot serve metrics on " + address), std::string::npos) << outcome.err;
}

TEST_F(DaemonTest, HealthIsServingAndUnknownServicesAreNotFound) {
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
  for (const char* service : {"", "balloon.v1.SchedulerService", "balloon.v1.GuestLinkService"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(stub->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  }
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("no.such.Service");
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_EQ(stub->Check(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(DaemonTest, ReflectionListsEveryService) {
  using namespace grpc::reflection::v1alpha;
  const auto stub =
      ServerReflection::NewStub(grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  ServerReflectionRequest request;
  request.set_list_services("*");
  ASSERT_TRUE(stream->Write(request));
  ServerReflectionResponse response;
  ASSERT_TRUE(stream->Read(&response));
  std::vector<std::string> names;
  for (const auto& service : response.list_services_response().service()) names.push_back(service.name());
  for (const char* name :
       {"balloon.v1.GuestLinkService", "balloon.v1.SchedulerService", "grpc.health.v1.Health"}) {
    EXPECT_EQ(std::ranges::count(names, name), 1) << name;
  }
  stream->WritesDone();
}

}  // namespace
}  // namespace balloon::test
