# shellcheck shell=sh
# How Cloister is installed and run without Docker: a .venv made of the bundle's wheels, and supervisor; for root, where systemd runs, as a
# service of a user without rights. docker.sh has the same functions. Needs Python, and what scripts/ need: bash, awk, grep, sed, setsid.
# $bundle is the folder of the bundle, $home the one that it is installed in; at first they are the same.
. ./scripts/installing/yours.sh
packages_bytes=500000000 # .venv
export PYTHONDONTWRITEBYTECODE=1
volume() { echo "$home/var/volume"; }
unit() { echo "/etc/systemd/system/$project.service"; }
has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }
may_serve() { has_systemd && [ "$(id -u)" = 0 ]; }
here() { (cd "$home" && "$@"); }

check_machine() {
  for name in bash awk grep sed setsid; do
    command -v $name >/dev/null || die "there is no $name here, and without Docker it is needed"
  done
  kind=$(uname -m)
  case $kind in x86_64) kind=amd64 ;; aarch64) kind=arm64 ;; esac
  [ "$kind" = "$architecture" ] || die "this bundle is for $architecture and this machine is $kind: make one on a machine of its kind"
  pythons=$(value "$bundle/RELEASE" pythons)
  python='' found=''
  for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    found=${found:-$version}
    case " $pythons " in *" $version "*) python=$name && break ;; esac
  done
  [ -n "$found" ] || die "there is no Python here: install one of $pythons"
  [ -n "$python" ] || die "this machine has Python $found, and this bundle is for $pythons: install one of these"
  said=$("$python" - "$(value "$bundle/RELEASE" glibc)" "$(value "$bundle/RELEASE" glibcxx)" 2>&1 <<'END'
import ctypes, importlib.util, os, sys

def number(text):
    return [int(part) for part in text.split(".")]

glibc, glibcxx = sys.argv[1:]
try:
    found = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
except (AttributeError, IndexError, ValueError):
    sys.exit("this machine has no GNU C library, and without Docker that is needed")
if number(found) < number(glibc):
    sys.exit("the C library of this machine is %s, and %s or newer is needed" % (found, glibc))
if importlib.util.find_spec("venv") is None:
    sys.exit("this Python has no venv module. On Debian: apt install python3-venv")
try:
    ctypes.CDLL("libstdc++.so.6")
except OSError:
    sys.exit("there is no libstdc++ here, which llama.cpp needs. On Debian: apt install libstdc++6")
with open("/proc/self/maps") as maps:
    library = next(line.split()[-1] for line in maps if "libstdc++" in line)
with open(library, "rb") as content:
    if ("GLIBCXX_" + glibcxx).encode() + b"\0" not in content.read():
        sys.exit("the libstdc++ of this machine is too old: it has no GLIBCXX_" + glibcxx)
END
  ) || die "$said"
  ! may_serve || check_service
}

check_service() {
  case $home in *[!A-Za-z0-9._/-]*) die "for a service the name of the folder has to be without spaces and signs: rename $home" ;; esac
  command -v find >/dev/null || die "there is no find here, and for a service it is needed"
  command -v useradd >/dev/null || id -u cloister >/dev/null 2>&1 || die "there is no useradd here to make the service's user with"
  prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
  case $prefix in
    /home/* | /root/* | /run/user/*) die "the service's user can't reach the Python in $prefix: PYTHON=/usr/bin/python3 takes the system's" ;;
  esac
}

check_nobody_here() {
  [ ! -f "$(unit)" ] ||
    die "a Cloister named $project is a service here already: ./install --upgrade FOLDER, where it is, makes this of it; CLOISTER_PROJECT=another installs one beside it, on other ports"
}

check_disk() { # bytes that $bundle needs for unpacking
  needed=$(($1 + packages_bytes)) more=0
  [ "$bundle" = "$home" ] || more=$((packages_bytes * 3 / 2 + model_bytes)) # .venv, wheels and model go there
  # shellcheck disable=SC2046 # two words each
  set -- $(free "$bundle") $(free "$home")
  [ "$2" != "$4" ] || needed=$((needed + more))
  [ "$1" -ge "$needed" ] || die "installing needs $(mega "$needed") in $bundle, and $(mega "$1") are free"
  [ "$3" -ge "$more" ] || die "installing needs $(mega "$more") in $home, and $(mega "$3") are free"
}

check_settings() { # of what is installed; those in .env stay
  [ ! -f "$(unit)" ] || may_serve || die "Cloister is a service here: run this as root"
  for file in config/cloister.toml config/models.toml; do
    ! changed "$file" || die "$file was changed in $home, and an upgrade would replace it: put settings into .env (CLOISTER_SECTION__KEY=...), and the shipped file back"
  done
}
check_release() { :; }

also_owned() { # packages go with their release where they are others
  if [ "$bundle" = "$home" ]; then made=$home/${next:-.next}/.venv; else made=$bundle/.venv; fi
  if [ -e "$made" ]; then printf '%s\n' .venv wheels; fi
}

has_release() { # release, directory of its model: whether they are here to build on
  [ -x "$home/.venv/bin/python" ] && { [ -z "$2" ] || [ -f "$(volume)/$2/manifest.json" ]; }
}

packages() { # folder of a release: what is installed for it
  while read -r sum name; do
    case $name in wheels/*) echo "$sum $name" ;; esac
  done <"$1/MANIFEST"
  cat "$1"/services/*/requirements.txt "$1/config/requirements.txt"
}

