# shellcheck shell=sh
# What is the user's and no release's: as one file, and back. $home is the top of the checkout or of the unpacked bundle.
#   BACKUP            format=1 and when it was made
#   SHA256SUMS        of all below
#   .env  config/*.toml that were changed  var/secrets  var/adapters  the file below var that CLOISTER_API__SCREEN names
#   gateway.tar       the gateway's volume: the TLS authority that browsers have learned to trust
format=1

setting() { # folder, name: what its .env says, without quotes
  [ -f "$1/.env" ] || return 0
  said=$(value "$1/.env" "$2")
  case $said in \"*\" | \'*\') said=${said#?} said=${said%?} ;; esac
  printf '%s\n' "$said"
}

screen() { # folder: the file below var that its .env names for texts to refuse, or nothing
  said=$(setting "$1" CLOISTER_API__SCREEN)
  said=${said#./}
  case $said in *..* | var/volume* | var/run* | var/log*) ;; var/*) printf '%s\n' "$said" ;; esac
}

yours() { # the names of what is there, one a line
  for name in .env var/secrets var/adapters; do [ ! -e "$home/$name" ] || echo "$name"; done
  name=$(screen "$home")
  [ -z "$name" ] || [ ! -f "$home/$name" ] || printf '%s\n' "$name"
  for name in config/cloister.toml config/models.toml; do
    ! changed "$name" || echo "$name"
  done
}

changed() { # file: whether it is another than the one that was shipped
  [ -f "$home/$1" ] || return 1 # nothing to save
  if [ -f "$home/SHA256SUMS" ]; then
    sum=$(sha256sum <"$home/$1")
    while read -r expected shipped; do
      [ "$shipped" != "$1" ] || [ "$expected" != "${sum%% *}" ] || return 1
    done <"$home/SHA256SUMS"
    return 0
  fi
  command -v git >/dev/null && git -C "$home" rev-parse HEAD >/dev/null 2>&1 || return 0
  git -C "$home" ls-files --error-unmatch -- "$1" >/dev/null 2>&1 || return 0 # the folder above may be another repository
  ! git -C "$home" diff --quiet HEAD -- "$1"
}

has_gateway() { # whether the gateway's volume is here; sets project and tag
  command -v docker >/dev/null || return 1
  project=${CLOISTER_PROJECT:-$(setting "$home" CLOISTER_PROJECT)} tag=${CLOISTER_TAG:-$(setting "$home" CLOISTER_TAG)}
  project=${project:-cloister}
  if [ -z "$tag" ]; then # compose.yaml tells the usual one
    # shellcheck disable=SC2016 # it stands there like this
    while read -r line; do case $line in *'cloister-gateway:${CLOISTER_TAG:-'*) tag=${line##*:-} tag=${tag%%\}*} ;; esac; done <"$home/compose.yaml"
  fi
  docker version >/dev/null 2>&1 || {
    say "Docker does not answer: the gateway's TLS authority is left out, if there is one"
    return 1
  }
  docker volume inspect "${project}_gateway" >/dev/null 2>&1
}

gateway() { # command of sh: in the gateway's volume
  set -- "$1" /opt/cloister/var/gateway # its own place: an empty volume takes over the owner of where it is mounted
  docker run --rm --interactive --pull never --network none --volume "${project}_gateway:$2" --workdir "$2" --entrypoint sh "cloister-gateway:$tag" -c "$1"
}

save() { # file: written whole or not at all
  work=$(mktemp -d "${1%/*}/.backup.XXXXXX")
  trap 'rm -rf "$work" "$work.tar"' EXIT
  trap 'exit 130' INT TERM
  yours | while IFS= read -r name; do
    case $name in */*) mkdir -p "$work/${name%/*}" ;; esac
    cp -RLp "$home/$name" "$work/$name" || die "$name can't be read: nothing was saved" # links as what they lead to
  done
  if has_gateway && ! gateway 'tar -cf - .' </dev/null >"$work/gateway.tar" 2>/dev/null; then
    rm -f "$work/gateway.tar"
    say "the volume ${project}_gateway can't be read with the image cloister-gateway:$tag: the gateway's TLS authority is not in the file"
  fi
  printf 'format=%s\nmade=%s\n' "$format" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$work/BACKUP"
  [ ! -f "$home/RELEASE" ] || echo "release=$(value "$home/RELEASE" release)" >>"$work/BACKUP"
  (cd "$work" && listed . | while IFS= read -r name; do sha256sum -- "$name"; done) >"$work/.sums"
  mv "$work/.sums" "$work/SHA256SUMS"
  # shellcheck disable=SC2046 # names without spaces
  (cd "$work" && tar -cf "$work.tar" BACKUP SHA256SUMS $(listed . | cut -d/ -f1 | sort -u))
  chmod 0600 "$work.tar"
  mv "$work.tar" "$1"
  rm -rf "$work"
  trap - EXIT INT TERM
}

listed() { # folder: what is in it, but for the lists themselves
  files_in "$1" | while IFS= read -r name; do
    case $name in BACKUP | SHA256SUMS | .sums) ;; *) printf '%s\n' "$name" ;; esac
  done
}

