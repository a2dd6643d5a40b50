# Source me: makes packages unpacked into .deb/ (set-up without root) usable. No effect otherwise.
# shellcheck shell=sh
ringtrue_deb=$PWD/.deb
if [ -d "$ringtrue_deb/usr" ]; then
    for ringtrue_dir in "$ringtrue_deb"/usr/lib/*-linux-gnu*/ "$ringtrue_deb"/lib/*-linux-gnu*/ \
        "$ringtrue_deb"/usr/lib/*-linux-gnu*/*/; do
        case $ringtrue_dir in *'*'*) continue ;; esac
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${ringtrue_dir%/}
    done
    PATH=$PATH:$ringtrue_deb/usr/bin:$ringtrue_deb/usr/sbin
    export LD_LIBRARY_PATH PATH
fi
unset ringtrue_deb ringtrue_dir
