# What the install scripts share; sourced, in the project's folder.

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }

# Print the first Python on the PATH that is new enough.
find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer on the PATH; install one (Debian 12: apt-get install python3 python3-venv)"
}

# require_disk KIB WHAT: refuse to fill the disk up half way.
require_disk() {
    local free_kib
    free_kib=$(df -Pk . | awk 'NR==2 {print $4}')
    [ "$free_kib" -gt "$1" ] || fail "$(pwd) has $((free_kib / 1024)) MiB free; $2 needs about $(($1 / 1000000)) GB"
}
