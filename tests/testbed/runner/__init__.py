# SPDX-License-Identifier: Apache-2.0
"""Runs scenarios on a KVM host: starts guests and the daemon, gives guests work, samples, and reports events as JSON lines."""
