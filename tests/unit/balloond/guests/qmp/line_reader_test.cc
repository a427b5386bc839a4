// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/line_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace balloon::daemon::qmp {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(LineReader, JoinsWhatComesInPieces) {
  LineReader lines;
  EXPECT_THAT(lines.feed("{\"ret"), testing::Optional(IsEmpty()));
  EXPECT_TRUE(lines.in_line());
  EXPECT_THAT(lines.feed("urn\":{}}\r\n{\"event\""), testing::Optional(ElementsAre("{\"return\":{}}")));
  EXPECT_THAT(lines.feed(":1}\n"), testing::Optional(ElementsAre("{\"event\":1}")));
  EXPECT_FALSE(lines.in_line());
}

TEST(LineReader, LeavesOutEmptyLines) {
  LineReader lines;
  EXPECT_THAT(lines.feed("\r\n\n1\n\n2\n"), testing::Optional(ElementsAre("1", "2")));
}

TEST(LineReader, HandsOnWhateverBytesALineHas) {
  LineReader lines;
  const std::string junk("\xff\xfe\0\x80 x", 6);
  EXPECT_THAT(lines.feed(junk + "\n"), testing::Optional(ElementsAre(junk)));
}

TEST(LineReader, TakesALineOfExactlyTheLimit) {
  LineReader lines;
  const auto got = lines.feed(std::string(kLineMax, 'x') + "\n");
  ASSERT_TRUE(got);
  EXPECT_THAT(*got, ElementsAre(testing::SizeIs(kLineMax)));
}

TEST(LineReader, RefusesALineAboveTheLimitBeforeItsEndHasCome) {
  LineReader lines;
  // 64 MiB of one line, as it comes from a socket: refused at the limit, so no more than that is ever kept.
  const std::string piece(64 << 10, 'x');
  std::size_t taken = 0;
  while (taken < 64 << 20) {
    if (!lines.feed(piece)) break;
    taken += piece.size();
  }
  EXPECT_EQ(taken, kLineMax);
  EXPECT_FALSE(lines.in_line()) << "what was kept of it is let go";
}

TEST(LineReader, RefusesALongLineThatComesAtOnce) {
  LineReader lines;
  const auto got = lines.feed(std::string(kLineMax + 1, 'x') + "\n");
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message, "a line is longer than 1024 KiB");
}

}  // namespace
}  // namespace balloon::daemon::qmp
