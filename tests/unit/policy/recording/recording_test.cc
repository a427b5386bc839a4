// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "policy/recording/decoder.h"
#include "policy/recording/encoder.h"
#include "policy/recording/fields.h"
#include "policy/recording/tunable_fields.h"
#include "tests/unit/policy/random_host.h"
#include "tests/unit/policy/recording/file_fields.h"

namespace balloon::policy::recording {
namespace {

using std::chrono::milliseconds;

/// A file's payloads, as its reader would hand them out.
std::vector<std::string> payloads(const std::string& file) {
  std::vector<std::string> out;
  for (std::size_t at = kHeaderSize; at < file.size();) {
    const std::uint32_t length = get_u32(file.data() + at);
    out.push_back(file.substr(at + kFrameSize, length));
    EXPECT_EQ(get_u32(file.data() + at + 4) ^ kLengthMask, length);
    EXPECT_EQ(get_u32(file.data() + at + 8), crc32c(out.back()));
    at += kFrameSize + length;
  }
  return out;
}

bool seen_same(const Snapshot& one, const Snapshot& other) {
  RowComparer row;
  code_host(row, one.host, other.host);
  bool all = one.now == other.now && one.guests.size() == other.guests.size() &&
             one.groups.size() == other.groups.size() && one.reservations.size() == other.reservations.size();
  if (!all) return false;
  for (std::size_t i = 0; i < one.groups.size(); ++i) code_group(row, one.groups[i], other.groups[i]);
  for (std::size_t i = 0; i < one.reservations.size(); ++i)
    code_reservation(row, one.reservations[i], other.reservations[i]);
  for (std::size_t i = 0; i < one.guests.size(); ++i) {
    all &= one.guests[i].name == other.guests[i].name;
    code_guest(row, one.guests[i], other.guests[i], {}, {});
  }
  return all && row.same();
}

/// A host and guests that do and say anything, decided upon by the engine, with labels that change.
class HostileRecording {
 public:
  explicit HostileRecording(std::uint64_t seed) : random_(seed), host_(random_.make(Bytes{0}, 12)) {
    encoder_.begin({.run = seed, .sequence = 3, .version = "test"}, file);
    encoder_.tunables(Tunables{}, file);
  }

  void tick() {
    random_.live(host_);
    Tick tick;
    tick.number = ++number_;
    tick.wall = milliseconds(1'700'000'000'000 + 1000 * static_cast<std::int64_t>(number_));
    tick.snapshot = host_.snapshot();
    std::ranges::sort(tick.snapshot.guests, {}, &GuestSnapshot::name);
    if (random_.one_in(10)) tick.snapshot.now = random_.any_time();
    random_.lie(tick.snapshot.host);
    for (GuestSnapshot& guest : tick.snapshot.guests) {
      if (random_.one_in(3)) random_.lie(guest);
      tick.labels.push_back(random_.one_in(5) ? Labels{{"tier", "db"}, {"n", std::to_string(number_)}}
                                              : Labels{});
    }
    tick.plan = engine_.decide(tick.snapshot);
    std::vector<const Labels*> labels;
    for (const Labels& each : tick.labels) labels.push_back(&each);
    ASSERT_TRUE(encoder_.tick(tick.number, tick.wall, tick.snapshot, labels, tick.plan, file));
    ticks.push_back(std::move(tick));
    host_.settle(std::chrono::seconds(1));
  }

  std::string file;
  std::vector<Tick> ticks;

