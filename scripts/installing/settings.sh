# shellcheck shell=sh
# Whose the lines of an .env are: the release's own, which an upgrade or another machine changes, and the user's, which stay.
release_names='CLOISTER_TAG CLOISTER_MODEL__NAME CLOISTER_MODEL__QUANT CLOISTER_MODEL__REVISION CLOISTER_MODEL__FALLBACK HF_HUB_OFFLINE'
# What ./install wrote for this machine: names of its volumes and service, and where keys are for the way that it runs.
machine_names='CLOISTER_PROJECT CLOISTER_SWARM CLOISTER_SECRETS CLOISTER_API__KEYS CLOISTER_UI__PASSWORD CLOISTER_UI__KEY'

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

settings_here() { # .env of a backup, .env here: the release's lines and this machine's as they are here, all others from the backup
  users_settings "$1" | while IFS= read -r line; do
    case " $machine_names " in *" ${line%%=*} "*) ;; *) printf '%s\n' "$line" ;; esac
  done
  users_settings "$2" | while IFS= read -r line; do
    case " $machine_names " in *" ${line%%=*} "*) printf '%s\n' "$line" ;; esac
  done
  release_settings "$2"
}
