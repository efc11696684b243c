#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the test machine, booted with SELinux: loads a policy that is just large enough for
# tests/isolation.rs, and enforces it. Containers of a type may execute, read and write their own
# files, and only those whose categories their own level has.

set -euo pipefail
DIRECTORY=$(mktemp -d)
KERNEL=/sys/fs/selinux
mountpoint -q $KERNEL || mount -t selinuxfs selinuxfs $KERNEL

{
    # In the order of the kernel's initial labels.
    SIDS="kernel security unlabeled fs file file_labels init any_socket port netif netmsg node
        igmp_packet icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel
        sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull"
    FILES="dir lnk_file chr_file blk_file sock_file fifo_file"
    printf 'class %s\n' process file $FILES
    printf 'sid %s\n' $SIDS
    # What is not named here is allowed.
    echo 'class process { transition dyntransition setexec setkeycreate }'
    echo 'class file { read write entrypoint relabelto relabelfrom }'
    printf 'class %s { relabelto }\n' $FILES
    echo 'sensitivity s0;'
    echo 'dominance { s0 }'
    for category in $(seq 0 1023); do echo "category c$category;"; done
    echo 'level s0:c0.c1023;'
    # A process from outside of containers has all categories.
    echo 'mlsconstrain file { read write } ( h1 dom h2 );'
    TYPES="kernel_t unlabeled_t container_t container_file_t spc_t other_t"
    printf 'type %s;\n' $TYPES
    echo 'role system_r;'
    echo 'role object_r;'
    echo 'role system_r types { kernel_t container_t spc_t other_t };'
    echo 'allow kernel_t self:process { transition dyntransition setexec setkeycreate };'
    echo 'allow kernel_t { container_t spc_t other_t }:process { transition dyntransition };'
    echo "allow { kernel_t spc_t } { $TYPES }:file { read write entrypoint relabelto relabelfrom };"
    echo "allow kernel_t { $TYPES }:{ $FILES } relabelto;"
    echo 'allow { container_t other_t } container_file_t:file { read write entrypoint };'
    # Those of proc.
    echo 'allow { container_t other_t spc_t } { container_t other_t spc_t kernel_t }:file { read write };'
    echo 'user system_u roles { system_r object_r } level s0 range s0 - s0:c0.c1023;'
    for sid in $SIDS; do
        case $sid in
            kernel | init) echo "sid $sid system_u:system_r:kernel_t:s0 - s0:c0.c1023" ;;
            *) echo "sid $sid system_u:object_r:unlabeled_t:s0" ;;
        esac
    done
    for kind in ext4 xfs btrfs overlay; do
        echo "fs_use_xattr $kind system_u:object_r:unlabeled_t:s0;"
    done
    for kind in tmpfs devpts devtmpfs mqueue; do
        echo "fs_use_trans $kind system_u:object_r:unlabeled_t:s0;"
    done
    echo 'fs_use_task pipefs system_u:object_r:kernel_t:s0;'
    echo 'fs_use_task sockfs system_u:object_r:kernel_t:s0;'
    for kind in proc sysfs cgroup cgroup2 9p selinuxfs; do
        echo "genfscon $kind / system_u:object_r:kernel_t:s0"
    done
} > "$DIRECTORY/policy.conf"

# The newest version that both know.
checkpolicy -M -U allow -c "$(cat $KERNEL/policyvers)" -o "$DIRECTORY/policy" \
    "$DIRECTORY/policy.conf" > "$DIRECTORY/log" 2>&1 || { cat "$DIRECTORY/log"; exit 1; }
python3 - "$DIRECTORY/policy" <<'END'
import os, sys
data = open(sys.argv[1], "rb").read()
load = os.open("/sys/fs/selinux/load", os.O_WRONLY)
assert os.write(load, data) == len(data)
END

mkdir -p /etc/selinux/targeted/contexts
echo 'SELINUXTYPE=targeted' > /etc/selinux/config
cat > /etc/selinux/targeted/contexts/lxc_contexts <<'END'
process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
END
echo 1 > $KERNEL/enforce
