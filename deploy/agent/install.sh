#!/bin/sh
# Installs the Archipelago agent from its wheel into a virtual environment of its own, with configuration and unit.
# May be repeated: that is how it is updated. What an operator wrote, and the state, are never overwritten.
set -eu

usage() {
    cat <<'TEXT'
usage: install.sh [--wheel FILE] [--config EXAMPLE] [--prefix FOLDER] [--python PROGRAM] [--offline FOLDER]
       install.sh --uninstall [--purge] [--prefix FOLDER]

  --wheel FILE       the agent's wheel; default: the only archipelago_agent-*.whl beside this script
  --config EXAMPLE   what to begin with where there is no configuration: direct (default), dial-out, containers, or a file
  --prefix FOLDER    where the virtual environment goes; default: /opt/archipelago-agent
  --python PROGRAM   Python 3.11 or newer; default: python3
  --offline FOLDER   take the packages it needs from wheels in that folder, not from a package index
  --uninstall        remove program and unit; configuration and state stay
  --purge            with --uninstall: remove configuration and state too, the site's keys among them

DESTDIR in the environment is put before every path; then no user is made and systemd is left alone.
TEXT
}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
prefix=/opt/archipelago-agent
wheel=
example=direct
python=python3
offline=
uninstall=
purge=
while [ $# -gt 0 ]; do
    case $1 in
        --wheel | --config | --prefix | --python | --offline)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --wheel) wheel=$2 ;;
                --config) example=$2 ;;
                --prefix) prefix=$2 ;;
                --python) python=$2 ;;
                --offline) offline=$2 ;;
            esac
            shift 2
            ;;
        --uninstall) uninstall=1 && shift ;;
        --purge) purge=1 && shift ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

case $prefix in
    *[!A-Za-z0-9/._-]* | / | [!/]* | "") fail "--prefix must be a plain absolute path below /, without blanks" ;;
esac

root=${DESTDIR:-}
user=archipelago-agent
home=$root$prefix
etc=$root/etc/archipelago-agent
state=$root/var/lib/archipelago-agent
unit=$root/etc/systemd/system/archipelago-agent.service
link=$root/usr/local/bin/archipelago-agent

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root, or with DESTDIR to install into a folder"

has_systemd() {
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

if [ -n "$uninstall" ]; then
    if has_systemd && [ -e "$unit" ]; then
        systemctl disable --now archipelago-agent.service || true
    fi
    rm -f "$unit"
    # Only what is ours: an environment that holds our program.
    if [ -e "$home/bin/archipelago-agent" ]; then
        rm -rf "$home"
    fi
    if [ -L "$link" ]; then
        rm -f "$link"
    fi
    if has_systemd; then
        systemctl daemon-reload
    fi
    if [ -n "$purge" ]; then
        rm -rf "$etc" "$state"
        if [ -z "$root" ] && id "$user" >/dev/null 2>&1; then
            userdel "$user"
        fi
        echo "The agent, its configuration and its state are gone."
    else
        echo "The agent is gone. Its configuration ($etc) and state ($state) stay; --purge removes them."
    fi
    exit 0
fi

if [ -z "$wheel" ]; then
    for found in "$here"/archipelago_agent-*.whl; do
        [ -e "$found" ] || fail "there is no archipelago_agent-*.whl beside this script; name it with --wheel"
        [ -z "$wheel" ] || fail "there are several wheels beside this script; name one with --wheel"
        wheel=$found
    done
fi
[ -f "$wheel" ] || fail "$wheel is not there"
case $example in
    direct | dial-out | containers) example=$here/examples/$example.toml ;;
esac
[ -f "$example" ] || fail "$example is not there"
[ -f "$here/archipelago-agent.service" ] || fail "archipelago-agent.service is not beside this script"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is not Python 3.11 or newer"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python lacks venv; on Debian: apt install python3-venv"

# The program. pip replaces what is there; a new Python needs a new environment.
mkdir -p "$(dirname -- "$home")"
if [ ! -x "$home/bin/python" ] || ! "$home/bin/python" -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear "$home"
fi
set -- --quiet --disable-pip-version-check install --upgrade
if [ -n "$offline" ]; then
    set -- "$@" --no-index --find-links "$offline"
fi
"$home/bin/python" -m pip "$@" "$wheel"
# The same version may have been built anew.
"$home/bin/python" -m pip --quiet --disable-pip-version-check install --no-index --no-deps --force-reinstall "$wheel"

# The user, the configuration, the state.
if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /var/lib/archipelago-agent --no-create-home --shell /usr/sbin/nologin "$user"
fi
mkdir -p "$etc" "$(dirname -- "$unit")" "$(dirname -- "$link")" "$(dirname -- "$state")"
if [ ! -e "$etc/agent.toml" ]; then
    install -m 0644 "$example" "$etc/agent.toml"
fi
[ -d "$state" ] || install -d -m 0700 "$state"
if [ -z "$root" ]; then
    chown "$user:$user" "$state"
fi

# The unit, with the prefix that was chosen, and a name that is found.
sed "s|^ExecStart=/opt/archipelago-agent/|ExecStart=$prefix/|" "$here/archipelago-agent.service" >"$unit.new"
chmod 0644 "$unit.new"
mv "$unit.new" "$unit"
ln -sfn "$prefix/bin/archipelago-agent" "$link"
if has_systemd; then
    systemctl daemon-reload
    systemctl try-restart archipelago-agent.service
fi

version=$("$home/bin/archipelago-agent" --version)
cat <<TEXT
$version is installed.
Next:
  1. look at $etc/agent.toml
  2. archipelago-agent enrol -        (and paste the join string of the site's page)
  3. systemctl enable --now archipelago-agent
  4. archipelago-agent doctor
TEXT
