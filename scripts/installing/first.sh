# shellcheck shell=sh
# The first installation, in the folder that the bundle was unpacked to.

install_first() { # folder of the parts
  [ -z "$since" ] || die "this bundle holds only what is new since $since: ./install --upgrade FOLDER, where that is installed"
  project=${CLOISTER_PROJECT:-cloister} page=${CLOISTER_UI__PORT:-7860} api=${CLOISTER_API__PORT:-8000} journal=$home/.installing
  forget_environment
  check_machine
  [ ! -f "$journal" ] || undo_first # it was cut
  [ ! -e "$home/.env" ] || die "there is an .env here already, so this folder was installed from before: unpack the bundle into a new one"
  check_nobody_here
  check_port CLOISTER_UI__PORT "$page"
  check_port CLOISTER_API__PORT "$api"
  check_bundle "$1"
  echo "project $project" >"$journal"
  trap undo_first EXIT
  trap 'exit 130' INT TERM
  load "$journal" ''
  configure
  fill
  say "starting"
  start "$within" || die "it did not become ready: see above"
  ask || die "it is ready and does not answer"
  trap - EXIT INT TERM
  rm "$journal"
  announce "$(printf '%s\n' "$secrets" | while IFS= read -r line; do case $line in With*) break ;; *) echo "    $line" ;; esac; done)
$(hints)"
}

undo_first() {
  trap - EXIT INT TERM
  say "taking back what was done"
  undo "$journal"
  rm -rf "${home:?}/var" "$home/.env" "$home/.said" "$journal"
}
