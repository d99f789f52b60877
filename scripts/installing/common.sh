# shellcheck shell=sh
# Sourced first: words, and small things that all others need. Needs a POSIX shell and coreutils.
LC_ALL=C
export LC_ALL
say() { printf 'cloister: %s\n' "$*" >&2; }
die() {
  say "$@"
  exit 1
}
mega() { echo $((($1 + 999999) / 1000000)) MB; }

free() { # folder: bytes that are free for it, and its file system
  df -Pk "$1" 2>/dev/null | {
    read -r _
    read -r name _ _ blocks _
    echo "$((blocks * 1024)) $name"
  }
}

files_in() { # folder: every file in it, by its name from there
  (cd "$1" && files_below .)
}
files_below() {
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then files_below "$entry"; elif [ -e "$entry" ] || [ -L "$entry" ]; then printf '%s\n' "${entry#./}"; fi
  done
}

value() { # file of NAME=value lines, name: the value, or nothing; the last one counts, as for Compose
  last=''
  while IFS='=' read -r name rest || [ -n "$name" ]; do
    [ "$name" != "$2" ] || last=$rest
  done <"$1"
  [ -z "$last" ] || printf '%s\n' "$last"
}

read_release() { # folder: sets what its RELEASE tells
  release='' architecture='' model='' quant='' revision='' directory='' since='' swarm=''
  images_bytes=0 model_bytes=0 body_bytes=0
  while IFS='=' read -r name rest; do
    case $name in
      release) release=$rest ;; architecture) architecture=$rest ;; since) since=$rest ;; swarm) swarm=$rest ;;
      model) model=$rest ;; quant) quant=$rest ;; revision) revision=$rest ;; directory) directory=$rest ;;
      images_bytes) images_bytes=$rest ;; model_bytes) model_bytes=$rest ;; body_bytes) body_bytes=$rest ;;
    esac
  done <"$1/RELEASE"
}

check_port() { # setting, port
  case $2 in '' | *[!0-9]* | ??????*) die "$1 must be a port; found '$2'" ;; esac
  wanted_hex=$(printf '%04X' "$2")
  for table in /proc/net/tcp /proc/net/tcp6; do
    [ -r $table ] || continue
    while read -r _ local _ state _; do
      [ "$state" != 0A ] || [ "${local##*:}" != "$wanted_hex" ] || die "port $2 is taken by another program: free it, or set $1 to another one"
    done <$table
  done
}

announce() { # what ./install and scripts/rollback end with; $1: lines to show between
  host=$bind
  [ "$host" != 0.0.0.0 ] || host=127.0.0.1
  cat <<END

  Cloister is ready: $release
    page  http://$host:$page
    API   http://$host:$api/v1
$1
END
}

forget_environment() { # what .env tells counts, not what somebody's shell has set
  for name in $(env | cut -d= -f1); do
    case $name in
      *[!A-Za-z0-9_]*) ;;
      CLOISTER_* | HF_* | COMPOSE_* | SSL_CERT_FILE) unset "$name" ;;
    esac
  done
}
