// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/aml.h"

#include <gtest/gtest.h>

#include <string>

namespace balloon::vmm::aml {
namespace {

TEST(AmlTest, IntegersTakeTheShortestForm) {
  EXPECT_EQ(integer(0), (Term{0x00}));
  EXPECT_EQ(integer(1), (Term{0x01}));
  EXPECT_EQ(integer(2), (Term{0x0a, 2}));
  EXPECT_EQ(integer(0xff), (Term{0x0a, 0xff}));
  EXPECT_EQ(integer(0x100), (Term{0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x12345678), (Term{0x0c, 0x78, 0x56, 0x34, 0x12}));
  EXPECT_EQ(integer(0x100000000), (Term{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(AmlTest, EisaIdsAreCompressedAsTheSpecificationSays) {
  EXPECT_EQ(eisa_id("PNP0A03"), (Term{0x0c, 0x41, 0xd0, 0x0a, 0x03}));
  EXPECT_EQ(eisa_id("PNP0501"), (Term{0x0c, 0x41, 0xd0, 0x05, 0x01}));
}

TEST(AmlTest, NamesArePaddedToFour) {
  EXPECT_EQ(name("_S5", integer(0)), (Term{0x08, '_', 'S', '5', '_', 0x00}));
  EXPECT_EQ(name("\\_S5", integer(0)), (Term{0x08, '\\', '_', 'S', '5', '_', 0x00}));
}

/// PkgLength of a device of that many content bytes, decoded: it must count itself and all that follows.
TEST(AmlTest, PackageLengthsCountThemselvesAtEachWidth) {
  for (std::size_t body :
       {0U, 50U, 58U, 59U, 60U, 61U, 100U, 4085U, 4089U, 4090U, 4091U, 5000U, 70000U, 1100000U}) {
    Term term = device("ABCD", Term(body));
    const unsigned more = term[2] >> 6;
    std::size_t length = more == 0 ? term[2] & 0x3f : term[2] & 0x0f;
    for (unsigned i = 0; i < more; ++i) length |= std::size_t{term[3 + i]} << (4 + 8 * i);
    EXPECT_EQ(length, term.size() - 2) << body << " bytes of body, " << more << " more length bytes";
  }
}

TEST(AmlTest, ResourceTemplatesEndWithTheirTag) {
  Term term = resource_template({io_ports(0x3f8, 8)});
  EXPECT_EQ(term, (Term{0x11, 13, 0x0a, 10, 0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x79, 0}));
}

}  // namespace
}  // namespace balloon::vmm::aml
