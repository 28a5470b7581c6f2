#!/bin/sh
# Random secrets for docker-compose.yml, as files in ./secrets (or the folder that is named). What is there is kept.
# Containers read them as users of their own: the files are readable, their folder is not.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # NAME VALUE
  [ -e "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"
  chmod 444 "$folder/$1"
}
keep ntaa_api_key "ntaa_$(random)"
keep postgres_password "$(random)"
keep redis_password "$(random)"
keep s3_access_key "ntaa$(random | cut -c 1-16)"
keep s3_secret_key "$(random)"
keep database_url "postgres://ntaa:$(cat "$folder/postgres_password")@postgres:5432/ntaa"
keep redis_url "redis://:$(cat "$folder/redis_password")@redis:6379"
echo "Secrets are in $folder. The first admin key: $folder/ntaa_api_key"
