# shellcheck shell=sh
# Whose the lines of an .env are: the release's own, which an upgrade or another machine changes, and the user's, which stay.
release_names='CLOISTER_TAG CLOISTER_MODEL__NAME CLOISTER_MODEL__QUANT CLOISTER_MODEL__REVISION CLOISTER_MODEL__FALLBACK HF_HUB_OFFLINE'

users_settings() { # .env: the lines that are the user's
  while IFS= read -r line || [ -n "$line" ]; do
    case " $release_names " in *" ${line%%=*} "*) ;; *) printf '%s\n' "$line" ;; esac
  done <"$1"
}

release_settings() { # .env: the lines that are the release's
  while IFS= read -r line || [ -n "$line" ]; do
    case " $release_names " in *" ${line%%=*} "*) printf '%s\n' "$line" ;; esac
  done <"$1"
}
