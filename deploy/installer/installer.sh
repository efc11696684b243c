#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts Criquet onto the node that this runs on, and takes it off again.
#
#   installer.sh install       the programs, the unit, a configuration where there is none; then
#                              `criquet check`, and the service is started
#   installer.sh switch        install, then point the kubelet at Criquet: the pods of the other
#                              runtime are ended, and the kubelet starts them anew
#   installer.sh uninstall     the kubelet goes back to the other runtime where it was switched,
#                              pods of Criquet are ended, and its files are removed
#   ... and stay               as a pod of a DaemonSet: does it, and waits for its own end
#
# HOST         where the node's root directory is (/host)
# FILES        where the files to install are (/criquet)
# ON_NODE      how commands are executed on the node (nsenter to the first process)
# DATA=remove  an uninstallation removes images, state and the configuration as well

set -eu
HOST=${HOST-/host}
FILES=${FILES:-/criquet}
ON_NODE=${ON_NODE:-nsenter -t 1 -m -u -i -n -p --}
PLACE=/opt/criquet
UNIT=/etc/systemd/system/criquet.service
SOCKET=unix:///run/criquet/criquet.sock
# What the kubelet had before, for the way back.
BEFORE=$PLACE/kubelet-before
FLAGS=/var/lib/kubelet/kubeadm-flags.env
CONFIG=/var/lib/kubelet/config.yaml

say() { echo "criquet-installer: $*"; }
die() { say "error: $*" >&2; exit 1; }
on_node() { $ON_NODE "$@"; }

# put FILE PLACE MODE: all of it or nothing, also where a process executes what is there.
put() {
    mkdir -p "$HOST$(dirname "$2")"
    cp "$FILES/$1" "$HOST$2.new"
    chmod "$3" "$HOST$2.new"
    mv "$HOST$2.new" "$HOST$2"
}

# differs FILE PLACE
differs() { ! cmp -s "$FILES/$1" "$HOST$2"; }

install() {
    [ -d "$HOST/etc" ] || die "the node's root directory is not at $HOST; mount it there"
    [ ! -e "$HOST/usr/bin/criquet" ] ||
        die "this node has Criquet from a package (/usr/bin/criquet); upgrade or remove that"
    changed=no
    for file in criquet criquet-monitor; do
        if differs $file $PLACE/$file; then
            put $file $PLACE/$file 755
            changed=yes
        fi
    done
    put installer.sh $PLACE/installer.sh 755
    sed "s|^ExecStart=/usr/bin/criquet |ExecStart=$PLACE/criquet |" "$FILES/criquet.service" \
        > "$HOST$UNIT.new"
    if ! cmp -s "$HOST$UNIT.new" "$HOST$UNIT"; then changed=yes; fi
    mv "$HOST$UNIT.new" "$HOST$UNIT"
    if [ -e "$HOST/etc/criquet/config.toml" ]; then
        say "the configuration /etc/criquet/config.toml stays as it is"
    else
        put config.toml /etc/criquet/config.toml 644
    fi
    on_node $PLACE/criquet config validate > /dev/null ||
        die "the configuration of this node is wrong; mend it, and start the installer again"
    # It says what is missing and how to mend it.
    on_node $PLACE/criquet check ||
        die "this node lacks what Criquet needs; the service is not started"
    on_node systemctl daemon-reload
    on_node systemctl enable criquet.service
    if on_node systemctl is-active criquet.service > /dev/null; then
        # Pods run on meanwhile.
        [ $changed = no ] || on_node systemctl restart criquet.service
    else
        on_node systemctl start criquet.service
    fi
    say "Criquet serves at $SOCKET"
}

# What the kubelet is told now.
endpoint() {
    {
        sed -n 's/.*--container-runtime-endpoint=\([^ "]*\).*/\1/p' "$HOST$FLAGS" 2> /dev/null
        sed -n 's/^containerRuntimeEndpoint: *"\{0,1\}\([^ "]*\)"\{0,1\} *$/\1/p' \
            "$HOST$CONFIG" 2> /dev/null
    } | head -n 1
}

