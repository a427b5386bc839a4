// SPDX-License-Identifier: Apache-2.0
// What is no guest link, or a bad one, is told why where it can hear it, and harms no neighbour.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "base/unique_fd.h"
#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

using Stream = grpc::ClientReaderWriter<v1::ConnectRequest, v1::ConnectResponse>;

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";  // RFC 9113, 3.4

class GuestLinkErrorsTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    good_ = std::make_unique<FakeVmm>(socket(), FakeVmm::guest("good", 2 * kGiB, 2 * kGiB));
    ASSERT_TRUE(eventually([&] { return good_->stats_interval().has_value(); }));
  }

  /// The neighbour's statistics are taken, and it goes where it is asked to.
  void expect_served() {
    good_->send_stats(400 * kMiB);
    mib_ = mib_ == 900 ? 800 : 900;
    EXPECT_EQ(ctl({"set", "good", std::to_string(mib_) + "MiB", "--for", "10m"}).exit_code, 0);
    EXPECT_TRUE(eventually([&] { return good_->actual() == mib_ * kMiB && state_of("good") == "pinned"; }))
        << ctl({"explain", "good"}).out;
  }
  /// The same, and it is the only guest there is.
  void expect_unharmed() {
    expect_served();
    const nlohmann::json guests = ctl_json({"list"}).at("guests");
    ASSERT_EQ(guests.size(), 1U);
    EXPECT_EQ(guests.front().at("name"), "good");
  }

  UniqueFd dial() const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket().data(), socket().size());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
  }
  /// As much of it as is taken.
  static void say(const UniqueFd& to, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(to.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  /// How the daemon ends a link whose VMM says this and then waits.
  grpc::Status said(const std::vector<v1::ConnectRequest>& requests) const {
    const auto stub = v1::GuestLinkService::NewStub(
        grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const std::unique_ptr<Stream> stream = stub->Connect(&context);
    for (const v1::ConnectRequest& request : requests) stream->Write(request);
    v1::ConnectResponse ignored;
    while (stream->Read(&ignored)) {
    }
    return stream->Finish();
  }
  static v1::ConnectRequest registration(const v1::Register& guest) {
    v1::ConnectRequest request;
    *request.mutable_register_() = guest;
    return request;
  }

  std::unique_ptr<FakeVmm> good_;
  std::uint64_t mib_ = 0;
};

TEST_F(GuestLinkErrorsTest, BytesThatAreNoGuestLinkHarmNobody) {
  const UniqueFd silent = dial();
  const UniqueFd garbage = dial();
  say(garbage, "SSH-2.0-OpenSSH_9.2\r\n");
  expect_unharmed();
  const UniqueFd half = dial();
  say(half, kHttp2Preface.substr(0, 10));
  expect_unharmed();
  const UniqueFd half_a_frame = dial();
  say(half_a_frame, std::string(kHttp2Preface) + std::string("\x00\x40", 2));
  expect_unharmed();
  const UniqueFd endless = dial();
  say(endless, std::string(64 * kMiB, 'x'));
  expect_unharmed();
  const UniqueFd endless_frame = dial();
  say(endless_frame,
      std::string(kHttp2Preface) + std::string("\xff\xff\xff", 3) + std::string(64 * kMiB, 'x'));
  expect_unharmed();
}

TEST_F(GuestLinkErrorsTest, AVmmThatDoesNotIntroduceItsGuestFirstIsToldSo) {
  v1::ConnectRequest stats;
  stats.mutable_stats()->set_actual_bytes(kGiB);
  const grpc::Status end = said({stats});
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(end.error_message(), "the first message on a guest link must be register");
  expect_unharmed();
}

TEST_F(GuestLinkErrorsTest, AVmmThatIntroducesItsGuestTwiceIsToldSo) {
  const v1::ConnectRequest guest = registration(FakeVmm::guest("twice", kGiB, kGiB));
  const grpc::Status end = said({guest, guest});
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(end.error_message(), "a guest registers once on a guest link");
}

TEST_F(GuestLinkErrorsTest, AGuestWithoutABalloonIsRefusedWithTheReason) {
  v1::Register guest = FakeVmm::guest("bare", kGiB, kGiB);
  guest.clear_balloon();
  const grpc::Status end = said({registration(guest)});
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(end.error_message(), "the state of the balloon is missing");
  expect_unharmed();
}

TEST_F(GuestLinkErrorsTest, AMessageOf64MiBEndsItsOwnLinkOnly) {
  v1::Register guest = FakeVmm::guest("large", kGiB, kGiB);
  guest.set_vmm_version(std::string(64 * kMiB, 'x'));
  EXPECT_EQ(said({registration(guest)}).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  expect_unharmed();
}

TEST_F(GuestLinkErrorsTest, HugeNumbersAreBoundedAndCounted) {
  FakeVmm liar(socket(), FakeVmm::guest("liar", kGiB, ~std::uint64_t{0}));
  v1::GuestStats huge;
  for (const auto set : {&v1::GuestStats::set_actual_bytes, &v1::GuestStats::set_total_bytes,
                         &v1::GuestStats::set_available_bytes, &v1::GuestStats::set_free_bytes,
                         &v1::GuestStats::set_swap_in_bytes, &v1::GuestStats::set_major_faults})
    (huge.*set)(std::uint64_t{1} << 63);
  ASSERT_TRUE(eventually([&] {
    liar.send_stats(huge);
    return ctl({"explain", "liar"}).out.find("make no sense") != std::string::npos;
  })) << ctl({"explain", "liar"}).out;
  const nlohmann::json guest = ctl_json({"show", "liar"});
  EXPECT_LE(guest.at("actual_bytes").get<std::uint64_t>(), kGiB) << guest;
  EXPECT_LE(guest.at("target_bytes").get<std::uint64_t>(), kGiB) << guest;
  liar.disconnect();
}

TEST_F(GuestLinkErrorsTest, AVmmThatNeverAnswersATargetIsNamedAndItsNeighbourIsServedMeanwhile) {
  FakeVmm silent(socket(), FakeVmm::guest("silent", kGiB, kGiB));
  silent.fall_silent();
  silent.send_stats(200 * kMiB);
  ASSERT_EQ(ctl({"set", "silent", "512MiB", "--for", "10m"}).exit_code, 0);
  EXPECT_TRUE(eventually([&] {
    silent.send_stats(200 * kMiB);
    expect_served();
    return HasFailure() ||
           ctl({"explain", "silent"}).out.contains(" Its VMM has not answered a target for 1");
  })) << ctl({"explain", "silent"}).out;
  EXPECT_TRUE(logs("guest silent: its VMM has not answered a target for 10 s: ")) << daemon_->log();
  EXPECT_FALSE(silent.targets().empty());
  EXPECT_EQ(ctl_json({"show", "silent"}).at("actual_bytes"), kGiB) << "it counts with what it has";
  expect_served();
}

TEST_F(GuestLinkErrorsTest, AGuestWhoseDriverSendsNoStatisticsIsHeldAsItIs) {
  v1::Register old = FakeVmm::guest("old", kGiB, kGiB);
  old.mutable_balloon()->set_has_stats(false);
  const FakeVmm vmm(socket(), old);
  ASSERT_TRUE(eventually([&] {
    expect_served();
    return HasFailure() || state_of("old") == "stale";
  })) << ctl({"explain", "old"}).out;
  EXPECT_EQ(vmm.actual(), kGiB);
  EXPECT_TRUE(vmm.targets().empty());
}

}  // namespace
}  // namespace balloon::test
