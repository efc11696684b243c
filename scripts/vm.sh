#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests, built here, in a virtual machine with cgroup v2, systemd and AppArmor.
#
#   scripts/vm.sh                  all test programs
#   scripts/vm.sh -- COMMAND...    a command instead, in this directory, which is read-only there
#   VM_SECONDS=900                 how long the machine may run
#   VM_TESTS='/(pods|errors)-'     only test programs whose paths match
#   VM_SECURITY=selinux            with SELinux instead of AppArmor, for tests/isolation.rs
#
# Without a real KVM the processor is emulated, and the tests take many times as long. The
# kernel and the disk are kept in target/vm; what happens in the machine vanishes with it.

. "$(dirname "$0")/lib.sh"
need_root
[ "$TRIPLE" = x86_64 ] || die "the test machine is made for x86_64"
PATH=$PATH:/usr/sbin:/sbin
IMAGE=$TARGET/vm
SECONDS_LEFT=${VM_SECONDS:-900}

install_missing() {
    local missing=()
    for pair in qemu-system-x86_64=qemu-system-x86 mmdebstrap=mmdebstrap mkfs.ext4=e2fsprogs \
        depmod=kmod zstd=zstd; do
        command -v "${pair%%=*}" > /dev/null || missing+=("${pair#*=}")
    done
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get -qq install -y --no-remove --no-install-recommends)
    apt-get -qq update
    "${install[@]}" "${missing[@]}" 2> /dev/null || install_from_backports
}

# A machine that has one part of QEMU from the backports needs the others from there as well.
# The lists are this script's own: what the machine installs later does not change.
install_from_backports() {
    local codename lists mirror suite
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    say "trying the backports of $codename"
    lists=$(mktemp -d /var/tmp/criquet-apt.XXXXXX)
    mkdir -p "$lists/state/partial"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CREATED_BY)' |
        sed -n 's|^\(.*/debian\)/* Debian Packages$|\1|p' | head -n 1)
    for suite in "$codename" "$codename-backports"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done > "$lists/sources"
    local own=(-o "Dir::Etc::sourcelist=$lists/sources" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::Lists=$lists/state")
    apt-get -qq "${own[@]}" update &&
        "${install[@]}" "${own[@]}" -t "$codename-backports" "${missing[@]}"
    local status=$?
    rm -rf "$lists"
    [ "$status" = 0 ] || die "apt cannot install ${missing[*]}"
}

# Prints the test programs; what cargo says while it builds goes to standard error.
test_programs() {
    cargo test --no-run --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        print(message["executable"])'
}

# Every daemon reads the monitor's program whole, which with what debuggers want of it is a
# hundred megabytes: the machine gets copies without, on its own disk, at the same places.
lighter_programs() {
    mkdir -p "$IMAGE/stripped"
    local name
    for name in criquet criquet-monitor; do
        strip -o "$IMAGE/stripped/$name" "$TARGET/debug/$name"
        printf 'cp %q /usr/local/bin/%s && mount --bind /usr/local/bin/%s %q || exit 125\n' \
            "$IMAGE/stripped/$name" "$name" "$name" "$TARGET/debug/$name"
    done
}

accelerator() {
    # /dev/kvm alone says little: without one of these it runs only specially built kernels.
    if [ -w /dev/kvm ] && { [ -d /sys/module/kvm_intel ] || [ -d /sys/module/kvm_amd ]; }; then
        echo "-accel kvm -cpu host"
    else
        echo "-accel tcg,thread=multi,tb-size=512 -cpu Nehalem"
    fi
}

install_missing
scripts/vm/image.sh "$IMAGE"
CONTROL=$(mktemp -d /var/tmp/criquet-vm.XXXXXX)
finish() {
    local status=$?
    stop_all
    rm -rf "$CONTROL"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$CONTROL/guest"
echo "top $TOP" > "$CONTROL/guest/shares"
SHARES=(-virtfs "local,path=$TOP,mount_tag=top,security_model=none,readonly=on,multidevs=remap")
case $TARGET in
    "$TOP"/*) ;;
    *)
        echo "target $TARGET" >> "$CONTROL/guest/shares"
        SHARES+=(-virtfs "local,path=$TARGET,mount_tag=target,security_model=none,readonly=on,multidevs=remap")
        ;;
esac
KERNEL_ARGUMENTS=
[ "${VM_SECURITY:-}" != selinux ] || KERNEL_ARGUMENTS="security=selinux selinux=1 enforcing=0"
{
    printf 'cd %q || exit 125\n' "$TOP"
    [ -z "$KERNEL_ARGUMENTS" ] || echo 'bash scripts/vm/selinux.sh || exit 125'
    if [ "${1:-}" = -- ]; then
        shift
        printf '%q ' "$@"
        printf '\n'
    else
        say "building the tests"
        echo 'status=0'
        test_programs | grep -E "${VM_TESTS:-.}" > "$CONTROL/programs"
        lighter_programs
        while read -r program; do
            printf 'echo "in the machine: %s"\n' "$(basename "$program")"
            printf '%q --show-output || status=1\n' "$program"
        done < "$CONTROL/programs"
        # shellcheck disable=SC2016
        echo 'exit $status'
    fi
} > "$CONTROL/guest/command"

say "starting the machine"
mkfifo "$CONTROL/output"
# Opened for both directions, so that opening does not wait for the other side.
exec 5<> "$CONTROL/output"
read -ra ACCELERATOR <<< "$(accelerator)"
start "$CONTROL/qemu.log" timeout -k 10 "$SECONDS_LEFT" qemu-system-x86_64 -name criquet-tests \
    -nodefaults -no-user-config -display none -no-reboot -machine q35 "${ACCELERATOR[@]}" \
    -smp 2 -m 3G -kernel "$IMAGE/vmlinuz" -initrd "$IMAGE/initrd" \
    -append "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off psi=1 audit=0 \
systemd.show_status=no net.ifnames=0 no_timer_check $KERNEL_ARGUMENTS" \
    -drive "file=$IMAGE/disk,format=raw,if=none,id=disk,snapshot=on,cache=unsafe" \
    -device virtio-blk-pci,drive=disk -device virtio-rng-pci -device virtio-serial-pci \
    -chardev "file,id=console,path=$CONTROL/console.log" -serial chardev:console \
    -chardev "file,id=output,path=$CONTROL/output,append=on" \
    -device virtserialport,chardev=output,name=output \
    -virtfs "local,path=$CONTROL/guest,mount_tag=control,security_model=none,multidevs=remap" \
    "${SHARES[@]}"
MACHINE=$LAST
{ tee "$CONTROL/log" < "$CONTROL/output" | brief; } 5>&- &
READER=$!
wait "$MACHINE" && QEMU=0 || QEMU=$?
# The end of the output: the last writer closes.
exec 5>&-
wait "$READER" || true
if [ ! -e "$CONTROL/guest/status" ]; then
    [ "$QEMU" = 124 ] && say "the machine was stopped after $SECONDS_LEFT s"
    say "the machine ended without a result; its console:"
    tail -n 20 "$CONTROL/console.log" "$CONTROL/qemu.log" >&2
    print_counts "$CONTROL/log" 1
    exit 1
fi
STATUS=$(cat "$CONTROL/guest/status")
[ -e "$CONTROL/programs" ] || exit "$STATUS"
print_counts "$CONTROL/log" "$STATUS"
