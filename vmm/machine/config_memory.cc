// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_memory.h"

#include <string>

#include "vmm/machine/config_identity.h"
#include "vmm/machine/flag_values.h"

namespace balloon::vmm {

Result<void> parse_memory_backing(std::string_view text, MemoryBacking& backing) {
  return parse_pairs(text, {{"shared", to_switch(backing.shared, "shared")},
                            {"merge", to_switch(backing.merge, "merge")},
                            {"reserve", to_switch(backing.reserve, "reserve")},
                            {"preallocate", to_switch(backing.preallocate, "preallocate")},
                            {"lock", to_switch(backing.lock, "lock")},
                            {"huge-pages", [&](std::string_view value) -> Result<void> {
                               const auto pages = parse_huge_pages(value);
                               if (!pages) return std::unexpected(pages.error());
                               backing.huge_pages = *pages;
                               return {};
                             }}});
}

void read_memory_backing(yaml::Map& map, MemoryBacking& backing) {
  map.field("shared", backing.shared);
  map.field("merge", backing.merge);
  map.field("reserve", backing.reserve);
  map.field("preallocate", backing.preallocate);
  map.field("lock", backing.lock);
  map.with("huge_pages", [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    const auto pages = parse_huge_pages(text);
    if (!pages) return value.complain(pages.error().message);
    backing.huge_pages = *pages;
  });
}

Result<void> parse_balloon(std::string_view text, BalloonConfig& config) {
  const auto set = [&](bool on) {
    return [&config, on](std::string_view value) -> Result<void> {
      if (!value.empty()) return fail("'on' and 'off' take no value");
      config.enabled = on;
      return {};
    };
  };
  return parse_pairs(text,
                     {{"on", set(true)},
                      {"off", set(false)},
                      {"id", to_id(config.identity)},
                      {"addr", to_slot(config.identity)},
                      {"target",
                       [&](std::string_view value) -> Result<void> {
                         const auto target = parse_bytes(value);
                         if (!target) return std::unexpected(target.error());
                         if (*target == Bytes{0}) return fail("target=0 would leave the guest nothing");
                         config.initial_target = *target;
                         return {};
                       }},
                      {"deflate-on-oom", to_switch(config.deflate_on_oom, "deflate-on-oom")},
                      {"free-page-reporting", to_switch(config.free_page_reporting, "free-page-reporting")},
                      {"free-page-hinting", to_switch(config.free_page_hinting, "free-page-hinting")}});
}

void read_balloon(yaml::Map& map, BalloonConfig& config) {
  map.field("enabled", config.enabled);
  read_identity(map, config.identity);
  map.bytes("target", config.initial_target);
  map.field("deflate_on_oom", config.deflate_on_oom);
  map.field("free_page_reporting", config.free_page_reporting);
  map.field("free_page_hinting", config.free_page_hinting);
}

Result<void> check_memory_backing(Bytes size, const MemoryBacking& backing, const BalloonConfig& balloon) {
  BALLOON_TRY(check_backing(backing, size));
  if (balloon.free_page_hinting && from_pool(backing.huge_pages)) {
    return fail("balloon: free page hinting does not go with huge pages of a pool; free page reporting does");
  }
  return {};
}

}  // namespace balloon::vmm
