# shellcheck shell=sh
# The bundle itself: who made it, and whether every byte is as it was signed. Changes nothing but the folder it was unpacked to.

verify_signature() { # wanted fingerprint or nothing, not empty to go on without
  for file in SHA256SUMS RELEASE; do
    [ -f $file ] || die "$file is missing here: unpack the whole bundle"
  done
  if [ -n "$2" ]; then
    say "the signature is not looked at, as you wished: nothing says who made this bundle"
    return
  fi
  [ -f SHA256SUMS.sig ] || [ -f SHA256SUMS.minisig ] || die "SHA256SUMS.sig is missing here: unpack the whole bundle"
  if [ -f SHA256SUMS.sig ] && command -v ssh-keygen >/dev/null; then
    fits_ssh
  elif [ -f SHA256SUMS.minisig ] && command -v minisign >/dev/null; then
    fits_minisign
  elif [ -f SHA256SUMS.minisig ]; then
    die "there is no ssh-keygen here to check the signature with, and no minisign: install one of them, or go on without by --without-signature"
  else
    die "there is no ssh-keygen here to check the signature with: install OpenSSH's client, or go on without by --without-signature"
  fi
  [ -z "$1" ] || [ "$1" = "$fingerprint" ] ||
    die "the bundle is signed by $fingerprint and not by $1: it does not come from whom you think"
  say "signed by $fingerprint$([ -n "$1" ] || echo ' (compare it with what scripts/bundle printed)')"
}
spoiled="the signature does not fit SHA256SUMS: the bundle was changed after it was signed"

fits_ssh() { # sets fingerprint
  # shellcheck disable=SC2046 # words are meant: bits, fingerprint, comment
  set -- $(ssh-keygen -lf key.pub 2>/dev/null)
  fingerprint=${2:-none}
  signers=$(mktemp)
  printf 'cloister %s\n' "$(cat key.pub)" >"$signers"
  said=$(ssh-keygen -Y verify -f "$signers" -I cloister -n cloister-bundle -s SHA256SUMS.sig <SHA256SUMS 2>&1) || signers="$signers bad"
  rm "${signers% bad}"
  case "$signers $said" in
    *" bad "*sage:*) die "this ssh-keygen is older than 8.2 and checks no signatures: go on without by --without-signature" ;;
    *" bad "*) die "$spoiled" ;;
  esac
}

fits_minisign() { # sets fingerprint, which is the key itself
  fingerprint=$(tail -n 1 minisign.pub)
  minisign -q -V -P "$fingerprint" -m SHA256SUMS -x SHA256SUMS.minisig >/dev/null 2>&1 || die "$spoiled"
}

verify_beginning() { # what is looked at before everything else
  while read -r expected name; do
    case $name in
      install | RELEASE | PARTS | MANIFEST | scripts/installing/*) ;;
      *) continue ;;
    esac
    [ -f "$name" ] || die "$name is missing here: unpack the whole bundle"
    sum=$(sha256sum <"$name")
    [ "${sum%% *}" = "$expected" ] || die "$name is damaged: its SHA-256 is not the one that was signed; copy the bundle again"
  done <SHA256SUMS
}

check_bundle() { # folder of the parts: everything but the signature; unpacks them
  if unpacked; then check_disk 0; else check_disk $((body_bytes + 10000000)); fi
  check_parts "$1"
  unpack "$1"
  verify_sums
  check_nothing_else
  check_release
}

unpacked() { # joined and unpacked already, by ./install or by cat and tar
  [ -f compose.yaml ]
}

check_parts() { # folder
  ! unpacked || return 0
  [ -f PARTS ] || die "compose.yaml is missing here: unpack the whole bundle"
  count=0
  while read -r _ _ name; do count=$((count + 1)); done <PARTS
  while read -r _ _ name; do
    [ -f "$1/$name" ] || die "part $name of $count is not in $1: copy it there, or say where the parts are: ./install FOLDER"
  done <PARTS
  say "checking $count parts, $(mega "$body_bytes")"
  while read -r expected size name; do
    sum=$(sha256sum <"$1/$name")
    sum=${sum%% *}
    [ "$sum" != "$expected" ] || continue
    while read -r other _ meant; do
      [ "$sum" != "$other" ] || die "$name holds what belongs into $meant: the parts were mixed up"
    done <PARTS
    found=$(($(wc -c <"$1/$name")))
    [ $found -eq "$size" ] || die "$name has $found bytes instead of $size: it was not copied whole, or is of another bundle"
    die "$name is damaged, or of another bundle: its SHA-256 is not the one that was signed; copy it again"
  done <PARTS
}

unpack() { # folder of the parts
  joined=''
  ! unpacked || return 0
  joined=yes
  say "unpacking"
  rm -rf .unpacking
  mkdir .unpacking
  trap 'rm -rf .unpacking' EXIT
  while read -r _ _ name; do cat "$1/$name"; done <PARTS | tar -xf - -C .unpacking || die "the parts can't be unpacked"
  cp -R scripts/installing .unpacking/cloister/scripts/ # came with the beginning
  for file in .unpacking/cloister/.[!.]* .unpacking/cloister/*; do
    [ "${file##*/}" != compose.yaml ] || continue # it tells that all is here, so it comes last
    rm -rf "./${file##*/}"
    mv "$file" .
  done
  mv .unpacking/cloister/compose.yaml .
  rm -rf .unpacking
  trap - EXIT
}

verify_sums() {
  say "checking every file, $(mega "$body_bytes")"
  said=$(sha256sum -c SHA256SUMS 2>/dev/null) && return 0
  bad=$(printf '%s\n' "$said" | while IFS= read -r line; do
    case $line in *": OK") ;; *) echo "${line%%: FAILED*}" && break ;; esac
  done)
  [ -z "$joined" ] || rm -f compose.yaml # so that the next try takes everything from the parts again
  [ -n "$bad" ] || die "SHA256SUMS can't be read"
  [ -e "$bad" ] || die "$bad is missing here: the bundle was not unpacked whole"
  die "$bad is damaged: its SHA-256 is not the one that was signed; copy the bundle again"
}

check_nothing_else() { # what nobody has signed could be obeyed all the same, such as another compose.override.yml
  rm -rf .said .layers # of an earlier run
  known=$(mktemp)
  {
    printf '%s\n' SHA256SUMS SHA256SUMS.sig SHA256SUMS.minisig key.pub minisign.pub
    while read -r _ name; do printf '%s\n' "$name"; done <SHA256SUMS
    [ ! -f PARTS ] || while read -r _ _ name; do printf '%s\n' "$name" "${name%.*}.000"; done <PARTS
  } | sort >"$known"
  more=$(files_in . | sort | comm -13 "$known" -)
  rm "$known"
  while read -r name; do
    [ -z "$name" ] || die "$name is here and was not signed: unpack the bundle into an empty folder"
  done <<END
$more
END
}

signed() { # folder: the names in it that were signed, and no others
  while read -r _ name; do
    case $name in "$1"/*) printf '%s\n' "${name#"$1/"}" ;; esac
  done <SHA256SUMS
}
