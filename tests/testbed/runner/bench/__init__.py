# SPDX-License-Identifier: Apache-2.0
"""Measures VMMs beside each other on this KVM host; `python3 -m runner.bench` reports each sample as an event."""
