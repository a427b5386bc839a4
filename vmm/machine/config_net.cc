// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_net.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <utility>

#include "vmm/machine/config_identity.h"
#include "vmm/machine/flag_values.h"

namespace balloon::vmm {
namespace {

constexpr std::size_t kMaxInterfaceName = 15;  // IFNAMSIZ - 1

Result<NetConfig::Vhost> parse_vhost(std::string_view text) {
  if (text == "off") return NetConfig::Vhost::off;
  if (text == "on") return NetConfig::Vhost::on;
  if (text == "force") return NetConfig::Vhost::force;
  return fail(fmt::format("vhost={}: use off, on or force", text));
}

Result<bool> parse_link(std::string_view text) {
  if (text != "up" && text != "down") return fail(fmt::format("link={}: use up or down", text));
  return text == "up";
}

/// "3:4:5", as QEMU's fds=.
Setter to_descriptors(std::vector<std::uint32_t>& into, std::string_view key) {
  return [&into, key](std::string_view value) -> Result<void> {
    for (std::size_t start = 0; start <= value.size();) {
      const std::size_t colon = std::min(value.find(':', start), value.size());
      std::uint32_t number = 0;
      BALLOON_TRY(to_number(number, key)(value.substr(start, colon - start)));
      into.push_back(number);
      start = colon + 1;
    }
    return {};
  };
}

template <typename T, typename Parse>
Setter to_parsed(T& into, Parse parse) {
  return [&into, parse](std::string_view value) -> Result<void> {
    auto parsed = parse(value);
    if (!parsed) return std::unexpected(parsed.error());
    into = *parsed;
    return {};
  };
}

/// A string in YAML; the parser's complaint appears at its place.
template <typename T, typename Parse>
void read_parsed(yaml::Map& map, std::string_view key, T& into, Parse parse) {
  map.with(key, [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    if (const auto done = to_parsed(into, parse)(text); !done) value.complain(done.error().message);
  });
}

void read_descriptors(yaml::Map& map, std::string_view key, std::vector<std::uint32_t>& into) {
  map.list(key, [&](const yaml::Value& item) { item.read(into.emplace_back()); });
}

Result<void> check_backend(const NetConfig& net) {
  if (net.tap.empty() && net.fds.empty())
    return fail("net: its tap is missing: name one (tap), or pass it (fds)");
  if (!net.tap.empty() && !net.fds.empty())
    return fail(fmt::format("net '{}': both tap and fds are given", net.tap));
  if (net.tap.size() > kMaxInterfaceName) {
    return fail(fmt::format("net: '{}' is not a tap's name: 1 to {} characters", net.tap, kMaxInterfaceName));
  }
  if (net.pairs() < 1 || net.pairs() > NetConfig::kMaxQueuePairs) {
    return fail(fmt::format("net '{}': {} queues are not within 1 to {}", net.backend(), net.pairs(),
                            NetConfig::kMaxQueuePairs));
  }
  if (!net.fds.empty() && net.queues != 1 && net.queues != net.fds.size()) {
    return fail(fmt::format("net '{}': {} fds make as many queues, not {}", net.backend(), net.fds.size(),
                            net.queues));
  }
  if (!net.fds.empty() && !net.vnet_header) {
    return fail(
        fmt::format("net '{}': whether a passed tap has vnet_hdr is up to who opened it", net.backend()));
  }
  return {};
}

Result<void> check_vhost(const NetConfig& net) {
  if (!net.vhost_fds.empty() && net.vhost_fds.size() != net.pairs()) {
    return fail(fmt::format("net '{}': {} vhost fds for {} queues: one each is needed", net.backend(),
                            net.vhost_fds.size(), net.pairs()));
  }
  const bool must = net.vhost == NetConfig::Vhost::force || !net.vhost_fds.empty();
  if (must && net.rate.limits()) {
    return fail(fmt::format("net '{}': vhost cannot limit the rate; use vhost off, or limit the tap with tc",
                            net.backend()));
  }
  return {};
}

}  // namespace

Result<NetConfig> parse_net(std::string_view text) {
  NetConfig net;
  BALLOON_TRY(
      parse_pairs(text, {{"tap", to_string(net.tap, "tap")},
                         {"fds", to_descriptors(net.fds, "fds")},
                         {"id", to_id(net.identity)},
                         {"addr", to_slot(net.identity)},
                         {"mac", to_parsed(net.mac, parse_mac)},
                         {"queues", to_number(net.queues, "queues")},
                         {"queue-size", to_number(net.queue_size, "queue-size")},
                         {"vnet-hdr", to_switch(net.vnet_header, "vnet-hdr")},
                         {"offload", to_switch(net.offload, "offload")},
                         {"vhost", to_parsed(net.vhost, parse_vhost)},
                         {"vhost-fds", to_descriptors(net.vhost_fds, "vhost-fds")},
                         {"mtu", to_number(net.mtu, "mtu")},
                         {"link", to_parsed(net.link, parse_link)},
                         {"rate-bytes", to_bytes(net.rate.bytes, "rate-bytes")},
                         {"rate-bytes-burst", to_bytes(net.rate.bytes_burst, "rate-bytes-burst")},
                         {"rate-frames", to_number(net.rate.frames, "rate-frames")},
                         {"rate-frames-burst", to_number(net.rate.frames_burst, "rate-frames-burst")}}));
  if (net.tap.empty() && net.fds.empty()) return fail(fmt::format("'{}' has no tap= (nor fds=)", text));
  return net;
}

Result<MacAddress> parse_mac(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(
        fmt::format("'{}' is not a MAC address: {} (write for example 52:54:00:12:34:56)", text, why));
  };
  constexpr std::size_t kLength = 6 * 2 + 5;
  if (text.size() != kLength) return refuse("it needs six bytes with colons between");
  MacAddress mac{};
  bool zero = true;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* start = text.data() + i * 3;
    const auto [end, error] = std::from_chars(start, start + 2, mac[i], 16);
    if (error != std::errc{} || end != start + 2) return refuse("a byte is two hexadecimal digits");
    if (i + 1 < mac.size() && *end != ':') return refuse("it needs six bytes with colons between");
    zero = zero && mac[i] == 0;
  }
  if ((mac[0] & 1) != 0) return refuse("it is a multicast address");
  if (zero) return refuse("it is zero");
  return mac;
}