summary() { # file: in words
  count=0
  said=''
  while IFS= read -r name; do
    case $name in
      */) continue ;;
      .env) said="$said, settings" ;;
      var/secrets/*) case $said in *keys*) ;; *) said="$said, keys and passwords" ;; esac ;;
      var/adapters/*) count=$((count + 1)) ;;
      config/*) said="$said, $name" ;;
      gateway.tar) said="$said, the gateway's TLS authority" ;;
    esac
  done <<END
$(tar -tf "$1")
END
  [ $count -eq 0 ] || said="$said, $count adapter files"
  [ -n "$said" ] && echo "${said#, }" || echo "nothing: nothing here is yours yet"
}

check_room() { # file: unpacked, in place, and what is here kept beside it
  # shellcheck disable=SC2046 # two words
  set -- $(($(wc -c <"$1") * 3 + 1000000)) $(free "$home")
  [ "$2" -ge "$1" ] || die "restoring needs $(mega "$1") in $home, and $(mega "$2") are free"
}

check() { # file, folder to unpack it to: dies of whatever is wrong with it, and has changed nothing then
  broken="$1 is no backup of scripts/backup, or it was cut short"
  names=$(tar -tf "$1" 2>/dev/null) || die "$broken: tar can't read it"
  case "
$names
" in *"
BACKUP
"*) ;; *) die "$broken: there is no BACKUP in it" ;; esac
  found=$(tar -xOf "$1" BACKUP 2>/dev/null | value /dev/stdin format) # first: a newer one may hold other names
  [ "$found" = "$format" ] || die "$1 is a backup of format ${found:-unknown}, and this Cloister knows $format: take a newer one"
  tar -tvf "$1" | while IFS= read -r line; do
    case $line in -* | d*) ;; *) die "$1 holds something that is neither file nor folder, which no backup does: $line" ;; esac
  done
  printf '%s\n' "$names" | while IFS= read -r name; do
    case $name in
      /* | ../* | */../* | */..) die "$1 holds a name that leads outside, which no backup does: $name" ;;
      BACKUP | SHA256SUMS | .env | config/ | config/cloister.toml | config/models.toml | gateway.tar) ;;
      var/*) ;;
      *) die "$1 holds what is not in a backup: $name" ;;
    esac
  done
  mkdir "$2"
  trap 'rm -rf var/.restoring' EXIT
  tar -xpof "$1" -C "$2" || die "$broken: tar can't read it"
  [ ! -s "$2/SHA256SUMS" ] || said=$(cd "$2" && sha256sum -c SHA256SUMS 2>/dev/null) || {
    bad=$(printf '%s\n' "$said" | while IFS= read -r line; do case $line in *": OK") ;; *) echo "${line%%: FAILED*}" && break ;; esac; done)
    die "$1 is damaged: ${bad:-SHA256SUMS} is not what was saved"
  }
  found=$(screen "$2")
  (cd "$2" && listed .) | while IFS= read -r name; do
    case $name in
      var/secrets/* | var/adapters/*) ;;
      var/*) [ "$name" = "$found" ] || die "$1 holds what is not in a backup: $name" ;;
    esac
  done
  [ "$(cd "$2" && listed . | sort)" = "$(while read -r _ name; do printf '%s\n' "$name"; done <"$2/SHA256SUMS" | sort)" ] ||
    die "$1 holds files that were not saved by scripts/backup"
  trap - EXIT
}

put() { # folder that a backup was unpacked to; run again after a cut, it finishes
  umask 022 # the containers' user must be able to read what is not a secret
  mkdir -p "$home/var/secrets"
  chmod 0700 "$home/var/secrets"
  mounted=$(screen "$1")
  (cd "$1" && listed .) | while IFS= read -r name; do
    case $name in
      .env | gateway.tar) continue ;;
    esac
    mkdir -p "$home/${name%/*}"
    case $name in var/secrets/* | "$mounted") in_place=yes ;; *) in_place='' ;; esac
    if [ -n "$in_place" ] && [ -f "$home/$name" ]; then
      cat "$1/$name" >"$home/$name" # a container may have this very file mounted
    else
      cp "$1/$name" "$home/$name.part"
      chmod 0644 "$home/$name.part" # the folder of secrets is closed; the containers' user must be able to read the files in it
      mv "$home/$name.part" "$home/$name"
    fi
  done
  if [ -f "$1/.env" ]; then
    if [ -f "$home/.env" ]; then cp -p "$home/.env" "$home/.env.part"; else cp -p "$1/.env" "$home/.env.part"; fi # who may read it
    if [ -f "$home/RELEASE" ]; then
      settings_here "$1/.env" "$home/.env" >"$home/.env.part"
    elif [ -n "$(value "$1/BACKUP" release)" ]; then
      users_settings "$1/.env" >"$home/.env.part"
    else
      cat "$1/.env" >"$home/.env.part"
    fi
    mv "$home/.env.part" "$home/.env"
  fi
  [ -f "$1/gateway.tar" ] || return 0
  if has_gateway; then
    gateway 'tar -xpf -' <"$1/gateway.tar" >/dev/null 2>&1 ||
      die "the gateway's TLS authority did not come back: the volume ${project}_gateway can't be written with the image cloister-gateway:$tag"
  else
    say "the gateway's TLS authority has no place here yet: start Cloister with Docker once, then restore again"
  fi
}
