// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/terminal_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Wish = TerminalKeys::Wish;

class TerminalKeysTest : public testing::Test {
 protected:
  /// What of the keys is for the guest.
  std::string type(std::string text) {
    const auto bytes = std::as_writable_bytes(std::span(text));
    const auto kept = keys.take(bytes, [this](Wish wish) { wishes.push_back(wish); });
    return text.substr(0, kept.size());
  }
  TerminalKeys keys;
  std::vector<Wish> wishes;
};

TEST_F(TerminalKeysTest, AllKeysButCtrlAAreTheGuests) {
  EXPECT_EQ(type("ls\r\x03\x1a\x1cxh?"), "ls\r\x03\x1a\x1cxh?") << "Ctrl-C, Ctrl-Z and Ctrl-\\ too";
  EXPECT_THAT(wishes, IsEmpty());
}

TEST_F(TerminalKeysTest, AfterCtrlAXEndsTheGuestAndHTellsOfTheKeys) {
  EXPECT_EQ(type("a\x01xb\x01hc\x01?d"), "abcd");
  EXPECT_THAT(wishes, ElementsAre(Wish::end, Wish::help, Wish::help));
}

TEST_F(TerminalKeysTest, CtrlATwiceIsOneForTheGuestAndOtherKeysMeanNothing) {
  EXPECT_EQ(type("\x01\x01x"), "\x01x");
  EXPECT_EQ(type("\x01qx"), "x");
  EXPECT_THAT(wishes, IsEmpty());
}

TEST_F(TerminalKeysTest, TheTwoKeysMayComeApart) {
  EXPECT_EQ(type("\x01"), "");
  EXPECT_EQ(type("x"), "");
  EXPECT_EQ(type("x"), "x");
  EXPECT_THAT(wishes, ElementsAre(Wish::end));
}

}  // namespace
}  // namespace balloon::vmm::test
