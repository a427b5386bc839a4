// SPDX-License-Identifier: Apache-2.0
// What Tab offers in bash, of the programs and of a daemon.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class CompletionTest : public DaemonTest {
 protected:
  /// What is offered at the end of `line`, sorted; its first word stands for balloonctl on this test's
  /// daemon.
  std::vector<std::string> offered(const std::string& line) const {
    const std::string script =
        "export BALLOOND_SOCKET=" + socket() +
        " PATH=" + std::filesystem::path(BALLOONCTL).parent_path().string() +
        ":$PATH\nsource " COMPLETION "\nline='" + line +
        "'\nread -ra COMP_WORDS <<<\"$line\"\n[[ $line == *' ' ]] && COMP_WORDS+=('')\n"
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_balloon\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    const Outcome outcome = run({"/bin/bash", "-c", script});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    std::vector<std::string> words;
    std::istringstream lines(outcome.out);
    for (std::string word; std::getline(lines, word);) {
      if (!word.empty()) words.push_back(word);
    }
    std::ranges::sort(words);
    return words;
  }
  bool offers(const std::string& line, const std::string& word) const {
    const auto words = offered(line);
    return std::ranges::find(words, word) != words.end();
  }
};

using Words = std::vector<std::string>;

TEST_F(CompletionTest, SubcommandsAndOptionsAreThoseThatHelpNames) {
  EXPECT_EQ(offered("balloonctl expl"), Words{"explain"});
  EXPECT_TRUE(offers("balloonctl ", "list"));
  EXPECT_EQ(offered("balloonctl policy ch"), Words{"check"});
  EXPECT_EQ(offered("balloonctl reserve --pri"), Words{"--priority"});
  EXPECT_EQ(offered("balloonctl list --time"), Words{"--timeout"}) << "options of all commands, too";
  EXPECT_TRUE(offers("balloon-vmm --", "--memory-backing"));
  EXPECT_EQ(offered("balloond --check"), Words{"--check-config"});
  EXPECT_TRUE(offers("balloon-sim ", "replay"));
}

TEST_F(CompletionTest, ValuesOfAnOptionAreThoseThatItTakes) {
  EXPECT_TRUE(offers("balloonctl list -o ", "json"));
  EXPECT_EQ(offered("balloon-sim sweep --swap z"), Words{"zram"});
  EXPECT_EQ(offered("balloond --log-level w"), Words{"warning"});
}

TEST_F(CompletionTest, GuestsAndReservationsAreThoseOfTheDaemon) {
  FakeVmm web(socket(), FakeVmm::guest("web-1", kGiB, kGiB));
  FakeVmm db(socket(), FakeVmm::guest("db.main_2", kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return ctl_json({"list"})["guests"].size() == 2; }));
  EXPECT_EQ(offered("balloonctl explain "), (Words{"db.main_2", "web-1"}));
  EXPECT_EQ(offered("balloonctl set w"), Words{"web-1"});
  EXPECT_EQ(offered("balloonctl -o json show d"), Words{"db.main_2"});
  EXPECT_EQ(offered("balloonctl merge web-1 o"), (Words{"off", "on"}));
  EXPECT_TRUE(offered("balloonctl show web-1 ").empty()) << "it takes one guest";
  ASSERT_EQ(ctl({"reserve", "new-1", "64MiB"}).exit_code, 0);
  EXPECT_EQ(offered("balloonctl release "), Words{"new-1"});
}

TEST_F(CompletionTest, WithoutADaemonThereAreNoNamesAndNoComplaints) {
  daemon_.reset();
  EXPECT_TRUE(offered("balloonctl explain ").empty());
}

}  // namespace
}  // namespace balloon::test
