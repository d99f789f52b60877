# shellcheck shell=sh
# How Cloister is installed and run on several machines: what is not as in docker.sh. The first one manages the swarm and has all that an
# installation has; the others have images and model, and get the rest from the swarm. scripts/swarm of the folder does what can be done
# without a bundle.
. ./scripts/installing/docker.sh
of_stack=label=com.docker.stack.namespace
inside() { # service, command: in its container on this machine
  container=$(docker ps --quiet --filter "label=com.docker.swarm.service.name=${project}_$1")
  shift
  [ -n "$container" ] && docker exec "$container" "$@" 2>/dev/null
}
swarm_state() { docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'; }

check_machine() {
  [ -n "$swarm" ] || die "this bundle has not what several machines need: make one by scripts/bundle --swarm"
  command -v docker >/dev/null || die "there is no docker here: install Docker (20.10 or newer)"
  check_engine
  [ -z "$node" ] || return 0
  for name in bash grep sed xargs; do
    command -v $name >/dev/null || die "there is no $name here, and the first machine of a swarm needs it"
  done
  case $(swarm_state) in
    "inactive "* | "active true") ;;
    "active "*) die "this machine is a worker of a swarm: the first machine is one that manages it, and here goes ./install --node" ;;
    *) die "this engine's swarm is locked, or not in order: docker swarm unlock, or docker swarm leave --force" ;;
  esac
}
check_release() { :; } # Compose is not needed

settings_of_way() { echo "CLOISTER_SWARM=$([ -n "$plain" ] && echo plain || echo encrypted)"; }

fill() {
  say "filling the volume, $(mega "$model_bytes")"
  [ -n "$node" ] || case $(swarm_state) in inactive*) echo "swarm begun" >>"$journal" ;; esac # by start
  docker volume create --label "${of_stack#*=}=$project" "${project}_model" >/dev/null
  # shellcheck disable=SC2016 # $1 is the inner shell's
  tar -C "$bundle/model" -cf - . | in_volume 'tar -xf - --no-same-permissions && ln -s "$1" current' sh "$directory" ||
    die "the model could not be put into its volume"
}

start() { # seconds; fails when it is not ready within them
  began=$(date +%s)
  up "$1" || return 1
  sees_model || { # it has the place of the one before, and init, which nothing else has changed, has not looked
    docker service update --detach --quiet --force "${project}_init" >/dev/null && up "$1" || return 1
  }
  until inside gateway python3 docker/health.py http://ui:7860/livez && inside door python3 docker/health.py tcp://127.0.0.1:7860; do
    [ $(($(date +%s) - began)) -lt "$1" ] || return 1
    sleep 0.5
  done
}

# seconds; fails when not everything that runs is of the release then, or the swarm has gone back
up() { (cd "$home" && bash scripts/swarm up --no-build --within "$1" "$bind"); }
sees_model() { # whether the replicas run the model that is in its place here
  model_label=$(docker service inspect --format '{{index .Spec.Labels "cloister.model"}}' "${project}_api")
  # shellcheck disable=SC2016 # the inner shell's
  in_volume 'grep -q "$1" "$2/manifest.json"' sh "${model_label##* }" "$directory" </dev/null
}

ask() { # fails when no answer comes
  question='鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?'
  say "asking: $question"
  # shellcheck disable=SC2016 # the inner shell's
  answer=$(inside ui sh -c 'python3 -m services.ui chat --url "$CLOISTER_UI__API" "$1"' sh "$question") || answer=''
  [ -n "$answer" ] || return 1
  printf '%s\n' "$answer" >&2
}

hints() {
  echo "    another machine  ./install --node there, and then what it says"
  echo "    state  scripts/swarm status    stop  scripts/swarm down    start again  scripts/swarm up"
  echo "  Images and model are in Docker now: the folders images, model and wheels here may be deleted."
}

remove() { # everything but images
  docker stack rm "$project" >/dev/null 2>&1 || :
  tries=0
  while [ -n "$(docker ps --all --quiet --filter "$of_stack=$project")" ] && [ $tries -lt 120 ]; do
    sleep 0.5
    tries=$((tries + 1))
  done
  for name in $(docker volume ls --quiet --filter "$of_stack=$project"); do docker volume rm "$name" >/dev/null 2>&1 || :; done
}

# Another machine: nothing is started, and nothing but the engine is changed.
install_node() { # folder of the parts
  project=${CLOISTER_PROJECT:-cloister} journal=$home/.installing
  forget_environment
  check_machine
  [ ! -f "$journal" ] || undo_node # it was cut
  [ ! -e "$home/.env" ] || die "there is an .env here already, so this folder was installed from before: unpack the bundle into a new one"
  [ -z "$since" ] || has_release "$since" '' '' ||
    die "this bundle holds only what is new since $since, whose images are not here: take a whole one"
  served=''
  docker volume inspect "${project}_model" >/dev/null 2>&1 && served=yes || [ -z "$since" ] ||
    die "this bundle holds only what is new since $since, and there is no model here: take a whole one"
  check_bundle "$1"
  if [ -z "$served" ]; then echo "project $project" >"$journal"; else : >"$journal"; fi
  trap undo_node EXIT
  trap 'exit 130' INT TERM
  load "$journal" "$since"
  [ -n "$served" ] || fill
  trap - EXIT INT TERM
  rm "$journal"
  printf '\n  This machine has all of %s.\n' "$release"
  case $(swarm_state) in
    "active "*) echo "    It is of a swarm already: when all its machines have this, on the first one ./install --upgrade FOLDER" ;;
    *) cat <<END
    with ssh, on the first machine      scripts/swarm join ssh://USER@$(docker info --format '{{.Name}}')
    without it, on the first machine    docker swarm join-token worker
                here                    what that has said
                on the first machine    scripts/swarm take $(docker info --format '{{.Name}}')
    --entry behind join or take opens page and API here as well. The folder here may be deleted.
END
  esac
}

undo_node() {
  trap - EXIT INT TERM
  say "taking back what was done"
  undo "$journal"
  rm -rf "$home/.said" "$journal"
}
