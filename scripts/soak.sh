#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Random lives and deaths of pods for MINUTES (10), and the proof that nothing is left of them.
# SEED repeats a run, as far as the machine's timing lets it.

. "$(dirname "$0")/lib.sh"
need_root
CRIQUET_TEST_BUSYBOX=$(unpack busybox-static bin/busybox)
export CRIQUET_TEST_BUSYBOX CRIQUET_SOAK_MINUTES=${MINUTES:-10}
[ -z "${SEED:-}" ] || export CRIQUET_SOAK_SEED=$SEED
cargo test --test churn -- --nocapture
