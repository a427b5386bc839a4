# SPDX-License-Identifier: Apache-2.0
"""Facts about Linux that need a KVM host: what is measured in the emulated one (scripts/bench.sh facts)."""
