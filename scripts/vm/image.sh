#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the disk image and the kernel of the test machine in DIRECTORY, unless what is there
# was made by these very scripts: Debian packages, configured by this file and agent.sh.

. "$(dirname "$0")/../lib.sh"
OUT=$1
SUITE=trixie
PACKAGES=systemd-sysv,dbus,udev,kmod,initramfs-tools,zstd,linux-image-amd64,iproute2,nftables
PACKAGES+=,iptables,containernetworking-plugins,apparmor,checkpolicy,busybox-static,procps,python3,e2fsprogs
PACKAGES+=,ca-certificates

KEY=$(cat scripts/vm/image.sh scripts/vm/agent.sh | sha256sum | cut -d ' ' -f 1)
[ "$(cat "$OUT/key" 2> /dev/null)" = "$KEY" ] && exit 0
need_root

# The mirror that this machine installs its own packages from.
mirror() {
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CREATED_BY)' |
        sed -n 's|^\(.*/debian\)/* Debian Packages$|\1|p' | head -n 1
}
MIRROR=$(mirror)
[ -n "$MIRROR" ] || die "there is no Debian archive among the sources of apt"

mkdir -p "$OUT"
ROOT=$(mktemp -d "$OUT/root.XXXXXX")
trap 'rm -rf "$ROOT"' EXIT
say "installing Debian $SUITE for the test machine (some minutes)"
mmdebstrap --quiet --mode=root --variant=minbase --include="$PACKAGES" \
    --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$SUITE" "$ROOT" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $SUITE main"

# Only what the root disk needs: a small initramfs boots faster on an emulated processor.
printf 'MODULES=list\n' > "$ROOT/etc/initramfs-tools/conf.d/criquet"
printf '%s\n' virtio_pci virtio_blk ext4 > "$ROOT/etc/initramfs-tools/modules"
chroot "$ROOT" update-initramfs -u > /dev/null 2>&1

install -m 755 scripts/vm/agent.sh "$ROOT/usr/local/sbin/test-agent"
cat > "$ROOT/etc/systemd/system/test-agent.service" << 'END'
[Unit]
Description=The tests
After=multi-user.target

[Service]
Type=exec
ExecStart=/usr/local/sbin/test-agent
Environment=HOME=/root LANG=C.UTF-8 TMPDIR=/var/tmp
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
OOMPolicy=continue
KillMode=none

[Install]
WantedBy=multi-user.target
END
printf '%s\n' virtio_console 9pnet_virtio 9p overlay br_netfilter > "$ROOT/etc/modules-load.d/tests.conf"
printf 'net.ipv4.ip_forward = 1\n' > "$ROOT/etc/sysctl.d/tests.conf"
printf '127.0.0.1 localhost test-machine\n' > "$ROOT/etc/hosts"
printf 'test-machine\n' > "$ROOT/etc/hostname"
printf '[Journal]\nStorage=volatile\n' > "$ROOT/etc/systemd/journald.conf"
: > "$ROOT/etc/fstab"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service \
    systemd-pcrmachine.service systemd-firstboot.service systemd-hwdb-update.service; do
    ln -sf /dev/null "$ROOT/etc/systemd/system/$unit"
done
ln -s ../test-agent.service "$ROOT/etc/systemd/system/multi-user.target.wants/test-agent.service" 2> /dev/null ||
    { mkdir -p "$ROOT/etc/systemd/system/multi-user.target.wants" &&
        ln -s ../test-agent.service "$ROOT/etc/systemd/system/multi-user.target.wants/"; }
# AppArmor's own profiles are for programs that are not here.
find "$ROOT/etc/apparmor.d" -maxdepth 1 -type f -delete
rm -rf "$ROOT"/var/cache/apt/archives/*.deb "$ROOT"/var/lib/apt/lists/*

cp "$ROOT"/boot/vmlinuz-* "$OUT/vmlinuz"
cp "$ROOT"/boot/initrd.img-* "$OUT/initrd"
rm -rf "$ROOT"/boot/*
say "making the disk"
rm -f "$OUT/disk"
mkfs.ext4 -q -F -d "$ROOT" -m 0 -O ^has_journal "$OUT/disk" 8G
printf '%s\n' "$KEY" > "$OUT/key"
