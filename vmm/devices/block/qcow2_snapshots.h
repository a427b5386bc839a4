// SPDX-License-Identifier: Apache-2.0
// Where the tables of a qcow2 image's internal snapshots lie: this VMM keeps them as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "vmm/devices/block/qcow2_file.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {

/// Adds the clusters of the snapshot table and of each snapshot's L1 table to `ranges`. Fails when one cannot
/// be, and has added those before it.
Result<void> add_snapshot_tables(const DiskFile& file, const Qcow2Header& header,
                                 std::vector<Qcow2File::Range>& ranges);

}  // namespace balloon::vmm
