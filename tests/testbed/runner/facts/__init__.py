"""Facts about Linux that need a KVM host: what is measured in the emulated one (scripts/bench.sh facts)."""