# point ENDPOINT: the flag goes before the file, so that it is changed where it is given.
point() {
    if grep -qs -e '--container-runtime-endpoint=' "$HOST$FLAGS"; then
        sed "s|--container-runtime-endpoint=[^ \"]*|--container-runtime-endpoint=$1|" \
            "$HOST$FLAGS" > "$HOST$FLAGS.new"
        mv "$HOST$FLAGS.new" "$HOST$FLAGS"
    elif [ -e "$HOST$CONFIG" ]; then
        {
            grep -v '^containerRuntimeEndpoint:' "$HOST$CONFIG" || true
            echo "containerRuntimeEndpoint: $1"
        } > "$HOST$CONFIG.new"
        chmod 644 "$HOST$CONFIG.new"
        mv "$HOST$CONFIG.new" "$HOST$CONFIG"
    else
        die "the kubelet's configuration is neither in $FLAGS nor in $CONFIG; set --container-runtime-endpoint=$1 by hand"
    fi
}

# Whoever asks for it is a pod of the runtime that is about to go: the node goes on by itself.
switch() {
    install
    now=$(endpoint)
    if [ "$now" = $SOCKET ]; then
        say "the kubelet uses Criquet already"
        return
    fi
    [ -e "$HOST$FLAGS" ] || [ -e "$HOST$CONFIG" ] || point $SOCKET
    say "the kubelet is pointed at Criquet; pods of ${now:-the other runtime} end, and start anew"
    on_node systemd-run --unit=criquet-switch --collect --setenv=HOST= --setenv=ON_NODE=env \
        $PLACE/installer.sh change "$SOCKET" "$now"
}

# change TO FROM: on the node itself.
change() {
    on_node systemctl stop kubelet.service
    case "$2" in
        unix://*)
            on_node $PLACE/criquet reset --yes --endpoint "$2" ||
                say "not all pods of $2 were ended; those that are left run beside the new ones"
            ;;
    esac
    [ "$1" != $SOCKET ] || echo "$2" > "$HOST$BEFORE"
    point "$1"
    on_node systemctl start kubelet.service
    say "the kubelet uses $1"
}

uninstall() {
    if [ "$(endpoint)" = $SOCKET ]; then
        [ -e "$HOST$BEFORE" ] ||
            die "the kubelet uses Criquet, and it was not this installer that has seen to it; point the kubelet at another runtime first"
        before=$(cat "$HOST$BEFORE")
        say "the kubelet goes back to ${before:-its default}"
        if [ -z "$before" ]; then before=unix:///run/containerd/containerd.sock; fi
        on_node systemd-run --unit=criquet-switch --collect --setenv=HOST= --setenv=ON_NODE=env \
            --setenv=DATA="${DATA:-}" $PLACE/installer.sh leave "$before"
        return
    fi
    remove
}

# leave TO: on the node itself.
leave() {
    on_node systemctl stop kubelet.service
    point "$1"
    remove
    on_node systemctl start kubelet.service
}

remove() {
    [ -e "$HOST$PLACE/criquet" ] || { say "Criquet is not here"; return; }
    on_node systemctl disable --now criquet.service || true
    on_node $PLACE/criquet reset --yes ||
        say "not all pods were ended; what is left of them runs until the next boot"
    # What pods without a parent were in, which is empty now.
    on_node systemctl stop criquet.slice || true
    # The profile that the daemon has loaded.
    if grep -qs '^criquet-default ' "$HOST/sys/kernel/security/apparmor/profiles"; then
        printf criquet-default > "$HOST/sys/kernel/security/apparmor/.remove" || true
    fi
    rm -f "$HOST$UNIT"
    rm -rf "${HOST}$PLACE"
    on_node systemctl daemon-reload
    if [ "${DATA:-}" = remove ]; then
        rm -rf "$HOST/var/lib/criquet" "$HOST/run/criquet" "$HOST/etc/criquet"
    else
        say "images, state and configuration stay: /var/lib/criquet, /etc/criquet"
    fi
    say "Criquet is removed"
}

stay() {
    say "done; this pod waits, so that it is not started again"
    trap 'exit 0' TERM INT
    while true; do sleep 3600 & wait $!; done
}

case "${1:-}" in
    install | switch | uninstall) "$1" ;;
    change) change "$2" "$3" ;;
    leave) leave "$2" ;;
    *) die "usage: installer.sh install|switch|uninstall [and stay]" ;;
esac
[ "${2:-} ${3:-}" != "and stay" ] || stay
