#!/bin/sh
# Run once by the image of PostgreSQL on an empty volume: the database and its owner, who may make roles and is no
# superuser. Tables and the services' roles are made by the migration.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="$LOGUE_OWNER_PASSWORD" <<'SQL'
CREATE ROLE logue_owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE logue OWNER logue_owner;
SQL
