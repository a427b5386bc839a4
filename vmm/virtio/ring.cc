// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/ring.h"

#include <fmt/format.h>

#include <utility>

namespace balloon::vmm {
namespace {

constexpr std::uint64_t kMaxChainBytes = 1ULL << 32;  // virtio 1.2, 2.7.5.2

}  // namespace

Chain Ring::blank() {
  Chain chain(*this);
  for (auto* buffers : {&chain.readable_, &chain.writable_}) {
    if (spare_.empty()) break;
    *buffers = std::move(spare_.back());
    spare_.pop_back();
  }
  return chain;
}

Result<void> Ring::add(Chain& chain, const Descriptor& descriptor) const {
  const bool writable = (descriptor.flags & kDescriptorWrite) != 0;
  if (!writable && !chain.writable_.empty())
    return fail("device-readable buffer after a device-writable one");
  if (descriptor.length == 0) return {};  // seen from real drivers; it holds nothing
  const auto host = memory_.at(descriptor.address, descriptor.length);
  if (!host) {
    return fail(
        fmt::format("buffer at {:#x}, {} bytes: not in guest RAM", descriptor.address, descriptor.length));
  }
  chain.bytes_ += descriptor.length;
  if (chain.bytes_ > kMaxChainBytes) return fail(fmt::format("more than {} bytes", kMaxChainBytes));
  (writable ? chain.writable_ : chain.readable_).push_back({descriptor.address, *host});
  return {};
}

Result<std::span<const std::byte>> Ring::indirect_table(const Descriptor& descriptor) const {
  if (!layout_.indirect) return fail("indirect descriptor, though the feature was not negotiated");
  if ((descriptor.flags & kDescriptorNext) != 0) return fail("indirect descriptor with a next one");
  if (descriptor.length == 0 || descriptor.length % kDescriptorSize != 0) {
    return fail(fmt::format("indirect table of {} bytes", descriptor.length));
  }
  const auto host = memory_.at(descriptor.address, descriptor.length);
  if (!host) {
    return fail(fmt::format("indirect table at {:#x}, {} bytes: not in guest RAM", descriptor.address,
                            descriptor.length));
  }
  return std::span<const std::byte>(*host);
}

Result<std::optional<Chain>> Ring::give(Chain chain, ChainToken token) {
  if (out_ + token.slots > layout_.size) {
    return refuse(chain, fmt::format("chain {}", token.id),
                  Error{fmt::format("the device has all {} descriptors of the queue already", layout_.size)});
  }
  out_ += token.slots;
  chain.token_ = token;
  return std::optional<Chain>(std::move(chain));
}

std::unexpected<Error> Ring::refuse(Chain& chain, std::string_view what, const Error& why) {
  recycle(chain);
  return fail(std::string(what), why);
}

void Ring::put(Chain& chain, std::uint32_t written) {
  out_ -= chain.token_.slots;
  const Used used{chain.token_, written};
  write_used(std::span(&used, 1));
  recycle(chain);
}

void Ring::put_all(std::span<Chain> chains, std::span<const std::uint32_t> written) {
  used_.clear();
  for (std::size_t i = 0; i < chains.size(); ++i) {
    out_ -= chains[i].token_.slots;
    used_.push_back({chains[i].token_, written[i]});
    recycle(chains[i]);
  }
  if (!used_.empty()) write_used(used_);
}

void Ring::recycle(Chain& chain) {
  chain.ring_ = nullptr;
  for (auto* buffers : {&chain.readable_, &chain.writable_}) {
    buffers->clear();
    if (buffers->capacity() > 0) spare_.push_back(std::move(*buffers));
  }
}

Result<std::span<std::byte>> Ring::part(const GuestMemory& memory, const char* what, GuestAddress address,
                                        std::uint64_t size, std::uint64_t align) {
  if (address % align != 0) return fail(fmt::format("{} at {:#x}: not aligned to {}", what, address, align));
  const auto host = memory.at(address, size);
  if (!host) return fail(fmt::format("{} at {:#x}, {} bytes: not in guest RAM", what, address, size));
  return *host;
}

}  // namespace balloon::vmm