void read_net(yaml::Map& map, NetConfig& net) {
  map.field("tap", net.tap);
  read_descriptors(map, "fds", net.fds);
  read_identity(map, net.identity);
  read_parsed(map, "mac", net.mac, parse_mac);
  map.field("queues", net.queues);
  map.field("queue_size", net.queue_size);
  map.field("vnet_hdr", net.vnet_header);
  map.field("offload", net.offload);
  read_parsed(map, "vhost", net.vhost, parse_vhost);
  read_descriptors(map, "vhost_fds", net.vhost_fds);
  map.field("mtu", net.mtu);
  read_parsed(map, "link", net.link, parse_link);
  map.map("rate", [&](yaml::Map& rate) {
    rate.bytes("bytes", net.rate.bytes);
    rate.bytes("bytes_burst", net.rate.bytes_burst);
    rate.field("frames", net.rate.frames);
    rate.field("frames_burst", net.rate.frames_burst);
  });
}

Result<void> check_net(const NetConfig& net) {
  BALLOON_TRY(check_backend(net));
  BALLOON_TRY(check_vhost(net));
  if (!std::has_single_bit(net.queue_size) || net.queue_size < NetConfig::kMinQueueSize ||
      net.queue_size > NetConfig::kMaxQueueSize) {
    return fail(fmt::format("net '{}': a queue size of {} is not a power of two within {} to {}",
                            net.backend(), net.queue_size, NetConfig::kMinQueueSize,
                            NetConfig::kMaxQueueSize));
  }
  if (net.mtu != 0 && (net.mtu < NetConfig::kMinMtu || net.mtu > NetConfig::kMaxMtu)) {
    return fail(fmt::format("net '{}': an MTU of {} is not within {} to {}", net.backend(), net.mtu,
                            NetConfig::kMinMtu, NetConfig::kMaxMtu));
  }
  if (net.mac && !is_unicast(*net.mac))
    return fail(fmt::format("net '{}': its MAC address is none of a guest", net.backend()));
  return {};
}

}  // namespace balloon::vmm
