// SPDX-License-Identifier: Apache-2.0
// What balloonctl's command line takes, and what it says of the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "balloond/ctl/commands.h"

namespace balloon::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

struct Parsed {
  CommandLine line;
  std::string out;
  std::string err;
};

Parsed parse(std::vector<const char*> words) {
  words.insert(words.begin(), "balloonctl");
  CaptureStdout();
  CaptureStderr();
  CommandLine line = parse_command_line(static_cast<int>(words.size()), words.data());
  return {std::move(line), GetCapturedStdout(), GetCapturedStderr()};
}

std::string complaint(const std::vector<const char*>& words) {
  const Parsed parsed = parse(words);
  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_EQ(parsed.out, "");
  return parsed.err;
}

TEST(CommandLineTest, AnUnknownCommandIsNamedAndTheNearestSuggested) {
  EXPECT_EQ(complaint({"lst"}), "balloonctl: unknown command 'lst'; did you mean 'list'?\n");
  EXPECT_EQ(complaint({"policy", "chek", "x"}),
            "balloonctl: unknown command 'chek'; did you mean 'check'?\n");
  EXPECT_EQ(complaint({"host", "chck"}), "balloonctl: unknown command 'chck'; did you mean 'check'?\n");
  EXPECT_THAT(complaint({"frobnicate"}),
              HasSubstr("unknown command 'frobnicate'; balloonctl has list, show"));
}

TEST(CommandLineTest, AnUnknownOptionIsNamedAndTheNearestSuggested) {
  EXPECT_EQ(complaint({"list", "--socet", "x"}),
            "balloonctl: unknown option '--socet'; did you mean '--socket'? (see balloonctl list --help)\n");
  EXPECT_EQ(complaint({"list", "-x"}), "balloonctl: unknown option '-x' (see balloonctl list --help)\n");
  EXPECT_EQ(complaint({"--confg", "x"}), "balloonctl: unknown option '--confg' (see balloonctl --help)\n");
}

TEST(CommandLineTest, AWordTooManyIsNamed) {
  EXPECT_EQ(complaint({"list", "web-1"}),
            "balloonctl: 'web-1' is one word too many for balloonctl list (see balloonctl list --help)\n");
}

TEST(CommandLineTest, WordsOfVirshAndKubectlLeadToOurs) {
  EXPECT_THAT(complaint({"get", "guests"}), HasSubstr("unknown command 'get'; here it is 'list'"));
  EXPECT_THAT(complaint({"describe", "web-1"}), HasSubstr("here it is 'show GUEST'"));
  EXPECT_THAT(complaint({"dommemstat", "web-1"}), HasSubstr("here it is 'show GUEST'"));
  EXPECT_THAT(complaint({"setmem", "web-1", "1G"}), HasSubstr("here it is 'set GUEST SIZE'"));
  EXPECT_THAT(complaint({"domstats"}), HasSubstr("here it is 'list'"));
  EXPECT_THAT(complaint({"pin", "web-1"}), HasSubstr("here it is 'set GUEST SIZE'"));
  EXPECT_THAT(complaint({"edit"}), HasSubstr("here it is a policy file")) << "and not 'fit', which is near";
}

TEST(CommandLineTest, AMissingCommandIsAskedForByName) {
  EXPECT_THAT(complaint({}), HasSubstr("a command is missing: list, show,"));
  EXPECT_THAT(complaint({"policy"}), HasSubstr("a command is missing: check, show, diff"));
}

TEST(CommandLineTest, ValuesThatTheDaemonWouldNeverTakeAreWrongUse) {
  EXPECT_THAT(complaint({"set", "a", "1GiB", "--for", "48h"}), HasSubstr("'48h' is longer than 24h"));
  EXPECT_THAT(complaint({"set", "a", "1GiB", "--for", "10"}), HasSubstr("'10' is not a duration"));
  EXPECT_THAT(complaint({"reserve", "a", "2GiB", "--max", "1GiB"}), HasSubstr("1 GiB is below MIN, 2 GiB"));
  EXPECT_THAT(complaint({"reserve", "a", "2GiB", "--priority", "0"}), HasSubstr("not in range 1 to 10000"));
  EXPECT_THAT(complaint({"reserve", "a", "2GiB", "--priority", "10001"}),
              HasSubstr("not in range 1 to 10000"));
  EXPECT_THAT(complaint({"reserve", "a", "2GiB", "--lease", "25h"}), HasSubstr("longer than 24h"));
  EXPECT_THAT(complaint({"reserve", "a b", "2GiB"}), HasSubstr("is not a name of 1 to 64 characters"));
  EXPECT_THAT(complaint({"list", "-o", "xml"}), HasSubstr("xml"));
  EXPECT_THAT(complaint({"merge", "a", "perhaps"}), HasSubstr("perhaps"));
}

TEST(CommandLineTest, ForProgramsWrongUseIsJsonToo) {
  for (const auto& words : std::vector<std::vector<const char*>>{
           {"lst", "-o", "json"}, {"-ojson", "lst"}, {"lst", "--output=json"}, {"lst", "--output", "yaml"}}) {
    const auto json = nlohmann::json::parse(complaint(words));
    EXPECT_EQ(json["error"]["code"], 2);
    EXPECT_EQ(json["error"]["kind"], "usage");
    EXPECT_THAT(json["error"]["message"].get<std::string>(), HasSubstr("'lst'"));
  }
}

TEST(CommandLineTest, EachCommandsHelpHasTheOptionsThatApply) {
  for (const char* const command : {"list", "show", "explain", "needs", "watch", "host", "set", "merge",
                                    "reserve", "release", "reservations"}) {
    const Parsed help = parse({command, "--help"});
    EXPECT_EQ(help.line.exit_status, 0) << command;
    for (const char* const option : {"--output", "--socket", "--timeout"})
      EXPECT_THAT(help.out, HasSubstr(option)) << command;
  }
  for (const auto& words : std::vector<std::vector<const char*>>{
           {"host", "check", "--help"}, {"policy", "check", "--help"}, {"replay", "--help"}}) {
    const Parsed help = parse(words);
    EXPECT_THAT(help.out, HasSubstr("--output"));
    EXPECT_EQ(help.out.find("--socket"), std::string::npos) << help.out;
  }
}

TEST(CommandLineTest, HelpIsAlsoAWord) {
  EXPECT_EQ(parse({"help"}).out, parse({"--help"}).out);
  EXPECT_EQ(parse({"help", "set"}).out, parse({"set", "--help"}).out);
  EXPECT_THAT(parse({"set", "--help"}).out, HasSubstr("--for"));
}

TEST(CommandLineTest, OptionsMayStandBeforeOrAfterTheCommand) {
  const Parsed before = parse({"-o", "json", "--socket", "/x", "list"});
  EXPECT_FALSE(before.line.exit_status) << before.err;
  EXPECT_EQ(before.line.arguments.socket, "/x");
  EXPECT_EQ(before.line.arguments.output, "json");
  const Parsed after = parse({"--socket", "/x", "list", "--socket", "/y", "-o", "wide", "--no-headings"});
  EXPECT_FALSE(after.line.exit_status) << after.err;
  EXPECT_EQ(after.line.arguments.socket, "/y");
  EXPECT_TRUE(after.line.arguments.no_headings);
  EXPECT_EQ(format_of(after.line.arguments.output), Format::wide);
}

}  // namespace
}  // namespace balloon::ctl
