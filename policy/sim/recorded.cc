// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/recorded.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "policy/recording/encoder.h"
#include "policy/recording/wire.h"

namespace balloon::policy::sim {
namespace {

/// Simulated time has no date: every run begins at the same moment (2023-11-14), so that recordings are the
/// same byte for byte.
constexpr std::chrono::milliseconds kBegin{1'700'000'000'000};

/// Writes down what the law within it sees and says.
class RecordedLaw final : public Controller {
 public:
  RecordedLaw(std::unique_ptr<Controller> law, const std::string& path, std::uint64_t run,
              const Tunables& tunables, Result<void>& written)
      : law_(std::move(law)), file_(std::fopen(path.c_str(), "wbe"), &std::fclose), written_(written) {
    if (!file_) {
      written_ = fail_errno("writing " + path, errno);
      return;
    }
    encoder_.begin({.run = run, .sequence = 1, .version = "balloon-sim"}, bytes_);
    encoder_.tunables(tunables, bytes_);
  }

  Plan decide(const Snapshot& snapshot) override {
    Plan plan = law_->decide(snapshot);
    if (!written_) return plan;
    const std::vector<const recording::Labels*> labels(snapshot.guests.size(), &no_labels_);
    const auto wall = kBegin + std::chrono::duration_cast<std::chrono::milliseconds>(snapshot.now);
    if (!encoder_.tick(++number_, wall, snapshot, labels, plan, bytes_)) {
      written_ = fail(fmt::format("decision {} does not fit into a record", number_));
    } else if (std::fwrite(bytes_.data(), 1, bytes_.size(), file_.get()) != bytes_.size() ||
               std::fflush(file_.get()) != 0) {
      written_ = fail_errno("writing a recording", errno);
    }
    bytes_.clear();
    return plan;
  }

 private:
  std::unique_ptr<Controller> law_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  Result<void>& written_;
  recording::Encoder encoder_;
  recording::Labels no_labels_;
  std::string bytes_;
  std::uint64_t number_ = 0;
};

}  // namespace

struct RecordedRun::Files {
  std::string directory;
  std::uint64_t runs = 0;  ///< of the daemon
  Result<void> written;
};

Result<RecordedRun> RecordedRun::in(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return fail(fmt::format("making {}: {}", directory, error.message()));
  return RecordedRun(std::make_shared<Files>(Files{.directory = directory, .runs = 0, .written = {}}));
}

Contender RecordedRun::of(const Contender& law) const {
  Contender recorded = law;
  recorded.make = [files = files_, make = law.make](const Scenario& scenario, std::uint64_t seed) {
    const std::uint64_t run = ++files->runs;
    const std::string path = fmt::format("{}/{:06}{}", files->directory, run, recording::kSuffix);
    return std::make_unique<RecordedLaw>(make(scenario, seed), path, run, scenario.tunables, files->written);
  };
  return recorded;
}

Result<void> RecordedRun::written() const { return files_->written; }

}  // namespace balloon::policy::sim