 private:
  RandomHost random_;
  FakeHost host_;
  Engine engine_{Tunables{}};
  Encoder encoder_;
  std::uint64_t number_ = 0;
};

TEST(RecordingTest, EveryBitOfWhatWasSeenAndSaidComesBackWhateverGuestsDo) {
  for (std::uint64_t seed = 1; seed <= (kSanitized ? 20U : 200U); ++seed) {
    HostileRecording recording(seed);
    for (int i = 0; i < 60; ++i) recording.tick();
    Decoder decoder;
    ASSERT_EQ(version_in(std::string_view(recording.file).substr(0, kHeaderSize)), kVersion);
    std::size_t at = 0;
    for (const std::string& payload : payloads(recording.file)) {
      const auto kind = decoder.read(payload);
      ASSERT_TRUE(kind) << kind.error().message;
      if (*kind != Kind::tick) continue;
      const Tick& tick = decoder.tick();
      const Tick& expected = recording.ticks[at++];
      ASSERT_EQ(tick.number, expected.number);
      ASSERT_EQ(tick.wall, expected.wall);
      ASSERT_TRUE(seen_same(tick.snapshot, expected.snapshot)) << "seed " << seed << ", tick " << at;
      ASSERT_TRUE(same(tick.plan, expected.plan)) << "seed " << seed << ", tick " << at;
      ASSERT_EQ(tick.labels, expected.labels);
    }
    EXPECT_EQ(at, recording.ticks.size());
    EXPECT_EQ(decoder.start().run, seed);
    EXPECT_EQ(decoder.start().sequence, 3U);
    EXPECT_EQ(decoder.start().version, "test");
  }
}

/// A value of which every byte is `byte`, 0 or 1: so every field is set, flags and optional values among
/// them, to something valid, and no field that is added is left out.
template <typename T>
T filled(int byte) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memset(static_cast<void*>(&value), byte, sizeof value);
  return value;
}

GuestSnapshot guest_filled(int byte) {
  GuestSnapshot guest;
  auto& [name, memory, limits, actual, target, on_host, controllable, stats, pin] = guest;
  name = "a";
  memory = filled<Bytes>(byte);
  actual = memory + Bytes{1};
  target = memory + Bytes{2};
  on_host = filled<GuestOnHost>(byte);
  controllable = byte != 0;
  stats = filled<GuestStats>(byte);
  pin = filled<Pin>(byte);
  auto& [min, max, weight, group, margin_factor, ksm] = limits;
  min = memory + Bytes{3};
  max = memory + Bytes{4};
  weight = filled<std::uint32_t>(byte);
  group = "g";
  margin_factor = filled<double>(byte);
  ksm = byte != 0;
  return guest;
}

Snapshot snapshot_filled(int byte) {
  Snapshot snapshot;
  auto& [now, host, guests, groups, reservations] = snapshot;
  now = filled<Time>(byte);
  host = filled<HostSnapshot>(byte);
  guests = {guest_filled(byte)};
  groups = {{.name = "g", .min = Bytes{5}, .max = Bytes{6}, .weight = 7}};
  reservations = {
      {.id = "r", .min = Bytes{5}, .max = Bytes{6}, .priority = 7, .deadline = Time(8), .granted = Bytes{9}}};
  return snapshot;
}

Plan plan_filled(int byte) {
  Plan plan;
  auto& [state, level, budget, guests, reservations, ksm] = plan;
  state = level = filled<HostState>(byte);
  budget = filled<Bytes>(byte);
  reservations = {{.id = "r", .state = GrantState::granted, .granted = Bytes{9}}};
  ksm = filled<KsmPlan>(byte);
  auto& [name, guest_state, used, need, share, target, untouched, reason, why] = guests.emplace_back();
  name = "a";
  guest_state = filled<GuestState>(byte);
  used = filled<Bytes>(byte);
  need = used + Bytes{1};
  share = used + Bytes{2};
  target = used + Bytes{3};
  untouched = used + Bytes{4};
  reason = filled<Reason>(byte);
  why = filled<Explanation>(byte);
  return plan;
}

TEST(RecordingTest, EveryFieldComesBack) {
  for (const int byte : {0, 1}) {
    const Snapshot snapshot = snapshot_filled(byte);
    const Plan plan = plan_filled(byte);
    const Labels labels{{"tier", "db"}};
    std::string file;
    ASSERT_TRUE(Encoder().tick(1, milliseconds(2), snapshot, std::vector{&labels}, plan, file));
    Decoder decoder;
    ASSERT_TRUE(decoder.read(file.substr(kFrameSize)));
    EXPECT_TRUE(decoder.tick().snapshot == snapshot) << "filled with " << byte;
    EXPECT_TRUE(decoder.tick().plan == plan) << "filled with " << byte;
  }
}

TEST(RecordingTest, EveryFieldOfAFilesStartAndOfATickComesBack) {
  const Start start{.run = 1, .sequence = 2, .version = "test"};
  const Tick tick{.number = 3,
                  .wall = milliseconds(4),
                  .snapshot = snapshot_filled(1),
                  .labels = {{{"tier", "db"}}},
                  .plan = plan_filled(1)};
  std::string file;
  Encoder encoder;
  encoder.begin(start, file);
  const std::vector<const Labels*> labels{&tick.labels.front()};
  ASSERT_TRUE(encoder.tick(tick.number, tick.wall, tick.snapshot, labels, tick.plan, file));
  Decoder decoder;
  for (const std::string& payload : payloads(file)) ASSERT_TRUE(decoder.read(payload));
  EXPECT_TRUE(fields_of(decoder.start()) == fields_of(start));
  EXPECT_TRUE(fields_of(decoder.tick()) == fields_of(tick));
}

TEST(RecordingTest, EveryTunableComesBack) {
  for (const int byte : {0, 1}) {
    const auto tunables = filled<Tunables>(byte);
    std::string file;
    Encoder().tunables(tunables, file);
    Decoder decoder;
    ASSERT_TRUE(decoder.read(file.substr(kFrameSize)));
    EXPECT_TRUE(decoder.tunables() == tunables) << "filled with " << byte;
    EXPECT_TRUE(same(decoder.tunables(), tunables));
    EXPECT_FALSE(same(decoder.tunables(), Tunables{}));
  }
}

TEST(RecordingTest, PlansThatDifferInOneBitAreNotTheSame) {
  HostileRecording recording(5);
  for (int i = 0; i < 5; ++i) recording.tick();
  const Plan& plan = recording.ticks.back().plan;
  ASSERT_FALSE(plan.guests.empty());
  EXPECT_TRUE(same(plan, Plan(plan)));
  const auto differs = [&](const auto& change) {
    Plan other = plan;
    change(other);
    return !same(plan, other);
  };
  EXPECT_TRUE(differs([](Plan& p) { p.budget += Bytes{1}; }));
  EXPECT_TRUE(differs([](Plan& p) { p.guests[0].target += Bytes{1}; }));
  EXPECT_TRUE(differs([](Plan& p) { p.guests[0].why.need.recent += Bytes{1}; }));
  EXPECT_TRUE(differs([](Plan& p) { p.guests[0].why.otherwise.wait += Time(1); }));
  EXPECT_TRUE(differs([](Plan& p) {
    p.guests[0].why.trust = Trust::limited;
    p.guests[0].name += "x";
  }));
  EXPECT_TRUE(differs([](Plan& p) { p.guests.pop_back(); }));
}

/// The bytes of a file of hexadecimal digits.
std::string from_hex(const std::string& path) {
  std::ifstream in(path);
  std::string bytes;
  std::string digits;
  while (in >> digits) {
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
      bytes.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

/// So that what records contain does not change unnoticed: recordings that operators have must be read, or
/// refused for their version.
TEST(RecordingTest, TheCheckedInRecordingIsReadAndWrittenAgainToTheSameBytes) {
  const std::string file = from_hex(CHECKED_IN_RECORDING);
  ASSERT_EQ(version_in(std::string_view(file).substr(0, kHeaderSize)), kVersion);
  Decoder decoder;
  Encoder encoder;
  std::string again;
  std::size_t ticks = 0;
  for (const std::string& payload : payloads(file)) {
    const auto kind = decoder.read(payload);
    ASSERT_TRUE(kind) << kind.error().message;
    if (*kind == Kind::start) encoder.begin(decoder.start(), again);
    if (*kind == Kind::tunables) encoder.tunables(decoder.tunables(), again);
    if (*kind != Kind::tick) continue;
    const Tick& tick = decoder.tick();
    std::vector<const Labels*> labels;
    for (const Labels& each : tick.labels) labels.push_back(&each);
    ASSERT_TRUE(encoder.tick(tick.number, tick.wall, tick.snapshot, labels, tick.plan, again));
    ++ticks;
  }
  EXPECT_GT(ticks, 30U);
  EXPECT_TRUE(again == file) << "what records contain has changed: raise kVersion, and record it again as "
                                "checked_in.yaml says";
}

TEST(RecordingTest, AnotherVersionAndWhatIsNoRecordingAreRefused) {
  EXPECT_EQ(
      another_version(10, "1.2").message,
      "it has version 10 of the format, this program reads version 11: replay it with the balloon-sim of the "
      "balloond that recorded it, 1.2, or record anew");
  EXPECT_EQ(version_in("#!/bin/bash\n").error().message, "it is no recording of balloond");
  EXPECT_FALSE(version_in(kMagic));
}

TEST(RecordingTest, ATunableThatIsMissingIsRefusedByName) {
  std::string payload(1, static_cast<char>(Kind::tunables));
  const Tunables tunables;
  each_tunable(tunables, [&](std::string_view name, const auto& value) {
    if (name == "constants.speed_gain") return;
    put_text(payload, name);
    for (int shift = 0; shift < 64; shift += 8) payload.push_back(static_cast<char>(as_bits(value) >> shift));
  });
  EXPECT_EQ(Decoder().read(payload).error().message,
            "the tunable 'constants.speed_gain' is missing: an older balloond has recorded this");
}

TEST(RecordingTest, ATunableThatIsNotKnownIsRefusedByName) {
  std::string payload(1, static_cast<char>(Kind::tunables));
  put_text(payload, "warp");
  payload.append(8, '\0');
  EXPECT_EQ(
      Decoder().read(payload).error().message,
      "the tunable 'warp' is not known, or has an impossible value: a newer balloond has recorded this");
}

TEST(RecordingTest, SizesThatLieAreRefusedWithoutTakingTheMemory) {
  for (const std::uint64_t guests : {~0ULL, 1ULL << 40, 1ULL << 20}) {
    std::string payload{static_cast<char>(Kind::tick), 1, 0};  // guests anew; a head as expected
    put_varint(payload, guests);
    payload.append(guests == 1ULL << 20 ? 4U << 20 : 16, '\0');
    EXPECT_FALSE(Decoder().read(payload)) << guests;
  }
}

/// Damage that has the right checksum: nothing but refusal, or another recording, comes of it.
TEST(RecordingTest, RandomlyDamagedRecordsNeverCrashTheReader) {
  std::mt19937_64 random(9);
  for (std::uint64_t seed = 1; seed <= (kSanitized ? 50U : 300U); ++seed) {
    HostileRecording recording(seed);
    for (int i = 0; i < 10; ++i) recording.tick();
    Decoder decoder;
    for (std::string payload : payloads(recording.file)) {
      for (std::uint64_t flips = random() % 4; flips > 0; --flips)
        payload[random() % payload.size()] ^= static_cast<char>(1U << random() % 8);
      if (random() % 8 == 0) payload.resize(random() % payload.size());
      if (!decoder.read(payload)) decoder.reset();
    }
  }
}

}  // namespace
}  // namespace balloon::policy::recording
