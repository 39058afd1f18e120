#!/bin/sh
# Installs the Archipelago agent from its wheel into a virtual environment of its own, with configuration and units.
# May be repeated: that is how it is updated. What an operator wrote, and the state, are never overwritten.
#
#   PREFIX/base      root's: Python packages, the commands, and what the updater runs
#   PREFIX/launch    root's: starts the current release, and undoes one that fails
#   PREFIX/releases  the agent's: a folder each, and the link `current`; so documents can replace the agent
set -eu

usage() {
    cat <<'TEXT'
usage: install.sh [--wheel FILE] [--config EXAMPLE] [--prefix FOLDER] [--python PROGRAM] [--offline FOLDER]
       install.sh --uninstall [--purge] [--prefix FOLDER]

  --wheel FILE       the agent's wheel; default: the only archipelago_agent-*.whl beside this script
  --config EXAMPLE   what to begin with where there is no configuration: direct (default), dial-out, containers,
                     engine, or a file
  --prefix FOLDER    where the program goes; default: /opt/archipelago-agent
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
units=$root/etc/systemd/system
unit=$units/archipelago-agent.service
updater_state=$root/var/lib/archipelago-updater
link=$root/usr/local/bin/archipelago-agent

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root, or with DESTDIR to install into a folder"

has_systemd() {
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

if [ -n "$uninstall" ]; then
    if has_systemd && [ -e "$unit" ]; then
        systemctl disable --now archipelago-agent.service archipelago-updater.socket || true
        systemctl stop archipelago-updater.service || true
    fi
    rm -f "$unit" "$units/archipelago-updater.socket" "$units/archipelago-updater.service"
    # Only what is ours: an environment that holds our program.
    if [ -e "$home/base/bin/archipelago-agent" ] || [ -e "$home/bin/archipelago-agent" ]; then
        rm -rf "$home"
    fi
    for name in archipelago-agent archipelago-updater; do
        if [ -L "$(dirname -- "$link")/$name" ]; then
            rm -f "$(dirname -- "$link")/$name"
        fi
    done
    if has_systemd; then
        systemctl daemon-reload
    fi
    if [ -n "$purge" ]; then
        rm -rf "$etc" "$state" "$updater_state"
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
for part in archipelago-agent.service archipelago-updater.service archipelago-updater.socket launch; do
    [ -f "$here/$part" ] || fail "$part is not beside this script"
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is not Python 3.11 or newer"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python lacks venv; on Debian: apt install python3-venv"

# The base. pip replaces what is there; a new Python needs a new environment.
mkdir -p "$home"
if [ -e "$home/pyvenv.cfg" ]; then # from when there were no releases
    rm -rf "$home/bin" "$home/include" "$home/lib" "$home/lib64" "$home/pyvenv.cfg"
fi
base=$home/base
if [ ! -x "$base/bin/python" ] || ! "$base/bin/python" -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear "$base"
fi
set -- --quiet --disable-pip-version-check install --upgrade
if [ -n "$offline" ]; then
    set -- "$@" --no-index --find-links "$offline"
fi
"$base/bin/python" -m pip "$@" "$wheel"
# The same version may have been built anew.
"$base/bin/python" -m pip --quiet --disable-pip-version-check install --no-index --no-deps --force-reinstall "$wheel"
install -m 0755 "$here/launch" "$home/launch"

# The user, and the release: made by that user, for root must not run what the user can write.
if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /var/lib/archipelago-agent --no-create-home --shell /usr/sbin/nologin "$user"
fi
install -d -m 0755 "$home/releases"
version=$("$base/bin/python" -P -c 'import agent; print(agent.__version__)')
set -- "$base/bin/python" -P -m agent.apply.releases "$home/releases" "$version"
if [ -z "$root" ]; then
    chown "$user:$user" "$home/releases"
    set -- runuser -u "$user" -- "$@"
fi
(cd / && "$@") <"$wheel"

# The configuration, the state.
mkdir -p "$etc" "$(dirname -- "$unit")" "$(dirname -- "$link")" "$(dirname -- "$state")"
if [ ! -e "$etc/agent.toml" ]; then
    install -m 0644 "$example" "$etc/agent.toml"
fi
[ -d "$state" ] || install -d -m 0700 "$state"
if [ -z "$root" ]; then
    chown "$user:$user" "$state"
fi

# The units, with the prefix that was chosen, and names that are found.
put_unit() {
    sed "s|/opt/archipelago-agent/|$prefix/|g" "$here/$1" >"$units/$1.new"
    chmod 0644 "$units/$1.new"
    mv "$units/$1.new" "$units/$1"
}
for part in archipelago-agent.service archipelago-updater.service archipelago-updater.socket; do
    put_unit "$part"
done
for name in archipelago-agent archipelago-updater; do
    ln -sfn "$prefix/base/bin/$name" "$(dirname -- "$link")/$name"
done
if has_systemd; then
    systemctl daemon-reload
    systemctl try-restart archipelago-agent.service archipelago-updater.socket
fi

cat <<TEXT
archipelago-agent $version is installed.
Next:
  1. look at $etc/agent.toml
  2. archipelago-agent enrol -        (and paste the join string of the site's page)
  3. systemctl enable --now archipelago-agent
  4. archipelago-agent doctor
Where documents may change this machine's packages too:
  5. archipelago-updater pin
  6. systemctl enable --now archipelago-updater.socket
TEXT
