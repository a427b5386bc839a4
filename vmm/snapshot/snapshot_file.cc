// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/snapshot_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <utility>

#include "vmm/snapshot/crc32c.h"
#include "vmm/snapshot/memory_pages.h"

namespace balloon::vmm {
namespace {

constexpr std::array<char, 8> kMagic = {'B', 'L', 'N', 'D', 'S', 'N', 'A', 'P'};
/// The state of a machine with 64 vCPUs takes less than 1 MiB. More is not ours.
constexpr std::uint64_t kMaxState = (64 * kMiB).count();
/// Written and checked in one piece: damage is found before much is read.
constexpr std::uint64_t kRecordSize = kMiB.count();
constexpr std::uint64_t kEndMark = ~0ULL;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kSnapshotVersion;
  std::uint32_t state_checksum = 0;
  std::uint64_t state_size = 0;
  std::uint64_t memory_size = 0;  ///< of the guest
  std::uint32_t reserved = 0;
  std::uint32_t checksum = 0;  ///< of all before
};
static_assert(sizeof(Header) == 40);

/// Before each run of pages; the last has kEndMark, and in `size` how many there were.
struct Record {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::uint32_t data_checksum = 0;
  std::uint32_t checksum = 0;  ///< of all before
};
static_assert(sizeof(Record) == 24);

template <typename T>
std::uint32_t checksum_of(const T& value) {
  return crc32c(std::as_bytes(std::span(&value, 1)).first(offsetof(T, checksum)));
}

/// The temporary file: unlinked unless it got its name.
class NewFile {
 public:
  static Result<NewFile> create(const std::string& path) {
    NewFile file(path);
    // Guest memory has secrets: only this user reads it. Not following a link that somebody put there.
    file.fd_ = UniqueFd(::open(file.temporary_.c_str(),
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    // What is there and cannot be opened is not ours to unlink.
    if (const int error = errno; !file.fd_)
      return fail_errno(fmt::format("creating '{}'", std::exchange(file.temporary_, {})), error);
    struct stat status{};
    if (::fstat(file.fd_.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return fail(fmt::format("creating '{}': something that is no regular file is there already",
                              std::exchange(file.temporary_, {})));
    }
    return file;
  }
  NewFile(NewFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        fd_(std::move(other.fd_)),
        size_(other.size_) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  Result<void> write(std::span<const std::byte> bytes) {
    size_ += Bytes{bytes.size()};
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return fail_errno(fmt::format("writing '{}'", temporary_), errno);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
  }
  Result<void> finish() {
    if (::fsync(fd_.get()) != 0) return fail_errno(fmt::format("flushing '{}'", temporary_), errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return fail_errno(fmt::format("renaming '{}' to '{}'", temporary_, path_), errno);
    temporary_.clear();
    // The new name is safe once the directory is.
    const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
    const UniqueFd directory(
        ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::fsync(directory.get()) != 0)
      return fail_errno(fmt::format("flushing the directory of '{}'", path_), errno);
    return {};
  }
  Bytes size() const { return size_; }

 private:
  explicit NewFile(const std::string& path) : path_(path), temporary_(path + ".part") {}
  std::string path_;
  std::string temporary_;
  UniqueFd fd_;
  Bytes size_{};
};

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

Result<void> write_record(NewFile& file, Record record) {
  record.checksum = checksum_of(record);
  return file.write(bytes_of(record));
}

}  // namespace

Result<SnapshotSize> write_snapshot(const std::string& path, const std::vector<std::byte>& state,
                                    const GuestMemory& memory, const std::function<bool()>& given_up) {
  if (path.empty()) return fail("the snapshot's path is empty");
  auto file = NewFile::create(path);
  if (!file) return std::unexpected(file.error());
  Header header;
  header.state_checksum = crc32c(state);
  header.state_size = state.size();
  header.memory_size = memory.size().count();
  header.checksum = checksum_of(header);
  BALLOON_TRY(file->write(bytes_of(header)));
  BALLOON_TRY(file->write(state));
  SnapshotSize size;
  std::uint64_t records = 0;
  const auto write_pages = [&](GuestAddress address, std::span<const std::byte> pages) -> Result<void> {
    if (given_up()) return fail("the guest was ended meanwhile");
    ++records;
    size.memory += Bytes{pages.size()};
    BALLOON_TRY(
        write_record(*file, {.address = address, .size = pages.size(), .data_checksum = crc32c(pages)}));
    return file->write(pages);
  };
  BALLOON_TRY(for_each_used(memory, kRecordSize, write_pages));
  BALLOON_TRY(write_record(*file, {.address = kEndMark, .size = records}));
  BALLOON_TRY(file->finish());
  size.file = file->size();
  return size;
}

Result<SnapshotFile> SnapshotFile::open(const std::string& path) {
  // O_NONBLOCK: a FIFO must be refused below, not waited for here.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail_errno(fmt::format("opening the snapshot '{}'", path), errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return fail(fmt::format("the snapshot '{}' is not a regular file", path));
  SnapshotFile file(path, std::move(fd));
  Header header;
  BALLOON_TRY(file.read(std::as_writable_bytes(std::span(&header, 1)), "its header"));
  if (header.magic != kMagic) return fail(fmt::format("'{}' is no snapshot of balloon-vmm", path));
  if (header.version != kSnapshotVersion) {
    return fail(fmt::format(
        "the snapshot '{}' has version {}, this balloon-vmm reads version {}: restore it with the "
        "balloon-vmm that wrote it",
        path, header.version, kSnapshotVersion));
  }
  if (header.checksum != checksum_of(header) || header.state_size > kMaxState)
    return fail(fmt::format("the snapshot '{}' is damaged: its header", path));
  file.state_.resize(header.state_size);
  BALLOON_TRY(file.read(file.state_, "the machine's state"));
  if (crc32c(file.state_) != header.state_checksum)
    return fail(fmt::format("the snapshot '{}' is damaged: the machine's state", path));
  return file;
}

Result<void> SnapshotFile::load_memory(const GuestMemory& memory) {
  for (std::uint64_t records = 0;; ++records) {
    Record record;
    BALLOON_TRY(read(std::as_writable_bytes(std::span(&record, 1)), "its memory"));
    const bool sound = record.checksum == checksum_of(record);
    if (sound && record.address == kEndMark && record.size == records) return {};
    const auto host =
        sound && record.size <= kRecordSize && record.address % kPageSize == 0 && record.size % kPageSize == 0
            ? memory.at(record.address, record.size)
            : std::nullopt;
    if (!host) return fail(fmt::format("the snapshot '{}' is damaged: memory record {}", path_, records));
    BALLOON_TRY(read(*host, "its memory"));
    if (crc32c(*host) != record.data_checksum)
      return fail(fmt::format("the snapshot '{}' is damaged: memory at {:#x}", path_, record.address));
  }
}

Result<void> SnapshotFile::read(std::span<std::byte> into, const char* what) {
  while (!into.empty()) {
    const ssize_t got = ::read(fd_.get(), into.data(), into.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(fmt::format("reading {} from the snapshot '{}'", what, path_), errno);
    if (got == 0) return fail(fmt::format("the snapshot '{}' is cut off in {}", path_, what));
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

}  // namespace balloon::vmm
