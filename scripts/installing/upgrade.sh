# shellcheck shell=sh
# One release in the place of another, and back. Nothing is lost by a cut, whenever it comes: .upgrading tells what was begun.
#   .next        the release that comes, complete but for images and model
#   .before.new  the one that goes, file by file as the other takes its place
#   .before      the one before, which scripts/rollback brings back

way_of() { # folder: docker, swarm or native
  for file in "$1/.env" "$1/.before.new/.env"; do
    [ -f "$file" ] || continue
    if [ -z "$(value "$file" CLOISTER_TAG)" ]; then echo native; elif [ -n "$(value "$file" CLOISTER_SWARM)" ]; then echo swarm; else echo docker; fi
    return
  done
  die "$1 holds no Cloister that ./install has installed"
}

settings_of() { # folder: sets how Cloister is reached there
  project=$(value "$1/.env" CLOISTER_PROJECT) bind=$(value "$1/.env" CLOISTER_BIND)
  page=$(value "$1/.env" CLOISTER_UI__PORT) api=$(value "$1/.env" CLOISTER_API__PORT)
  project=${project:-cloister} bind=${bind:-127.0.0.1} page=${page:-7860} api=${api:-8000}
}

owned() { # folder of a release: the names at its top that come and go with it
  {
    printf '%s\n' .env SHA256SUMS SHA256SUMS.sig SHA256SUMS.minisig key.pub minisign.pub
    while read -r _ name; do
      case $name in images/* | model/* | wheels/* | PARTS) ;; *) printf '%s\n' "${name%%/*}" ;; esac
    done <"$1/SHA256SUMS"
    also_owned
  } | sort -u
}

upgrade() { # folder of the older release, folder of the parts
  home=$(cd "$1" 2>/dev/null && pwd) || die "$1: there is no such folder"
  [ "$home" != "$bundle" ] || die "that is the bundle's own folder: --upgrade takes the one where the older release is installed"
  journal=$home/.upgrading
  forget_environment
  check_machine
  if [ -f "$journal" ]; then # it was cut
    take_back
    read_release "$bundle"
  fi
  settings_of "$home"
  here=$(value "$home/RELEASE" release) here_model=$(value "$home/RELEASE" directory)
  [ "$here" != "$release" ] || die "$home is $release already"
  if [ -n "$since" ]; then
    [ "$since" = "$here" ] || die "this bundle holds what is new since $since, and $home is $here: take one that was made --since $here, or a whole one"
    kept=''
    [ "$model_bytes" -gt 0 ] || kept=$directory
    has_release "$here" "$kept" "$(value "$home/RELEASE" swarm)" || die "what this bundle builds on, $here, is not whole any more: take a whole bundle"
  fi
  check_settings
  check_bundle "$2"
  echo ".next $release $directory $here $here_model" >"$journal"
  trap take_back EXIT
  trap 'exit 130' INT TERM
  load "$journal" "$since"
  add_model "$journal"
  rm -rf "$home/.next"
  mkdir "$home/.next"
  for name in $(owned "$bundle"); do [ ! -e "$bundle/$name" ] || cp -R "$bundle/$name" "$home/.next/"; done
  {
    users_settings "$home/.env"
    settings_of_release
  } >"$home/.next/.env"
  switch "$here"
}

roll_back() { # from the folder of the release itself
  journal=$home/.upgrading
  forget_environment
  if [ -f "$journal" ]; then # an upgrade was cut: this is its undoing
    take_back
    return
  fi
  [ -f "$home/.before/RELEASE" ] || die "there is no release before this one here"
  here=$(value "$home/RELEASE" release) here_model=$(value "$home/RELEASE" directory)
  settings_of "$home"
  read_release "$home/.before"
  has_release "$release" '' "$swarm" || die "the images of $release are not here any more"
  echo ".before $release $directory $here $here_model" >"$journal"
  trap take_back EXIT
  trap 'exit 130' INT TERM
  {
    users_settings "$home/.env"
    release_settings "$home/.before/.env"
  } >"$home/.before/.env.new"
  mv "$home/.before/.env.new" "$home/.before/.env"
  switch "$here"
}

switch() { # release that goes
  say "$1 -> $release"
  switched=$(date +%s)
  read -r next _ <"$journal"
  coming=$(owned "$home/$next")
  for name in $coming; do echo "new $name"; done >>"$journal"
  echo "switch" >>"$journal"
  mkdir -p "$home/.before.new"
  for name in $(owned "$home"); do [ ! -e "$home/$name" ] || mv "$home/$name" "$home/.before.new/"; done
  echo "moved" >>"$journal"
  for name in $coming; do [ ! -e "$home/$next/$name" ] || mv "$home/$next/$name" "$home/"; done
  swap_model "$release" "$directory" "$1"
  start "$within" || die "$release did not become ready: see above"
  ask || die "$release is ready and does not answer"
  trap - EXIT INT TERM
  settle
  say "done in $(($(date +%s) - switched)) s"
  announce "    back to $1: scripts/rollback in $home"
}

begun() { # whether the journal has come so far
  while read -r word _; do [ "$word" != "$1" ] || return 0; done <"$journal"
  return 1
}

settle() {
  begun ready || echo "ready" >>"$journal"
  read -r next _ _ old old_model <"$journal"
  if [ "$next" = .next ] && [ -d "$home/.before.new" ] && [ -f "$home/.before/RELEASE" ]; then
    gone=$(value "$home/.before/RELEASE" release)
    [ "$gone" = "$release" ] || [ "$gone" = "$old" ] || forget "$gone" "$(value "$home/.before/RELEASE" directory)" "$old_model"
  fi
  if [ -d "$home/.before.new" ]; then
    rm -rf "$home/.before"
    mv "$home/.before.new" "$home/.before"
  fi
  rm -rf "$home/.next" "$journal"
}

# The release that was here stands and runs again; what was brought is gone.
take_back() {
  trap - EXIT INT TERM
  read -r next new _ old old_model <"$journal" || old=''
  [ -n "$old" ] || { rm -f "$journal" && return; } # cut before anything was done
  if begun ready; then
    read_release "$home"
    settle
    return
  fi
  say "taking back what was done: $old"
  if begun switch; then
    if begun moved; then
      while read -r word name; do
        [ "$word" = new ] || continue
        [ -e "$home/$next/$name" ] || [ ! -e "$home/$name" ] || mv "$home/$name" "$home/$next/"
      done <"$journal"
    fi
    for file in "$home"/.before.new/* "$home"/.before.new/.[!.]*; do [ ! -e "$file" ] || mv "$file" "$home/"; done
    read_release "$home"
    settings_of "$home"
    swap_model "$old" "$old_model" "$new"
    { start "$within" && ask; } || say "$old does not become ready either: see scripts/logs and scripts/doctor in $home"
  fi
  read_release "$home"
  settings_of "$home"
  undo "$journal"
  [ "$next" = .before ] || rm -rf "$home/.next"
  rm -rf "$home/.before.new" "$home/.said" "$journal"
  say "$home is $old as before"
}
