// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <concepts>
#include <limits>
#include <type_traits>

namespace balloon {
namespace {

template <typename A, typename B>
concept Summed = requires(A a, B b) { a + b; } || requires(A& a, B b) { a += b; };
template <typename A, typename B>
concept Subtracted = requires(A a, B b) { a - b; } || requires(A& a, B b) { a -= b; };
template <typename A, typename B>
concept Remaindered = requires(A a, B b) { a % b; } || requires(A& a, B b) { a %= b; };
template <typename A, typename B>
concept Added = Summed<A, B> || Subtracted<A, B> || Remaindered<A, B>;
template <typename A, typename B>
concept Compared = requires(A a, B b) { a < b; } || requires(A a, B b) { a == b; };
template <typename A, typename B>
concept Multiplied = requires(A a, B b) { a* b; } || requires(A& a, B b) { a *= b; };
template <typename A, typename B>
concept Divided = requires(A a, B b) { a / b; } || requires(A& a, B b) { a /= b; };
template <typename Number>
concept Named = requires(Number number) { Bytes{number}; };
/// Sums and comparisons of a size with another number, and taking one for the other.
template <typename Number>
constexpr bool kMixed =
    Added<Bytes, Number> || Added<Number, Bytes> || Compared<Bytes, Number> || Compared<Number, Bytes> ||
    Divided<Number, Bytes> || std::convertible_to<Number, Bytes> || std::convertible_to<Bytes, Number> ||
    std::assignable_from<Bytes&, Number> || std::assignable_from<Number&, Bytes>;

// What must not compile.
static_assert(!kMixed<int> && !kMixed<unsigned> && !kMixed<std::uint64_t> && !kMixed<double> &&
              !kMixed<bool>);
static_assert(!Multiplied<Bytes, double> && !Multiplied<double, Bytes> && !Divided<Bytes, double>);
static_assert(!Multiplied<Bytes, bool> && !Divided<Bytes, bool>);
static_assert(!Multiplied<Bytes, Bytes>);
static_assert(!std::is_constructible_v<bool, Bytes>);
static_assert(!Named<int> && !Named<std::int64_t>, "it may be below 0");
static_assert(!fmt::is_formattable<Bytes>::value, "as people read it (format_bytes), or count()?");
// The same questions, where the answer is yes.
static_assert(Summed<Bytes, Bytes> && Subtracted<Bytes, Bytes> && Remaindered<Bytes, Bytes>);
static_assert(Compared<Bytes, Bytes> && Divided<Bytes, Bytes>);
static_assert(Multiplied<Bytes, int> && Multiplied<unsigned, Bytes> && Divided<Bytes, int>);
static_assert(Named<std::uint64_t> && Named<std::uint32_t> && Named<double>);

// It is its number, and costs no more.
static_assert(sizeof(Bytes) == sizeof(std::uint64_t) && std::is_trivially_copyable_v<Bytes>);

TEST(Bytes, AddUpWithSizesAndAreMultipliedAndDividedByWholeNumbers) {
  Bytes size = 3 * kMiB + kKiB;
  EXPECT_EQ(size.count(), 3U * 1024 * 1024 + 1024);
  EXPECT_EQ(size - kKiB, kMiB * 3);
  EXPECT_EQ(size / 1024, Bytes{3 * 1024 + 1});
  size += kKiB;
  size -= 2 * kKiB;
  size *= 2;
  size /= 3;
  EXPECT_EQ(size, 2 * kMiB);
  EXPECT_EQ(Bytes{}, Bytes{0});
}

TEST(Bytes, AreInOrder) {
  EXPECT_LT(kKiB, kMiB);
  EXPECT_GE(kMiB, 1024 * kKiB);
  EXPECT_EQ(std::max(kKiB, kMiB), kMiB);
}

TEST(Bytes, OneSizeInAnotherIsAPlainNumberAndLeavesASize) {
  static_assert(std::same_as<decltype(kMiB / kKiB), std::uint64_t>);
  static_assert(std::same_as<decltype(kMiB % kKiB), Bytes>);
  EXPECT_EQ((kMiB + Bytes{1}) / kKiB, 1024U);
  EXPECT_EQ((kMiB + Bytes{1}) % kKiB, Bytes{1});
}

TEST(Bytes, BecomeNumbersAndComeFromThemWhereThatIsSaid) {
  EXPECT_EQ(static_cast<double>(2 * kKiB), 2048.0);
  EXPECT_EQ(static_cast<std::uint32_t>(2 * kKiB), 2048U);
  EXPECT_EQ(static_cast<Bytes>(2048.9), 2 * kKiB) << "without the part of a byte";
}

TEST(Bytes, GoUpToTheLargestOfTheirNumbers) {
  EXPECT_EQ(Bytes::max().count(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(std::numeric_limits<Bytes>::max(), Bytes::max());
  EXPECT_EQ(std::numeric_limits<Bytes>::min(), Bytes{0});
}

TEST(Bytes, AboveAnotherAreNothingWhereTheyAreNot) {
  EXPECT_EQ(above(3 * kMiB, kMiB), 2 * kMiB);
  EXPECT_EQ(above(kMiB, kMiB), Bytes{0});
  EXPECT_EQ(above(Bytes{0}, Bytes::max()), Bytes{0});
}

TEST(Bytes, AddUpToTheLargestAtMost) {
  EXPECT_EQ(add(kMiB, 2 * kMiB), 3 * kMiB);
  EXPECT_EQ(add(Bytes::max(), Bytes{0}), Bytes::max());
  EXPECT_EQ(add(Bytes::max() - kMiB, kMiB + Bytes{1}), Bytes::max());
}

TEST(Bytes, AreShownByTestsAsPeopleReadThemAndInFull) {
  EXPECT_EQ(testing::PrintToString(kGiB + Bytes{1}), "1.00 GiB (1073741825 B)");
}

TEST(ParseBytes, ReadsPowersOf1024WithAndWithoutIb) {
  EXPECT_EQ(parse_bytes("512MiB"), 512 * kMiB);
  EXPECT_EQ(parse_bytes("2G"), 2 * kGiB);
  EXPECT_EQ(parse_bytes("3T"), 3 * kTiB);
  EXPECT_EQ(parse_bytes("1.5 gib"), kGiB + 512 * kMiB);
  EXPECT_EQ(parse_bytes("4096B"), Bytes{4096});
  EXPECT_EQ(parse_bytes("0"), Bytes{0});
}

TEST(ParseBytes, RefusesWhatIsNotASizeAndSaysWhy) {
  for (const char* text :
       {"", "G", "-1G", "12", "12X", "1e400G", "nan", "inf", "99999999T", "1 G B", "0x10M"}) {
    const auto result = parse_bytes(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().message.find("is not a size"), std::string::npos) << result.error().message;
  }
}

TEST(FormatBytes, KeepsFourDigitsAtMost) {
  EXPECT_EQ(format_bytes(Bytes{0}), "0 B");
  EXPECT_EQ(format_bytes(512 * kMiB), "512 MiB");
  EXPECT_EQ(format_bytes(kGiB + 512 * kMiB), "1.50 GiB");
  EXPECT_EQ(format_bytes(1023 * kMiB + 512 * kKiB), "1024 MiB");
  EXPECT_EQ(format_bytes(Bytes::max()), "16 EiB");
}

}  // namespace
}  // namespace balloon
