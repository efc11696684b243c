#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the test machine: mounts what the outside shares, runs the command that it left, and
# powers the machine off, however that ends.

trap 'sync; systemctl poweroff --force --force' EXIT
CONTROL=/run/control
OPTIONS=trans=virtio,version=9p2000.L,msize=262144
fail() {
    echo "test machine: $*" > /dev/console
    exit 1
}

mkdir -p $CONTROL
mount -t 9p -o $OPTIONS control $CONTROL || fail "the control directory cannot be mounted"
while read -r tag directory; do
    mkdir -p "$directory"
    mount -t 9p -o "$OPTIONS,ro,cache=mmap" "$tag" "$directory" || fail "$directory cannot be mounted"
done < $CONTROL/shares
for _ in $(seq 100); do
    PORT=$(grep -ls '^output$' /sys/class/virtio-ports/*/name)
    [ -n "$PORT" ] && break
    sleep 0.1
done
[ -n "$PORT" ] || fail "there is no port for the output"
PORT=/dev/$(basename "$(dirname "$PORT")")

# A port can be opened once only, and a pipe as often as programs like.
mkfifo /run/output
cat < /run/output > "$PORT" &
READER=$!
bash $CONTROL/command < /dev/null > /run/output 2>&1
echo $? > $CONTROL/status
# What the command left behind may hold the pipe.
for _ in $(seq 30); do
    kill -0 $READER 2> /dev/null || break
    sleep 0.1
done