load() { # journal, release here to build on or nothing
  if [ "$bundle" != "$home" ]; then
    [ "$(packages "$bundle")" != "$(packages "$home")" ] || [ ! -x "$home/.venv/bin/python" ] || return 0
  fi
  while read -r expected name; do # wheels that are here already were left out
    case $name in wheels/*) ;; *) continue ;; esac
    [ ! -f "$bundle/$name" ] || continue
    sum=$(sha256sum <"$home/$name") || sum=''
    [ "${sum%% *}" = "$expected" ] || die "$home/$name is missing or damaged, and this bundle builds on it: take a whole bundle"
    mkdir -p "$bundle/wheels"
    cp "$home/$name" "$bundle/$name"
  done <"$bundle/MANIFEST"
  [ -e "$bundle/.venv" ] || echo "venv $bundle/.venv" >>"$1"
  (cd "$bundle" && PYTHON=$python noted bash scripts/setup) || die "the packages can't be installed: see above"
}

# What goes on when this script is killed is known to the journal, and ended before anything is taken back.
noted() { # command
  setsid "$@" &
  echo "busy $!" >>"$journal"
  wait $!
}
end_noted() { # journal
  while read -r what pid; do
    if [ "$what" != busy ] || [ ! -f "/proc/$pid/cwd/scripts/installing/native.sh" ]; then continue; fi
    kill -KILL "-$pid" 2>/dev/null || continue
    while [ -e "/proc/$pid/cwd" ]; do sleep 0.1; done
  done <"$1"
}

configure() {
  mkdir -p "$home/var/adapters"
  {
    echo "# Written by ./install. More settings: .env.example."
    echo "CLOISTER_PROJECT=$project"
    echo "CLOISTER_BIND=$bind"
    echo "CLOISTER_API__HOST=$bind"
    echo "CLOISTER_UI__HOST=$bind"
    echo "CLOISTER_UI__PORT=$page"
    echo "CLOISTER_API__PORT=$api"
    echo "CLOISTER_UI__API=http://$(reached):$api"
    echo "CLOISTER_API__KEYS=var/secrets/api_keys"
    echo "CLOISTER_UI__PASSWORD=var/secrets/page_password"
    echo "CLOISTER_UI__KEY=var/secrets/page_key"
    settings_of_release
  } >"$home/.env"
  secrets=$(here bash scripts/keys) || die "the keys could not be made"
  may_serve || return 0
  id -u cloister >/dev/null 2>&1 || {
    echo "user cloister" >>"$journal"
    useradd --system --user-group --no-create-home --home-dir "$home/var" --shell /usr/sbin/nologin cloister || die "the user cloister could not be made"
  }
}

settings_of_release() { # the lines of .env that an upgrade changes
  echo "CLOISTER_MODEL__NAME=$model"
  [ -z "$quant" ] || echo "CLOISTER_MODEL__QUANT=$quant"
  [ -z "$revision" ] || echo "CLOISTER_MODEL__REVISION=$revision"
  echo "CLOISTER_MODEL__FALLBACK=none"
  echo "HF_HUB_OFFLINE=1"
}

reached() { # the address under which this machine reaches itself
  case $bind in 0.0.0.0 | ::) echo 127.0.0.1 ;; *) echo "$bind" ;; esac
}

linked() { # folder, folder that is not there yet: the same files, without room of their own where that can be
  mkdir -p "$2"
  cp -Rl "$1/." "$2/" 2>/dev/null || { rm -rf "$2" && mkdir -p "$2" && cp -R "$1/." "$2/"; } || die "$2 can't be written: see above"
}

fill() {
  say "filling the volume, $(mega "$model_bytes")"
  rm -rf "$(volume)/.filling"
  linked "$bundle/model/$directory" "$(volume)/.filling"
  parent=$(volume)/$directory
  mkdir -p "${parent%/*}"
  mv "$(volume)/.filling" "$(volume)/$directory"
  ln -s "$directory" "$(volume)/current"
}

# A model beside the one that is served: it waits in releases/ of the volume while another one has its place.
add_model() { # journal: a line of what is to be undone
  [ -d "$bundle/model" ] || return 0
  [ "$(cat "$bundle/model/$directory/manifest.json")" != "$(cat "$(volume)/$directory/manifest.json" 2>/dev/null)" ] || return 0
  say "adding the model, $(mega "$model_bytes")"
  echo "model $release $directory" >>"$1"
  rm -rf "$(volume)/releases/$release"
  linked "$bundle/model/$directory" "$(volume)/releases/$release"
}

swap_model() { # release to come, directory of its model, release to go: whatever was done of it already
  [ -d "$(volume)/releases/$1" ] || return 0
  [ ! -d "$(volume)/$2" ] || mv "$(volume)/$2" "$(volume)/releases/$3"
  parent=$(volume)/$2
  mkdir -p "${parent%/*}"
  mv "$(volume)/releases/$1" "$(volume)/$2"
}

unit_for() { # user, group: the service's text
  reachable=localhost
  case $bind in 127.* | ::1) ;; *) reachable="localhost link-local 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7" ;; esac
  sed "s|@user@|$1|; s|@group@|$2|; s|@home@|$home|g; s|@reachable@|$reachable|" "$home/config/cloister.service"
}

start() { # seconds; fails when it is not ready within them
  began=$(date +%s)
  if may_serve && { [ -f "$(unit)" ] || [ "$journal" = "$home/.installing" ]; }; then
    start_service || return 1
  else
    stop
    here noted timeout "$1" bash scripts/up --native --detach >"$home/.said" 2>&1 || { tail -n 10 "$home/.said" >&2 && return 1; }
    [ "$(id -u)" = 0 ] || unit_for "$(id -un)" "$(id -gn)" >"$home/var/cloister.service"
  fi
  until answers "$api/readyz" && answers "$page/livez"; do
    if [ $(($(date +%s) - began)) -ge "$1" ] || broken; then
      if [ -f "$(unit)" ]; then journalctl --unit "$project" --lines 10 --no-pager --output cat >&2 || :; fi
      tail -n 3 "$home"/var/log/*.log >&2 || :
      return 1
    fi
    sleep 0.5
  done
  rm -f "$home/.said"
}
answers() { here .venv/bin/python docker/health.py "http://$(reached):$1" >/dev/null 2>&1; }
broken() { # whether systemd has no luck with supervisor, or supervisor with one of the programs; scripts/up looks itself
  [ -f "$(unit)" ] || return 1
  [ "$(systemctl show --property NRestarts --value "$project")" -lt 3 ] || return 0
  here bash -c '. scripts/environment && read_settings && supervise status' 2>/dev/null | grep -q FATAL
}

start_service() {
  user=$(sed -n 's/^User=//p' "$(unit)" 2>/dev/null) || user=''
  user=${user:-cloister}
  [ -f "$(unit)" ] || [ ! -f "$journal" ] || echo "unit $project" >>"$journal"
  unit_for "$user" "$(id -gn "$user")" >"$(unit)" || return 1
  for folder in "$home/var" "$home/var/adapters" "$home/var/volume" "$home/var/secrets" "$home/var/run" "$home/var/log"; do
    mkdir -p "$folder"
    chown "$user:" "$folder"
  done
  find "$home/var/volume" -type d -exec chown "$user:" {} + # the model's files may be those of the bundle, and stay root's
  find "$home/var/secrets" "$home/var/run" "$home/var/log" -exec chown -h "$user:" {} +
  systemctl daemon-reload && systemctl enable --quiet "$project" && systemctl restart "$project"
}

ask() { # fails when no answer comes
  question='鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?'
  say "asking: $question"
  answer=$(here bash scripts/chat "$question" 2>/dev/null) || answer=''
  [ -n "$answer" ] || return 1
  printf '%s\n' "$answer" >&2
  [ -f "$(unit)" ] || [ ! -f "$home/var/cloister.service" ] || ! has_systemd || {
    say "scripts/down here, and then as root these two commands make it a service, which starts with the machine:"
    say "  install -m 0644 $home/var/cloister.service $(unit)"
    say "  systemctl enable --now $project"
  }
}

hints() {
  if [ -f "$(unit)" ]; then
    echo "    chat  scripts/chat    stop  systemctl stop $project    start again  systemctl start $project"
  else
    echo "    chat  scripts/chat    stop  scripts/down    start again  scripts/up"
  fi
  echo "  The folder images here may be deleted; wheels has to stay for upgrades."
}

stop() {
  if [ -f "$(unit)" ]; then
    systemctl stop "$project"
  elif [ -x "$home/.venv/bin/python" ] && [ -f "$home/.env" ]; then
    here bash scripts/down >/dev/null 2>&1 || :
  fi
}

undo() { # journal: take back what it tells
  end_noted "$1"
  while read -r what name more; do
    case $what in
      project) stop ;;
      unit)
        systemctl disable --now --quiet "$name" || :
        rm -f "$(unit)"
        systemctl daemon-reload || : ;;
      user) userdel "$name" >/dev/null 2>&1 || : ;;
      venv) rm -rf "$name${more:+ $more}" ;;
      model) # in its place only where that is not the place of the release that is back
        rm -rf "$(volume)/releases/$name"
        [ "$more" = "$directory" ] || rm -rf "$(volume)/${more:?}" ;;
    esac
  done <"$1"
}

forget() { # release, directory of its model, directory that stays: the model of a release that is neither here nor kept
  rm -rf "$(volume)/releases/$1"
  [ "$2" = "$directory" ] || [ "$2" = "$3" ] || rm -rf "$(volume)/${2:?}"
}
