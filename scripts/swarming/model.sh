# shellcheck shell=bash disable=SC2154 # stack and within are those of scripts/swarm
# Sourced by scripts/swarm: which model the replicas run, and how another one comes to all of them.

# Another model is in use only once all nodes have it. What the replicas run is a label of their service, so any manager knows.
follow_model() {
  local first model labels
  mapfile -t first < <(nodes first)
  ((${#first[@]})) || { say "the first node is away, so the model stays as it is: scripts/swarm first NODE names another one"; return; }
  say "waiting for the model: scripts/swarm status tells more"
  settle init "${first[@]}"
  model=$(prepared "${first[0]}")
  [[ $model != "$SWARM_MODEL" ]] || return 0
  labels=(--label-add "cloister.model=$model" --label-add "cloister.opens=$(opened "$model")")
  if [[ -z $SWARM_MODEL ]]; then # nothing ran before
    docker service update --detach --quiet "${labels[@]}" "${stack}_api" >/dev/null
    return
  fi
  say "another model, $model: the other nodes copy it"
  docker service update --detach --quiet --force "${stack}_copy" >/dev/null
  mapfile -t first < <(comm -23 <(nodes api | sort) <(nodes first | sort))
  settle copy "${first[@]}"
  say "replacing the replicas, one after the other"
  timeout "$((within > SECONDS ? within - SECONDS : 1))" docker service update --detach=false --quiet --force "${labels[@]}" "${stack}_api" >/dev/null ||
    die "not all replicas run with it: docker service ps ${stack}_api"
}

opened() { [[ $1 == task\ * ]] || echo "$1"; } # what an engine can be told to open: not what is known by its run only

nodes() { docker node ls --filter "node.label=cloister.$1=true" --format '{{.ID}} {{.Status}} {{.Availability}}' | awk '$2 == "Ready" && $3 == "Active" {print $1}'; }
# What of a task's specification makes it another one. Not all of it: a service shows empty parts that its tasks don't.
version() { docker service inspect --format '{{with .Spec.TaskTemplate}}{{with .ContainerSpec}}{{json .Image}} {{json .Env}} {{json .Secrets}}{{end}} {{.ForceUpdate}}{{end}}' "${stack}_$1"; }
version_of() { docker inspect --type task --format '{{with .Spec}}{{with .ContainerSpec}}{{json .Image}} {{json .Env}} {{json .Secrets}}{{end}} {{.ForceUpdate}}{{end}}' "$1"; }
last_task() { docker service ps --no-trunc --filter "node=$2" --format '{{.ID}} {{.CurrentState}}' "${stack}_$1" | awk 'NR == 1 {print $1, $2}'; } # and its state

# Wait until a service whose tasks end has ended on these nodes, in its present version.
settle() {
  local service=$1 wanted node task state failing=0
  shift
  wanted=$(version "$service")
  while ((SECONDS < within)); do
    for node; do
      read -r task state < <(last_task "$service" "$node") || state=New
      [[ $state == Complete && $(version_of "$task") == "$wanted" ]] || break
      state=''
    done
    [[ -n ${state:-} ]] || return 0
    [[ $(version "$service") == "$wanted" ]] || die "$service has failed and was taken back: docker service logs ${stack}_$service. Replicas run as before"
    if [[ $state == Failed || $state == Rejected ]]; then failing=$((failing + 1)); else failing=0; fi
    ((failing < 20)) || # Swarm tries again after 5 s, five times
      die "$service fails on node $node: docker service logs ${stack}_$service. Replicas run as before"
    sleep 1
  done
  die "$service has not ended on node $node for $within seconds: docker service logs ${stack}_$service. Replicas run as before"
}

prepared() { # the model of the first node as init's last line names it; where it logs no such line, each run counts as another model
  local task model
  task=$(last_task init "$1")
  model=$(timeout 60 docker service logs --raw "${task% *}" 2>&1 | sed -nE 's/^[^ ]+ info +init +ready ([^ ]+) ([^ ]+) ([0-9a-f]{12}) in .*/\1 \2 \3/p' | tail -n 1 || true)
  echo "${model:-task ${task% *}}"
}
