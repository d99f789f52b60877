# shellcheck shell=sh
# How Cloister is installed and run with Docker. native.sh has the same functions for machines without it.
# swarm.sh changes of it what several machines need. $bundle is the folder of the bundle, $home the one that it is installed in; at first they are the same.
kinds='init api ui gateway door' # and, of bundles that have them, those of several machines: $swarm
volume=/opt/cloister/var/volume
compose() { (cd "$home" && docker compose --project-name "$project" "$@"); }
inside() { compose exec -T "$@" >/dev/null 2>&1; }
in_volume() { # program of sh, arguments: in the model's volume, which is there already, without a network
  docker run --rm --interactive --network none --volume "${project}_model:$volume" --workdir $volume --entrypoint sh "cloister-init:$release" -c "$@"
}

check_machine() {
  command -v docker >/dev/null || die "there is no docker here: install Docker (20.10 or newer) with its Compose plugin, or go on without it by --native"
  docker compose version >/dev/null 2>&1 || die "Docker is here without Compose: install its plugin (docker-compose-plugin)"
  check_engine
}

check_engine() {
  server=$(docker version --format '{{.Server.Version}} {{.Server.Arch}}' 2>/dev/null) ||
    die "the Docker engine does not answer: start it, or run this as somebody who may use it"
  arch=${server##* } server=${server% *}
  major=${server%%.*} minor=${server#*.}
  minor=${minor%%.*}
  [ "$major" -gt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -ge 10 ]; } ||
    die "Docker $server is too old: 20.10 or newer is needed"
  [ "$arch" = "$architecture" ] || die "this bundle is for $architecture and this machine is $arch: make one on a machine of its kind"
}

check_nobody_here() {
  there=$(docker service ls --quiet --filter "label=com.docker.stack.namespace=$project" 2>/dev/null) || there='' # no swarm
  for label in com.docker.compose.project com.docker.stack.namespace; do
    there=$there$(docker ps --all --quiet --filter "label=$label=$project")$(docker volume ls --quiet --filter "label=$label=$project")
  done
  [ -z "$there" ] ||
    die "a Cloister named $project is here already: ./install --upgrade FOLDER, where it is, makes this of it; CLOISTER_PROJECT=another installs one beside it, on other ports"
}

check_disk() { # bytes that $bundle needs for unpacking
  loaded=$((2 * images_bytes + model_bytes)) # an engine unpacks what it loads before it keeps it
  root=$(docker info --format '{{.DockerRootDir}}')
  disks="$(free "$bundle") $(free "$root")" # nothing of the second where it can't be seen
  needed=$1
  # shellcheck disable=SC2086 # two words each
  set -- $disks
  [ "${2:-}" != "${4:-}" ] || loaded=$((loaded + needed))
  [ "$1" -ge "$needed" ] || die "unpacking needs $(mega "$needed") in $bundle, and $(mega "$1") are free"
  [ -z "${3:-}" ] || [ "$3" -ge $loaded ] || die "installing needs $(mega $loaded) in $root, and $(mega "$3") are free"
}

check_settings() { :; } # all of them are in .env, which stays
also_owned() { :; }

check_release() { # what has just been unpacked
  (cd "$bundle" && docker compose config --quiet >/dev/null 2>&1) ||
    die "Compose $(docker compose version --short) can't read compose.yaml: a newer one is needed (2.40 is known to do)"
}

has_release() { # release, directory of its model, its images of several machines: whether they are here to build on
  for kind in $kinds $3; do docker image inspect "cloister-$kind:$1" >/dev/null 2>&1 || return 1; done
  [ -z "$2" ] || docker run --rm --network none --volume "${project}_model:$volume:ro" --entrypoint test "cloister-init:$1" -f "$volume/$2/manifest.json"
}

load() { # journal, release here to build on or nothing
  for kind in $kinds $swarm; do # what is here already stays when this is undone
    docker image inspect "cloister-$kind:$release" >/dev/null 2>&1 || echo "image cloister-$kind:$release" >>"$1"
  done
  say "loading the images, $(mega "$images_bytes")"
  # shellcheck disable=SC2046 # names without spaces
  tar -C "$bundle/images" -cf - $(signed images) | docker load --quiet >/dev/null 2>"$bundle/.said" || load_with_old "$2"
  rm -f "$bundle/.said"
  for kind in $kinds $swarm; do
    docker image inspect "cloister-$kind:$release" >/dev/null 2>&1 || die "the engine did not load cloister-$kind:$release"
  done
}

# An engine with Docker's older store takes an image whose first layers it has; others want them all, so they are taken out of it.
load_with_old() {
  [ -n "$1" ] || die "the engine could not load the images: $(cat "$bundle/.said")"
  say "this engine wants all layers: taking those of $1 out of it"
  rm -rf "$bundle/.layers"
  mkdir "$bundle/.layers"
  # shellcheck disable=SC2046 # several images
  docker save $(images_of "$1") | docker run --rm --interactive --network none --user "$(id -u):$(id -g)" --volume "$bundle/.layers:/layers" \
    --volume "$bundle/scripts/bundling:/bundling:ro" --entrypoint python3 "cloister-init:$1" /bundling/images.py /layers ||
    die "the layers of $1 can't be taken out of the engine"
  while read -r _ name; do
    case $name in
      images/*.tar) [ -f "$bundle/$name" ] || [ ! -f "$bundle/.layers/${name#images/}" ] || mv "$bundle/.layers/${name#images/}" "$bundle/$name" ;;
    esac
  done <"$bundle/MANIFEST"
  rm -rf "$bundle/.layers"
  tar -C "$bundle/images" -cf - . | docker load --quiet >/dev/null || die "the engine could not load the images: see above"
}

images_of() { docker image ls --filter "reference=cloister-*:$1" --format '{{.Repository}}:{{.Tag}}'; } # release

configure() {
  mkdir -p "$home/var/adapters"
  {
    echo "# Written by ./install. More settings: .env.example."
    echo "CLOISTER_PROJECT=$project"
    echo "CLOISTER_SECRETS=./var/secrets"
    echo "CLOISTER_BIND=$bind"
    echo "CLOISTER_UI__PORT=$page"
    echo "CLOISTER_API__PORT=$api"
    settings_of_way
    settings_of_release
  } >"$home/.env"
  secrets=$(docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$home:/cloister" --workdir /cloister \
    --entrypoint bash "cloister-init:$release" scripts/keys) || die "the keys could not be made"
}

settings_of_way() { :; }
settings_of_release() { # the lines of .env that an upgrade changes
  cat <<END
CLOISTER_TAG=$release
CLOISTER_MODEL__NAME=$model
CLOISTER_MODEL__FALLBACK=none
HF_HUB_OFFLINE=1
END
  [ -z "$quant" ] || echo "CLOISTER_MODEL__QUANT=$quant"
  [ -z "$revision" ] || echo "CLOISTER_MODEL__REVISION=$revision"
}

fill() {
  say "filling the volume, $(mega "$model_bytes")"
  # shellcheck disable=SC2016 # $1 is the inner shell's
  tar -C "$bundle/model" -cf - . | compose run --rm --no-deps -T --entrypoint sh init \
    -c 'cd "$2" && tar -xf - --no-same-permissions && ln -s "$1" current' sh "$directory" $volume >/dev/null 2>&1 ||
    die "the model could not be put into its volume"
}

# A model beside the one that is served: it waits in releases/ of the volume while another one has its place.
add_model() { # journal: a line of what is to be undone
  [ -d "$bundle/model" ] || return 0
  # shellcheck disable=SC2016 # $1 is the inner shell's
  in_volume 'cmp -s "$1/manifest.json" -' sh "$directory" <"$bundle/model/$directory/manifest.json" && return
  say "adding the model, $(mega "$model_bytes")"
  echo "model $release $directory" >>"$1"
  # shellcheck disable=SC2016
  tar -C "$bundle/model/$directory" -cf - . | in_volume 'rm -rf "releases/$1" && mkdir -p "releases/$1" && cd "releases/$1" && tar -xf - --no-same-permissions' \
    sh "$release" || die "the model could not be put into its volume"
}

swap_model() { # release to come, directory of its model, release to go: whatever was done of it already
  # shellcheck disable=SC2016
  in_volume '[ -d "releases/$1" ] || exit 0
    [ ! -d "$2" ] || mv "$2" "releases/$3"
    mkdir -p "${2%/*}" && mv "releases/$1" "$2"' sh "$@" </dev/null || die "the model could not be put in its place"
}

start() { # seconds; fails when it is not ready within them
  compose up --detach --no-build --force-recreate init >"$home/.said" 2>&1 || { cat "$home/.said" >&2 && return 1; }
  began=$(date +%s)
  while :; do
    case $(compose ps --all --format '{{.State}} {{.ExitCode}}' init) in
      "exited 0") break ;;
      "exited "*) compose logs --no-log-prefix --tail 5 init >&2 && return 1 ;;
    esac
    [ $(($(date +%s) - began)) -lt "$1" ] || return 1
    sleep 0.2
  done
  compose up --detach --no-build --remove-orphans >"$home/.said" 2>&1 || { cat "$home/.said" >&2 && return 1; }
  rm -f "$home/.said"
  until inside gateway python3 docker/health.py http://api:8000/readyz && inside gateway python3 docker/health.py http://ui:7860/livez &&
    inside door python3 docker/health.py tcp://127.0.0.1:7860; do
    ! given_up || began=0
    [ $(($(date +%s) - began)) -lt "$1" ] || { compose logs --tail 10 >&2 && return 1; }
    sleep 0.5
  done
}

given_up() { # it will not get better by waiting: a program that supervisor has given up, or a container that ends again and again
  case $(compose exec -T api supervisorctl -c config/supervisord.conf status 2>/dev/null) in *FATAL*) return 0 ;; esac
  for container in $(compose ps --all --quiet); do
    [ "$(docker inspect --format '{{.RestartCount}}' "$container")" -lt 5 ] || return 0
  done
  return 1
}

ask() { # fails when no answer comes
  question='鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?'
  say "asking: $question"
  answer=$(compose exec -T ui python3 -m services.ui chat --url http://api:8000 "$question" 2>/dev/null) || answer=''
  [ -n "$answer" ] || return 1
  printf '%s\n' "$answer" >&2
}

hints() {
  echo "    chat  scripts/chat    stop  scripts/down    start again  docker compose up --detach"
  echo "  Images and model are in Docker now: the folders images, model and wheels here may be deleted."
}

stop() { compose down --timeout 20 >/dev/null 2>&1; }

remove() { docker compose --project-name "$project" down --volumes --timeout 5 >/dev/null 2>&1 || :; } # everything but images

undo() { # journal: take back what it tells
  while read -r what name more; do
    case $what in
      project) [ "$name" != "$project" ] || remove ;;
      swarm) docker swarm leave --force >/dev/null 2>&1 || : ;;
      model) # in its place only where that is not the place of the release that is back
        # shellcheck disable=SC2016
        in_volume 'rm -rf "releases/$1"; [ "$2" = "$3" ] || rm -rf "$2"' sh "$name" "$more" "$directory" </dev/null || : ;;
      image) case $name in cloister-*:*) docker image rm "$name" >/dev/null 2>&1 || : ;; esac ;;
    esac
  done <"$1"
}

forget() { # release, directory of its model, directory that stays: images and model of a release that is neither here nor kept
  # shellcheck disable=SC2016
  in_volume 'rm -rf "releases/$1"; [ "$2" = "$3" ] || [ "$2" = "$4" ] || rm -rf "$2"' sh "$1" "$2" "$directory" "$3" </dev/null || :
  for name in $(images_of "$1"); do docker image rm "$name" >/dev/null 2>&1 || :; done
}
