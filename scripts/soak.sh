#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PODS (1000) one after the other and a fifth of them at once, and the proof that the node's
# network is as before; then random lives and deaths of pods for MINUTES (10), and the proof that
# nothing is left of them.
# SEED repeats a run, as far as the machine's timing lets it.

. "$(dirname "$0")/lib.sh"
need_root
CRIQUET_TEST_BUSYBOX=$(unpack busybox-static bin/busybox)
export CRIQUET_TEST_BUSYBOX CRIQUET_SOAK_MINUTES=${MINUTES:-10}
[ -z "${SEED:-}" ] || export CRIQUET_SOAK_SEED=$SEED
CRIQUET_SOAK_PODS=${PODS:-1000} cargo test --test networks -- --nocapture
cargo test --test churn -- --nocapture
